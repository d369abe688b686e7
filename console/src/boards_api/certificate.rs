//! `/certificate`, `/renew` and `/crl`: how the certificate stands that a board shows, the next one, and the list of
//! those that were taken back.

use super::{BoardsApi, Peer, issue, of_a_new_key, record};
use crate::audit;
use crate::certificates::{Shown, judge};
use crate::clock::now;
use crate::live::Change;
use crate::problem::Problem;
use crate::rest::parse;
use crate::store::{Added, CertificateRow, StoreError};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use coracle_protocol::renewal::{self, RenewAnswer, RenewRequest, Standing};

/// Certificates that a board may be given in a day and not use: one whose answer was lost is asked for again.
const UNUSED: u32 = 16;

fn forbidden(text: impl Into<String>) -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        text,
        "enrol this board with a new enrolment file: `coracle enrol FILE`",
    )
}

async fn look<'a>(
    api: &BoardsApi,
    peer: &'a Peer,
) -> Result<(&'a Shown, Option<CertificateRow>, Standing), Problem> {
    let shown = peer
        .0
        .as_ref()
        .ok_or_else(|| forbidden("a board's certificate is needed"))?;
    let now = now();
    let row = match api.store.certificate(&shown.serial).await? {
        None if api.policy.adopt_until.is_some_and(|until| now < until) => {
            adopt(api, shown, now).await?
        }
        row => row,
    };
    let standing = judge(shown, row.as_ref(), api.policy, now);
    Ok((shown, row, standing))
}

/// After a database was lost: what the fleet's CA signed for a board that is known is taken for issued here.
async fn adopt(
    api: &BoardsApi,
    shown: &Shown,
    now: u64,
) -> Result<Option<CertificateRow>, StoreError> {
    if api.revocations.holds(&shown.serial) {
        return Ok(None);
    }
    let row = api
        .store
        .adopt(&shown.adopted(api.policy, now), now)
        .await?;
    if row.is_some() {
        let (name, detail) = (
            shown.board.as_str(),
            format!("certificate {}", shown.serial),
        );
        audit::note(&api.store, name, "board.adopt", name, &detail).await;
        // A revocation at the same moment counts.
        api.revocations.changed();
    }
    Ok(row)
}

/// Whether what was shown opens the fleet's doors now; also on a connection that is older than a revocation.
pub(super) async fn served(api: &BoardsApi, peer: &Peer) -> Result<(), Problem> {
    let (_, row, standing) = look(api, peer).await?;
    if !standing.state.is_served() {
        let text = standing
            .reason
            .unwrap_or_else(|| "the certificate is over".into());
        return Err(forbidden(text));
    }
    match row {
        Some(row) => Ok(api.store.note_use(&row, now()).await?),
        None => Ok(()),
    }
}

/// `GET /certificate`. A good one counts as used: those before it are superseded.
pub(super) async fn standing(
    State(api): State<BoardsApi>,
    Extension(peer): Extension<Peer>,
) -> Result<Json<Standing>, Problem> {
    let (_, row, standing) = look(&api, &peer).await?;
    if let Some(row) = row.filter(|_| standing.state.is_served()) {
        api.store.note_use(&row, now()).await?;
    }
    Ok(Json(standing))
}

/// `POST /renew`: the handshake proved the old key, the request proves the new one.
pub(super) async fn renew(
    State(api): State<BoardsApi>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Result<Json<RenewAnswer>, Problem> {
    let (shown, _, standing) = look(&api, &peer).await?;
    if standing.state == renewal::State::Good {
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "the certificate is not due yet",
            "it is renewed when two thirds of its life are over",
        ));
    }
    if !standing.state.may_renew() {
        let text = standing
            .reason
            .unwrap_or_else(|| "the certificate is over".into());
        return Err(forbidden(text));
    }
    let request: RenewRequest = parse(&body)?;
    let board = shown.board.clone();
    let request = of_a_new_key(&api, &request.csr_pem, &board).await?;
    let issued = issue(&api, &board, request).await?;
    let certificate_pem = issued.pem.clone();
    let how = match standing.state {
        renewal::State::Expired => "renewed-expired",
        _ => "renewed",
    };
    let now = now();
    let row = record(&board, issued, now, how);
    // Before this moment nothing can be renewed, nor be of use to whoever holds it.
    let forget = now.saturating_sub(api.policy.grace.as_secs());
    let store = &api.store;
    match store
        .add_certificate(&shown.serial, &row, now, forget, UNUSED)
        .await?
    {
        Added::Noted => {}
        Added::TooMany => {
            return Err(Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                format!("{UNUSED} certificates of this board in a day were never used"),
                "the board does not keep what it gets: look at its disk; it may ask again tomorrow",
            ));
        }
        Added::NotInForce => {
            return Err(forbidden(
                "the certificate was revoked or superseded while it was renewed",
            ));
        }
    }
    let detail = format!("certificate {} after {} ({how})", row.serial, shown.serial);
    let name = board.as_str();
    audit::note(&api.store, name, "board.renew", name, &detail).await;
    api.live.tell(Change::Board(board.clone()));
    Ok(Json(RenewAnswer {
        board,
        certificate_pem,
    }))
}

/// `GET /crl`, for brokers of others. It holds serial numbers only.
pub(super) async fn list(State(api): State<BoardsApi>) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/x-pem-file")];
    (kind, api.revocations.list()).into_response()
}

//! The boards' port (TLS): `POST /enrol` for whoever holds a one-time token, `POST /enrol/manufacturing` for whoever holds a
//! manufacturing certificate,
//! `GET /blobs/sha256/<hex>` with ranges for whoever holds a certificate of the fleet,
//! `GET /certificate` and `POST /renew` for whoever holds or held one,
//! `GET /root/<version>` and `GET /crl` for anybody.

mod as_made;
mod certificate;

use crate::audit;
use crate::blobs::{self, Blobs};
use crate::ca::{BoardCertificate, BoardRequest, Ca, CaError};
use crate::certificates::{Policy, Shown};
use crate::clock::now;
use crate::live::{Change, Live};
use crate::manufacturing::Makers;
use crate::problem::Problem;
use crate::rest::parse;
use crate::revocation::Revocations;
use crate::secrets;
use crate::store::{CertificateRow, EnrolmentError, Store};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use coracle_digest::Sha256Digest;
use coracle_protocol::enrol::{EnrolAnswer, EnrolRequest};
use coracle_protocol::names::BoardId;
use std::sync::Arc;

/// An enrolment request, in bytes.
const REQUEST_BYTES: usize = 16 * 1024;

/// What the connection showed: signed by the fleet's CA, and whoever showed it holds its key. It says nothing of
/// whether it is still good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer(pub Option<Shown>);

/// What the boards' routes work on.
#[derive(Clone)]
pub struct BoardsApi {
    /// Boards and enrolments.
    pub store: Store,
    /// Blobs.
    pub blobs: Blobs,
    /// Issues certificates.
    pub ca: Arc<Ca>,
    /// Who is believed about who made a board.
    pub makers: Option<Arc<Makers>>,
    /// For how long certificates are good.
    pub policy: Policy,
    /// What was taken back.
    pub revocations: Revocations,
    /// Told of enrolments.
    pub live: Live,
}

/// The routes; each request carries a [`Peer`].
pub fn router(api: BoardsApi) -> Router {
    Router::new()
        .route("/enrol", post(enrol))
        .route("/enrol/manufacturing", post(as_made::enrol))
        .route("/blobs/sha256/{hex}", get(blob))
        .route("/certificate", get(certificate::standing))
        .route("/renew", post(certificate::renew))
        .route("/crl", get(certificate::list))
        .route("/root/{version}", get(root))
        .fallback(|| async { Problem::missing("no such path", "boards use /enrol and /blobs") })
        .layer(DefaultBodyLimit::max(REQUEST_BYTES))
        .with_state(api)
}

async fn enrol(State(api): State<BoardsApi>, body: Bytes) -> Result<Json<EnrolAnswer>, Problem> {
    let request: EnrolRequest = parse(&body)?;
    let hash = secrets::hash(&request.token);
    let now = now();
    let board = api.store.enrolment(&hash, now).await.map_err(refused)?;
    // A request that cannot be signed does not use the token up.
    let request = BoardRequest::read(&request.csr_pem).map_err(unsigned)?;
    if api.store.key_is_revoked(&request.key_hash()).await? {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "a certificate of this key was revoked",
            "make a new key: the old one may be in other hands",
        ));
    }
    let issued = issue(&api, &board, request).await?;
    let certificate_pem = issued.pem.clone();
    let row = record(&board, issued, now, "enrolled");
    api.store
        .use_enrolment(&hash, &row, now)
        .await
        .map_err(refused)?;
    api.revocations.changed();
    audit::note(
        &api.store,
        board.as_str(),
        "board.enrol",
        board.as_str(),
        &format!("certificate {}", row.serial),
    )
    .await;
    api.live.tell(Change::Board(board.clone()));
    Ok(Json(EnrolAnswer {
        board,
        certificate_pem,
    }))
}

/// Reads a request for a certificate of a key that had none.
async fn of_a_new_key(
    api: &BoardsApi,
    csr_pem: &str,
    board: &BoardId,
) -> Result<BoardRequest, Problem> {
    let request = BoardRequest::read(csr_pem).map_err(unsigned)?;
    if api.store.key_is_used_up(&request.key_hash(), board).await? {
        return Err(Problem::bad(
            "this key had a certificate before",
            "make a new key for each certificate",
        ));
    }
    Ok(request)
}

/// A token takes its time: not on the thread that asks.
async fn issue(
    api: &BoardsApi,
    board: &BoardId,
    request: BoardRequest,
) -> Result<BoardCertificate, Problem> {
    let (ca, board) = (api.ca.clone(), board.clone());
    let issued = tokio::task::spawn_blocking(move || ca.issue_board(&board, &request));
    issued.await.map_err(Problem::inside)?.map_err(unsigned)
}

/// What the database keeps of a certificate.
fn record(board: &BoardId, issued: BoardCertificate, now: u64, how: &str) -> CertificateRow {
    CertificateRow {
        serial: issued.serial,
        board: board.clone(),
        key_hash: issued.key_hash,
        issued_at: now,
        not_after: issued.not_after,
        how: how.into(),
        last_used: None,
        superseded_at: None,
        revoked_at: None,
        revoked_why: None,
    }
}

fn unsigned(error: CaError) -> Problem {
    match error {
        CaError::Request(_) => Problem::bad(
            error.to_string(),
            "send a PKCS#10 request in PEM, made with an ECDSA P-256 key",
        ),
        CaError::Token(_) | CaError::AnotherKey(_) => {
            tracing::error!(%error, "no certificate was issued");
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the console signs no certificates now: the token with its CA's key is away or does not open",
                "ask again later; the operator finds out by `coracle-console check --ca-key URI`, and in the console's log",
            )
        }
        other => Problem::inside(other),
    }
}

fn refused(error: EnrolmentError) -> Problem {
    let status = match &error {
        EnrolmentError::Unknown => StatusCode::UNAUTHORIZED,
        EnrolmentError::Used => StatusCode::CONFLICT,
        EnrolmentError::Expired => StatusCode::GONE,
        EnrolmentError::Store(_) => return Problem::inside(error),
    };
    Problem::new(
        status,
        error.to_string(),
        "ask the operator for a new enrolment file for this board",
    )
}

/// A root document. It holds public keys only, so that whoever asks may have it: a board whose
/// certificate has expired too.
async fn root(State(api): State<BoardsApi>, Path(version): Path<u64>) -> Response {
    match api.store.root(version).await {
        Ok(Some(root)) => Json(root).into_response(),
        Ok(None) => Problem::missing(
            format!("there is no root version {version} yet"),
            "the one before it is the newest",
        )
        .into_response(),
        Err(error) => Problem::inside(error).into_response(),
    }
}

async fn blob(
    State(api): State<BoardsApi>,
    Extension(peer): Extension<Peer>,
    Path(hex): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    match serve(&api, peer, &hex, &method, &headers).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn serve(
    api: &BoardsApi,
    peer: Peer,
    hex: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    certificate::served(api, &peer).await?;
    let digest = Sha256Digest::from_hex(hex)
        .map_err(|e| Problem::bad(e.to_string(), "ask for /blobs/sha256/<64 hex digits>"))?;
    blobs::serve(&api.blobs, &digest, headers, method == Method::HEAD)
        .await
        .ok_or_else(|| {
            Problem::missing(
                format!("blob {digest} is not here"),
                "push the image to the console's registry",
            )
        })
}

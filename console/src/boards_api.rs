//! The boards' port (TLS): `POST /enrol` for whoever holds a one-time token,
//! `GET /blobs/sha256/<hex>` with ranges for whoever holds a certificate of the fleet,
//! `GET /root/<version>` for anybody.

use crate::audit;
use crate::blobs::{self, Blobs};
use crate::ca::{Ca, CaError};
use crate::clock::now;
use crate::live::{Change, Live};
use crate::problem::Problem;
use crate::rest::parse;
use crate::secrets;
use crate::store::{EnrolmentError, Store};
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

/// Whose certificate the connection showed, checked against the fleet's CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer(pub Option<BoardId>);

/// What the boards' routes work on.
#[derive(Clone)]
pub struct BoardsApi {
    /// Boards and enrolments.
    pub store: Store,
    /// Blobs.
    pub blobs: Blobs,
    /// Issues certificates.
    pub ca: Arc<Ca>,
    /// Told of enrolments.
    pub live: Live,
}

/// The routes; each request carries a [`Peer`].
pub fn router(api: BoardsApi) -> Router {
    Router::new()
        .route("/enrol", post(enrol))
        .route("/blobs/sha256/{hex}", get(blob))
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
    let certificate_pem =
        api.ca
            .issue_board(&board, &request.csr_pem)
            .map_err(|error| match error {
                CaError::Request(_) => Problem::bad(
                    error.to_string(),
                    "send a PKCS#10 request in PEM, made with an ECDSA P-256 key",
                ),
                other => Problem::inside(other),
            })?;
    api.store
        .use_enrolment(&hash, &board, &certificate_pem, now)
        .await
        .map_err(refused)?;
    audit::note(
        &api.store,
        board.as_str(),
        "board.enrol",
        board.as_str(),
        "",
    )
    .await;
    api.live.tell(Change::Board(board.clone()));
    Ok(Json(EnrolAnswer {
        board,
        certificate_pem,
    }))
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
    let forbidden = |text: &str| {
        Problem::new(
            StatusCode::FORBIDDEN,
            text,
            "enrol this board; blobs are for boards of the fleet",
        )
    };
    let board = peer
        .0
        .ok_or_else(|| forbidden("a board's certificate is needed"))?;
    if !api.store.is_enrolled(&board).await? {
        return Err(forbidden("this board is not enrolled here"));
    }
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

//! `/boards/<id>/certificates`, `/boards/<id>/revocation` and `/crl`.

use super::{Rest, parse};
use crate::boards::{self, BoardsError};
use crate::live::Change;
use crate::problem::Problem;
use crate::store::{CertificateRow, Identity, Revoked};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use coracle_protocol::names::BoardId;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revocation {
    #[serde(default)]
    reason: String,
}

fn named(id: &str) -> Result<BoardId, Problem> {
    BoardId::new(id).map_err(|e| Problem::bad(e.to_string(), "a board is called `tenant.name`"))
}

fn unknown(board: &BoardId) -> Problem {
    Problem::missing(
        format!("board {board} is not known"),
        "GET /api/v1/boards lists them",
    )
}

/// Which there are.
pub(super) async fn list(
    State(rest): State<Rest>,
    Path(id): Path<String>,
) -> Result<Json<Vec<CertificateRow>>, Problem> {
    let board = named(&id)?;
    if rest.store.board(&board).await?.is_none() {
        return Err(unknown(&board));
    }
    Ok(Json(rest.store.certificates(&board).await?))
}

/// Takes them all back.
pub(super) async fn revoke(
    State(rest): State<Rest>,
    Extension(who): Extension<Identity>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let asked: Revocation = match body.is_empty() {
        true => Revocation::default(),
        false => parse(&body)?,
    };
    let board = named(&id)?;
    let certificates = revoke_board(&rest, &who.name, &board, &asked.reason).await?;
    Ok(Json(
        json!({ "board": board, "certificates": certificates }),
    ))
}

/// Revokes a board, and has the world follow; how many certificates it was.
pub async fn revoke_board(
    rest: &Rest,
    actor: &str,
    board: &BoardId,
    reason: &str,
) -> Result<u64, Problem> {
    let revoked = boards::revoke(&rest.store, actor, board, reason).await;
    let certificates = match revoked {
        Ok(Revoked::Certificates(certificates)) => certificates,
        Ok(Revoked::Already) => {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                format!("board {board} was revoked before"),
                "it comes back by a new enrolment file",
            ));
        }
        Ok(Revoked::NoBoard) => return Err(unknown(board)),
        Err(error @ BoardsError::Reason) => {
            return Err(Problem::bad(error.to_string(), "shorten `reason`"));
        }
        Err(error) => return Err(Problem::inside(error)),
    };
    rest.revocations.changed();
    rest.live.tell(Change::Board(board.clone()));
    Ok(certificates)
}

/// The list in force.
pub(super) async fn crl(State(rest): State<Rest>) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/x-pem-file")];
    (kind, rest.revocations.list()).into_response()
}

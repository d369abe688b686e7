//! `/boards/<id>/secrets`: sealed on the engineer's machine to the board's own key. What is kept here cannot
//! be read here.

use super::{Rest, parse};
use crate::audit;
use crate::clock::now;
use crate::problem::Problem;
use crate::store::Identity;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use coracle_protocol::limits::LIMITS;
use coracle_protocol::names::BoardId;
use coracle_protocol::secret::Sealed;
use serde_json::{Value, json};

async fn board(rest: &Rest, id: &str) -> Result<BoardId, Problem> {
    let id = BoardId::new(id)
        .map_err(|e| Problem::bad(e.to_string(), "a board is called `tenant.name`"))?;
    match rest.store.board(&id).await? {
        Some(_) => Ok(id),
        None => Err(Problem::missing(
            format!("board {id} is not known"),
            "POST /api/v1/enrolments makes it known",
        )),
    }
}

/// Keeps one.
pub(super) async fn set(
    State(rest): State<Rest>,
    Extension(who): Extension<Identity>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let board = board(&rest, &id).await?;
    let sealed: Sealed = parse(&body)?;
    let most = (LIMITS.secret_bytes + 64).div_ceil(3) * 4;
    if sealed.sealed.len() > most || sealed.key.len() > 64 {
        return Err(Problem::bad(
            format!("the secret has {} bytes sealed", sealed.sealed.len()),
            format!("a value has at most {} bytes", LIMITS.secret_bytes),
        ));
    }
    rest.store.set_secret(&board, &sealed, now()).await?;
    let detail = format!("{} of app {}", sealed.name, sealed.app);
    audit::note(
        &rest.store,
        &who.name,
        "secret.set",
        board.as_str(),
        &detail,
    )
    .await;
    Ok(Json(json!({ "app": sealed.app, "name": sealed.name })))
}

/// Which there are.
pub(super) async fn list(
    State(rest): State<Rest>,
    Path(id): Path<String>,
) -> Result<Json<Vec<Value>>, Problem> {
    let board = board(&rest, &id).await?;
    let secrets = rest.store.secrets(&board).await?;
    let view = |s: &Sealed| json!({ "app": s.app, "name": s.name, "key": s.key });
    Ok(Json(secrets.iter().map(view).collect()))
}

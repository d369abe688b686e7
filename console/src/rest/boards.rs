//! `/enrolments` and `/boards`.

use super::{Rest, board_view, parse};
use crate::audit;
use crate::clock::now;
use crate::live::Change;
use crate::problem::Problem;
use crate::secrets;
use crate::store::Identity;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use coracle_protocol::enrol::{EnrolmentFile, FleetFile};
use coracle_protocol::names::BoardId;
use serde::Deserialize;
use serde_json::Value;

/// Hours for which an enrolment token is good when the operator does not say.
const HOURS: u64 = 7 * 24;
/// The most: a year.
const MOST_HOURS: u64 = 366 * 24;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewEnrolment {
    board: BoardId,
    hours: Option<u64>,
}

pub(super) async fn enrol(
    State(rest): State<Rest>,
    Extension(who): Extension<Identity>,
    body: Bytes,
) -> Result<Json<EnrolmentFile>, Problem> {
    let new: NewEnrolment = parse(&body)?;
    Ok(Json(
        new_enrolment(&rest, &who.name, new.board, new.hours).await?,
    ))
}

/// Makes a one-time token for a board, which becomes known; the file for whoever sets it up.
pub async fn new_enrolment(
    rest: &Rest,
    actor: &str,
    board: BoardId,
    hours: Option<u64>,
) -> Result<EnrolmentFile, Problem> {
    let hours = hours.unwrap_or(HOURS);
    if !(1..=MOST_HOURS).contains(&hours) {
        return Err(Problem::bad(
            format!("hours is {hours}"),
            format!("between 1 and {MOST_HOURS}"),
        ));
    }
    let token = secrets::token().map_err(Problem::inside)?;
    let now = now();
    rest.store
        .add_enrolment(&board, &secrets::hash(&token), now, now + hours * 3600)
        .await?;
    let detail = format!("good for {hours} h");
    audit::note(
        &rest.store,
        actor,
        "enrolment.create",
        board.as_str(),
        &detail,
    )
    .await;
    rest.live.tell(Change::Board(board.clone()));
    Ok(EnrolmentFile {
        board,
        console_url: rest.advertised.console_url.clone(),
        mqtt: rest.advertised.mqtt.clone(),
        ca_pem: rest.advertised.ca_pem.clone(),
        token,
        topic_separator: rest.advertised.topic_separator,
    })
}

/// Nothing in it is secret.
pub(super) async fn fleet(State(rest): State<Rest>) -> Json<FleetFile> {
    Json(FleetFile {
        console_url: rest.advertised.console_url.clone(),
        mqtt: rest.advertised.mqtt.clone(),
        ca_pem: rest.advertised.ca_pem.clone(),
        topic_separator: rest.advertised.topic_separator,
    })
}

pub(super) async fn list(State(rest): State<Rest>) -> Result<Json<Vec<Value>>, Problem> {
    let mut all = Vec::new();
    for board in rest.store.boards().await? {
        all.push(board_view(&rest.store, &rest.live, &board).await?);
    }
    Ok(Json(all))
}

pub(super) async fn one(
    State(rest): State<Rest>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let id = BoardId::new(&id)
        .map_err(|e| Problem::bad(e.to_string(), "a board is called `tenant.name`"))?;
    let board = rest.store.board(&id).await?.ok_or_else(|| {
        Problem::missing(
            format!("board {id} is not known"),
            "POST /api/v1/enrolments makes it known",
        )
    })?;
    Ok(Json(board_view(&rest.store, &rest.live, &board).await?))
}

//! `/boards/<id>/commands`: what a board shall do once, now, and what it said of it.

use super::{Rest, parse};
use crate::audit;
use crate::clock::now;
use crate::commands::{CommandError, Commander};
use crate::problem::Problem;
use crate::store::{CommandRow, Identity, Outcome, Store, StoreError};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use coracle_digest::Sha256Digest;
use coracle_protocol::command::Action;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::names::BoardId;
use coracle_protocol::root::Role;
use serde_json::{Value, json};

/// After a command's end an answer may be on its way for so long, in seconds.
const LATE: u64 = 30;

/// What an action takes comes on top.
fn late(action: &Action) -> u64 {
    match action {
        Action::Run { .. } => LATE + u64::from(LIMITS.action_seconds),
        _ => LATE,
    }
}

fn board(id: &str) -> Result<BoardId, Problem> {
    BoardId::new(id).map_err(|e| Problem::bad(e.to_string(), "a board is called `tenant.name`"))
}

/// Sends one.
pub(super) async fn send(
    State(rest): State<Rest>,
    Extension(who): Extension<Identity>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    let board = board(&id)?;
    // A signed one, or what this console shall sign.
    let signed = Envelope::parse(&body).ok();
    let action: Option<Action> = match &signed {
        Some(_) => None,
        None => Some(parse(&body)?),
    };
    if let Some(action) = action.as_ref().filter(|a| a.role() != Role::Command) {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            format!("no console may sign `{}`", action.word()),
            "sign it with a key of role `reset`: `coracle-release command factory-reset` or `decommission`",
        ));
    }
    let commander = Commander {
        store: rest.store.clone(),
        signer: rest.deployer.signer.clone(),
        link: rest.link.clone(),
    };
    let actor = who.name.clone();
    // In a task of its own: a client that hangs up must not leave one without its line in the audit log.
    let sent = tokio::spawn(async move {
        let row = match (signed, action) {
            (Some(envelope), _) => commander.carry(&board, &envelope, &actor).await?,
            (None, Some(action)) => commander.send(&board, action, &actor).await?,
            (None, None) => return Err(CommandError::Malformed("nothing was sent".to_owned())),
        };
        let detail = format!("{} ({})", row.action, row.id);
        let about = row.board.as_str();
        audit::note(&commander.store, &actor, "command.send", about, &detail).await;
        Ok::<_, CommandError>(row)
    });
    let row = sent.await.map_err(Problem::inside)?.map_err(refused)?;
    Ok(Json(view(&rest.store, &row).await?))
}

fn refused(error: CommandError) -> Problem {
    let text = error.to_string();
    match error {
        CommandError::UnknownBoard(_) => Problem::missing(
            text,
            "POST /api/v1/enrolments makes a board known: `coracle-release enrol-file`",
        ),
        CommandError::Revoked(_) => Problem::new(
            StatusCode::CONFLICT,
            text,
            "enrol it again: `coracle-release enrol-file`",
        ),
        CommandError::Offline(_) => Problem::new(
            StatusCode::CONFLICT,
            text,
            "send it again when `coracle-release status` shows the board online",
        ),
        CommandError::NoBroker => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            text,
            "see the console's log, and send it again",
        ),
        CommandError::Malformed(_) => Problem::bad(
            text,
            format!("a command asks for at most {} lines", LIMITS.log_lines),
        ),
        CommandError::NotACommandKey | CommandError::Threshold(_) => Problem::new(
            StatusCode::CONFLICT,
            text,
            "a next root document can: `coracle-release trust rotate --add command=deploy.pk8.pub`",
        ),
        CommandError::Refused(refusal) => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("the board would refuse this: {text} ({})", refusal.code()),
            "check the console's key and the root document",
        ),
        CommandError::Sign(_) => Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("nothing was sent: {text}"),
            "see that the deploy key's token is there and opens (`coracle-console check --deploy-key URI`), and send it again",
        ),
        other => Problem::inside(other),
    }
}

/// Those that are kept.
pub(super) async fn list(
    State(rest): State<Rest>,
    Path(id): Path<String>,
) -> Result<Json<Vec<Value>>, Problem> {
    let mut all = Vec::new();
    for row in rest.store.commands(&board(&id)?).await? {
        all.push(view(&rest.store, &row).await?);
    }
    Ok(Json(all))
}

/// One of them.
pub(super) async fn one(
    State(rest): State<Rest>,
    Path((id, command)): Path<(String, String)>,
) -> Result<Json<Value>, Problem> {
    let missing = || {
        Problem::missing(
            "this command is not known",
            "GET /api/v1/boards/<id>/commands lists those that are kept",
        )
    };
    let command: Sha256Digest = command.parse().map_err(|_| missing())?;
    let row = rest.store.command(&board(&id)?, &command).await?;
    Ok(Json(view(&rest.store, &row.ok_or_else(missing)?).await?))
}

/// What there is to say of it in a word.
pub fn command_state(row: &CommandRow, outcome: Option<&Outcome>) -> &'static str {
    match outcome {
        Some(outcome) if outcome.code.is_none() => "done",
        Some(_) => "failed",
        None if now() > row.expires + late(&row.action) => "unanswered",
        None => "waiting",
    }
}

/// `{id, board, seq, action, created_at, created_by, expires, state, code?, text?}`; `state` is `waiting`, `done`, `failed`, or
/// `unanswered` once nothing is to be expected any more.
async fn view(store: &Store, row: &CommandRow) -> Result<Value, StoreError> {
    let outcome = store.command_outcome(&row.id).await?;
    let state = command_state(row, outcome.as_ref());
    Ok(json!({
        "id": row.id,
        "board": row.board,
        "seq": row.seq,
        "action": row.action,
        "created_at": row.created_at,
        "created_by": row.created_by,
        "expires": row.expires,
        "state": state,
        "code": outcome.as_ref().and_then(|o| o.code.clone()),
        "text": outcome.map(|o| o.text),
    }))
}

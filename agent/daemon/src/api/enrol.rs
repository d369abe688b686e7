//! `POST /coracle/v1/enrol`: a board becomes one of a fleet, a decommissioned one of the next.

use super::Api;
use super::reply::{Fault, Reply, json, of_answer};
use crate::identity::{self, ConsoleError};
use crate::reporter;
use coracle_protocol::enrol::EnrolmentFile;
use coracle_protocol::local::{Answer, Request};
use hyper::StatusCode;
use std::time::Duration;

/// For the supervisor to come back before an enrolment is refused for want of it.
const COMES_BACK: Duration = Duration::from_secs(5);
/// For a decommissioned board to have said its last word in its old name, or to have given up.
const LEAVES: Duration = Duration::from_secs(25);

/// The supervisor is asked first: a token is spent but once, and what a board gets while it is being reset goes with the reset.
pub(super) async fn enrol(api: &Api, file: &EnrolmentFile) -> Result<Reply, Fault> {
    use identity::EnrolError::Console;
    let fault = |e: &dyn std::fmt::Display, status| Fault::new(status, e.to_string());
    let decommissioned = may_enrol(api).await?;
    identity::enrol(&api.identity_dir, &api.overrides.keys, file)
        .await
        .map_err(|e| match e {
            Console(ConsoleError::Refused { .. }) => fault(&e, StatusCode::FORBIDDEN),
            Console(ConsoleError::Http { .. } | ConsoleError::Answer { .. }) => {
                fault(&e, StatusCode::BAD_GATEWAY)
            }
            _ => fault(&e, StatusCode::INTERNAL_SERVER_ERROR),
        })?;
    let new = identity::load(&api.identity_dir, &api.overrides)
        .map_err(|e| fault(&e, StatusCode::INTERNAL_SERVER_ERROR))?
        .ok_or_else(|| Fault::bad("the enrolment was not stored"))?;
    let told = api.supervisor.ask(Request::Enrolled).await;
    if let Some(mut fault) = match told {
        Ok(Answer::Done) => None,
        Ok(other) => Some(of_answer(other)),
        Err(error) => Some(error.into()),
    } {
        fault.message += "; the new certificate is not in force and its token is spent: enrol the board with another \
                          enrolment file, in some seconds";
        return Err(fault);
    }
    tracing::info!(identity = ?new, "enrolled");
    if decommissioned {
        // Its last word, if it waits still, would be said in the new name.
        api.outbox.forget();
    }
    let board = new.board.clone();
    api.identity.send_modify(|identity| {
        api.board.send_replace(Some(board.clone()));
        *identity = Some(new);
    });
    if decommissioned && let Ok(status) = api.supervisor.status().await {
        api.outbox.current(reporter::of(status));
    }
    Ok(json(&serde_json::json!({ "board": board })))
}

/// Whether it is a decommissioned board that may enrol now.
async fn may_enrol(api: &Api) -> Result<bool, Fault> {
    const AGAIN: &str = "nothing was asked of the console: try again in some seconds";
    // Without it the next call says so.
    let _ = tokio::time::timeout(COMES_BACK, api.supervisor.wait_up()).await;
    let status = api.supervisor.status().await.map_err(|error| {
        let mut fault = Fault::from(error);
        fault.message = format!("{}; {AGAIN}", fault.message);
        fault
    })?;
    if status.resetting {
        let text = format!("this board is being reset; {AGAIN}");
        return Err(Fault::new(StatusCode::SERVICE_UNAVAILABLE, text));
    }
    if status.decommissioned {
        let mut identity = api.identity.subscribe();
        let left = identity.wait_for(Option::is_none);
        if !matches!(tokio::time::timeout(LEAVES, left).await, Ok(Ok(_))) {
            let text = format!("this board is still leaving its old fleet; {AGAIN}");
            return Err(Fault::new(StatusCode::SERVICE_UNAVAILABLE, text));
        }
    }
    Ok(status.decommissioned)
}

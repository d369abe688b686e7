//! `POST /containers/<id>/wait`: when the present run of an app has ended, and how.

use super::containers::find;
use super::reply::{Fault, Reply, typed};
use super::router::Query;
use super::{Api, Body};
use crate::docker;
use coracle_protocol::local::Status;
use coracle_protocol::report::{AppState, AppStatus};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

/// One run of an app; `None`: it does not run.
type Run = Option<(u32, Option<u64>)>;

/// Answers at once that it waits, as clients expect, and in the body once there is something to tell.
pub async fn wait(api: &Api, id: &str, query: &Query) -> Result<Reply, Fault> {
    let next = match query.get("condition").unwrap_or_default() {
        "" | "not-running" => false,
        "next-exit" => true,
        other => {
            let text = format!("invalid condition: {other:?}: an app is not removed on a board");
            return Err(Fault::bad(text));
        }
    };
    // Before the first look: what happens after it is heard of.
    let mut notices = api.supervisor.watch();
    let status = api.supervisor.status().await?;
    let (set, app) = find(&status, id)?;
    let id = docker::container_id(set, app);
    let mut run = run_of(app);
    let (pieces, body) = Body::stream();
    let (supervisor, mut shutdown) = (api.supervisor.clone(), api.shutdown.clone());
    let mut seen = Some(status);
    tokio::spawn(async move {
        loop {
            if let Some(status) = &seen
                && let Some(end) = end_of(status, &id, &mut run, next)
            {
                let mut line = end.to_string();
                line.push('\n');
                // Whoever asked may have gone.
                let _ = pieces.send(line.into()).await;
                return;
            }
            tokio::select! {
                notice = notices.recv() => if matches!(notice, Err(RecvError::Closed)) {
                    return;
                },
                () = pieces.closed() => return,
                _ = shutdown.changed() => return,
            }
            // A supervisor that is away tells when it is back.
            seen = supervisor.status().await.ok();
        }
    });
    Ok(typed("application/json", body))
}

fn run_of(app: &AppStatus) -> Run {
    let pid = app.pid.filter(|_| app.state == AppState::Running)?;
    Some((pid, app.started_at))
}

/// What is told of the end of `run`, when it has ended; of the next one when `next`.
fn end_of(status: &Status, id: &str, run: &mut Run, next: bool) -> Option<Value> {
    let Ok((_, app)) = find(status, id) else {
        let text = "another set of apps has taken its place";
        return Some(json!({"StatusCode": -1, "Error": {"Message": text}}));
    };
    let now = run_of(app);
    if run.is_none() && next {
        *run = now;
        return None;
    }
    if run.is_some() && *run == now {
        return None;
    }
    Some(match app.exit_code {
        Some(code) => json!({"StatusCode": code}),
        None if app.state == AppState::Created => json!({"StatusCode": 0}),
        None => json!({"StatusCode": -1, "Error": {"Message": "it ended, and nobody saw how"}}),
    })
}

//! A board that nobody enrolled and whose maker gave it a manufacturing certificate enrols by itself: at the start, and
//! ever less often until its console takes it, or until a person enrols it.

use crate::identity::{self, Identity, Maker, Overrides};
use crate::link::backoff::{Backoff, delay};
use crate::renewal::CertificateState;
use crate::supervisor::Supervisor;
use coracle_protocol::local::{Answer, Request};
use coracle_protocol::names::BoardId;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;

/// An operator may still have to name the board: up to a quarter of an hour.
const BACKOFF: Backoff = Backoff {
    first: Duration::from_secs(10),
    longest: Duration::from_secs(900),
};

/// What the task works with.
pub struct Ends {
    /// What the maker gave.
    pub maker: Maker,
    /// Where the identity comes to lie.
    pub folder: PathBuf,
    /// Of coracle.toml.
    pub overrides: Overrides,
    /// Who the board is.
    pub identity: watch::Sender<Option<Identity>>,
    /// Its name, for the supervisor.
    pub board: watch::Sender<Option<BoardId>>,
    /// Keeps the board's name.
    pub supervisor: Supervisor,
    /// Why it is not enrolled yet.
    pub state: watch::Sender<CertificateState>,
    /// Becomes true when the daemon ends.
    pub shutdown: watch::Receiver<bool>,
}

/// Runs until the board is somebody.
pub async fn run(mut ends: Ends) {
    let mut who = ends.identity.subscribe();
    let mut failures = 0;
    while who.borrow_and_update().is_none() && ends.maker.is_there() {
        let (error, again) = match attempt(&ends).await {
            Ok(()) => return,
            Err(Fault::Again(error)) => (error, true),
            Err(Fault::Name(error)) => (error, false),
        };
        tracing::warn!(
            error,
            "this board could not enrol by its manufacturing certificate"
        );
        let now = crate::clock::now();
        ends.state.send_modify(|state| {
            state.asked_at = now;
            state.error = Some(format!(
                "enrolment by the manufacturing certificate: {error}"
            ));
        });
        if !again {
            return;
        }
        let wait = delay(BACKOFF, failures, crate::random::u64()).max(Duration::from_secs(1));
        failures = failures.saturating_add(1);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = who.changed() => {}
            _ = ends.shutdown.changed() => return,
        }
    }
}

enum Fault {
    /// It may pass.
    Again(String),
    /// The board has another name: what was signed for it would be refused.
    Name(String),
}

async fn attempt(ends: &Ends) -> Result<(), Fault> {
    let again = |e: &dyn std::fmt::Display| Fault::Again(e.to_string());
    let given = identity::ask_as_made(&ends.folder, &ends.maker, &ends.overrides)
        .await
        .map_err(|e| again(&e))?;
    is_this_board(ends, given.board()).await?;
    given.store(&ends.folder).await.map_err(|e| again(&e))?;
    let new = identity::load(&ends.folder, &ends.overrides)
        .map_err(|e| again(&e))?
        .ok_or_else(|| Fault::Again("the enrolment was not stored".into()))?;
    tracing::info!(identity = ?new, "enrolled by the manufacturing certificate");
    ends.state.send_modify(|state| state.error = None);
    ends.board.send_replace(Some(new.board.clone()));
    ends.identity.send_replace(Some(new));
    Ok(())
}

/// A board has one name, which people may have given it before: the supervisor keeps it, and so does what is left of an
/// earlier enrolment.
async fn is_this_board(ends: &Ends, board: &BoardId) -> Result<(), Fault> {
    const AGAIN: &str = "; enrol it with a file for that name (`coracle enrol FILE`)";
    if let Some(name) = identity::name_on_disk(&ends.folder).filter(|name| name != board) {
        let text = format!("the console calls this board {board}, and it is {name}{AGAIN}");
        return Err(Fault::Name(text));
    }
    if !ends.supervisor.is_up() {
        return Ok(());
    }
    let board = board.clone();
    match ends.supervisor.ask(Request::Identity { board }).await {
        Ok(Answer::Refused { reason, .. }) => Err(Fault::Name(format!("{reason}{AGAIN}"))),
        // One that has gone meanwhile is told later.
        _ => Ok(()),
    }
}

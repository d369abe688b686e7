//! A board that nobody enrolled and whose maker gave it a manufacturing certificate enrols by itself: at the start, and
//! ever less often until its console takes it, or until a person enrols it.

use crate::identity::{self, Identity, Maker, Overrides};
use crate::link::backoff::{Backoff, delay};
use crate::renewal::CertificateState;
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
        let Err(error) = attempt(&ends).await else {
            return;
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
        let wait = delay(BACKOFF, failures, crate::random::u64()).max(Duration::from_secs(1));
        failures = failures.saturating_add(1);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            _ = who.changed() => {}
            _ = ends.shutdown.changed() => return,
        }
    }
}

async fn attempt(ends: &Ends) -> Result<(), String> {
    let words = |e: &dyn std::fmt::Display| e.to_string();
    identity::enrol_as_made(&ends.folder, &ends.maker, &ends.overrides)
        .await
        .map_err(|e| words(&e))?;
    let new = identity::load(&ends.folder, &ends.overrides)
        .map_err(|e| words(&e))?
        .ok_or("the enrolment was not stored")?;
    tracing::info!(identity = ?new, "enrolled by the manufacturing certificate");
    ends.state.send_modify(|state| state.error = None);
    ends.board.send_replace(Some(new.board.clone()));
    ends.identity.send_replace(Some(new));
    Ok(())
}

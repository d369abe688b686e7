//! One deployment at a time, also where the other one is the supervisor's own: it goes on with what a cut interrupted, or is
//! bringing a volume back, and a daemon that has just started knows nothing of it.

use super::Outcome;
use crate::supervisor::{Notice, Supervisor, SupervisorError};
use coracle_protocol::local::{Event, SWITCHING};
use coracle_protocol::report::{Phase, SetState};
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::Instant;

/// The longest trial, of a day, and an hour for stopping and starting.
const LONGEST: Duration = Duration::from_secs(25 * 3600);
/// Between two tries while the supervisor says nothing: what is no deployment ends without a word.
const LOOK: Duration = Duration::from_secs(30);

/// Room for a deployment.
pub struct Room<'a> {
    supervisor: &'a Supervisor,
    notices: Receiver<Notice>,
    until: Option<Instant>,
}

impl<'a> Room<'a> {
    /// Listens to `supervisor` from now on.
    pub fn of(supervisor: &'a Supervisor) -> Self {
        Self {
            supervisor,
            notices: supervisor.watch(),
            until: None,
        }
    }

    /// Whether `end` says that something else has the board, and it may still be waited for.
    pub fn is_taken(&mut self, end: &Outcome) -> bool {
        let until = *self.until.get_or_insert_with(|| Instant::now() + LONGEST);
        let is_busy = end.phase == Phase::Failed && end.code.as_deref() == Some("busy");
        is_busy && Instant::now() < until
    }

    /// Until it is worth another try.
    pub async fn left(&mut self) -> Result<(), Outcome> {
        let mut look = Instant::now() + LOOK;
        loop {
            match tokio::time::timeout_at(look, self.notices.recv()).await {
                Ok(Ok(Notice::Event(Event::Deployment { phase, .. }))) if phase.is_end() => break,
                Ok(Ok(Notice::Connected) | Err(RecvError::Lagged(_))) => break,
                Ok(Ok(_)) => {}
                Ok(Err(RecvError::Closed)) => return Err(SupervisorError::Down.into()),
                Err(_) if self.is_switching().await => look = Instant::now() + LOOK,
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Whether it would be refused again.
    async fn is_switching(&self) -> bool {
        self.supervisor.status().await.is_ok_and(|status| {
            let tried = status.current.map(|set| set.state);
            let waiting = status.waiting.map(|set| set.code);
            tried == Some(SetState::Trial) || waiting.as_deref() == Some(SWITCHING)
        })
    }
}

//! The client of `supervisor.sock`: calls with answers, and events. It connects again for as long
//! as the daemon runs; a call during a break fails at once and says so.

mod frame;
mod task;

pub use frame::{FrameError, read_frame, write_frame};
pub use task::run;

use coracle_protocol::limits::LIMITS;
use coracle_protocol::local::{Answer, Event, Request, Status, StoreAction};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Calls that may wait for an answer.
const PENDING: usize = 32;
/// Events that a slow listener may lag behind.
const EVENTS: usize = 64;
/// For an answer, except to `Stage` and `Command`.
const ANSWER: Duration = Duration::from_secs(60);
/// For the answer to `Stage` and `Mend`: the largest layer on the slowest flash.
const STAGE: Duration = Duration::from_secs(3 * 3600);

/// For the answer to `Command`: what an action takes comes on top.
const COMMAND: Duration = ANSWER.saturating_add(Duration::from_secs(LIMITS.action_seconds as u64));

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SupervisorError {
    /// Not there.
    #[error("coracle-supervisor cannot be reached; is it running?")]
    Down,
    /// Went away before it answered.
    #[error("the connection to coracle-supervisor broke before it answered")]
    Broke,
    /// Too slow.
    #[error("coracle-supervisor did not answer in {0} s")]
    TimedOut(u64),
    /// Too many calls wait.
    #[error("{PENDING} calls wait for coracle-supervisor already")]
    Busy,
    /// An answer of the wrong kind.
    #[error("coracle-supervisor answered `{got}`; `{expected}` was expected")]
    Unexpected {
        /// What fits the call.
        expected: &'static str,
        /// What came.
        got: String,
    },
}

/// What comes without being asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// The connection is (again) there: ask for the status, events may have been missed.
    Connected,
    /// The connection broke.
    Lost,
    /// The supervisor says.
    Event(Event),
}

pub(crate) struct Ask {
    pub request: Request,
    pub answer: oneshot::Sender<Result<Answer, SupervisorError>>,
}

/// A handle; each clone speaks over the same connection.
#[derive(Clone)]
pub struct Supervisor {
    asks: mpsc::Sender<Ask>,
    notices: broadcast::Sender<Notice>,
    up: watch::Receiver<bool>,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Supervisor {{ up: {} }}", self.is_up())
    }
}

/// The ends that [`run`] holds.
pub struct Ends {
    asks: mpsc::Receiver<Ask>,
    notices: broadcast::Sender<Notice>,
    up: watch::Sender<bool>,
}

/// A handle and the ends for [`run`].
pub fn channel() -> (Supervisor, Ends) {
    let (asks, asks_end) = mpsc::channel(PENDING);
    let (notices, _) = broadcast::channel(EVENTS);
    let (up_end, up) = watch::channel(false);
    let ends = Ends {
        asks: asks_end,
        notices: notices.clone(),
        up: up_end,
    };
    let handle = Supervisor { asks, notices, up };
    (handle, ends)
}

impl Supervisor {
    /// Asks and waits for the answer.
    pub async fn ask(&self, request: Request) -> Result<Answer, SupervisorError> {
        if !self.is_up() {
            return Err(SupervisorError::Down);
        }
        let limit = match request {
            Request::Stage { .. }
            | Request::Store {
                action: StoreAction::Mend { .. },
            } => STAGE,
            Request::Command { .. } => COMMAND,
            _ => ANSWER,
        };
        let (answer, end) = oneshot::channel();
        self.asks
            .try_send(Ask { request, answer })
            .map_err(|e| match e {
                mpsc::error::TrySendError::Full(_) => SupervisorError::Busy,
                mpsc::error::TrySendError::Closed(_) => SupervisorError::Down,
            })?;
        match tokio::time::timeout(limit, end).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(SupervisorError::Broke),
            Err(_) => Err(SupervisorError::TimedOut(limit.as_secs())),
        }
    }

    /// Everything that runs.
    pub async fn status(&self) -> Result<Status, SupervisorError> {
        match self.ask(Request::Status).await? {
            Answer::Status(status) => {
                if let Some(trust) = &status.trust {
                    crate::clock::told(trust.time, trust.clock_kept);
                }
                Ok(status)
            }
            other => Err(unexpected("status", &other)),
        }
    }

    /// From now on, notices come.
    pub fn watch(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    /// Whether there is a connection.
    pub fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// Waits for a connection.
    pub async fn wait_up(&self) {
        // The sender lives as long as the daemon; without it nobody waits for anything.
        let _ = self.up.clone().wait_for(|up| *up).await;
    }
}

/// An answer of the wrong kind, shortened.
pub fn unexpected(expected: &'static str, got: &Answer) -> SupervisorError {
    SupervisorError::Unexpected {
        expected,
        got: format!("{got:?}").chars().take(120).collect(),
    }
}

//! How a deployment ends, and how the daemon learns of it from the supervisor: by events, and by
//! the status whenever events may have been missed.

use super::voice::Voice;
use crate::supervisor::{Notice, Supervisor, SupervisorError};
use coracle_protocol::Sha256Digest;
use coracle_protocol::local::{Answer, DID_NOT_STAY, Event, SWITCHING, Status};
use coracle_protocol::report::{Phase, SetState};
use std::cell::Cell;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::Instant;

/// Between two looks at the status while no event comes.
const LOOK: Duration = Duration::from_secs(30);
/// Past the longest trial: stopping and starting every app, slowly.
const SLACK: Duration = Duration::from_secs(3600);
/// Code of a deployment of which a supervisor that was started anew knows nothing.
const INTERRUPTED: &str = "interrupted";
/// The supervisor's word for one that it was not offered, or forgot.
const NO_OFFER: &str = "no-offer";

/// An end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// One of the ends.
    pub phase: Phase,
    /// A stable word.
    pub code: Option<String>,
    /// In words.
    pub reason: Option<String>,
}

impl Outcome {
    /// The set is kept.
    pub fn committed() -> Self {
        Self {
            phase: Phase::Committed,
            code: None,
            reason: None,
        }
    }
    /// Nothing was changed.
    pub fn refused(code: &str, reason: impl Into<String>) -> Self {
        Self {
            phase: Phase::Refused,
            code: Some(code.to_owned()),
            reason: Some(reason.into()),
        }
    }
    /// Whether something newer was counted before.
    pub fn is_old(&self) -> bool {
        self.code.as_deref() == Some("old-assignment")
    }
    /// It was tried, and the board went back.
    pub fn rolled_back(reason: Option<String>) -> Self {
        Self {
            phase: Phase::RolledBack,
            code: Some("rolled-back".to_owned()),
            reason,
        }
    }
    /// Whether the supervisor went away meanwhile, and may never have heard of it.
    pub fn is_lost(&self) -> bool {
        let mut cut_off = [SupervisorError::Down, SupervisorError::Broke].into_iter();
        let forgotten = [Some(INTERRUPTED), Some(NO_OFFER)];
        let is_forgotten = self.phase == Phase::Failed && forgotten.contains(&self.code.as_deref());
        is_forgotten || cut_off.any(|error| *self == error.into())
    }
    /// It could not be carried out.
    pub fn failed(code: &str, reason: impl Into<String>) -> Self {
        Self {
            phase: Phase::Failed,
            ..Self::refused(code, reason)
        }
    }
}

impl From<SupervisorError> for Outcome {
    fn from(error: SupervisorError) -> Self {
        Self::failed("supervisor", error.to_string())
    }
}

/// An answer that is no success, as an end.
pub fn of_answer(expected: &'static str, answer: Answer) -> Outcome {
    match answer {
        Answer::Refused { code, reason } if code == DID_NOT_STAY => Outcome {
            phase: Phase::RolledBack,
            ..Outcome::refused(&code, reason)
        },
        Answer::Refused { code, reason } => Outcome::refused(&code, reason),
        Answer::Failed { code, reason } => Outcome::failed(&code, reason),
        other => crate::supervisor::unexpected(expected, &other).into(),
    }
}

/// How far a deployment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// Nothing was switched: a newer one takes its place.
    Comes,
    /// The supervisor has it, for a lock, an hour or a person: a newer one takes its place, and so does a stick.
    Waits,
    /// Beyond the point of no return.
    Switched,
}

/// A set that was switched to and whose end is awaited.
pub struct Awaited<'a> {
    /// Of the offer.
    pub activity: &'a str,
    /// Digest of the assignment.
    pub deployment: Sha256Digest,
    /// The longest trial among its apps.
    pub trial: Duration,
    /// The failure that the supervisor reported before.
    pub failure_before: Option<String>,
}

impl Awaited<'_> {
    /// Why it did not stay, when that is what the status says and it is new.
    fn failure(&self, status: &Status) -> Option<String> {
        let is_new = status.last_failure != self.failure_before;
        failure_of(self.activity, status).filter(|_| is_new)
    }
}

/// Why this activity failed, when that is what the status says. Whatever else failed on the board meanwhile has its own name before
/// its reason.
pub fn failure_of(activity: &str, status: &Status) -> Option<String> {
    let words = status.last_failure.as_ref()?;
    let rest = words.strip_prefix(activity)?;
    rest.starts_with(' ').then(|| words.clone())
}

/// How a set runs that the supervisor says is there already: under this assignment, or kept under an older one that says the
/// same. `None`: the board is being switched to it, or was and went back.
pub fn how_it_runs(
    status: &Status,
    awaited: &Awaited<'_>,
    release: Sha256Digest,
) -> Option<SetState> {
    let set = status.current.as_ref()?;
    let waiting = status.waiting.as_ref();
    let comes = waiting.is_some_and(|set| set.deployment == awaited.deployment);
    let went_back = awaited.failure(status).is_some();
    let same = set.state == SetState::Committed && set.release == release && !comes && !went_back;
    (set.deployment == awaited.deployment || same).then_some(set.state)
}

/// Follows the supervisor until the end. `notices` must be older than the switch, so that nothing
/// is missed.
pub async fn follow(
    supervisor: &Supervisor,
    awaited: &Awaited<'_>,
    notices: &mut Receiver<Notice>,
    voice: &mut Voice<'_>,
    course: &Cell<Course>,
) -> Outcome {
    let mut deadline = Instant::now() + awaited.trial + SLACK;
    loop {
        let look = match tokio::time::timeout(LOOK, notices.recv()).await {
            Ok(Ok(Notice::Event(Event::Deployment {
                activity,
                phase,
                code,
                reason,
            }))) if activity == awaited.activity => {
                if phase.is_end() {
                    return Outcome {
                        phase,
                        code,
                        reason,
                    };
                }
                // What waits can still be taken back, and has no deadline but the board's own.
                course.set(match phase {
                    Phase::Waiting => Course::Waits,
                    _ => Course::Switched,
                });
                if phase == Phase::Waiting {
                    deadline = Instant::now() + awaited.trial + SLACK;
                    voice.waiting(code, reason);
                } else if phase >= Phase::Switching {
                    voice.phase(phase);
                }
                None
            }
            Ok(Ok(Notice::Connected)) => Some(true),
            Err(_) | Ok(Err(RecvError::Lagged(_))) => Some(false),
            Ok(Ok(_)) => None,
            Ok(Err(RecvError::Closed)) => return SupervisorError::Down.into(),
        };
        if let Some(restarted) = look
            && let Ok(status) = supervisor.status().await
        {
            let ours = status
                .waiting
                .as_ref()
                .filter(|set| set.deployment == awaited.deployment);
            // A supervisor that was started anew goes on with what waited: no end, whatever runs at this moment.
            if let Some(set) = ours {
                course.set(match set.code == SWITCHING {
                    true => Course::Switched,
                    false => Course::Waits,
                });
                deadline = Instant::now() + awaited.trial + SLACK;
            } else if let Some(outcome) = read_status(&status, awaited, restarted) {
                return outcome;
            }
        }
        if Instant::now() >= deadline {
            return Outcome::failed("no-outcome", "the supervisor never said how it ended");
        }
    }
}

/// What a status says of the awaited set; `None` when it is not decided. `restarted`: the
/// supervisor was started anew, and has settled its journal before it took connections.
pub fn read_status(status: &Status, awaited: &Awaited<'_>, restarted: bool) -> Option<Outcome> {
    match &status.current {
        Some(set) if set.deployment == awaited.deployment => match set.state {
            SetState::Committed => Some(Outcome::committed()),
            SetState::Trial => None,
        },
        _ => match awaited.failure(status) {
            Some(reason) => Some(Outcome::rolled_back(Some(reason))),
            None if restarted => Some(Outcome::failed(
                INTERRUPTED,
                "the supervisor was started anew and runs another set",
            )),
            None => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The power went in a trial: the supervisor took it back before this daemon was there.
    #[test]
    fn an_offer_that_did_not_stay_is_the_end_of_its_trial_and_no_refusal() {
        let answer = |code: &str| Answer::Refused {
            code: code.into(),
            reason: "x did not stay (interrupted): the board restarted".into(),
        };
        let end = of_answer("needs", answer(DID_NOT_STAY));
        assert_eq!(end.phase, Phase::RolledBack);
        assert_eq!(end.code.as_deref(), Some("rolled-back"));
        assert!(
            end.reason
                .is_some_and(|reason| reason.contains("interrupted"))
        );
        assert_eq!(
            of_answer("needs", answer("old-assignment")).phase,
            Phase::Refused
        );
    }
}

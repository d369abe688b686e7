//! How a board goes from one set of apps to another: a pure function `(state, event)` →
//! `(state, actions)`. It knows no file, no process and no clock, so that every order of events can
//! be tried in a test; the supervisor carries the actions out and brings the events.
//!
//! ```text
//!       Activate        Recorded         OldStopped     Copied       NewStarted         Ready           Relieved        Passed         Kept
//!  Idle ───────▶ Recording ───▶ StoppingOld ───▶ Copying ──▶ Starting ───▶ HandingOver ───▶ Relieving ───▶ Trial ───▶ Keeping ───▶ Idle (new set)
//!   ▲               │ RecordFailed                │ Fault      │ Fault      │ Fault           │ Fault       │ Fault     │ Fault
//!   │◀──────────────┘                             ▼            ▼            ▼                 ▼             ▼           ▼
//!   │           RestoredOld            NewStopped └─────────────────────────────────▶ StoppingNew ◀────────────────────┘
//!   └─────────────────────── Restoring ◀──────────────────────────────────────────────────┘
//! ```
//!
//! `StoppingOld` leaves those apps of the old set running that are handed over: they serve on until each of the new ones of
//! their names is ready, and end in `Relieving`. A fault before that finds them as they were. Where no app is handed over,
//! `Ready` and `Relieved` come at once.
//!
//! `Copying` copies the volumes whose contents the new set makes another version's; where there are none, `Copied` comes at once.
//! `NewStopped` comes when each that was copied is as it was.
//!
//! Before that, a set whose time has not come: `Hold` leads from `Idle` to `Waiting`, where the committed set runs on as in
//! `Idle`; from there `Activate` leads to `Recording`, and `Withdrawn` back to `Idle`. It is parked on disk, so that a
//! restart finds it whole and waits on.
//!
//! The journal's rule: `Record` comes before anything is stopped, `Keep` is one rename, and until it
//! has happened a restart finds the trial on disk and takes it back.

/// Why a deployment did not stay, for programs and in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// A stable word.
    pub code: &'static str,
    /// For people.
    pub reason: String,
}

impl Why {
    /// A reason.
    pub fn new(code: &'static str, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }
}

/// How a deployment ended that did not stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The new set could not even be started.
    Failed,
    /// It started, and did not prove healthy.
    RolledBack,
}

/// Where the board is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// The committed set runs, or none.
    Idle,
    /// The committed set runs, or none; a staged one waits for its time.
    Waiting,
    /// Counters and trial are being written.
    Recording,
    /// The old set's apps are ending, but for those that are handed over.
    StoppingOld,
    /// Volumes that the new set converts are being copied.
    Copying,
    /// The new set's apps are being started.
    Starting,
    /// Each app of the new set was started; those of the old one that are handed over serve on.
    HandingOver,
    /// The new ones serve, and those that served on are ending.
    Relieving,
    /// The health window is open.
    Trial,
    /// The new set is becoming the committed one.
    Keeping,
    /// The new set's apps are ending, because of this.
    StoppingNew(End, Why),
    /// The old set's apps are being started again.
    Restoring(End, Why),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An accepted and staged offer is to run, and nothing stands against it.
    Activate,
    /// One is to run, and this stands against it for now.
    Hold(Why),
    /// The one that waits is not to run any more, or could not be parked.
    Withdrawn(Why),
    /// Counters and trial are on disk.
    Recorded,
    /// They are not; nothing was stopped.
    RecordFailed(Why),
    /// No app of the old set is left, but for those that serve on.
    OldStopped,
    /// Each volume that the new set converts is copied, on the disk.
    Copied,
    /// Each app that takes one over that serves on is ready.
    Ready,
    /// No app is left that served on.
    Relieved,
    /// Each app of the new set was started.
    NewStarted,
    /// A volume cannot be copied; an app of the new set cannot be started, failed for good or is unhealthy.
    Fault(Why),
    /// The window is over and each app is healthy.
    Passed,
    /// The journal has the new set as the committed one.
    Kept,
    /// No app of the new set is left, and each volume that was copied is as it was.
    NewStopped,
    /// The old set's apps were started, or its restart policy is at it.
    RestoredOld,
    /// At start: the journal holds a set that waits.
    FoundWaiting,
    /// At start: the journal holds a trial that was never kept.
    FoundTrial,
    /// At start: the same, but no app of it was ever started; the old set's still run.
    FoundUntried,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The set that waits onto the disk; answer `Withdrawn` when it cannot be written.
    Park,
    /// It is there no more; nothing of the running set changes.
    Unpark,
    /// Counters, then the trial, onto the disk, and what was parked off it; answer `Recorded` or `RecordFailed`.
    Record,
    /// End the old set's apps, but for those that are handed over; answer `OldStopped`.
    StopOld,
    /// Copy the volumes that the new set converts; answer `Copied` or `Fault`.
    CopyVolumes,
    /// What comes for the apps that served on goes to the new ones, then they end; answer `Relieved`, or `Fault`.
    HandOver,
    /// Start the new set's; answer `NewStarted` or `Fault`.
    StartNew,
    /// Watch the new set's health; answer `Passed` or `Fault`.
    OpenTrial,
    /// The new set becomes the committed one; answer `Kept`, or `Fault` when that cannot be written.
    Keep,
    /// End the new set's apps and put back what was copied; answer `NewStopped`.
    StopNew,
    /// The trial is removed from the journal and noted as failed.
    Forget(Why),
    /// Start the old set's apps; answer `RestoredOld`.
    StartOld,
    /// Tell whoever watches.
    Report(Report),
}

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A staged set waits, for this.
    Waiting(Why),
    /// The old set stops.
    Switching,
    /// The window is open.
    Trial,
    /// The new set is kept.
    Committed,
    /// The old set runs.
    Ended(End, Why),
}

const INTERRUPTED: &str =
    "the board or the supervisor restarted before the new set had proved healthy";

/// An event that this state does not know. The supervisor logs it and goes on: nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} means nothing in state {state:?}")]
pub struct Unexpected {
    /// Where the board is, and stays.
    pub state: State,
    /// What came.
    pub event: Event,
}

impl State {
    /// Whether the committed set runs and nothing of it is being changed.
    pub fn is_settled(&self) -> bool {
        matches!(self, Self::Idle | Self::Waiting)
    }

    /// Whether there is no deployment at all.
    pub fn is_idle(&self) -> bool {
        *self == Self::Idle
    }

    /// One step.
    pub fn on(self, event: Event) -> Result<(Self, Vec<Action>), Unexpected> {
        use Action as A;
        use Event as E;
        use State as S;
        Ok(match (self, event) {
            (S::Idle | S::Waiting, E::Activate) => (S::Recording, vec![A::Record]),
            (S::Idle, E::Hold(why)) => (S::Waiting, vec![A::Park, A::Report(Report::Waiting(why))]),
            (S::Waiting, E::Hold(why)) => (S::Waiting, vec![A::Report(Report::Waiting(why))]),
            (S::Waiting, E::Withdrawn(why)) => (
                S::Idle,
                vec![A::Unpark, A::Report(Report::Ended(End::Failed, why))],
            ),
            (S::Idle, E::FoundWaiting) => (S::Waiting, vec![]),
            (S::Recording, E::Recorded) => (
                S::StoppingOld,
                vec![A::Report(Report::Switching), A::StopOld],
            ),
            (S::Recording, E::RecordFailed(why)) => (
                S::Idle,
                vec![
                    A::Forget(why.clone()),
                    A::Report(Report::Ended(End::Failed, why)),
                ],
            ),
            (S::StoppingOld, E::OldStopped) => (S::Copying, vec![A::CopyVolumes]),
            (S::Copying, E::Copied) => (S::Starting, vec![A::StartNew]),
            (S::Starting, E::NewStarted) => (S::HandingOver, vec![]),
            (S::HandingOver, E::Ready) => (S::Relieving, vec![A::HandOver]),
            (S::Relieving, E::Relieved) => (S::Trial, vec![A::Report(Report::Trial), A::OpenTrial]),
            (S::Trial, E::Passed) => (S::Keeping, vec![A::Keep]),
            (S::Keeping, E::Kept) => (S::Idle, vec![A::Report(Report::Committed)]),
            (S::Copying | S::Starting, E::Fault(why)) => {
                (S::StoppingNew(End::Failed, why), vec![A::StopNew])
            }
            (S::HandingOver | S::Relieving | S::Trial | S::Keeping, E::Fault(why)) => {
                (S::StoppingNew(End::RolledBack, why), vec![A::StopNew])
            }
            // Found after a cut: what still runs of it is ended like any other trial.
            (S::Idle, E::FoundTrial) => {
                let why = Why::new("interrupted", INTERRUPTED);
                (S::StoppingNew(End::RolledBack, why), vec![A::StopNew])
            }
            (S::Idle, E::FoundUntried) => {
                let why = Why::new("interrupted", INTERRUPTED);
                let report = A::Report(Report::Ended(End::RolledBack, why.clone()));
                (S::Idle, vec![A::Forget(why), report])
            }
            (S::StoppingNew(end, why), E::NewStopped) => (
                S::Restoring(end, why.clone()),
                vec![A::Forget(why), A::StartOld],
            ),
            (S::Restoring(end, why), E::RestoredOld) => {
                (S::Idle, vec![A::Report(Report::Ended(end, why))])
            }
            // A second app fails while the first one's failure is dealt with: the first reason stays.
            (state @ (S::StoppingNew(..) | S::Restoring(..)), E::Fault(_)) => (state, vec![]),
            (state, event) => return Err(Unexpected { state, event }),
        })
    }
}

/// What a start has to do about what it finds: a trial on the disk, the committed set's apps running, a set that waits. `None`:
/// the committed set is all there is.
pub fn found(trial: bool, old_runs: bool, waits: bool) -> Option<Event> {
    match (trial, old_runs, waits) {
        (true, true, _) => Some(Event::FoundUntried),
        (true, false, _) => Some(Event::FoundTrial),
        (false, _, true) => Some(Event::FoundWaiting),
        (false, _, false) => None,
    }
}

#[cfg(test)]
mod crashes;
#[cfg(test)]
mod tests;

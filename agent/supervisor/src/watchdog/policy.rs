//! Whether the board is reset for the sake of an app. Pure: no clock, no file, no board.
//!
//! A reset is the last thing that is tried: the restart policy comes first, then the way back to the
//! set that worked. And it is tried a few times only: an app that a reset does not heal must not
//! keep the board, and the other apps on it, from running for ever.

use std::time::Duration;

/// So long a time with every critical app fine makes earlier resets forgiven. Measured as time that
/// passed, not as dates: a board without a clock of its own knows no dates.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// How an app that is marked critical is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Critical {
    /// It runs, or is about to by its restart policy.
    Fine,
    /// It is down for good: its restart policy has given up, or it stays unhealthy.
    GivenUp,
}

/// An app that is marked critical.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CriticalApp<'a> {
    /// Its name.
    pub name: &'a str,
    /// How it is.
    pub state: Critical,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Feed the watchdog.
    Feed,
    /// Let it reset the board, for this app.
    Reset {
        /// Its name.
        app: String,
    },
}

/// How many resets there were, and how many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    cap: u32,
    resets: u32,
    fine_for: Duration,
}

impl Policy {
    /// `cap`: resets until the board stays up whatever its apps do. `resets`: those that were not
    /// forgiven yet, from before this start.
    pub fn new(cap: u32, resets: u32) -> Self {
        Self {
            cap,
            resets,
            fine_for: Duration::ZERO,
        }
    }

    /// Resets that are not forgiven; what has to outlive a reset.
    pub fn resets(&self) -> u32 {
        self.resets
    }

    /// One look at the apps, `passed` after the one before. `way_back`: a deployment is under way
    /// or there is an earlier set to return to; then that is tried first. On [`Verdict::Reset`]
    /// the count went up: it must be on the disk before the watchdog is left hungry.
    pub fn look(&mut self, apps: &[CriticalApp<'_>], way_back: bool, passed: Duration) -> Verdict {
        let given_up = apps.iter().find(|app| app.state == Critical::GivenUp);
        let Some(app) = given_up else {
            self.fine_for = self.fine_for.saturating_add(passed);
            if self.fine_for >= FORGIVEN_AFTER {
                self.resets = 0;
            }
            return Verdict::Feed;
        };
        self.fine_for = Duration::ZERO;
        if way_back || self.resets >= self.cap {
            return Verdict::Feed;
        }
        self.resets += 1;
        Verdict::Reset {
            app: app.name.to_owned(),
        }
    }
}

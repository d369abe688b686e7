//! When an app that ended is started again. Pure.

use coracle_protocol::release::Restart;
use std::time::Duration;

/// Before the first restart; doubled with each one in a row.
const FIRST: Duration = Duration::from_secs(1);

/// The longest wait: a board that is seen once a minute can be debugged, one that tries no more can't.
const LONGEST: Duration = Duration::from_secs(60);

/// An app that ran so long has recovered: its next restart is a first one again.
pub const RECOVERED: Duration = Duration::from_secs(60);

/// Exits during a trial that an app may have; one more and the set goes back.
pub const TRIAL_RESTARTS: u32 = 2;

/// What follows an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Start again after this long.
    Again(Duration),
    /// It stays as it is. `fine`: its policy calls that a good end.
    Stays { fine: bool },
}

/// By policy, how it ended, and how many restarts came before in a row.
pub fn after_exit(policy: Restart, success: bool, in_a_row: u32) -> Next {
    match (policy, success) {
        (Restart::Always, _) | (Restart::OnFailure, false) => Next::Again(wait(in_a_row)),
        (Restart::OnFailure, true) | (Restart::No, true) => Next::Stays { fine: true },
        (Restart::No, false) => Next::Stays { fine: false },
    }
}

fn wait(in_a_row: u32) -> Duration {
    FIRST.saturating_mul(1 << in_a_row.min(10)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies() {
        use Restart::{Always, No, OnFailure};
        let first = Next::Again(FIRST);
        assert_eq!(after_exit(Always, true, 0), first);
        assert_eq!(after_exit(Always, false, 0), first);
        assert_eq!(after_exit(OnFailure, false, 0), first);
        assert_eq!(after_exit(OnFailure, true, 9), Next::Stays { fine: true });
        assert_eq!(after_exit(No, true, 0), Next::Stays { fine: true });
        assert_eq!(after_exit(No, false, 0), Next::Stays { fine: false });
    }

    #[test]
    fn the_wait_doubles_up_to_a_minute_and_never_wraps() {
        let seconds: Vec<u64> = (0..8).map(|n| wait(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(wait(u32::MAX), LONGEST);
    }
}

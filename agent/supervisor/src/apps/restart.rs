//! When an app that ended is started again. Pure.

use coracle_protocol::release::Restart;
use std::time::{Duration, Instant};

/// Before the first restart; doubled with each one in a row.
const FIRST: Duration = Duration::from_secs(1);

/// The longest wait: a board that is seen once a minute can be debugged, one that tries no more can't.
const LONGEST: Duration = Duration::from_secs(60);

/// An app that ran so long has recovered: its next restart is a first one again.
pub const RECOVERED: Duration = Duration::from_secs(60);

/// Exits during a trial that an app may have; one more and the set goes back.
pub const TRIAL_RESTARTS: u32 = 2;

/// Restarts in a row after which a critical app counts as down for good: four minutes of waiting between exits.
pub const GIVEN_UP: u32 = 9;

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

/// After an end of which nobody knows how it was. Is it `awaited` that the app ends well, it runs once more, since others would wait
/// for ever otherwise.
pub fn after_unseen_end(policy: Restart, awaited: bool, in_a_row: u32) -> Next {
    match (policy, awaited) {
        (Restart::No, true) => Next::Again(wait(in_a_row)),
        _ => after_exit(policy, false, in_a_row),
    }
}

fn wait(in_a_row: u32) -> Duration {
    doubled(FIRST, in_a_row)
}

fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1 << times.min(10)).min(LONGEST)
}

/// Restarts of one app because a device of it is there as another: a bad cable must not stop it every second.
#[derive(Debug, Clone, Copy, Default)]
pub struct ForDevices {
    last: Option<Instant>,
    in_a_row: u32,
}

impl ForDevices {
    /// From the first such restart to the next; doubled with each one in a row.
    const FIRST: Duration = Duration::from_secs(10);

    /// Whether one may be now, which is counted then; otherwise when. `since`: the app's last start.
    pub fn begin(&mut self, since: Instant, now: Instant) -> Result<(), Instant> {
        if now.saturating_duration_since(since) >= RECOVERED {
            *self = Self::default();
        }
        if let Some(last) = self.last {
            let next = last + doubled(Self::FIRST, self.in_a_row - 1);
            if next > now {
                return Err(next);
            }
        }
        self.last = Some(now);
        self.in_a_row += 1;
        Ok(())
    }
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
    fn who_ended_unseen_runs_again_when_others_wait_for_its_good_end() {
        use Restart::{Always, No, OnFailure};
        let first = Next::Again(FIRST);
        assert_eq!(after_unseen_end(No, true, 0), first);
        assert_eq!(after_unseen_end(No, false, 0), Next::Stays { fine: false });
        for policy in [Always, OnFailure] {
            assert_eq!(after_unseen_end(policy, false, 0), first);
            assert_eq!(after_unseen_end(policy, true, 0), first);
        }
    }

    #[test]
    fn a_bad_cable_restarts_an_app_less_and_less_until_it_has_run_for_long() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut restarts = ForDevices::default();
        // Each tried a second after the last one, then when it is said to be possible.
        for (last, next) in [(0, 10), (10, 30), (30, 70)] {
            assert_eq!(restarts.begin(at(last), at(last)), Ok(()));
            assert_eq!(restarts.begin(at(last), at(last + 1)), Err(at(next)));
        }
        assert_eq!(restarts.begin(at(31), at(90)), Ok(()));
        assert_eq!(restarts.begin(at(90), at(91)), Err(at(150)));
        // A long run.
        assert_eq!(restarts.begin(at(91), at(151)), Ok(()));
        assert_eq!(restarts.begin(at(151), at(152)), Err(at(161)));
    }

    #[test]
    fn the_wait_doubles_up_to_a_minute_and_never_wraps() {
        let seconds: Vec<u64> = (0..8).map(|n| wait(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!((0..GIVEN_UP).map(wait).sum::<Duration>() >= Duration::from_secs(240));
        assert_eq!(wait(u32::MAX), LONGEST);
    }
}

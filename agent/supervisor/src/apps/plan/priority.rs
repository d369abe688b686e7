//! What the `priority` of an app (0 to 100, 50 where the release says nothing) means while the board is cool: its share of the
//! CPUs and the disk where other apps want them too, and how late it is ended when the whole board runs out of memory.

use coracle_board_support::probe::{Outcome, Trials};
use coracle_runtime::Limits;

/// Of an app with priority 0: with 100 it is 100. Daemon and supervisor have less than 0 (`config/`), so that they come last.
const FIRST_TO_GO: i32 = 300;

/// `oom_score_adj`.
pub(super) fn oom_score(priority: u8) -> i32 {
    FIRST_TO_GO - 2 * i32::from(priority.min(100))
}

/// On the scale where 100 is usual; twice the priority is twice the share. Only what this kernel keeps.
pub(super) fn weights(priority: u8, trials: &Trials) -> Limits {
    let weight = (2 * u64::from(priority.min(100))).max(1);
    let kept = |limit| trials.outcome(limit) == Some(&Outcome::Works);
    Limits {
        cpu_weight: kept("CPU weight").then_some(weight),
        io_weight: kept("IO weight").then_some(weight),
        ..Limits::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_that_says_nothing_is_a_usual_one() {
        assert_eq!(oom_score(50), 200);
        let mut trials = Trials::default();
        assert_eq!(weights(50, &trials), Limits::default(), "nothing was tried");
        trials.note("CPU weight", Outcome::Works);
        assert_eq!(weights(50, &trials).cpu_weight, Some(100));
        assert_eq!(weights(50, &trials).io_weight, None);
        trials.note("IO weight", Outcome::Works);
        assert_eq!(weights(80, &trials).io_weight, Some(160));
        assert_eq!(weights(0, &trials).cpu_weight, Some(1));
    }

    #[test]
    fn every_app_goes_before_the_daemon_and_the_less_it_matters_the_sooner() {
        for priority in 0..=100 {
            assert!((100..=300).contains(&oom_score(priority)));
            assert!(priority == 0 || oom_score(priority) < oom_score(priority - 1));
        }
        assert_eq!(oom_score(255), oom_score(100));
    }
}

//! Looks that come again and again, and that nobody waits for, fall on the same instants: the processor is woken up once for all
//! of them. Each sleep of some seconds costs three wake-ups, since tokio's wheel of timers turns in steps.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The next one of a look every `period`, after at least half of that.
pub(super) fn next(now: Instant, period: Duration) -> Instant {
    let since = now.saturating_duration_since(*BEGIN) + period / 2;
    let into = since.as_nanos() % period.as_nanos().max(1);
    let left = period.saturating_sub(Duration::from_nanos(into as u64));
    now + period / 2 + left
}

/// The first of these ends that is still to be judged: one that has come since the last look as well, or nothing would wake the
/// loop for it.
pub(super) fn not_judged(
    ends: impl Iterator<Item = Instant>,
    judged_at: Instant,
) -> Option<Instant> {
    ends.filter(|end| *end > judged_at).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_comes_behind_a_look_wakes_the_loop() {
        let judged_at = Instant::now();
        let [before, behind, late] = [-1, 1, 5000].map(|ms: i64| match ms {
            0.. => judged_at + Duration::from_millis(ms as u64),
            _ => judged_at - Duration::from_millis(ms.unsigned_abs()),
        });
        // Whatever the clock says by now.
        while Instant::now() <= behind {}
        let due = |ends: &[Instant]| not_judged(ends.iter().copied(), judged_at);
        assert_eq!(due(&[late, behind, before]), Some(behind));
        assert_eq!(due(&[before]), None);
    }

    #[test]
    fn looks_of_one_period_fall_together_and_none_comes_at_once() {
        let (five, ten) = (Duration::from_secs(5), Duration::from_secs(10));
        let begin = *BEGIN;
        for after in [0, 1, 700, 2_499, 2_500, 4_999, 5_000, 123_456] {
            let now = begin + Duration::from_millis(after);
            for period in [five, ten] {
                let next = next(now, period);
                let wait = next.duration_since(now);
                assert!(wait >= period / 2 && wait <= period * 3 / 2, "{wait:?}");
                let since = next.duration_since(*BEGIN).as_nanos();
                assert_eq!(since % period.as_nanos(), 0);
            }
        }
    }
}

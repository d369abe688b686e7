//! How long to wait before the next try: exponential with full jitter ("Exponential Backoff And
//! Jitter", AWS Architecture Blog, 2015), so that a thousand boards that lost one console at the
//! same moment do not come back at the same moment.

use std::time::Duration;

/// The bounds of a series of waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Upper bound of the first wait.
    pub first: Duration,
    /// Upper bound of every wait.
    pub longest: Duration,
}

/// A wait evenly spread between 0 and `first * 2^failures`, never above `longest`. `failures`
/// counts those in a row, from 0; `random` is 64 random bits.
pub fn delay(backoff: Backoff, failures: u32, random: u64) -> Duration {
    let first = backoff.first.as_nanos();
    let bound = first
        .saturating_mul(1u128 << failures.min(64))
        .min(backoff.longest.as_nanos());
    // Multiply and shift: all 64 bits count, so the waits are spread to the nanosecond.
    let nanos = ((bound as u64 as u128) * u128::from(random)) >> 64;
    Duration::from_nanos(nanos as u64)
}

/// How a try for the link ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It never opened.
    Unopened,
    /// Nothing came any more on a session that lasted so long: the way is cut, and each board sees that at its own next question.
    Cut(Duration),
    /// The broker ended a session that lasted so long.
    Kicked(Duration),
}

/// Of the link, for a board that is alone with it: it starts, the broker does not open, or its cable was out.
const FIRST: Backoff = Backoff {
    first: Duration::from_secs(2),
    longest: Duration::from_secs(300),
};

/// Of the link, for a board whose broker ended its session: so it did with all the others, probably in the same second. A broker takes some hundred TLS handshakes a second; thousands of boards are spread over half a minute.
const KICKED: Backoff = Backoff {
    first: Duration::from_secs(30),
    ..FIRST
};

/// Counts failures. A connection that breaks soon after it opened is a failure too: a broker that
/// takes and kicks must not be called in a tight loop.
#[derive(Debug, Default)]
pub struct Failures {
    in_a_row: u32,
}

impl Failures {
    /// A session that lasted so long counts as a success.
    pub const STABLE: Duration = Duration::from_secs(60);

    /// Notes how a try ended, and says how long to wait before the next. `random` is 64 random bits.
    pub fn wait(&mut self, end: End, random: u64) -> Duration {
        let (backoff, lasted) = match end {
            End::Unopened => (FIRST, Duration::ZERO),
            End::Cut(lasted) => (FIRST, lasted),
            End::Kicked(lasted) => (KICKED, lasted),
        };
        if lasted >= Self::STABLE {
            self.in_a_row = 0;
        }
        let failures = self.in_a_row;
        self.in_a_row = self.in_a_row.saturating_add(1);
        delay(backoff, failures, random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINK: Backoff = FIRST;

    proptest! {
        #[test]
        fn within_its_bound(failures: u32, random: u64) {
            let wait = delay(LINK, failures, random);
            let bound = LINK.first.saturating_mul(1 << failures.min(20)).min(LINK.longest);
            prop_assert!(wait <= bound, "{wait:?} > {bound:?}");
        }

        #[test]
        fn spread_over_all_of_it(failures in 0u32..80, random: u64) {
            let low = delay(LINK, failures, random / 2);
            let high = delay(LINK, failures, random);
            prop_assert!(low <= high);
            let bound = LINK.first.saturating_mul(1 << failures.min(20)).min(LINK.longest);
            let share = random as f64 / u64::MAX as f64;
            let got = high.as_secs_f64() / bound.as_secs_f64();
            prop_assert!((share - got).abs() < 0.001, "{share} {got}");
        }
    }

    #[test]
    fn jitter_is_not_cut_to_seconds() {
        let waits: std::collections::BTreeSet<_> = (0..1000u64)
            .map(|n| delay(LINK, 0, n.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
            .collect();
        assert_eq!(waits.len(), 1000);
    }

    /// The longest wait of each kind of end.
    fn longest(failures: &mut Failures, end: End) -> u64 {
        let wait = failures.wait(end, u64::MAX);
        (wait + Duration::from_millis(1)).as_secs()
    }

    #[test]
    fn a_broker_that_takes_and_kicks_is_called_ever_less_often() {
        let mut failures = Failures::default();
        let soon = End::Kicked(Duration::from_secs(1));
        let kicked: Vec<u64> = (0..5).map(|_| longest(&mut failures, soon)).collect();
        assert_eq!(kicked, [30, 60, 120, 240, 300]);
        assert_eq!(longest(&mut failures, End::Kicked(Failures::STABLE)), 30);
        assert_eq!(longest(&mut failures, soon), 60);
        // Whose cable was out has nobody beside it.
        assert_eq!(longest(&mut failures, End::Cut(Failures::STABLE)), 2);
        assert_eq!(longest(&mut failures, End::Unopened), 4);
    }

    #[test]
    fn a_broker_that_does_not_open_is_tried_soon_at_first() {
        let mut failures = Failures::default();
        let closed: Vec<u64> = (0..9)
            .map(|_| longest(&mut failures, End::Unopened))
            .collect();
        assert_eq!(closed, [2, 4, 8, 16, 32, 64, 128, 256, 300]);
        // One that opens then, and kicks, has been too much for already.
        assert_eq!(longest(&mut failures, End::Kicked(Duration::ZERO)), 300);
    }
}

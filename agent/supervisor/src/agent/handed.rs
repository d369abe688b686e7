//! How often the daemon was given the program of the supervisor, which it then executes.

use std::time::{Duration, Instant};

/// So often, each soon after the one before.
const TIMES: u32 = 3;

/// After so long the next counts as the first.
const SOON: Duration = Duration::from_secs(600);

/// Not on disk: a daemon that ends takes nothing with it, and what a supervisor's start brings anew is three starts of a daemon.
#[derive(Debug, Default)]
pub struct Handed {
    times: u32,
    at: Option<Instant>,
}

impl Handed {
    /// Once more; or how often it was, when that is enough.
    pub fn one_more(&mut self, now: Instant) -> Result<(), u32> {
        let soon = |at: &Instant| now.saturating_duration_since(*at) < SOON;
        if !self.at.as_ref().is_some_and(soon) {
            self.times = 0;
        }
        if self.times >= TIMES {
            return Err(self.times);
        }
        self.times += 1;
        self.at = Some(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_times_and_again_when_it_has_been_quiet_for_long() {
        let (mut handed, start) = (Handed::default(), Instant::now());
        for minutes in [0, 9, 18] {
            let now = start + Duration::from_secs(minutes * 60);
            handed.one_more(now).unwrap();
        }
        let soon = start + Duration::from_secs(27 * 60);
        assert_eq!(handed.one_more(soon), Err(3));
        // Whoever asks again meanwhile puts nothing off.
        let later = start + Duration::from_secs(28 * 60);
        for _ in 0..3 {
            handed.one_more(later).unwrap();
        }
        assert_eq!(handed.one_more(later), Err(3));
    }
}

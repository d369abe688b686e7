//! How often something may be written to the flash on behalf of whoever sends messages: whoever replays one to the board can send
//! a million.

use std::time::{Duration, Instant};

/// One more may come after so long.
const PAUSE: Duration = Duration::from_secs(600);

/// So many at once, and then one in each [`PAUSE`].
#[derive(Debug)]
pub struct Allowance {
    most: u32,
    left: u32,
    /// Since when the next one is counted.
    since: Instant,
}

impl Allowance {
    /// All of it.
    pub fn new(most: u32) -> Self {
        Self {
            most,
            left: most,
            since: Instant::now(),
        }
    }

    /// Takes one, when there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        while self.left < self.most && now.saturating_duration_since(self.since) >= PAUSE {
            self.left += 1;
            self.since += PAUSE;
        }
        if self.left == self.most {
            self.since = now;
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_at_once_and_then_one_now_and_then() {
        let mut allowance = Allowance::new(3);
        let begin = Instant::now();
        let mut taken = |at: Instant| (0..10).filter(|_| allowance.take(at)).count();
        assert_eq!(taken(begin), 3);
        assert_eq!(taken(begin + PAUSE / 2), 0);
        assert_eq!(taken(begin + PAUSE), 1);
        assert_eq!(taken(begin + PAUSE * 3), 2);
        assert_eq!(taken(begin + PAUSE * 60_000), 3);
    }
}

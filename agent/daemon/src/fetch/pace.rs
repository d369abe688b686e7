//! Bytes a second. The kernel's buffers fill up while nothing is read, and TCP then holds the sender back.

use std::time::Duration;
use tokio::time::Instant;

/// A pace that is kept on the whole: who was slower for a while may not make up for it.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: Option<u64>,
    free_at: Instant,
}

impl Pace {
    /// At most so much; `None`: as fast as it goes.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self {
            bytes_per_second,
            free_at: Instant::now(),
        }
    }

    /// Another pace from now on.
    pub fn set(&mut self, bytes_per_second: Option<u64>) {
        self.bytes_per_second = bytes_per_second;
    }

    /// `bytes` have come: waits until more may, and says how long that was.
    pub async fn keep(&mut self, bytes: u64) -> Duration {
        let Some(rate) = self.bytes_per_second else {
            return Duration::ZERO;
        };
        let now = Instant::now();
        let cost = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
        self.free_at = self.free_at.max(now) + cost;
        tokio::time::sleep_until(self.free_at).await;
        self.free_at - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pace_is_kept_and_can_change() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(10_000));
        for _ in 0..4 {
            pace.keep(500).await;
        }
        let slow = start.elapsed();
        assert!(slow >= Duration::from_millis(195), "{slow:?}");
        pace.set(None);
        assert_eq!(pace.keep(1 << 40).await, Duration::ZERO);
    }
}

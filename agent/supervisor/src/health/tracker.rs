//! What the probes' answers add up to. Pure: time comes in.

use coracle_protocol::release::Health;
use std::time::{Duration, Instant};

/// Bytes of a probe's text that are kept.
const TEXT_BYTES: usize = 256;

/// Between two looks at most, while failures do not count yet: a trial is shorter than many an interval.
const STARTING: Duration = Duration::from_secs(2);

/// What is known of an app's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No probe has succeeded since the start, and too few have failed.
    Starting,
    /// The last word was a success, or failures are too few yet.
    Healthy,
    /// `retries` failures in a row.
    Unhealthy,
}

/// Counts one app's probes, from one start of the app to its end.
#[derive(Debug)]
pub struct Tracker {
    health: Health,
    verdict: Verdict,
    failures: u32,
    text: Option<String>,
    grace_until: Instant,
    next: Instant,
    in_flight: bool,
}

impl Tracker {
    /// For an app that was started at `now`.
    pub fn new(health: Health, now: Instant) -> Self {
        Self {
            verdict: Verdict::Starting,
            failures: 0,
            text: None,
            grace_until: now + Duration::from_millis(health.start_period_ms.into()),
            // A first look soon: what comes up at once need not wait for an interval.
            next: now + Duration::from_millis(u64::from(health.interval_ms).min(500)),
            in_flight: false,
            health,
        }
    }

    /// What is asked, and how.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// What is known.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// What the last failed probe said.
    pub fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// When the next probe is to begin; `None` while one runs.
    pub fn due(&self) -> Option<Instant> {
        (!self.in_flight).then_some(self.next)
    }

    /// A probe was begun.
    pub fn begun(&mut self) {
        self.in_flight = true;
    }

    /// Nothing is asked for an interval, and nothing is heard of a probe that was begun.
    pub fn put_off(&mut self, now: Instant) {
        self.in_flight = false;
        self.next = now + Duration::from_millis(self.health.interval_ms.into());
    }

    /// A probe ended. Whether the verdict changed.
    pub fn ended(&mut self, result: Result<(), String>, now: Instant) -> bool {
        self.in_flight = false;
        let before = self.verdict;
        match result {
            Ok(()) => {
                self.failures = 0;
                self.text = None;
                self.verdict = Verdict::Healthy;
            }
            Err(text) => {
                self.text = Some(text.chars().take(TEXT_BYTES).collect());
                // Before the first success and within the start period a failure says nothing.
                if before != Verdict::Starting || now >= self.grace_until {
                    self.failures += 1;
                }
                if self.failures >= self.health.retries {
                    self.verdict = Verdict::Unhealthy;
                }
            }
        }
        let mut interval = Duration::from_millis(self.health.interval_ms.into());
        if self.verdict == Verdict::Starting && now < self.grace_until {
            interval = interval.min(STARTING);
        }
        self.next = now + interval;
        before != self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_protocol::release::Probe;

    fn tracker(now: Instant) -> Tracker {
        let health = Health {
            probe: Probe::Tcp { port: 80 },
            interval_ms: 1000,
            timeout_ms: 100,
            retries: 2,
            start_period_ms: 5000,
        };
        Tracker::new(health, now)
    }

    fn no() -> Result<(), String> {
        Err("refused".into())
    }

    #[test]
    fn one_that_comes_up_is_looked_at_sooner_than_its_interval() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let health = Health {
            interval_ms: 30_000,
            ..tracker(start).health
        };
        let mut app = Tracker::new(health, start);
        app.ended(no(), at(1));
        assert_eq!(app.due(), Some(at(3)));
        // What counts comes as seldom as was asked.
        app.ended(no(), at(5));
        assert_eq!(app.due(), Some(at(35)));
        let mut app = Tracker::new(app.health, start);
        app.ended(Ok(()), at(1));
        assert_eq!(app.due(), Some(at(31)));
    }

    #[test]
    fn failures_count_after_the_start_period_or_after_a_success() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut app = tracker(start);
        for second in 1..5 {
            assert!(!app.ended(no(), at(second)));
        }
        assert_eq!(app.verdict(), Verdict::Starting);
        app.ended(no(), at(5));
        assert!(app.ended(no(), at(6)));
        assert_eq!(app.verdict(), Verdict::Unhealthy);

        let mut app = tracker(start);
        app.ended(Ok(()), at(1));
        app.ended(no(), at(2));
        assert_eq!(app.verdict(), Verdict::Healthy);
        assert_eq!(app.text(), Some("refused"));
        app.ended(Ok(()), at(3));
        app.ended(no(), at(4));
        assert_eq!(
            app.verdict(),
            Verdict::Healthy,
            "only failures in a row count"
        );
        app.ended(no(), at(5));
        assert_eq!(app.verdict(), Verdict::Unhealthy);
    }

    #[test]
    fn one_probe_at_a_time() {
        let start = Instant::now();
        let mut app = tracker(start);
        assert_eq!(app.due(), Some(start + Duration::from_millis(500)));
        app.begun();
        assert_eq!(app.due(), None);
        app.ended(Ok(()), start);
        assert_eq!(app.due(), Some(start + Duration::from_secs(1)));
        app.begun();
        app.put_off(start + Duration::from_secs(5));
        assert_eq!(app.due(), Some(start + Duration::from_secs(6)));
    }
}

//! A memory limit that the kernel refused an app that goes on, since more was in use: tried again, a bounded number of times,
//! each of which takes back what it can and slows the app down meanwhile. Its next start has the limit in any case.

use super::Process;
use super::plan::Plan;
use coracle_runtime::Limits;
use std::fmt;
use std::time::{Duration, Instant};

/// Before the first new try; twice as long before each further one.
const FIRST: Duration = Duration::from_secs(5);
/// Then it has taken 21 minutes.
const TRIES: u32 = 8;

/// What is still to be lowered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Late {
    bytes: u64,
    why: String,
    tries: u32,
    next: Option<Instant>,
}

impl Late {
    /// One more has failed.
    fn after(before: Option<&Self>, bytes: u64, why: String, now: Instant) -> Self {
        let tries = before.map_or(0, |late| late.tries + 1);
        let next = (tries < TRIES).then(|| now + FIRST * (1 << tries));
        Self {
            bytes,
            why,
            tries,
            next,
        }
    }

    /// Nobody tries any more.
    pub fn is_left(&self) -> bool {
        self.next.is_none()
    }
}

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = match self.next {
            Some(_) => "it is tried again",
            None => "it comes with its next start",
        };
        write!(
            f,
            "has more memory than its limit of {} bytes: {until}: {}",
            self.bytes, self.why
        )
    }
}

impl Process {
    /// Gives it the memory that its set gives it, or notes when that is tried again.
    pub fn have_memory(&mut self, plan: &Plan, now: Instant) {
        let memory = Limits {
            memory_bytes: plan.limits.memory_bytes,
            memory_swap_bytes: plan.limits.memory_swap_bytes,
            ..Limits::default()
        };
        let bytes = memory.memory_bytes.unwrap_or_default();
        self.late = match self.cgroup.set_limits(&memory) {
            Ok(()) => None,
            Err(error) => {
                let before = self.late.as_ref();
                let late = Late::after(before, bytes, error.to_string(), now);
                tracing::warn!(app = %plan.name, "{late}");
                Some(late)
            }
        };
    }

    /// When that is.
    pub fn late_due(&self) -> Option<Instant> {
        self.late.as_ref()?.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_tried_again_more_and_more_seldom_and_not_for_ever() {
        let begin = Instant::now();
        let (mut now, mut tries) = (begin, 0);
        let mut late = Late::after(None, 7, "in use".into(), now);
        assert!(late.to_string().ends_with("tried again: in use"), "{late}");
        while let Some(next) = late.next {
            assert!(!late.is_left());
            now = next;
            tries += 1;
            late = Late::after(Some(&late), 7, "in use".into(), now);
        }
        assert_eq!(tries, TRIES);
        assert_eq!(now - begin, FIRST * 255);
        assert!(late.is_left() && late.to_string().contains("next start"));
    }
}

//! Log writers that have ended: what they wrote for goes to another one.

use super::Supervisor;
use crate::logs::Together;
use std::time::{Duration, Instant};

/// From one try to the next: a writer that cannot be started, or ends over and over, must not take the board's time. An app waits
/// for it with what its pipes do not hold.
const BETWEEN: Duration = Duration::from_secs(10);

/// When the next try is due.
#[derive(Debug, Default)]
pub(super) struct Writers {
    tried: Option<Instant>,
    due: Option<Instant>,
}

impl Writers {
    /// Some app has none: at once, unless that was tried just now.
    pub(super) fn missing(&mut self, now: Instant) {
        let at = self.tried.map_or(now, |tried| tried + BETWEEN);
        self.due = Some(at.max(now));
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether a try is due; it is being made then.
    fn begin(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            *self = Self {
                tried: Some(now),
                due: None,
            };
        }
        is_due
    }
}

impl Supervisor {
    /// One has ended that was not done. Its apps have none.
    pub(super) fn log_writer_ended(&mut self, pid: i32, now: Instant) {
        for process in self.apps.iter_mut().filter_map(|app| app.process.as_mut()) {
            if process.log_writer == Some(pid) {
                process.log_writer = None;
                self.writers.missing(now);
            }
        }
    }

    /// Gives apps that have none a log writer, when that is due.
    pub(super) fn mend_logs(&mut self, now: Instant) {
        if !self.writers.begin(now) {
            return;
        }
        let mut together = Together::begin();
        for app in &mut self.apps {
            let (name, slot, logs) = (app.name().clone(), app.slot.clone(), app.app.logs);
            let Some(process) = &mut app.process else {
                continue;
            };
            let (Some(output), None) = (&process.output, process.log_writer) else {
                continue;
            };
            match together.start_writer(output, &self.settings, (&name, &slot, logs)) {
                Ok(pid) => {
                    tracing::warn!(app = %name, "its log writer had ended; a new one goes on");
                    process.log_writer = Some(pid);
                }
                Err(error) => {
                    let seconds = BETWEEN.as_secs();
                    tracing::error!(app = %name, %error, seconds, "its log waits; the next try");
                    self.writers.missing(now);
                    // The others too: each try may take a while.
                    break;
                }
            }
        }
        self.store_run_state();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_ends_over_and_over_is_replaced_now_and_then() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut writers = Writers::default();
        assert!(!writers.begin(at(0)));
        writers.missing(at(0));
        assert!(writers.begin(at(0)));
        assert_eq!(writers.due(), None);
        writers.missing(at(1));
        writers.missing(at(2));
        assert_eq!(writers.due(), Some(at(10)));
        assert!(!writers.begin(at(9)) && writers.begin(at(10)));
        // Long after.
        writers.missing(at(100));
        assert!(writers.begin(at(100)));
    }
}

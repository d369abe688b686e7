//! How an app is told to end, and what its end means: by its restart policy, and by who asked for it.

use super::{AppRun, Phase, Process, restart};
use std::time::{Duration, Instant};

impl AppRun {
    /// Tells it to end, when it is up. An app that waits for its restart just stays down.
    pub fn stop(&mut self, now: Instant) {
        match (self.phase, &self.process) {
            (Phase::Up | Phase::Preparing, Some(_)) => self.begin_end(now),
            (Phase::Waiting { .. } | Phase::Created | Phase::Preparing, _) => {
                self.phase = match self.phase == Phase::Preparing && self.wanted {
                    // Its start begins anew.
                    true => Phase::Waiting { at: now },
                    false => Phase::Ended,
                };
                self.held = None;
                self.hook = None;
                self.prepared = false;
            }
            _ => {}
        }
    }

    /// Sends the stop signal.
    pub fn tell_to_end(&self) {
        if let Some(process) = &self.process {
            // One that has ended is reaped in its turn.
            signal(process, self.stop_signal());
        }
    }

    fn stop_signal(&self) -> i32 {
        let plan = self.plan.as_ref();
        plan.map_or(libc::SIGTERM, |plan| plan.stop_signal)
    }

    /// A person sends it a signal. After SIGKILL, and once it has ended of its stop signal, it stays down as after a stop; what
    /// comes of another one is judged by its restart policy.
    pub fn signalled(&mut self, number: i32) {
        if number == libc::SIGKILL {
            self.wanted = false;
            self.kill();
            self.phase = Phase::Stopping { kill_at: None };
            return;
        }
        if let Some(process) = &self.process {
            signal(process, number);
        }
        if number == self.stop_signal() {
            self.wanted = false;
            self.wake();
        }
    }

    /// Kills it when its grace is over.
    pub fn kill_when_due(&mut self, now: Instant) {
        if let Phase::Stopping { kill_at: Some(at) } = self.phase
            && at <= now
        {
            self.kill();
            self.phase = Phase::Stopping { kill_at: None };
        }
    }

    /// Kills it at once; its end is reaped in its turn.
    pub fn kill(&self) {
        let Some(process) = &self.process else { return };
        // The first process takes the others of its pid namespace with it; the cgroup is for the rest.
        signal(process, libc::SIGKILL);
        if let Err(error) = process.cgroup.kill_all() {
            tracing::warn!(app = %self.name(), %error, "killing");
        }
    }

    /// Its process has ended. What its policy says comes next; a start that was no success counts as an end.
    pub fn ended(&mut self, code: Option<i32>, oom_killed: bool, now: Instant) {
        let stopping = matches!(self.phase, Phase::Stopping { .. });
        let unseen = code.is_none() && self.process.is_some();
        let ran = self
            .process
            .take()
            .map_or(Duration::ZERO, |process| now - process.since);
        self.exit_code = code;
        self.oom_killed = oom_killed;
        self.paused = false;
        self.tracker = None;
        self.prepared = false;
        if ran >= restart::RECOVERED && !self.hook_failed {
            self.in_a_row = 0;
        }
        // Also by itself, while its set is being stopped and its turn has not come.
        if !self.wanted {
            self.phase = Phase::Ended;
            return;
        }
        if stopping && !self.hook_failed {
            // A restart by a person: at once, and no mark against the app.
            self.phase = Phase::Waiting { at: now };
            return;
        }
        let policy = self.app.restart;
        let next = match unseen {
            true => restart::after_unseen_end(policy, self.awaited, self.in_a_row),
            false => {
                let success = code == Some(0) && !self.hook_failed;
                restart::after_exit(policy, success, self.in_a_row)
            }
        };
        match next {
            restart::Next::Again(wait) => {
                self.in_a_row += 1;
                self.phase = Phase::Waiting { at: now + wait };
            }
            restart::Next::Stays { fine } => {
                self.ended_fine = Some(fine);
                self.phase = Phase::Ended;
            }
        }
    }

    /// It should run, and its restart policy has no more to try: it stays ended after a failure, or was started so many times
    /// in a row that it will not get well by itself.
    pub fn is_given_up(&self) -> bool {
        let ended = self.phase == Phase::Ended && self.ended_fine == Some(false);
        let tries = self.in_a_row.max(self.unhealthy_in_a_row);
        self.wanted && (ended || tries >= restart::GIVEN_UP)
    }

    /// How it ended.
    pub fn end_text(&self) -> String {
        match (&self.fault, self.exit_code, self.oom_killed) {
            (Some(fault), ..) => fault.clone(),
            (None, _, true) => format!(
                "it was killed for using more than {} bytes of memory",
                self.app.limits.memory_bytes
            ),
            (None, Some(code), _) if code > 128 => {
                format!("it was killed by signal {}", code - 128)
            }
            (None, Some(code), _) => format!("it exited with {code}"),
            (None, None, _) => "it ended, and nobody saw how".to_owned(),
        }
    }
}

fn signal(process: &Process, number: i32) {
    if let Err(error) = process.running.signal(number) {
        tracing::debug!(pid = process.running.pid, number, %error, "it has ended by itself");
    }
}

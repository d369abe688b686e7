//! An app whose processes stand still. The kernel keeps it so, and a next supervisor finds it so by the kernel's word; nothing of
//! it is written down.

use super::{AppRun, Phase};
use std::time::Instant;

/// Why not: a stable word, and a sentence.
type Fault = (&'static str, String);

impl AppRun {
    /// Lets none of its processes run.
    pub fn pause(&mut self, now: Instant) -> Result<(), Fault> {
        let name = self.name().clone();
        let (Phase::Up, Some(process)) = (self.phase, &self.process) else {
            return Err(("not-running", format!("app `{name}` does not run")));
        };
        if self.paused {
            return Err(("paused", format!("app `{name}` is paused already")));
        }
        if self.is_settling() {
            let text = format!("the post_start of app `{name}` has not ended");
            return Err(("not-running", text));
        }
        // Before it would stand still with the rest, and be held against the app.
        if let Some(probe) = self.probe.take() {
            let _ = probe.child.kill();
        }
        if let Some(tracker) = &mut self.tracker {
            tracker.put_off(now);
        }
        let frozen = process.cgroup.freeze();
        frozen.map_err(|error| ("no-freezer", error.to_string()))?;
        self.paused = true;
        Ok(())
    }

    /// Lets them go on. Its health is asked for an interval later.
    pub fn resume(&mut self, now: Instant) -> Result<(), Fault> {
        let Some(process) = self.process.as_ref().filter(|_| self.paused) else {
            return Err(("not-paused", format!("app `{}` is not paused", self.name())));
        };
        let thawed = process.cgroup.thaw();
        thawed.map_err(|error| ("no-freezer", error.to_string()))?;
        self.paused = false;
        if let Some(tracker) = &mut self.tracker {
            tracker.put_off(now);
        }
        Ok(())
    }

    /// Whoever is told to end has to move for it.
    pub(super) fn wake(&mut self) {
        if !std::mem::take(&mut self.paused) {
            return;
        }
        let process = self.process.as_ref();
        if let Some(Err(error)) = process.map(|process| process.cgroup.thaw()) {
            tracing::warn!(app = %self.name(), %error, "it stays paused, and is killed when its grace is over");
        }
    }
}

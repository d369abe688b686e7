//! Whether an app has shown in its set's trial that it works.

use super::{AppRun, Phase};
use crate::health::{Tracker, Verdict};
use std::time::{Duration, Instant};

impl AppRun {
    /// What stands in the way of keeping its set, when the trial's time is over: `None` when nothing
    /// does, `Some(Err)` for a reason, `Some(Ok)` when it is too early to say.
    pub fn not_proven(&self) -> Option<Result<(), String>> {
        match self.phase {
            Phase::Preparing => Some(Ok(())),
            Phase::Up if self.is_settling() => Some(Ok(())),
            Phase::Up => match self.tracker.as_ref().map(Tracker::verdict) {
                None | Some(Verdict::Healthy) => None,
                Some(Verdict::Starting) => Some(Ok(())),
                Some(Verdict::Unhealthy) => Some(Err(self.unhealthy_text())),
            },
            Phase::Ended if self.ended_fine == Some(true) || !self.wanted => None,
            _ => Some(Err(format!(
                "app `{}` does not run: {}",
                self.name(),
                self.end_text()
            ))),
        }
    }

    /// It runs again after a failure: when this run has lasted as long as a trial asks. That it happens to be up at the trial's end says
    /// nothing of an app that ends again and again.
    pub fn proven_anew_at(&self) -> Option<Instant> {
        let failed = self.in_a_row > 0 && (self.exit_code != Some(0) || self.oom_killed);
        let since = self
            .process
            .as_ref()
            .filter(|_| failed && !self.outgoing)?
            .since;
        Some(since + Duration::from_secs(self.app.trial_seconds.into()))
    }

    /// Why it is unhealthy.
    pub fn unhealthy_text(&self) -> String {
        let said = self
            .tracker
            .as_ref()
            .and_then(Tracker::text)
            .unwrap_or("no word");
        format!("app `{}` is unhealthy: {said}", self.name())
    }
}

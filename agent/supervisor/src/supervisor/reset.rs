//! A reset that was ordered: noted, apps told to end, and then this program executed anew, which does it at its start. So there is one
//! way in which it is done, after a cut of power too.

use super::Supervisor;
use super::requests::failed;
use crate::apps::AppRun;
use crate::disk;
use crate::reset::Intent;
use coracle_protocol::local::Answer;
use std::time::{Duration, Instant};

/// For answers that are on their way.
const LEAST: Duration = Duration::from_millis(300);
/// For apps to end in peace; the next program ends the others.
const MOST: Duration = Duration::from_secs(12);

/// One that is noted.
#[derive(Debug)]
pub(super) struct Resetting {
    since: Instant,
}

impl Supervisor {
    pub(super) fn begin_reset(&mut self, intent: Intent) -> Answer {
        if let Err(error) = intent.note(&self.settings.config) {
            return failed("disk", format!("nothing was reset: {error}"));
        }
        tracing::warn!(what = intent.what(), "is noted; apps are stopped for it");
        for app in &mut self.apps {
            app.wanted = false;
        }
        let since = Instant::now();
        self.resetting = Some(Resetting { since });
        self.stop_in_turn(since);
        Answer::Done
    }

    /// Somebody enrolled the board: it is a fleet's again.
    pub(super) fn enrolled(&mut self) -> Answer {
        match disk::remove(&self.settings.config.decommissioned_file()) {
            Err(error) => failed("disk", error.to_string()),
            Ok(()) => {
                self.decommissioned = false;
                Answer::Done
            }
        }
    }

    /// Whether it is time for the next program to do it.
    pub(super) fn reset_is_due(&self) -> bool {
        let Some(resetting) = &self.resetting else {
            return false;
        };
        let waited = resetting.since.elapsed();
        waited >= MOST || (waited >= LEAST && self.apps.iter().all(AppRun::is_down))
    }

    /// When it is looked at again.
    pub(super) fn reset_due(&self) -> Option<Instant> {
        let since = self.resetting.as_ref()?.since;
        Some([since + LEAST, since + MOST][usize::from(self.judged_at >= since + LEAST)])
    }
}

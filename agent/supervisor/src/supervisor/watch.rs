//! The watchdog of the board, and the apps for which it may reset the board.

use super::Supervisor;
use crate::watchdog::{Critical, Feeder, Resets};
use std::time::Instant;

impl Supervisor {
    /// Arms the watchdog where coracle.toml says so.
    pub(super) fn arm_watchdog(&self) -> Option<(Feeder, Resets)> {
        if !self.settings.config.feed_watchdog {
            return None;
        }
        let wanted = self.settings.profile.watchdog.as_ref();
        let feeder = Feeder::arm(wanted)?;
        let cap = wanted.map_or(0, |watchdog| watchdog.resets_per_day.get());
        let file = self.settings.config.deployments_dir().join("resets");
        Some((feeder, Resets::load(&file, cap, Instant::now())))
    }

    /// How the apps are that are marked critical.
    pub(super) fn critical(&self) -> Vec<(&str, Critical)> {
        let critical = self
            .apps
            .iter()
            .filter(|app| app.app.critical && !app.outgoing);
        let state = |given_up| match given_up {
            true => Critical::GivenUp,
            false => Critical::Fine,
        };
        critical
            .map(|app| (app.name().as_str(), state(app.is_given_up())))
            .collect()
    }
}

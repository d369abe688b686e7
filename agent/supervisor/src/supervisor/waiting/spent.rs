//! How long a set has waited, written down for the board's next start.

use super::since_boot;
use crate::gate::Spent;
use crate::machine::State;
use crate::supervisor::Supervisor;
use coracle_board_support::wear;
use coracle_digest::Sha256Digest;
use std::time::Duration;

/// Between two notes of how long a set has waited for a window: so much of it the end of the power may take, and so rarely
/// the disk is written.
pub(super) const BETWEEN: Duration = Duration::from_secs(600);

impl Supervisor {
    /// So that a board without a clock that is switched off each day comes to the end of its wait. Once so much more was
    /// waited than is written; where there are no windows, nothing counts on it.
    pub(in crate::supervisor) fn note_spent(&mut self, more: Duration) {
        if self.settings.config.windows.is_empty() || self.machine != State::Waiting {
            return;
        }
        let Some(trying) = &mut self.trying else {
            return;
        };
        let now = since_boot();
        let waited = trying.waits.waited(now);
        if trying
            .waits
            .written
            .is_some_and(|written| waited < written + more)
        {
            return;
        }
        trying.waits.written = Some(waited);
        let spent = Spent {
            deployment: trying.set.digest(),
            seconds: waited.as_secs(),
            boot: wear::boot_id(&self.settings.config.hardware_root)
                .as_str()
                .to_owned(),
            at: now.as_secs(),
        };
        if let Err(error) = self.journal.note_spent(&spent) {
            tracing::error!(%error, "a restart of the board forgets how long a set has waited");
        }
    }

    /// How long `deployment` has waited in the starts of the board before this one, given how long in this one.
    pub(super) fn spent_before(&self, deployment: Sha256Digest, here: Duration) -> Duration {
        let spent = self.journal.spent();
        let spent = spent.filter(|spent| spent.deployment == deployment);
        let boot = wear::boot_id(&self.settings.config.hardware_root);
        spent.map_or(Duration::ZERO, |spent| {
            spent.by(&boot, since_boot()).saturating_sub(here)
        })
    }
}

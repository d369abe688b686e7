//! How long a set has waited, all the starts of its board together: a clock from boot begins anew with each, and no other
//! is to be trusted.

use coracle_digest::Sha256Digest;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// As it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// The set: digest of its assignment.
    pub deployment: Sha256Digest,
    /// Seconds that it has waited.
    pub seconds: u64,
    /// The board's start in which this was written, as the kernel names it.
    pub boot: String,
    /// Seconds after that start.
    pub at: u64,
}

impl Spent {
    /// How long it has waited `now` seconds after the start called `boot`. Of a start before it counts what was written.
    pub fn by(&self, boot: &str, now: Duration) -> Duration {
        // A kernel that does not name its starts may have been started since.
        let here = match self.boot == boot && !boot.is_empty() {
            true => now.as_secs().saturating_sub(self.at),
            false => 0,
        };
        Duration::from_secs(self.seconds.saturating_add(here))
    }
}

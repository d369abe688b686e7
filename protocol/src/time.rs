//! Time on a board without a clock: a lower bound that never decreases. It can say "this is
//! surely expired", never "this is surely still valid".

use serde::{Deserialize, Serialize};

/// The time is at least this, in Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimeBound(u64);

impl TimeBound {
    /// A bound at `unix_seconds`.
    pub fn at(unix_seconds: u64) -> Self {
        Self(unix_seconds)
    }
    /// Raised to `unix_seconds` when that is later; never lowered.
    #[must_use]
    pub fn raised_to(self, unix_seconds: u64) -> Self {
        Self(self.0.max(unix_seconds))
    }
    /// Whether a document that expires at `expires` is surely out of date.
    pub fn is_past(self, expires: u64) -> bool {
        self.0 > expires
    }
    /// Unix seconds.
    pub fn unix_seconds(self) -> u64 {
        self.0
    }
}

//! Counters that never go back. `(epoch, value)` is compared as a pair: a new root may raise a
//! role's epoch, which starts its counters anew after a stolen key ran them up.

use crate::names::ProductName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A counter under an epoch; ordered epoch first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Counter {
    /// The role's epoch in the root document.
    pub epoch: u64,
    /// The document's own counter.
    pub value: u64,
}

impl Counter {
    fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Display for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.epoch, self.value)
    }
}

/// The highest counters that a board has accepted, and its lower bound of time.
///
/// Nobody signs it: it is the board's own, and an older program that comes back has to read what a newer one wrote.
/// So what it does not know is passed over here, and kept by who writes the file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seen {
    /// Highest release counter of each product (role `release`).
    #[serde(default)]
    pub releases: BTreeMap<ProductName, Counter>,
    /// Highest `seq` of role `deploy`.
    #[serde(default)]
    pub deploy: Counter,
    /// Highest `seq` of role `offline-deploy`.
    #[serde(default)]
    pub offline_deploy: Counter,
    /// Highest `seq` of role `command`. Left out before the first, so that programs from before commands read the file.
    #[serde(default, skip_serializing_if = "Counter::is_zero")]
    pub command: Counter,
    /// Highest `seq` of role `reset`. Left out before the first.
    #[serde(default, skip_serializing_if = "Counter::is_zero")]
    pub reset: Counter,
    /// Highest `agent.counter` of a release, whichever product's. Left out before the first.
    #[serde(default, skip_serializing_if = "Counter::is_zero")]
    pub agent: Counter,
    /// `issued_at` of the newest accepted assignment, whichever role signed it.
    #[serde(default)]
    pub newest_issued_at: u64,
    /// Lower bound of time, Unix seconds.
    #[serde(default)]
    pub time: crate::time::TimeBound,
}

//! What a board trusts now, as it says of itself: for people and consoles that want to see whether a new
//! root has arrived everywhere. Nothing here is a secret, and nothing is decided by it.

use crate::counters::{Counter, Seen};
use crate::names::ProductName;
use crate::root::TrustedRoot;
use crate::secret::SealingKey;
use coracle_digest::Sha256Digest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Products whose counters are told; a board remembers more.
const PRODUCTS: usize = 8;

/// Root, counters and time of a board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustState {
    /// Version of the root document in force.
    pub root_version: u64,
    /// SHA-256 of its payload.
    pub root: Sha256Digest,
    /// When it expires, Unix seconds.
    pub root_expires: u64,
    /// Lower bound of time, Unix seconds.
    pub time: u64,
    /// Whether the kernel holds its clock to be right.
    #[serde(default)]
    pub clock_kept: bool,
    /// Highest `seq` of role `deploy`.
    pub deploy: Counter,
    /// Highest `seq` of role `offline-deploy`.
    pub offline_deploy: Counter,
    /// Highest release counters, of the first products by name.
    pub releases: BTreeMap<ProductName, Counter>,
    /// What secrets for this board are sealed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<SealingKey>,
    /// Why no new document is accepted, when the counters are damaged or the root is not understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<String>,
}

impl TrustState {
    /// `seen`: the counters, or why there are none.
    pub fn of(root: &TrustedRoot, seen: Result<&Seen, String>) -> Self {
        let (seen, damage) = match seen {
            Ok(seen) => (seen.clone(), None),
            Err(damage) => (Seen::default(), Some(damage)),
        };
        let mut releases = BTreeMap::new();
        releases.extend(seen.releases.into_iter().take(PRODUCTS));
        Self {
            root_version: root.document().version,
            root: root.digest(),
            root_expires: root.document().expires,
            time: seen.time.unix_seconds(),
            clock_kept: false,
            secret_key: None,
            deploy: seen.deploy,
            offline_deploy: seen.offline_deploy,
            releases,
            damage,
        }
    }
}

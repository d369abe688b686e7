//! Everything that runs, and what waits to.

#[cfg(doc)]
use super::Request;
use crate::report::{BoardFacts, HeatStatus, NetworkStatus, OwnProgram, SetStatus, StorageWear};
use crate::trust_state::TrustState;
use coracle_digest::Sha256Digest;
use serde::{Deserialize, Serialize};

/// Everything that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the supervisor.
    pub version: String,
    /// Which program it is; left out by one that does not know [`Request::Program`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<OwnProgram>,
    /// What the board is.
    pub board: BoardFacts,
    /// The running set.
    pub current: Option<SetStatus>,
    /// The set that a roll-back would return to: assignment digest and version text.
    pub previous: Option<(Sha256Digest, String)>,
    /// The last deployment that was refused, failed or rolled back, in words that begin with its activity; or what befell the board's own
    /// program.
    pub last_failure: Option<String>,
    /// What the running set has beyond the board's budget, whose profile was another when it was taken: it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over_budget: Option<String>,
    /// A staged set that waits for its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Layers on the board.
    pub layers: Vec<Sha256Digest>,
    /// What the board trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<TrustState>,
    /// How hot it is, where the profile has a policy and the kernel a zone of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heat: Option<HeatStatus>,
    /// What was written to its disks, where the profile has a budget of that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storage: Vec<StorageWear>,
    /// Links of the board whose bytes cost money.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metered: Vec<String>,
    /// Networks on the board, its own first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkStatus>,
    /// What the supervisor itself holds of the board's memory, its share of what is shared included (PSS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_memory_bytes: Option<u64>,
    /// It is no fleet's board any more, until somebody enrols it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub decommissioned: bool,
    /// A reset is noted and not done yet: whatever the board gets now may go with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resetting: bool,
}

/// Code of [`Waiting`] once the old set is being stopped for it: it cannot be taken back any more.
pub const SWITCHING: &str = "switching";

/// A staged set that waits for its time, or for the old set's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Names it in events.
    pub activity: String,
    /// Digest of its assignment.
    pub deployment: Sha256Digest,
    /// Its release's version text.
    pub version: String,
    /// A stable word for the first of what it waits for: `consent`, `window`, `restore`, `update-lock`; or
    /// [`SWITCHING`].
    pub code: String,
    /// All of it, in words.
    pub reason: String,
}

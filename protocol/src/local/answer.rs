//! What the supervisor answers.

#[cfg(doc)]
use super::{Request, StoreAction, Stream, Verdict};
use super::{Status, StoreCheck, VolumeStatus};
use crate::command::Command;
use crate::dsse::Envelope;
use crate::release::Blob;
use crate::trust_state::TrustState;
use coracle_digest::Sha256Digest;
use serde::{Deserialize, Serialize};

/// Code of [`Answer::Refused`] to an offer of the very assignment that was tried last and did not stay: the end of that
/// deployment, for a daemon that was not there to hear it.
pub const DID_NOT_STAY: &str = "rolled-back";

/// Answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::large_enum_variant)]
pub enum Answer {
    /// It is done.
    Done,
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Program`].
    Program {
        /// Name of a file in the folder of the agent's own programs, and SHA-256 of what is in it; `None`: the root file system's.
        program: Option<Sha256Digest>,
    },
    /// To [`Request::Trust`].
    Trust(Trusted),
    /// To [`Request::Offer`].
    Needs(Needs),
    /// To [`Request::Command`]: it was verified and counted, and what the supervisor does of it is under way. What a log says
    /// the daemon reads by itself.
    Command {
        /// The document.
        command: Command,
    },
    /// To [`Request::Command`] of an action: its program has ended.
    Ran {
        /// The document.
        command: Command,
        /// Why it counts as not done, in words: `exited with 3`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<String>,
        /// The end of what it wrote.
        output: String,
    },
    /// To [`Request::Volume`].
    Volumes {
        /// By name.
        volumes: Vec<VolumeStatus>,
    },
    /// A socket in the run folder that takes one connection, within ten seconds. Of a backup a tar comes; one without
    /// its two blocks of zeros at the end is not whole. Of a restore a tar goes up to the end of the
    /// stream, then one [`Verdict`] comes back as JSON. Of an exec, [`Stream`]s go both ways.
    Transfer {
        /// Its path.
        socket: String,
    },
    /// To [`Request::Processes`].
    Processes {
        /// What the columns are, as ps(1) calls them.
        titles: Vec<String>,
        /// One for each process, 512 at most.
        rows: Vec<Vec<String>>,
    },
    /// To [`StoreAction::Look`].
    Store(StoreCheck),
    /// Not accepted: by trust or by budget.
    Refused {
        /// A stable word.
        code: String,
        /// In words.
        reason: String,
    },
    /// Accepted, but it could not be done.
    Failed {
        /// A stable word.
        code: String,
        /// In words.
        reason: String,
    },
}

/// What the board trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusted {
    /// The root document in force.
    pub root: Envelope,
    /// The rest.
    pub state: TrustState,
}

/// What an accepted offer needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needs {
    /// Already running exactly this, by this assignment or by one that says the same: nothing to do.
    pub already: bool,
    /// Image configurations, as blobs in the daemon's store.
    pub configs: Vec<Blob>,
    /// Layers that are not on the board.
    pub layers: Vec<LayerNeed>,
}

/// A layer that is not on the board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerNeed {
    /// The layer.
    pub diff_id: Sha256Digest,
    /// The full blob.
    pub full: Blob,
    /// Deltas whose base is on the board and whose format it reads, the smallest first.
    pub deltas: Vec<Blob>,
}

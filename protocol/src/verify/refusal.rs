//! Why something was refused, for programs and for people.

use crate::counters::Counter;
use crate::dsse::DsseError;
use crate::names::{BoardId, HardwareClass};
use crate::root::Role;
use coracle_digest::Sha256Digest;

/// Why a document or a deployment was refused. [`Refusal::code`] is stable; the text is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The envelope is not good, or too few keys of the role signed.
    #[error("{document}: {source}")]
    Envelope {
        document: &'static str,
        source: DsseError,
    },
    /// The root does not name the role.
    #[error("{document}: the root document names no key for role `{role}`")]
    NoRole { document: &'static str, role: Role },
    /// Signed, but not a document that this program understands, or past a limit.
    #[error("{document}: {fault}")]
    Malformed {
        document: &'static str,
        fault: String,
    },
    /// Signed under another epoch of the role.
    #[error("{document}: signed under epoch {got} of role `{role}`; the root says {want}")]
    Epoch {
        document: &'static str,
        role: Role,
        got: u64,
        want: u64,
    },
    /// The assignment names another release.
    #[error("the assignment is for release {want}; the release offered is {got}")]
    ReleaseMismatch {
        want: Sha256Digest,
        got: Sha256Digest,
    },
    /// For another board.
    #[error("the assignment is for {target}; this board is {board}")]
    WrongBoard { target: String, board: BoardId },
    /// A command for another board.
    #[error("the command is for {target}; this board is {board}")]
    OtherBoardsCommand { target: BoardId, board: BoardId },
    /// A command that this board has seen, or one from before it.
    #[error("the command has counter {got}; this board has already seen {seen} (replayed)")]
    OldCommand { got: Counter, seen: Counter },
    /// Built for other hardware.
    #[error("the release is for hardware {supported}; this board is `{hardware}`")]
    WrongHardware {
        supported: String,
        hardware: HardwareClass,
    },
    /// The assignment sets what the release does not let it set, or leaves out what the release needs.
    #[error("the assignment and its release do not go together: {fault}")]
    Site { fault: String },
    /// An assignment that is not newer than what this board has seen.
    #[error(
        "the assignment has counter {got}; this board has already seen {seen} (replayed or rolled back)"
    )]
    OldAssignment { got: Counter, seen: Counter },
    /// Issued before the newest accepted assignment of the other role.
    #[error("the assignment was issued at {got}; this board follows one issued at {seen}")]
    OlderThanOtherRole { got: u64, seen: u64 },
    /// A release below what this board has seen.
    #[error(
        "release counter {got} of `{product}` is below {seen}, which this board has already seen (rollback)"
    )]
    OldRelease {
        product: String,
        got: Counter,
        seen: Counter,
    },
    /// A release whose agent is below what this board has seen, in whichever product's release.
    #[error(
        "agent.counter {got} of the release is below {seen}, which this board has already seen (an older agent): bring it under a higher `counter` of [agent], or leave [agent] out"
    )]
    OldAgent { got: Counter, seen: Counter },
    /// Expired for sure.
    #[error("{document}: expired at {expires}; it is at least {now} (Unix seconds)")]
    Expired {
        document: &'static str,
        expires: u64,
        now: u64,
    },
}

impl Refusal {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Envelope {
                source: DsseError::Threshold { .. },
                ..
            } => "bad-signature",
            Self::Envelope { .. } => "bad-envelope",
            Self::NoRole { .. } => "no-role",
            Self::Malformed { .. } => "malformed",
            Self::Epoch { .. } => "wrong-epoch",
            Self::ReleaseMismatch { .. } => "release-mismatch",
            Self::WrongBoard { .. } | Self::OtherBoardsCommand { .. } => "wrong-board",
            Self::OldCommand { .. } => "old-command",
            Self::WrongHardware { .. } => "wrong-hardware",
            Self::Site { .. } => "not-settable",
            Self::OldAssignment { .. } => "old-assignment",
            Self::OlderThanOtherRole { .. } => "older-than-other-role",
            Self::OldRelease { .. } => "old-release",
            Self::OldAgent { .. } => "old-agent",
            Self::Expired { .. } => "expired",
        }
    }
}

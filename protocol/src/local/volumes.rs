//! Volumes: what may be done with them, and what is told of them.

#[cfg(doc)]
use super::Answer;
use crate::names::{AppName, VolumeName};
use crate::report::DiskUse;
use serde::{Deserialize, Serialize};

/// What may be done with volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum VolumeAction {
    /// All of them.
    List,
    /// Make one; the answer has it alone.
    Create {
        /// Its name.
        name: VolumeName,
        /// At most so many bytes; the board's own limit when left out.
        #[serde(default)]
        size_bytes: Option<u64>,
        /// At most so many files and folders.
        #[serde(default)]
        inodes: Option<u64>,
    },
    /// Delete one that no set has; the answer has it alone, as it was.
    Remove {
        /// Its name.
        name: VolumeName,
    },
    /// Delete the caller's volumes that no set has, all of them for root; the answer has those that went.
    Prune,
    /// A tar of what is in it. Answer: [`Answer::Transfer`].
    Backup {
        /// Its name.
        name: VolumeName,
    },
    /// What is in it becomes what is in a tar; whole, or not at all. Answer: [`Answer::Transfer`].
    Restore {
        /// Its name.
        name: VolumeName,
    },
}

/// A volume on the board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// Its name.
    pub name: VolumeName,
    /// The user who made it; `None`: a release did.
    pub owner: Option<u32>,
    /// Unix seconds.
    pub created_at: u64,
    /// What is in it, and what may be.
    pub used: DiskUse,
    /// What holds the limit: `project quota`, `image`; `None`: nothing does.
    pub means: Option<String>,
    /// Bytes of the board's disk that are taken for it, whatever is in it.
    pub held_bytes: u64,
    /// Where it is on the board, for root.
    pub path: String,
    /// Apps of the running set that have it.
    pub apps: Vec<AppName>,
    /// The set before it has it too, or alone.
    pub in_previous: bool,
}

/// How a restore ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The volume holds what was in the tar.
    Done,
    /// The volume is as it was.
    Failed {
        /// A stable word.
        code: String,
        /// In words.
        reason: String,
    },
}

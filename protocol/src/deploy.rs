//! The assignment: which board runs which release. Signed by the console (role `deploy`) or for a
//! stick (role `offline-deploy`); it names a release by digest and can change nothing in it.

use crate::counters::Counter;
use crate::document::{ends_after_it_begins, line, understood, within};
use crate::limits::LIMITS;
use crate::names::{AppName, BoardId, HardwareClass};
use crate::release::Blob;
use crate::root::Role;
use crate::secret::Sealed;
use crate::site::Settings;
use coracle_digest::Sha256Digest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The payload type of an assignment.
pub const DEPLOY_TYPE: &str = "application/vnd.coracle.deploy.v1+json";

/// An assignment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// Always 1 in this version of the format.
    pub spec_version: u32,
    /// Extensions that a reader must know; none exist yet.
    #[serde(default)]
    pub critical: Vec<String>,
    /// Who signed: the role decides which keys and which counter count.
    pub role: AssignmentRole,
    /// For whom it is.
    pub target: Target,
    /// SHA-256 and size of the release's payload (the bytes inside its envelope).
    pub release: Blob,
    /// Epoch of the role.
    pub epoch: u64,
    /// Goes up with each assignment to a board.
    pub seq: u64,
    /// Unix seconds.
    pub issued_at: u64,
    /// Unix seconds.
    pub expires: u64,
    /// Deltas to the release's layers that can be had. Their safety rests on the release's diff_id.
    #[serde(default)]
    pub deltas: Vec<Delta>,
    /// What is set for a site, within what the release allows.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "crate::strict::map"
    )]
    pub site: BTreeMap<AppName, Settings>,
    /// Secrets, each sealed to the one board that the assignment is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Sealed>,
    /// Whether a board leaves on the stick what became of it; only on a stick.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub result: bool,
}

/// The two roles that may assign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AssignmentRole {
    /// The console.
    Deploy,
    /// A USB stick.
    OfflineDeploy,
}

impl AssignmentRole {
    /// The role in the root document.
    pub fn role(self) -> Role {
        match self {
            Self::Deploy => Role::Deploy,
            Self::OfflineDeploy => Role::OfflineDeploy,
        }
    }
}

/// Where an assignment stands among those for its board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Who signed.
    pub role: AssignmentRole,
    /// Under the role's epoch.
    pub counter: Counter,
    issued_at: u64,
}

impl Turn {
    /// Whether this one was signed after `other`: by the counter of their role; of two roles, not before it in time.
    pub fn is_after(self, other: Self) -> bool {
        match self.role == other.role {
            true => self.counter > other.counter,
            false => self.issued_at >= other.issued_at,
        }
    }
}

impl std::fmt::Display for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of role {}", self.counter, self.role.role())
    }
}

/// For whom an assignment is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Target {
    /// Exactly these boards.
    Boards(#[serde(deserialize_with = "crate::strict::set")] BTreeSet<BoardId>),
    /// Every board of these hardware classes; only on a stick.
    Hardware(#[serde(deserialize_with = "crate::strict::set")] BTreeSet<HardwareClass>),
}

/// A delta between two layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delta {
    /// diff_id of the layer that the board must have.
    pub from: Sha256Digest,
    /// diff_id of the layer that it makes.
    pub to: Sha256Digest,
    /// The format.
    pub media_type: String,
    /// SHA-256 of the delta blob.
    pub digest: Sha256Digest,
    /// Size of the delta blob in bytes.
    pub size: u64,
}

impl Deploy {
    /// Where it stands among others.
    pub fn turn(&self) -> Turn {
        Turn {
            role: self.role,
            counter: Counter {
                epoch: self.epoch,
                value: self.seq,
            },
            issued_at: self.issued_at,
        }
    }

    /// Checks each limit; the first fault, named by its field.
    pub fn check(&self) -> Result<(), String> {
        understood(self.spec_version, &self.critical)?;
        match &self.target {
            Target::Boards(boards) => within(
                "target.boards",
                boards.len() as u64,
                LIMITS.boards_per_deploy as u64,
            )?,
            Target::Hardware(_) if self.role == AssignmentRole::Deploy => {
                return Err("target.hardware is only for role `offline-deploy`".into());
            }
            Target::Hardware(classes) => {
                within(
                    "target.hardware",
                    classes.len() as u64,
                    LIMITS.hardware_classes as u64,
                )?;
            }
        }
        if self.result && self.role == AssignmentRole::Deploy {
            return Err("result is only for role `offline-deploy`".into());
        }
        within("deltas", self.deltas.len() as u64, LIMITS.deltas as u64)?;
        for delta in &self.deltas {
            line("deltas.media_type", &delta.media_type)?;
            within("deltas.size", delta.size, LIMITS.blob_bytes)?;
        }
        within("site", self.site.len() as u64, LIMITS.apps as u64)?;
        within("secrets", self.secrets.len() as u64, LIMITS.secrets as u64)?;
        for sealed in &self.secrets {
            // Base64 of the value, a key and a tag.
            let most = (LIMITS.secret_bytes + 64).div_ceil(3) * 4;
            within("secrets.sealed", sealed.sealed.len() as u64, most as u64)?;
            line("secrets.key", &sealed.key)?;
        }
        for (field, value) in [
            ("epoch", self.epoch),
            ("seq", self.seq),
            ("issued_at", self.issued_at),
            ("expires", self.expires),
        ] {
            within(field, value, LIMITS.integer)?;
        }
        ends_after_it_begins(self.issued_at, self.expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_says_which_is_newer_and_between_roles_the_time() {
        let turn = |role, epoch, value, issued_at| Turn {
            role,
            counter: Counter { epoch, value },
            issued_at,
        };
        use AssignmentRole::*;
        let waits = turn(Deploy, 1, 5, 100);
        for (other, after) in [
            (turn(Deploy, 1, 6, 90), true),
            (turn(Deploy, 2, 1, 90), true),
            (turn(Deploy, 1, 5, 200), false),
            (turn(Deploy, 1, 4, 200), false),
            (turn(OfflineDeploy, 1, 1, 100), true),
            (turn(OfflineDeploy, 9, 9, 99), false),
        ] {
            assert_eq!(other.is_after(waits), after, "{other:?}");
        }
    }
}

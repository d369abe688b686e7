//! What lies on a USB stick: an OCI image layout in the folder `coracle/` (`oci-layout`,
//! `index.json`, `blobs/sha256/<hex>`), and beside it `coracle/stick.json`. Nothing on a stick is
//! trusted for where it lies: the documents are signed and the blobs are named by digest.

use crate::deploy::{Deploy, Target};
use crate::dsse::Envelope;
use crate::limits::LIMITS;
use crate::names::BoardId;
use serde::{Deserialize, Serialize};

mod result;

pub use result::{BoardResult, Counters, ResultError, Time};

/// The folder on the stick.
pub const FOLDER: &str = "coracle";
/// The file in that folder.
pub const INDEX: &str = "stick.json";

/// `stick.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stick {
    /// Always 1.
    pub stick_version: u32,
    /// The assignment, signed by role `offline-deploy`.
    pub deploy: Envelope,
    /// The release.
    pub release: Envelope,
    /// Assignments for single boards, with the secrets and settings of each: a board that is named in one takes that,
    /// and not `deploy`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deploys: Vec<Envelope>,
    /// Root documents that boards may lack, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roots: Vec<Envelope>,
}

/// Why `stick.json` was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StickError {
    /// Larger than its envelopes can be.
    #[error("{INDEX} has {bytes} bytes; the limit is {limit}")]
    TooLarge { bytes: usize, limit: usize },
    /// Not the JSON that it should be.
    #[error("{INDEX}: {0}")]
    Malformed(String),
    /// Made by a newer program.
    #[error("{INDEX} has version {0}; this program reads 1")]
    Version(u32),
}

impl Stick {
    /// Largest `stick.json`, in bytes: two envelopes, as much again for root documents, which are small, three times
    /// that for assignments for single boards, and what stands around them.
    pub const BYTES: usize = 16 * LIMITS.envelope_bytes + 1024;

    /// Reads `stick.json`. Says nothing about the signatures.
    pub fn parse(json: &[u8]) -> Result<Self, StickError> {
        if json.len() > Self::BYTES {
            return Err(StickError::TooLarge {
                bytes: json.len(),
                limit: Self::BYTES,
            });
        }
        let stick: Self =
            serde_json::from_slice(json).map_err(|e| StickError::Malformed(e.to_string()))?;
        if stick.roots.len() > LIMITS.roots {
            return Err(StickError::Malformed(format!(
                "{} root documents; the limit is {}",
                stick.roots.len(),
                LIMITS.roots
            )));
        }
        if stick.deploys.len() > LIMITS.boards_per_deploy {
            return Err(StickError::Malformed(format!(
                "{} assignments for single boards; the limit is {}",
                stick.deploys.len(),
                LIMITS.boards_per_deploy
            )));
        }
        if stick.stick_version == 1 {
            Ok(stick)
        } else {
            Err(StickError::Version(stick.stick_version))
        }
    }

    /// The assignment that `board` is to take: its own when there is one. Says nothing about the signatures: whoever
    /// verifies it sees for itself whether it is for this board.
    pub fn assignment_for(&self, board: Option<&BoardId>) -> &Envelope {
        let names = |envelope: &&Envelope| {
            let payload = envelope.payload_unverified().unwrap_or_default();
            let deploy = serde_json::from_slice::<Deploy>(&payload).map(|deploy| deploy.target);
            matches!((deploy, board), (Ok(Target::Boards(boards)), Some(board)) if boards.contains(board))
        };
        self.deploys.iter().find(names).unwrap_or(&self.deploy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::DEPLOY_TYPE;

    fn of(board: &str) -> Envelope {
        let digest = coracle_digest::Sha256Digest::of(b"r");
        let deploy = serde_json::json!({"spec_version": 1, "role": "offline-deploy", "target": {"boards": [board]},
            "release": {"digest": digest, "size": 1}, "epoch": 1, "seq": 1, "issued_at": 1, "expires": 2});
        Envelope::unsigned(DEPLOY_TYPE, deploy.to_string().as_bytes())
    }

    #[test]
    fn each_board_takes_its_own_assignment() {
        let stick = Stick {
            stick_version: 1,
            deploy: of("acme.a"),
            release: Envelope::unsigned("r", b"{}"),
            deploys: vec![
                Envelope::unsigned("d", b"not a document"),
                of("acme.b"),
                of("acme.c"),
            ],
            roots: Vec::new(),
        };
        let id = |name| BoardId::new(name).unwrap();
        assert_eq!(stick.assignment_for(Some(&id("acme.c"))), &of("acme.c"));
        assert_eq!(stick.assignment_for(Some(&id("acme.b"))), &of("acme.b"));
        // What is for nobody here is refused by whoever verifies it.
        assert_eq!(stick.assignment_for(Some(&id("acme.x"))), &stick.deploy);
        assert_eq!(stick.assignment_for(None), &stick.deploy);
        let json = serde_json::to_vec(&stick).unwrap();
        assert_eq!(Stick::parse(&json).unwrap(), stick);
        let many = Stick {
            deploys: vec![of("acme.a"); LIMITS.boards_per_deploy + 1],
            ..stick
        };
        let refused = Stick::parse(&serde_json::to_vec(&many).unwrap()).unwrap_err();
        assert!(refused.to_string().contains("the limit is 64"), "{refused}");
    }
}

//! What lies on a USB stick: an OCI image layout in the folder `coracle/` (`oci-layout`,
//! `index.json`, `blobs/sha256/<hex>`), and beside it `coracle/stick.json`. Nothing on a stick is
//! trusted for where it lies: the documents are signed and the blobs are named by digest.

use crate::dsse::Envelope;
use crate::limits::LIMITS;
use serde::{Deserialize, Serialize};

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
    /// Largest `stick.json`, in bytes: two envelopes, as much again for root documents, which are small,
    /// and what stands around them.
    pub const BYTES: usize = 4 * LIMITS.envelope_bytes + 1024;

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
        if stick.stick_version == 1 {
            Ok(stick)
        } else {
            Err(StickError::Version(stick.stick_version))
        }
    }
}

//! What lies on a USB stick: an OCI image layout in the folder `coracle/` (`oci-layout`,
//! `index.json`, `blobs/sha256/<hex>`), and beside it `coracle/stick.json`. Nothing on a stick is
//! trusted for where it lies: the documents are signed and the blobs are named by digest.

use crate::dsse::Envelope;
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
}

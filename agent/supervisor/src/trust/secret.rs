//! The key that secrets for this board are sealed to: `secret.key`, made at the first start. Losing it loses
//! no secret, they are sealed anew; whoever reads it reads every secret that was ever sealed to it.

use super::{Trust, TrustError};
use crate::disk;
use coracle_protocol::secret::{OpeningKey, SecretError};
use coracle_protocol::verify::VerifiedDeployment;
use std::path::Path;

/// Bytes of the file.
const KEY_BYTES: u64 = 32;

pub(super) fn load(folder: &Path) -> Result<OpeningKey, TrustError> {
    let path = folder.join("secret.key");
    match disk::read_bounded(&path, KEY_BYTES) {
        Ok(None) => {}
        Ok(Some(bytes)) => match OpeningKey::from_bytes(&bytes) {
            Ok(key) => return Ok(key),
            Err(fault) => {
                tracing::error!(%fault, "the key for secrets is damaged; set aside, a new one is made");
                disk::set_aside(&path)?;
            }
        },
        Err(fault) => {
            tracing::error!(%fault, "the key for secrets cannot be read; set aside, a new one is made");
            disk::set_aside(&path)?;
        }
    }
    let key = OpeningKey::generate();
    disk::write_whole(&path, &key.to_bytes(), 0o600)?;
    Ok(key)
}

/// What was sealed. It never prints itself.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Vec<u8>);

impl SecretValue {
    /// For the file that the app reads.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretValue")
    }
}

/// An opened secret: the app, the file's name, the value.
pub type Opened = (
    coracle_protocol::names::AppName,
    coracle_protocol::names::SecretName,
    SecretValue,
);

impl Trust {
    /// Opens every secret of a deployment.
    pub fn open_secrets(
        &self,
        deployment: &VerifiedDeployment,
    ) -> Result<Vec<Opened>, SecretError> {
        let board = self.board_or_unenrolled();
        let sealed = deployment.deploy().document().secrets.iter();
        sealed
            .map(|sealed| {
                let value = self.opening.open(&board, sealed)?;
                Ok((sealed.app.clone(), sealed.name.clone(), SecretValue(value)))
            })
            .collect()
    }
}

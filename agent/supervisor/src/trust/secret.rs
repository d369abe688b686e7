//! The key that secrets for this board are sealed to: `secret.key`, made at the first start. Losing it loses
//! no secret, they are sealed anew; whoever reads it reads every secret that was ever sealed to it.

use super::Trust;
use crate::disk::{self, DiskError};
use coracle_protocol::names::{AppName, SecretName};
use coracle_protocol::secret::{OpeningKey, SecretError};
use coracle_protocol::verify::VerifiedDeployment;
use std::path::Path;

/// Most bytes that are read of the file, which has 32.
const FILE_BYTES: u64 = 4096;

/// The key, or why there is none: only what needs a secret fails then.
pub(super) fn load(folder: &Path) -> Result<OpeningKey, String> {
    find_or_make(&folder.join("secret.key")).map_err(|fault| {
        tracing::error!(%fault, "the key for secrets cannot be had; apps that need secrets do not start");
        fault.to_string()
    })
}

fn find_or_make(path: &Path) -> Result<OpeningKey, DiskError> {
    // What cannot be read today may be there tomorrow: only a file that is no key is set aside.
    match disk::read_bounded(path, FILE_BYTES) {
        Ok(None) => {}
        Ok(Some(bytes)) => match OpeningKey::from_bytes(&bytes) {
            Ok(key) => return Ok(key),
            Err(fault) => set_aside(path, &fault)?,
        },
        Err(fault) => return Err(fault),
    }
    let key = OpeningKey::generate();
    disk::write_whole(path, &key.to_bytes(), 0o600)?;
    Ok(key)
}

fn set_aside(path: &Path, fault: &dyn std::fmt::Display) -> Result<(), DiskError> {
    tracing::error!(%fault, "the key for secrets is damaged; set aside, a new one is made");
    disk::set_aside(path).map(drop)
}

/// Why there are no secrets to give.
#[derive(Debug, thiserror::Error)]
pub enum NoSecret {
    /// The board has no key.
    #[error("this board has no key to open secrets with: {0}")]
    NoKey(String),
    /// One does not open.
    #[error(transparent)]
    Sealed(#[from] SecretError),
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
pub type Opened = (AppName, SecretName, SecretValue);

impl Trust {
    /// Opens every secret of a deployment.
    pub fn open_secrets(&self, deployment: &VerifiedDeployment) -> Result<Vec<Opened>, NoSecret> {
        self.open(deployment, |_| true)
    }

    /// Opens the secrets of one app.
    pub fn secrets_of(
        &self,
        app: &AppName,
        deployment: &VerifiedDeployment,
    ) -> Result<Vec<Opened>, NoSecret> {
        self.open(deployment, |of| of == app)
    }

    fn open(
        &self,
        deployment: &VerifiedDeployment,
        wanted: impl Fn(&AppName) -> bool,
    ) -> Result<Vec<Opened>, NoSecret> {
        let board = self.board_or_unenrolled();
        let sealed = deployment.deploy().document().secrets.iter();
        sealed
            .filter(|sealed| wanted(&sealed.app))
            .map(|sealed| {
                let key = self.opening.as_ref();
                let key = key.map_err(|fault| NoSecret::NoKey(fault.clone()))?;
                let value = key.open(&board, sealed)?;
                Ok((sealed.app.clone(), sealed.name.clone(), SecretValue(value)))
            })
            .collect()
    }
}

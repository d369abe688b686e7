//! Private keys under a passphrase: asked for at the terminal, or read from a file that
//! `CORACLE_PASSPHRASE_FILE` names, for machines where nobody sits.

use crate::files::{self, FileError};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use std::io;
use std::path::{Path, PathBuf};

/// Names the file that holds the passphrase.
pub const FILE: &str = "CORACLE_PASSPHRASE_FILE";

/// Longest passphrase, in bytes.
const BYTES: u64 = 1024;

/// Why a key with a passphrase can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PassphraseError {
    /// The file with the passphrase.
    #[error("{0}")]
    File(#[from] FileError),
    /// Nobody there to ask.
    #[error(
        "`{key}` needs its passphrase and there is no terminal to ask at: name a file that holds it in {FILE}"
    )]
    Terminal {
        /// The key.
        key: PathBuf,
        /// What the terminal said.
        #[source]
        source: io::Error,
    },
    /// Empty, or typed differently the second time.
    #[error("no key was made: {0}")]
    Unusable(&'static str),
    /// The wrong one, or a damaged file.
    #[error("`{0}` does not open with this passphrase")]
    Wrong(PathBuf),
    /// It cannot be encrypted.
    #[error("`{key}` cannot be encrypted: {fault}")]
    Lock {
        /// The key.
        key: PathBuf,
        /// Why.
        fault: String,
    },
}

/// Whether these bytes are an encrypted key.
pub fn is_locked(bytes: &[u8]) -> bool {
    EncryptedPrivateKeyInfoRef::try_from(bytes).is_ok()
}

/// Asks for the passphrase of `key`.
pub fn ask(key: &Path) -> Result<String, PassphraseError> {
    if let Some(file) = std::env::var_os(FILE) {
        return Ok(files::read_line(Path::new(&file), BYTES)?);
    }
    let prompt = format!("Passphrase of {}: ", key.display());
    rpassword::prompt_password(prompt).map_err(|source| PassphraseError::Terminal {
        key: key.to_owned(),
        source,
    })
}

/// Asks for a new passphrase, twice when at a terminal.
pub fn ask_new(key: &Path) -> Result<String, PassphraseError> {
    let first = ask(key)?;
    if first.is_empty() {
        return Err(PassphraseError::Unusable("the passphrase is empty"));
    }
    if std::env::var_os(FILE).is_none() && ask(key)? != first {
        return Err(PassphraseError::Unusable("the passphrases differ"));
    }
    Ok(first)
}

/// Encrypts a PKCS#8 document.
pub fn lock(key: &Path, document: &[u8], passphrase: &str) -> Result<Vec<u8>, PassphraseError> {
    PrivateKeyInfoRef::try_from(document)
        .and_then(|info| info.encrypt(passphrase))
        .map(|locked| locked.as_bytes().to_vec())
        .map_err(|fault| PassphraseError::Lock {
            key: key.to_owned(),
            fault: fault.to_string(),
        })
}

/// Decrypts to a PKCS#8 document.
pub fn unlock(key: &Path, bytes: &[u8], passphrase: &str) -> Result<Vec<u8>, PassphraseError> {
    EncryptedPrivateKeyInfoRef::try_from(bytes)
        .and_then(|locked| locked.decrypt(passphrase))
        .map(|open| open.as_bytes().to_vec())
        .map_err(|_| PassphraseError::Wrong(key.to_owned()))
}

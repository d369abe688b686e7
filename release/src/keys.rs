//! Key files: `<name>` is PKCS#8 DER for its owner only, `<name>.pub` the public key in base64. A key with a
//! passphrase is an EncryptedPrivateKeyInfo (RFC 5958, PBES2 with scrypt and AES-256-CBC), as
//! `openssl pkcs8 -topk8 -scrypt -outform DER` writes it too.

pub mod passphrase;

use crate::files::{self, Access, FileError};
use coracle_protocol::key::{KeyError, PublicKey, SigningKey};
use std::path::{Path, PathBuf};

/// A PKCS#8 Ed25519 key has 48 to 83 bytes, an encrypted one some 240, a public key 44 characters.
const KEY_BYTES: u64 = 4096;

/// Why a key file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file.
    #[error("{0}")]
    File(#[from] FileError),
    /// What is in it.
    #[error("key `{path}`")]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// A key with a passphrase.
    #[error("{0}")]
    Passphrase(#[from] passphrase::PassphraseError),
    /// A private key where a public one belongs.
    #[error("`{0}` is a private key; give its public half, `{0}.pub`")]
    Private(PathBuf),
}

/// Makes a key, under a passphrase when there is one; the public half and where it was written.
pub fn new(output: &Path, passphrase: Option<&str>) -> Result<(PublicKey, PathBuf), KeyFileError> {
    let (key, mut document) = SigningKey::generate().map_err(at(output))?;
    if let Some(passphrase) = passphrase {
        document = passphrase::lock(output, &document, passphrase)?;
    }
    let public_path = public_path(output);
    files::write(output, &document, Access::Secret)?;
    let text = format!("{}\n", String::from(key.public()));
    files::write(&public_path, text.as_bytes(), Access::Public)?;
    Ok((key.public(), public_path))
}

/// `release.pk8` → `release.pk8.pub`.
pub fn public_path(private: &Path) -> PathBuf {
    let mut name = private.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Reads a private key; one with a passphrase asks for it.
pub fn read_private(path: &Path) -> Result<SigningKey, KeyFileError> {
    let bytes = files::read(path, KEY_BYTES)?;
    if passphrase::is_locked(&bytes) {
        let open = passphrase::unlock(path, &bytes, &passphrase::ask(path)?)?;
        return SigningKey::from_pkcs8(&open).map_err(at(path));
    }
    SigningKey::from_pkcs8(&bytes).map_err(at(path))
}

/// Reads a public key.
pub fn read_public(path: &Path) -> Result<PublicKey, KeyFileError> {
    let bytes = files::read(path, KEY_BYTES)?;
    if passphrase::is_locked(&bytes) || SigningKey::from_pkcs8(&bytes).is_ok() {
        return Err(KeyFileError::Private(path.to_owned()));
    }
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    PublicKey::try_from(text).map_err(at(path))
}

fn at(path: &Path) -> impl Fn(KeyError) -> KeyFileError {
    let path = path.to_owned();
    move |source| KeyFileError::Key {
        path: path.clone(),
        source,
    }
}

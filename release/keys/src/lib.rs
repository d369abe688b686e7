//! Keys that sign: in files, or in tokens ([`token`], by the URIs of [`uri`]).
//!
//! Key files: `<name>` is PKCS#8 DER for its owner only, `<name>.pub` the public key in base64. A key with a
//! passphrase is an EncryptedPrivateKeyInfo (RFC 5958, PBES2 with scrypt and AES-256-CBC), as
//! `openssl pkcs8 -topk8 -scrypt -outform DER` writes it too.
//!
//! | file | what it holds |
//! |---|---|
//! | [`files`] | whole files: read within limits, written in one step |
//! | [`passphrase`] | keys under a passphrase |
//! | [`token`], [`uri`], [`pin`] | keys in tokens: the token, which one, and what opens it |

#![deny(clippy::expect_used, clippy::unwrap_used)]

pub mod files;
pub mod passphrase;
pub mod pin;
pub mod token;
pub mod uri;

use coracle_protocol::dsse::{DsseError, Envelope};
use coracle_protocol::key::{KeyError, PublicKey, SigningKey};
use files::{Access, FileError};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use token::{TokenError, TokenKey};
use uri::Pkcs11Uri;
pub use uri::UriError;

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
    /// A key in a token.
    #[error("{0}")]
    Token(#[from] TokenError),
    /// A private key where a public one belongs.
    #[error("`{0}` is a private key; give its public half, `{0}.pub`")]
    Private(PathBuf),
}

/// Where a private key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyRef {
    /// In a file.
    File(PathBuf),
    /// In a token.
    Token(Box<Pkcs11Uri>),
}

impl FromStr for KeyRef {
    type Err = UriError;
    fn from_str(text: &str) -> Result<Self, UriError> {
        match text.starts_with("pkcs11:") {
            true => Ok(Self::Token(Box::new(text.parse()?))),
            false => Ok(Self::File(text.into())),
        }
    }
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Token(uri) => write!(f, "{uri}"),
        }
    }
}

/// A private key, ready to sign.
pub enum Key {
    /// Here.
    Here(SigningKey),
    /// In a token.
    Token(Box<TokenKey>),
}

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The document.
    #[error(transparent)]
    Envelope(#[from] DsseError),
    /// The token.
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl Key {
    /// Opens it: asks for its passphrase or the token's PIN, when there is one.
    pub fn open(place: &KeyRef) -> Result<Self, KeyFileError> {
        match place {
            KeyRef::File(path) => Ok(Self::Here(read_private(path)?)),
            KeyRef::Token(uri) => Ok(Self::Token(Box::new(TokenKey::open(uri)?))),
        }
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        match self {
            Self::Here(key) => key.public(),
            Self::Token(key) => key.public(),
        }
    }

    /// Adds its signature, once.
    pub fn sign(&self, envelope: &mut Envelope) -> Result<(), SignError> {
        match self {
            Self::Here(key) => Ok(envelope.sign(key)?),
            Self::Token(key) => {
                let signature = key.sign(&envelope.bytes_to_sign()?)?;
                Ok(envelope.add_signature(&key.public(), &signature)?)
            }
        }
    }
}

/// Writes the public half to `path`.
pub fn write_public(key: PublicKey, path: &Path) -> Result<(), KeyFileError> {
    let text = format!("{}\n", String::from(key));
    Ok(files::write(path, text.as_bytes(), Access::Public)?)
}

/// Makes a key, under a passphrase when there is one; the public half and where it was written.
pub fn new(output: &Path, passphrase: Option<&str>) -> Result<(PublicKey, PathBuf), KeyFileError> {
    let (key, mut document) = SigningKey::generate().map_err(at(output))?;
    if let Some(passphrase) = passphrase {
        document = passphrase::lock(output, &document, passphrase)?;
    }
    let public_path = public_path(output);
    files::write(output, &document, Access::Secret)?;
    write_public(key.public(), &public_path)?;
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

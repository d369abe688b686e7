//! Secrets: sealed to one board, app and name by HPKE (RFC 9180, base mode, DHKEM(X25519, HKDF-SHA256),
//! HKDF-SHA256, ChaCha20-Poly1305), carried in the signed assignment, opened by the supervisor alone. The
//! console keeps and signs what it cannot read.

use crate::names::{AppName, BoardId, SecretName};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use coracle_digest::Sha256Digest;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What both sides feed into the key schedule.
const INFO: &[u8] = b"coracle secret v1";
/// Bytes of an X25519 key, public or private, and so of an encapsulated key.
const KEY_BYTES: usize = 32;

/// Why a secret can't be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Not base64 of 32 bytes, or no point of the curve.
    #[error("a board's key for secrets is 32 bytes in base64; this is none")]
    NotAKey,
    /// What is left of a file that was read to its end before, or was never filled.
    #[error("the value of secret `{name}` of app `{app}` is empty")]
    Empty { app: AppName, name: SecretName },
    /// Not base64, or too short.
    #[error("the sealed secret `{0}` is damaged")]
    Damaged(SecretName),
    /// For another board or another key of this board.
    #[error(
        "secret `{name}` of app `{app}` was sealed to key {sealed}; this board's key is {own}: seal it anew"
    )]
    OtherKey {
        app: AppName,
        name: SecretName,
        sealed: String,
        own: String,
    },
    /// Sealed to this key, for another board, app or name, or changed since.
    #[error(
        "secret `{name}` of app `{app}` does not open: it was sealed for another board, app or name, or changed"
    )]
    Closed { app: AppName, name: SecretName },
}

/// A secret on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// For which app.
    pub app: AppName,
    /// The file's name.
    pub name: SecretName,
    /// Hint of the key that it is sealed to.
    pub key: String,
    /// Base64 of the encapsulated key, the ciphertext and its tag.
    pub sealed: String,
}

/// The public half of a board's key. Written as base64.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SealingKey(<X25519HkdfSha256 as Kem>::PublicKey);

/// The private half. It never prints itself.
pub struct OpeningKey {
    key: <X25519HkdfSha256 as Kem>::PrivateKey,
    public: SealingKey,
}

/// Binds a secret to where it belongs: names hold no NUL.
fn place(board: &BoardId, app: &AppName, name: &SecretName) -> Vec<u8> {
    format!("{board}\0{app}\0{name}").into_bytes()
}

impl SealingKey {
    /// Names the key: the first 8 bytes of its SHA-256, in hex.
    pub fn hint(&self) -> String {
        Sha256Digest::of(&self.0.to_bytes()).hex()[..16].to_owned()
    }

    /// Seals `value` for one app of one board.
    pub fn seal(
        &self,
        board: &BoardId,
        app: &AppName,
        name: &SecretName,
        value: &[u8],
    ) -> Result<Sealed, SecretError> {
        if value.is_empty() {
            return Err(SecretError::Empty {
                app: app.clone(),
                name: name.clone(),
            });
        }
        let (encapsulated, ciphertext) =
            hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
                &OpModeS::Base,
                &self.0,
                INFO,
                value,
                &place(board, app, name),
            )
            .map_err(|_| SecretError::NotAKey)?;
        let mut bytes = encapsulated.to_bytes().to_vec();
        bytes.extend(ciphertext);
        Ok(Sealed {
            app: app.clone(),
            name: name.clone(),
            key: self.hint(),
            sealed: BASE64.encode(bytes),
        })
    }
}

impl OpeningKey {
    /// A new key.
    pub fn generate() -> Self {
        let (key, public) = X25519HkdfSha256::gen_keypair();
        Self {
            key,
            public: SealingKey(public),
        }
    }

    /// Reads what [`OpeningKey::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SecretError> {
        let key = <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(bytes)
            .map_err(|_| SecretError::NotAKey)?;
        let public = SealingKey(X25519HkdfSha256::sk_to_pk(&key));
        Ok(Self { key, public })
    }

    /// The 32 bytes of the key, to be stored 0600.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.key.to_bytes().to_vec()
    }

    /// The public half.
    pub fn public(&self) -> &SealingKey {
        &self.public
    }

    /// Opens a secret that was sealed for `board`.
    pub fn open(&self, board: &BoardId, sealed: &Sealed) -> Result<Vec<u8>, SecretError> {
        let Sealed { app, name, .. } = sealed;
        if sealed.key != self.public.hint() {
            return Err(SecretError::OtherKey {
                app: app.clone(),
                name: name.clone(),
                sealed: sealed.key.chars().take(16).collect(),
                own: self.public.hint(),
            });
        }
        let damaged = || SecretError::Damaged(name.clone());
        let bytes = BASE64.decode(&sealed.sealed).map_err(|_| damaged())?;
        let (encapsulated, ciphertext) = bytes.split_at_checked(KEY_BYTES).ok_or_else(damaged)?;
        let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(encapsulated)
            .map_err(|_| damaged())?;
        hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &self.key,
            &encapsulated,
            INFO,
            ciphertext,
            &place(board, app, name),
        )
        .map_err(|_| SecretError::Closed {
            app: app.clone(),
            name: name.clone(),
        })
    }
}

impl TryFrom<String> for SealingKey {
    type Error = SecretError;
    fn try_from(text: String) -> Result<Self, SecretError> {
        let bytes = BASE64.decode(text).map_err(|_| SecretError::NotAKey)?;
        <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&bytes)
            .map(Self)
            .map_err(|_| SecretError::NotAKey)
    }
}

impl From<SealingKey> for String {
    fn from(key: SealingKey) -> String {
        BASE64.encode(key.0.to_bytes())
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", self.hint())
    }
}

impl fmt::Debug for OpeningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpeningKey({})", self.public.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (BoardId, AppName, SecretName) {
        (
            BoardId::new("acme.b").unwrap(),
            AppName::new("web").unwrap(),
            SecretName::new("db").unwrap(),
        )
    }

    #[test]
    fn a_secret_opens_for_its_board_app_and_name_alone() {
        let (board, app, name) = names();
        let key = OpeningKey::generate();
        let again = OpeningKey::from_bytes(&key.to_bytes()).unwrap();
        let sealed = again
            .public()
            .seal(&board, &app, &name, b"hunter2")
            .unwrap();
        assert_eq!(key.open(&board, &sealed).unwrap(), b"hunter2");
        assert!(!serde_json::to_string(&sealed).unwrap().contains("hunter2"));
        let closed = |sealed: &Sealed, board: &BoardId| key.open(board, sealed).unwrap_err();
        let elsewhere = BoardId::new("acme.c").unwrap();
        assert!(matches!(
            closed(&sealed, &elsewhere),
            SecretError::Closed { .. }
        ));
        let moved = Sealed {
            app: AppName::new("spy").unwrap(),
            ..sealed.clone()
        };
        assert!(matches!(closed(&moved, &board), SecretError::Closed { .. }));
        let renamed = Sealed {
            name: SecretName::new("other").unwrap(),
            ..sealed.clone()
        };
        assert!(matches!(
            closed(&renamed, &board),
            SecretError::Closed { .. }
        ));
        let stranger = OpeningKey::generate();
        let error = stranger.open(&board, &sealed).unwrap_err();
        assert!(matches!(error, SecretError::OtherKey { .. }), "{error}");
    }

    #[test]
    fn every_changed_byte_keeps_a_secret_closed() {
        let (board, app, name) = names();
        let key = OpeningKey::generate();
        let sealed = key.public().seal(&board, &app, &name, b"x").unwrap();
        let bytes = BASE64.decode(&sealed.sealed).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let changed = Sealed {
                sealed: BASE64.encode(changed),
                ..sealed.clone()
            };
            assert!(key.open(&board, &changed).is_err(), "byte {at}");
            let cut = Sealed {
                sealed: BASE64.encode(&bytes[..at]),
                ..sealed.clone()
            };
            assert!(key.open(&board, &cut).is_err(), "cut at {at}");
        }
    }

    /// RFC 9180, appendix A.2.1: the key pair of the recipient.
    #[test]
    fn keys_are_those_of_rfc_9180() {
        let hex = |text: &str| -> Vec<u8> {
            let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
            (0..text.len()).step_by(2).map(byte).collect()
        };
        let key = OpeningKey::from_bytes(&hex(
            "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb",
        ))
        .unwrap();
        let public = hex("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a");
        assert_eq!(key.public().0.to_bytes().to_vec(), public);
    }

    #[test]
    fn keys_do_not_print_themselves() {
        let key = OpeningKey::generate();
        assert_eq!(
            format!("{key:?}"),
            format!("OpeningKey({})", key.public().hint())
        );
    }
}

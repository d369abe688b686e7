//! Ed25519 keys. The only room that knows ring's signatures.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a key was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not base64 of 32 bytes.
    #[error("an Ed25519 public key is 32 bytes in base64; this is `{0}`")]
    NotAKey(String),
    /// A point of small order signs anything for anyone (RFC 8032 section 8.9, "Taming the many EdDSAs").
    #[error(
        "this Ed25519 public key is a point of small order, under which anybody can sign; make a new key"
    )]
    SmallOrder,
    /// Not a PKCS#8 document that ring reads.
    #[error("not an unencrypted PKCS#8 Ed25519 private key")]
    NotAPrivateKey,
    /// The random source failed.
    #[error("the system's random source failed")]
    NoRandom,
}

/// The y coordinates of the eight points of small order, and their non-canonical encodings, sign
/// bit cleared (the list of libsodium's `ge25519_has_small_order`).
const SMALL_ORDER_Y: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// An Ed25519 public key that is not of small order. Written as base64 of its 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Takes the 32 bytes of a key; refuses points of small order.
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        let mut y = bytes;
        y[31] &= 0x7f;
        let hex: String = y.iter().map(|b| format!("{b:02x}")).collect();
        if SMALL_ORDER_Y.contains(&hex.as_str()) {
            return Err(KeyError::SmallOrder);
        }
        Ok(Self(bytes))
    }

    /// The hint that names this key in an envelope: the first 8 bytes of SHA-256 of the key, in hex.
    pub fn key_id(&self) -> String {
        coracle_digest::Sha256Digest::of(&self.0).hex()[..16].to_owned()
    }

    /// Whether `signature` is this key's over `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0[..])
            .verify(message, signature)
            .is_ok()
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;
    fn try_from(text: String) -> Result<Self, KeyError> {
        let bytes = BASE64
            .decode(&text)
            .ok()
            .and_then(|b| <[u8; 32]>::try_from(b).ok());
        Self::from_bytes(bytes.ok_or_else(|| KeyError::NotAKey(text.chars().take(60).collect()))?)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> String {
        BASE64.encode(key.0)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.key_id())
    }
}

/// A private key in memory. It never prints itself.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// Makes a new key; returns its PKCS#8 document, to be stored 0600, beside it.
    pub fn generate() -> Result<(Self, Vec<u8>), KeyError> {
        let rng = ring::rand::SystemRandom::new();
        let document = Ed25519KeyPair::generate_pkcs8(&rng).map_err(|_| KeyError::NoRandom)?;
        Ok((
            Self::from_pkcs8(document.as_ref())?,
            document.as_ref().to_vec(),
        ))
    }

    /// Reads a PKCS#8 document (v1 as OpenSSL writes it, or v2).
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(document)
            .map_err(|_| KeyError::NotAPrivateKey)?;
        let bytes = <[u8; 32]>::try_from(pair.public_key().as_ref())
            .map_err(|_| KeyError::NotAPrivateKey)?;
        Ok(Self {
            pair,
            public: PublicKey::from_bytes(bytes)?,
        })
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public.key_id())
    }
}

#[cfg(test)]
mod speccheck;
#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect()
    }

    /// RFC 8032, section 7.1, tests 1 to 3: secret key, public key, message, signature.
    const RFC_8032: [[&str; 4]; 3] = [
        [
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ],
        [
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ],
        [
            "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
            "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
            "af82",
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
        ],
    ];

    #[test]
    fn published_signatures() {
        for [secret, public, message, signature] in RFC_8032 {
            let document = bytes(&format!("302e020100300506032b657004220420{secret}"));
            let key = SigningKey::from_pkcs8(&document).unwrap();
            let (message, signature) = (bytes(message), bytes(signature));
            assert_eq!(key.public().0.to_vec(), bytes(public));
            assert_eq!(key.sign(&message), signature);
            assert!(key.public().verifies(&message, &signature));
            for at in 0..64 {
                let mut wrong = signature.clone();
                wrong[at] ^= 1;
                assert!(!key.public().verifies(&message, &wrong), "byte {at}");
            }
            assert!(!key.public().verifies(&message, &signature[..63]));
        }
    }

    #[test]
    fn small_order_keys_are_refused_with_either_sign() {
        for hex in SMALL_ORDER_Y {
            let mut point: [u8; 32] = bytes(hex).try_into().unwrap();
            assert_eq!(PublicKey::from_bytes(point), Err(KeyError::SmallOrder));
            point[31] |= 0x80;
            assert_eq!(PublicKey::from_bytes(point), Err(KeyError::SmallOrder));
        }
    }

    #[test]
    fn a_private_key_does_not_print_itself() {
        let (key, document) = SigningKey::generate().unwrap();
        assert_eq!(
            format!("{key:?}"),
            format!("SigningKey({})", key.public().key_id())
        );
        assert_eq!(
            SigningKey::from_pkcs8(&document).unwrap().public(),
            key.public()
        );
        assert_eq!(
            SigningKey::from_pkcs8(&document[1..]).err(),
            Some(KeyError::NotAPrivateKey)
        );
    }
}

//! A P-256 key in a token: what a certificate authority signs with.

use super::library::Held;
use super::{Kind, TokenError, find, make};
use crate::uri::Pkcs11Uri;
use coracle_protocol::Sha256Digest;
use cryptoki::mechanism::Mechanism;
use cryptoki::object::ObjectHandle;

/// A P-256 key in a token, ready to sign.
pub struct P256Key {
    held: Held,
    key: ObjectHandle,
    point: Vec<u8>,
}

impl P256Key {
    /// Finds the key.
    pub fn open(uri: &Pkcs11Uri) -> Result<Self, TokenError> {
        Ok(Self::of(find(uri, Kind::P256)?))
    }

    /// Makes a key in the token.
    pub fn generate(uri: &Pkcs11Uri) -> Result<Self, TokenError> {
        Ok(Self::of(make(uri, Kind::P256)?))
    }

    fn of((held, key, point): (Held, ObjectHandle, Vec<u8>)) -> Self {
        Self { held, key, point }
    }

    /// The public half: an uncompressed point, 65 bytes.
    pub fn point(&self) -> &[u8] {
        &self.point
    }

    /// Which token, for people.
    pub fn token(&self) -> &str {
        self.held.name()
    }

    /// ECDSA with SHA-256, as certificates hold it: DER (RFC 3279, section 2.2.3).
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let digest = Sha256Digest::of(message);
        self.held.within(|token| {
            let signed = token
                .session
                .sign(&Mechanism::Ecdsa, self.key, digest.as_bytes());
            let signed = signed.map_err(|e| token.failed("sign", &e))?;
            der(&signed).ok_or_else(|| TokenError::Failed {
                token: token.name.clone(),
                what: "sign",
                fault: format!("a signature of {} bytes; 64 were expected", signed.len()),
            })
        })
    }
}

/// From `r` and `s` side by side.
fn der(signature: &[u8]) -> Option<Vec<u8>> {
    if signature.len() != 64 {
        return None;
    }
    let (r, s) = signature.split_at(32);
    let body = [integer(r), integer(s)].concat();
    let mut all = vec![0x30, u8::try_from(body.len()).ok()?];
    all.extend(body);
    Some(all)
}

/// Positive, and no byte longer than it must be.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let first = bytes.iter().position(|b| *b != 0);
    let short = bytes
        .get(first.unwrap_or(bytes.len() - 1)..)
        .unwrap_or(bytes);
    let sign: &[u8] = match short.first() {
        Some(high) if *high >= 0x80 => &[0],
        _ => &[],
    };
    let length = (short.len() + sign.len()) as u8;
    [&[0x02, length], sign, short].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_positive_and_short() {
        let mut raw = [0; 64];
        raw[31] = 7;
        raw[32] = 0x80;
        let mut expected = b"\x30\x26\x02\x01\x07\x02\x21\x00\x80".to_vec();
        expected.extend([0; 31]);
        assert_eq!(der(&raw), Some(expected));
        assert_eq!(
            der(&[0; 64]),
            Some(b"\x30\x06\x02\x01\x00\x02\x01\x00".to_vec())
        );
        assert_eq!(der(&[0; 63]), None);
    }
}

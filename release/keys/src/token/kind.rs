//! The kinds of keys that are held in tokens, as PKCS#11 knows them.

use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::KeyType;
use std::fmt;

/// What a key is for decides its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Documents are signed with it (PKCS#11 v3.0, CKM_EDDSA).
    Ed25519,
    /// Certificates are signed with it (CKM_ECDSA).
    P256,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ed25519 => "Ed25519",
            Self::P256 => "ECDSA P-256",
        })
    }
}

impl Kind {
    /// The mechanism's name in PKCS#11.
    pub(super) fn mechanism(self) -> &'static str {
        match self {
            Self::Ed25519 => "CKM_EDDSA",
            Self::P256 => "CKM_ECDSA",
        }
    }

    pub(super) fn signs_by(self) -> MechanismType {
        match self {
            Self::Ed25519 => MechanismType::EDDSA,
            Self::P256 => MechanismType::ECDSA,
        }
    }

    pub(super) fn made_by(self) -> Mechanism<'static> {
        match self {
            Self::Ed25519 => Mechanism::EccEdwardsKeyPairGen,
            Self::P256 => Mechanism::EccKeyPairGen,
        }
    }

    pub(super) fn key_type(self) -> KeyType {
        match self {
            Self::Ed25519 => KeyType::EC_EDWARDS,
            Self::P256 => KeyType::EC,
        }
    }

    /// CKA_EC_PARAMS: `edwards25519` as a PrintableString (PKCS#11 v3.0, section 2.3.5); the OID of prime256v1.
    pub(super) fn curve(self) -> &'static [u8] {
        match self {
            Self::Ed25519 => b"\x13\x0cedwards25519",
            Self::P256 => b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
        }
    }

    /// CKA_EC_POINT: an OCTET STRING, a BIT STRING as some write it, or the bytes alone (PKCS#11 v3.0 and v2.40 differ).
    pub(super) fn point_of(self, point: &[u8]) -> Option<Vec<u8>> {
        let size: u8 = match self {
            Self::Ed25519 => 32,
            Self::P256 => 65,
        };
        let wrapped = match point {
            [0x04, length, rest @ ..] if *length == size => Some(rest),
            [0x03, length, 0x00, rest @ ..] if *length == size + 1 => Some(rest),
            _ => None,
        };
        // The bytes alone may begin like a wrapping, but then they are too few for one.
        let fits = |bytes: &&[u8]| bytes.len() == usize::from(size);
        let bytes = wrapped.filter(fits).or(Some(point).filter(fits))?;
        match self {
            Self::P256 if bytes.first() != Some(&4) => None,
            _ => Some(bytes.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_found_in_each_wrapping_and_nowhere_else() {
        for (kind, size) in [(Kind::Ed25519, 32_u8), (Kind::P256, 65)] {
            let bytes: Vec<u8> = (4..4 + size).collect();
            let octets = [&[4, size], &bytes[..]].concat();
            let bits = [&[3, size + 1, 0], &bytes[..]].concat();
            for written in [&bytes, &octets, &bits] {
                assert_eq!(kind.point_of(written), Some(bytes.clone()), "{kind}");
                assert_eq!(kind.point_of(&written[..written.len() - 1]), None, "{kind}");
            }
            assert_eq!(kind.point_of(&[]), None);
        }
        // Compressed, which nobody here reads.
        assert_eq!(Kind::P256.point_of(&[2; 65]), None);
    }
}

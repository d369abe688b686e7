//! SHA-256 digests as OCI writes them: `sha256:` and 64 lower-case hexadecimal digits
//! (image-spec `descriptor.md`, "Digests").
//!
//! This is the one room in which ring hashes: whoever needs a SHA-256 asks here, so that the
//! implementation can be replaced in one place. Only SHA-256 is spoken; a board that meets
//! another algorithm refuses the document instead of guessing.
//!
//! ```
//! use coracle_digest::{Hasher, Sha256Digest};
//!
//! let mut hasher = Hasher::new();
//! hasher.update(b"cora");
//! hasher.update(b"cle");
//! let digest = hasher.finish();
//! assert_eq!(digest, Sha256Digest::of(b"coracle"));
//! assert_eq!(digest.to_string().parse(), Ok(digest));
//! ```

#![deny(clippy::expect_used, clippy::unwrap_used)]

use std::fmt;
use std::io;
use std::str::FromStr;

use ring::digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The prefix that names the algorithm in an OCI digest string.
const PREFIX: &str = "sha256:";

/// Hexadecimal digits in a digest.
const HEX_LEN: usize = 64;

/// The SHA-256 of some bytes.
///
/// The type says "these are 32 bytes that name content"; it does not say that anybody has seen
/// the content. Serialized (serde) as the OCI string.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Digest(pub [u8; 32]);

/// Why a string is not a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The string does not begin with `sha256:`.
    #[error("a digest begins with `sha256:`; other algorithms are not accepted")]
    Algorithm,
    /// Not exactly 64 digits.
    #[error("a SHA-256 digest has 64 hexadecimal digits, this one has {found} bytes")]
    Length {
        /// Bytes found after the prefix.
        found: usize,
    },
    /// A byte outside `0-9a-f`. Upper case is refused (image-spec: "MUST match /[a-f0-9]{64}/"),
    /// so that one content has one name.
    #[error("byte {at} of the digest is not one of 0-9a-f")]
    Digit {
        /// Offset of the byte after the prefix, from 0.
        at: usize,
    },
}

impl Sha256Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Parses 64 lower-case hexadecimal digits without the prefix: the form used in file names.
    pub fn from_hex(hex: &str) -> Result<Self, ParseError> {
        let hex = hex.as_bytes();
        if hex.len() != HEX_LEN {
            return Err(ParseError::Length { found: hex.len() });
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = nibble(hex, 2 * index)? << 4 | nibble(hex, 2 * index + 1)?;
        }
        Ok(Self(bytes))
    }

    /// 64 lower-case hexadecimal digits, without the prefix: the blob's file name in a layout.
    #[must_use]
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digits = |byte: &u8| {
            [
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]
        };
        self.0.iter().flat_map(digits).map(char::from).collect()
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn nibble(hex: &[u8], at: usize) -> Result<u8, ParseError> {
    match hex[at] {
        digit @ b'0'..=b'9' => Ok(digit - b'0'),
        digit @ b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(ParseError::Digit { at }),
    }
}

impl FromStr for Sha256Digest {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::from_hex(text.strip_prefix(PREFIX).ok_or(ParseError::Algorithm)?)
    }
}

impl TryFrom<&str> for Sha256Digest {
    type Error = ParseError;

    fn try_from(text: &str) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        f.write_str(&self.hex())
    }
}

/// As [`Display`](fmt::Display): a digest in a log or in a failed assertion is read by people.
impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Sha256Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Sha256Digest;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a digest string `sha256:<64 hexadecimal digits>`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Sha256Digest, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// A SHA-256 in the making. Also an [`io::Write`] that never fails, so that `io::copy` can feed it.
#[derive(Clone)]
pub struct Hasher(digest::Context);

impl Hasher {
    /// A hasher that has seen no bytes.
    #[must_use]
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    /// Takes in the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all bytes taken in.
    #[must_use]
    pub fn finish(self) -> Sha256Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Sha256Digest(bytes)
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hasher")
    }
}

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B.1.
    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn known_answer_and_round_trip() {
        assert_eq!(Sha256Digest::of(b"abc").to_string(), ABC);
        assert_eq!(ABC.parse(), Ok(Sha256Digest::of(b"abc")));
        assert_eq!(
            Sha256Digest::from_hex(&ABC[7..]),
            Ok(Sha256Digest::of(b"abc"))
        );
        assert_eq!(Sha256Digest::of(b"abc").hex(), ABC[7..]);
    }

    #[test]
    fn pieces_hash_as_the_whole() {
        let mut hasher = Hasher::new();
        io::copy(&mut &b"ab"[..], &mut hasher).unwrap();
        hasher.update(b"c");
        assert_eq!(hasher.finish(), Sha256Digest::of(b"abc"));
    }

    #[test]
    fn refusals_say_why() {
        let parse = |text: &str| text.parse::<Sha256Digest>().unwrap_err();
        assert_eq!(parse(""), ParseError::Algorithm);
        assert_eq!(parse("sha512:00"), ParseError::Algorithm);
        assert_eq!(parse("sha256:00"), ParseError::Length { found: 2 });
        assert_eq!(parse(&format!("{ABC}0")), ParseError::Length { found: 65 });
        assert_eq!(
            parse(&ABC.replace("ba78", "bA78")),
            ParseError::Digit { at: 1 }
        );
        assert_eq!(
            parse(&ABC.replace("15ad", "15é")),
            ParseError::Digit { at: 62 }
        );
    }

    #[test]
    fn json_is_the_string() {
        let digest = Sha256Digest::of(b"abc");
        let json = serde_json::to_string(&digest).unwrap();
        assert_eq!(json, format!("\"{ABC}\""));
        assert_eq!(serde_json::from_str::<Sha256Digest>(&json).unwrap(), digest);
        assert!(serde_json::from_str::<Sha256Digest>("\"sha256:\"").is_err());
        assert!(serde_json::from_str::<Sha256Digest>("7").is_err());
    }
}

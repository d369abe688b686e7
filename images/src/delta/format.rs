//! The bytes of a delta: its header, and the operations of its control section.
//!
//! `docs/delta-format.md` describes the same for other implementations.

use std::io::{self, Read};

use coracle_digest::Sha256Digest;

use super::DeltaError;

/// First bytes of every delta.
pub(crate) const MAGIC: &[u8; 8] = b"CORACLED";

/// Versions that are read; the last one is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// Without what the others say.
    Three = 3,
    /// Tables of counters know whose an entry is; tables of frames are read.
    Four = 4,
}

/// Bytes of the header.
pub(crate) const HEADER_BYTES: usize = 116;

/// LZMA dictionary of the control section, in bytes; the decoder's memory.
pub(crate) const CONTROL_DICT: u32 = 256 << 10;

/// LZMA's literal context bits; no position bits anywhere.
pub(crate) const LZMA_LC: u32 = 3;

/// How long a section is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Section {
    /// Bytes in the delta.
    pub(crate) packed: u64,
    /// Bytes that come out.
    pub(crate) size: u64,
}

impl Section {
    fn read(source: &mut impl Read) -> Result<Self, DeltaError> {
        Ok(Self {
            packed: u64::from_le_bytes(array(source)?),
            size: u64::from_le_bytes(array(source)?),
        })
    }
}

/// The next bytes of the header.
fn array<const N: usize>(source: &mut impl Read) -> Result<[u8; N], DeltaError> {
    let mut bytes = [0; N];
    source.read_exact(&mut bytes).map_err(DeltaError::Read)?;
    Ok(bytes)
}

/// The facts at a delta's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaHeader {
    /// DiffID of the layer whose tree the delta reads.
    pub base: Sha256Digest,
    /// DiffID of the layer that it makes.
    pub target: Sha256Digest,
    /// Bytes of that layer's tar stream.
    pub target_size: u64,
    pub(crate) version: Version,
    pub(crate) control: Section,
    /// Bytes of the pieces' section.
    pub(crate) pieces: u64,
    /// Bytes of the contents' section.
    pub(crate) contents: u64,
}

impl DeltaHeader {
    /// Reads the first 116 bytes of a delta.
    pub fn read(mut source: impl Read) -> Result<Self, DeltaError> {
        let mut bytes = [0; HEADER_BYTES];
        source.read_exact(&mut bytes).map_err(DeltaError::Read)?;
        if bytes[..8] != *MAGIC {
            return Err(DeltaError::Magic);
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        let version = match (version, &bytes[10..12]) {
            (3, [0, 0]) => Version::Three,
            (4, [0, 0]) => Version::Four,
            _ => return Err(DeltaError::Version(version)),
        };
        let mut rest = &bytes[12..];
        Ok(Self {
            base: Sha256Digest(array(&mut rest)?),
            target: Sha256Digest(array(&mut rest)?),
            target_size: u64::from_le_bytes(array(&mut rest)?),
            version,
            control: Section::read(&mut rest)?,
            pieces: u64::from_le_bytes(array(&mut rest)?),
            contents: u64::from_le_bytes(array(&mut rest)?),
        })
    }

    #[cfg(feature = "make")]
    pub(crate) fn bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&(self.version as u16).to_le_bytes());
        bytes[12..44].copy_from_slice(&self.base.0);
        bytes[44..76].copy_from_slice(&self.target.0);
        let numbers = [
            self.target_size,
            self.control.packed,
            self.control.size,
            self.pieces,
            self.contents,
        ];
        for (index, number) in numbers.into_iter().enumerate() {
            bytes[76 + 8 * index..][..8].copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }
}

/// First byte of an operation.
pub(crate) mod op {
    /// The target is complete.
    pub(crate) const END: u8 = 0;
    /// A tar header from the template.
    pub(crate) const HEADER: u8 = 1;
    /// The same, for a file that is in the base under the header's name with the same content: size, header,
    /// content and padding.
    pub(crate) const SAME_FILE: u8 = 2;
    /// The member's content from the base file with the header's name, by pieces.
    pub(crate) const FROM_SAME: u8 = 3;
    /// The member's content from another base file, by pieces.
    pub(crate) const FROM: u8 = 4;
    /// Bytes that no source has.
    pub(crate) const LITERAL: u8 = 7;
    /// Zeros up to the next multiple of 512.
    pub(crate) const PAD: u8 = 8;
    /// Zeros.
    pub(crate) const ZEROS: u8 = 9;
    /// Before FROM_SAME or FROM: what they make is the text of a gzip file, and so is what they make it from.
    pub(crate) const PACKED: u8 = 11;
    /// 512 bytes that no source has, which become the template.
    pub(crate) const LITERAL_HEADER: u8 = 10;
}

/// Which fields a header operation brings.
pub(crate) mod field {
    pub(crate) const NAME: u8 = 1;
    pub(crate) const SIZE: u8 = 2;
    pub(crate) const MTIME: u8 = 4;
    pub(crate) const MODE: u8 = 8;
    pub(crate) const TYPE: u8 = 16;
    pub(crate) const LINK: u8 = 32;
    pub(crate) const OWNER: u8 = 64;
    pub(crate) const ALL: u8 = 127;
}

/// One byte of the control section.
pub(crate) fn byte(source: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    source.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// A number: seven bits a byte, the lowest first, the top bit says that more follows.
pub(crate) fn number(source: &mut impl Read) -> io::Result<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let byte = byte(source)?;
        number |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Ok(number);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "a number of the delta has more than 63 bits",
    ))
}

/// A signed number: 0, -1, 1, -2 … as 0, 1, 2, 3 …
pub(crate) fn signed(source: &mut impl Read) -> io::Result<i64> {
    let number = number(source)?;
    Ok((number >> 1) as i64 ^ -((number & 1) as i64))
}

/// Appends a number.
#[cfg(feature = "make")]
pub(crate) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 128 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a signed number.
#[cfg(feature = "make")]
pub(crate) fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, ((number << 1) ^ (number >> 63)) as u64);
}

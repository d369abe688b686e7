//! What a layer's tree does not say of the tar stream that it was made from. Written beside the tree while it is unpacked;
//! with the two the stream can be made again, byte by byte, and its digest compared with the signed one.
//!
//! The eight bytes of [`MAGIC`], then operations, each a number (seven bits a byte, the lowest first, the highest bit: more
//! follow) of which the two lowest bits say what it is and the others are `n`:
//!
//! | bits | the stream goes on with |
//! |---|---|
//! | 0 | `n` bytes that are the same as those 512 before them, contents of files not counted (zeros at first) |
//! | 1 | `n` bytes, which follow |
//! | 2 | the contents of the member's file, `n` bytes, whose CRC-32 follows, the lowest byte first; and zeros up to a block |
//! | 3 | nothing: the end |
//!
//! Nothing of it is believed: whatever it says, the digest of what it makes is right or not. The CRCs only tell which file
//! it was.

mod read;
mod write;

pub(crate) use read::{Found, Remade};
pub(crate) use write::Recorder;

/// Format 1.
const MAGIC: &[u8; 8] = b"corarec1";

/// A tar header: one mostly differs from the one before it in few bytes.
const BLOCK: usize = 512;

/// Bytes of the longest record, some hundred for each of the members that a layer may have. A stream that would need more, or
/// that fills its blocks with something else than zeros, has none.
const MOST: u64 = 64 << 20;

const SAME: u64 = 0;
const NEW: u64 = 1;
const FILE: u64 = 2;
const END: u64 = 3;

/// The last bytes of a stream.
struct Last {
    bytes: [u8; BLOCK],
    at: usize,
}

impl Last {
    fn new() -> Self {
        Self {
            bytes: [0; BLOCK],
            at: 0,
        }
    }

    /// One block ago.
    fn one(&self) -> u8 {
        self.bytes[self.at]
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.at] = byte;
        self.at = (self.at + 1) % BLOCK;
    }
}

/// Zeros behind so many bytes.
fn filling(bytes: u64) -> u64 {
    bytes.wrapping_neg() % BLOCK as u64
}

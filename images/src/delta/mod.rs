//! Deltas between two layers: media type `application/vnd.coracle.delta.v4`.
//!
//! A delta makes the *tar stream* of the target layer out of the regular files of the base layer's
//! *unpacked tree*, because the tree is what a board has, and the tar stream is what the signed DiffID
//! names. Applying is a stream in bounded memory: about 4 MiB of models and tables, 256 KiB of LZMA, buffers.
//!
//! `docs/delta-format.md` has the format for other implementations. The safety of a delta rests on
//! the DiffID of what it makes, compared with the signed release; nothing in it is trusted.

mod address;
mod apply;
pub mod artifact;
mod counter;
mod deflate;
mod format;
mod layout;
mod machine;
mod mix;
mod model;
mod numbers;
mod packed;
mod pieces;
mod processor;
mod range;
mod repeats;
mod sums;
mod symbols;
mod tar_header;
mod weights;

#[cfg(feature = "make")]
mod make;
#[cfg(feature = "make")]
pub mod tar_diff;

use std::io;

use crate::beneath::PathError;

pub use apply::DeltaReader;
pub use format::DeltaHeader;
#[cfg(feature = "make")]
pub use make::{Made, MakeError, make};

/// The media type of a delta blob, as it is made.
pub const MEDIA_TYPE: &str = "application/vnd.coracle.delta.v4";

/// Media types of deltas that can be applied.
pub const READABLE: [&str; 2] = ["application/vnd.coracle.delta.v3", MEDIA_TYPE];

/// Why a delta can't be applied. While streaming it comes inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// The blob can't be read, or ends early.
    #[error("reading the delta")]
    Read(#[source] io::Error),
    /// Not a delta of ours.
    #[error("this is no Coracle delta")]
    Magic,
    /// Made by an older or newer program.
    #[error(
        "delta version {0} is not known here, only versions 3 and 4: make it again with this version's coracle-release"
    )]
    Version(u16),
    /// The lengths in the header do not fit the blob, or are above a limit.
    #[error("the delta's {0} section has an impossible length")]
    Section(&'static str),
    /// The target is larger than [`Limits::unpacked_bytes`](crate::Limits::unpacked_bytes).
    #[error("the delta makes {size} bytes, {limit} are allowed")]
    TooLarge {
        /// Bytes that the header announces.
        size: u64,
        /// Bytes that are allowed.
        limit: u64,
    },
    /// An operation that makes no sense.
    #[error("the delta is malformed: {0}")]
    Malformed(&'static str),
    /// A source's path.
    #[error("a source path of the delta is refused")]
    SourcePath(#[source] PathError),
    /// A source can't be opened below the base, is no regular file or is too short: this is not the
    /// tree that the delta was made for.
    #[error("the base layer's `{path}` can't be read")]
    Source {
        /// Path below the base.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl From<DeltaError> for io::Error {
    fn from(error: DeltaError) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

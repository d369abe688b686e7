//! tar-diff, version 1: media type `application/vnd.tar-diff`, for interchange with other tools.
//!
//! The format is that of containers/tar-diff, `file-format.md`: eight bytes of magic, then one zstd stream of
//! operations, each a byte, a size and, for three of them, data. It has no word on what it is from and to. Boards
//! decode the project's own format only.

mod apply;
mod make;

use std::io;

use super::DeltaError;

pub use apply::apply;
pub use make::make;

/// The media type of a tar-diff.
pub const MEDIA_TYPE: &str = "application/vnd.tar-diff";

/// First bytes of a file: a name, the version's digit, a line's end, NUL.
const MAGIC: &[u8; 8] = b"tardf1\n\0";

/// Whether a file that begins like this says that it is a tar-diff, of any version.
pub fn is_tar_diff(beginning: &[u8]) -> bool {
    beginning.starts_with(&MAGIC[..5])
}

/// Operations.
mod op {
    pub(super) const DATA: u8 = 0;
    pub(super) const OPEN: u8 = 1;
    pub(super) const COPY: u8 = 2;
    pub(super) const ADD_DATA: u8 = 3;
    pub(super) const SEEK: u8 = 4;
}

/// Why a tar-diff can't be applied.
#[derive(Debug, thiserror::Error)]
pub enum TarDiffError {
    /// Reading it, or writing what it makes.
    #[error("reading the tar-diff, or writing what it makes")]
    Io(#[from] io::Error),
    /// It begins with something else.
    #[error("this is no tar-diff")]
    Magic,
    /// Another version than 1.
    #[error(
        "tar-diff version {0} is not supported, only version 1: have it made in version 1, or make a delta of Coracle's own format"
    )]
    Version(char),
    /// An operation that makes no sense.
    #[error("the tar-diff is malformed: {0}")]
    Malformed(&'static str),
    /// It makes more than is allowed.
    #[error("the tar-diff makes more than {0} bytes, which is the limit")]
    TooLarge(u64),
    /// A file of the base.
    #[error(transparent)]
    Source(DeltaError),
}

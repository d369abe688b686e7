//! Signed documents on the disk: an envelope a file, whatever is in it.

use crate::files::{self, Access, FileError};
use coracle_protocol::dsse::{DsseError, Envelope};
use coracle_protocol::limits::LIMITS;
use std::path::{Path, PathBuf};

/// Why a file can't be read as a signed document.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeFileError {
    /// The file.
    #[error("{0}")]
    File(#[from] FileError),
    /// Not an envelope, or not one of the document that was asked for.
    #[error("`{path}`")]
    Envelope {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: DsseError,
    },
}

/// For an envelope of that file.
pub(crate) fn at(path: &Path) -> impl Fn(DsseError) -> EnvelopeFileError {
    |source| EnvelopeFileError::Envelope {
        path: path.to_owned(),
        source,
    }
}

/// Reads an envelope.
pub fn read(path: &Path) -> Result<Envelope, EnvelopeFileError> {
    let json = files::read(path, LIMITS.envelope_bytes as u64)?;
    Envelope::parse(&json).map_err(at(path))
}

/// Writes an envelope.
pub fn write(path: &Path, envelope: &Envelope) -> Result<(), FileError> {
    let mut json = envelope.to_json();
    json.push(b'\n');
    files::write(path, &json, Access::Public)
}

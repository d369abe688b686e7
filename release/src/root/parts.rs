//! Signatures that several people made on several machines, put together.

use super::RootFileError;
use crate::envelope_file;
use coracle_protocol::dsse::{DsseError, Envelope};
use coracle_protocol::root::RootError;
use std::path::PathBuf;

/// One envelope with every signature of `paths`, which must all hold the same document. A signature that
/// does not verify is carried along and counts for nothing: boards look at each.
pub fn merge(paths: &[PathBuf]) -> Result<Envelope, RootFileError> {
    let (first, rest) = paths.split_first().ok_or(RootFileError::NoRoots)?;
    let mut whole = envelope_file::read(first)?;
    let payload = |envelope: &Envelope, path: &PathBuf| {
        envelope
            .payload_unverified()
            .map_err(|source: DsseError| RootFileError::Root {
                path: path.clone(),
                source: RootError::Envelope(source),
            })
    };
    let document = payload(&whole, first)?;
    for path in rest {
        let part = envelope_file::read(path)?;
        if payload(&part, path)? != document || part.payload_type != whole.payload_type {
            return Err(RootFileError::OtherDocument {
                path: path.clone(),
                first: first.clone(),
            });
        }
        for signature in part.signatures {
            if !whole.signatures.contains(&signature) {
                whole.signatures.push(signature);
            }
        }
    }
    Ok(whole)
}

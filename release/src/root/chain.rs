//! From one root to the next, as boards follow it.

use super::{RootFileError, read_trusted};
use crate::envelope_file;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::root::TrustedRoot;
use std::path::{Path, PathBuf};

/// Verifies `rest` step by step, starting at `first`; the last root, which is in force.
pub fn follow(first: &Path, rest: &[PathBuf]) -> Result<TrustedRoot, RootFileError> {
    let mut root = read_trusted(first)?;
    for path in rest {
        root = next(&root, path)?;
    }
    Ok(root)
}

/// The root in `path`, as a board under `root` would take it.
pub fn next(root: &TrustedRoot, path: &Path) -> Result<TrustedRoot, RootFileError> {
    root.next(&envelope_file::read(path)?)
        .map_err(|source| RootFileError::Root {
            path: path.to_owned(),
            source,
        })
}

/// The envelopes that a stick brings, seen to be a chain.
pub fn stick(paths: &[PathBuf]) -> Result<Vec<Envelope>, RootFileError> {
    if paths.len() > LIMITS.roots {
        return Err(RootFileError::TooMany {
            count: paths.len(),
            limit: LIMITS.roots,
        });
    }
    if let Some((first, rest)) = paths.split_first() {
        follow(first, rest)?;
    }
    let envelopes = paths.iter().map(|path| envelope_file::read(path));
    Ok(envelopes.collect::<Result<_, _>>()?)
}

//! A layout's documents on the disk and in memory.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::LayoutError;
use crate::limits::Limits;

pub(super) fn json(document: &impl Serialize) -> Result<Vec<u8>, LayoutError> {
    serde_json::to_vec(document).map_err(|source| LayoutError::Json {
        what: "a document of ours".to_owned(),
        source,
    })
}

pub(super) fn parse<T: DeserializeOwned>(
    bytes: &[u8],
    what: impl Fn() -> String,
) -> Result<T, LayoutError> {
    serde_json::from_slice(bytes).map_err(|source| LayoutError::Json {
        what: what(),
        source,
    })
}

pub(super) fn read_file(path: &Path, limits: &Limits) -> Result<Vec<u8>, LayoutError> {
    let failed = |source| LayoutError::Io {
        path: path.to_owned(),
        source,
    };
    let limit = limits.document_bytes;
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    let size = bytes.len() as u64;
    if size > limit {
        return Err(LayoutError::TooLarge {
            what: path.display().to_string(),
            size,
            limit,
        });
    }
    Ok(bytes)
}

/// Until the file is closed, nobody else who changes the index of this folder does so: another one's new name would be lost.
pub(super) fn hold(dir: &Path) -> Result<File, LayoutError> {
    let folder = File::open(dir).map_err(|source| LayoutError::Io {
        path: dir.to_owned(),
        source,
    })?;
    // Some file systems of a network know no lock on a folder: there one at a time is up to whoever works there.
    let _ = folder.lock();
    Ok(folder)
}

/// Temporary file, fsync, rename, fsync of the folder.
pub(super) fn write_file(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), LayoutError> {
    let path = dir.join(name);
    let temporary = dir.join(format!(".{name}.tmp"));
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|source| LayoutError::Io {
        path: path.clone(),
        source,
    })
}

//! Small files that survive a power cut: temporary file, fsync, rename, fsync of the folder.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file or a folder that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {source}", path.display())]
pub struct DiskError {
    /// The file or folder.
    pub path: PathBuf,
    what: &'static str,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Names the path and what was tried.
pub(crate) fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
    let path = path.to_owned();
    move |source| DiskError { path, what, source }
}

/// Makes `path` and what leads to it; a folder that is made gets `mode`.
pub fn make_folder(path: &Path, mode: u32) -> Result<(), DiskError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(at("make the folder", path))
}

/// Flushes a folder's entries.
pub fn sync_folder(path: &Path) -> Result<(), DiskError> {
    fs::File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(at("flush the folder", path))
}

/// Replaces `path` by `bytes` with mode 0600: whoever reads it sees the old or the new, whole.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let temporary = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(at("write", &temporary))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(at("write", &temporary))?;
    fs::rename(&temporary, path).map_err(at("replace", path))?;
    match path.parent() {
        Some(folder) => sync_folder(folder),
        None => Ok(()),
    }
}

/// Reads at most `limit` bytes; `None` when there is no such file. A longer file is an error.
pub fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, DiskError> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(at("read", path)(e)),
    };
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(at("read", path))?;
    if bytes.len() as u64 > limit {
        let long = io::Error::other(format!("more than {limit} bytes"));
        return Err(at("read", path)(long));
    }
    Ok(Some(bytes))
}

/// Puts an unreadable file out of the way as `<name>.bad`, so that a person can look at it.
pub fn set_aside(path: &Path, why: &dyn std::fmt::Display) {
    let mut name = path.as_os_str().to_owned();
    name.push(".bad");
    tracing::warn!(path = %path.display(), why = %why, "unreadable; set aside as .bad");
    if let Err(e) = fs::rename(path, &name) {
        tracing::error!(path = %path.display(), error = %e, "could not be set aside");
    }
}

/// Reads JSON. What cannot be read is set aside and counts as absent.
pub fn read_json<T: serde::de::DeserializeOwned>(
    path: &Path,
    limit: u64,
) -> Result<Option<T>, DiskError> {
    let Some(bytes) = read(path, limit)? else {
        return Ok(None);
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(e) => {
            set_aside(path, &e);
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_file_is_set_aside_and_not_wiped() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.json");
        write(&file, b"{").unwrap();
        assert_eq!(read_json::<u64>(&file, 10).unwrap(), None);
        assert!(!file.exists());
        assert_eq!(fs::read(folder.path().join("a.json.bad")).unwrap(), b"{");
    }

    #[test]
    fn a_file_that_grew_too_long_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        write(&file, b"12345").unwrap();
        assert_eq!(read(&file, 5).unwrap().unwrap(), b"12345");
        assert!(read(&file, 4).is_err());
        assert_eq!(read(&folder.path().join("b"), 4).unwrap(), None);
    }
}

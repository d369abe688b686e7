//! Files that must be whole after a power cut: temporary file, fsync, rename, fsync of the folder.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file operation that failed, with the path that it was about.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {}: {source}", path.display())]
pub struct DiskError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl DiskError {
    /// Whether the file system is full (ENOSPC or a quota).
    pub fn is_no_space(&self) -> bool {
        matches!(
            self.source.raw_os_error(),
            Some(libc::ENOSPC | libc::EDQUOT)
        )
    }
}

/// Names the path in an I/O error.
pub(crate) trait About<T> {
    fn about(self, doing: &'static str, path: &Path) -> Result<T, DiskError>;
}

impl<T, E: Into<io::Error>> About<T> for Result<T, E> {
    fn about(self, doing: &'static str, path: &Path) -> Result<T, DiskError> {
        self.map_err(|source| DiskError {
            doing,
            path: path.to_owned(),
            source: source.into(),
        })
    }
}

/// Writes `bytes` to `path` so that after any cut the old content or the new is there, whole.
///
/// The temporary file is `<path>.new`; one process writes a folder, so that the name is free.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DiskError> {
    let temporary = with_suffix(path, ".new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&temporary)
        .about("make", &temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // It may be what fills the disk now.
        let _ = fs::remove_file(&temporary);
    }
    written.about("write", &temporary)?;
    rename(&temporary, path)
}

/// As [`write_whole`] for `/run`: a reboot empties it, so nothing is synced.
pub fn write_volatile(path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let temporary = with_suffix(path, ".new");
    fs::write(&temporary, bytes).about("write", &temporary)?;
    fs::rename(&temporary, path).about("rename to", path)
}

/// Renames and makes it last.
pub fn rename(from: &Path, to: &Path) -> Result<(), DiskError> {
    fs::rename(from, to).about("rename to", to)?;
    sync_parent(to)
}

/// Removes a file, which may be missing already, and makes it last.
pub fn remove(path: &Path) -> Result<(), DiskError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).about("remove", path),
        Ok(()) => sync_parent(path),
    }
}

/// As [`remove`] for `/run`.
pub fn remove_volatile(path: &Path) -> Result<(), DiskError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).about("remove", path),
        _ => Ok(()),
    }
}

/// Reads a file of at most `limit` bytes; `None` when there is none.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, DiskError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.about("open", path)?,
    };
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .about("read", path)?;
    if bytes.len() as u64 > limit {
        let text = format!("it is larger than {limit} bytes");
        return Err(io::Error::other(text)).about("read", path);
    }
    Ok(Some(bytes))
}

/// Moves a file that cannot be read out of the way, to `<path>.bad`: it is evidence, never wiped.
pub fn set_aside(path: &Path) -> Result<PathBuf, DiskError> {
    let aside = with_suffix(path, ".bad");
    rename(path, &aside)?;
    Ok(aside)
}

/// Makes a folder, and those above it, when missing; its mode is set either way.
pub fn make_folder(path: &Path, mode: u32) -> Result<(), DiskError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .about("make", path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).about("set the mode of", path)
}

/// A folder of root's alone, in one that others may write to (and then a sticky one: what is root's stays).
/// Who was there first is moved to `<path>.bad-…`, not believed; a link of theirs is never followed.
pub fn own_folder(path: &Path, mode: u32) -> Result<(), DiskError> {
    // Each turn loses only to somebody who was quicker in that very moment.
    for _ in 0..16 {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.about("make", path)?,
        }
        let owner = path.symlink_metadata().about("look at", path)?.uid();
        if owner == 0 {
            return fs::set_permissions(path, fs::Permissions::from_mode(mode))
                .about("set the mode of", path);
        }
        // A name that cannot be guessed, and taken before.
        let aside = with_suffix(
            path,
            &format!(".bad-{:016x}", RandomState::new().hash_one(0)),
        );
        tracing::error!(path = %path.display(), owner, aside = %aside.display(), "not root's: set aside");
        rename(path, &aside)?;
    }
    Err(io::Error::other(
        "somebody else takes its place again and again",
    ))
    .about("make", path)
}

/// Makes the names in the folder of `path` last.
pub fn sync_parent(path: &Path) -> Result<(), DiskError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    File::open(parent)
        .and_then(|folder| folder.sync_all())
        .about("sync", parent)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_whole_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        assert_eq!(read_bounded(&path, 10).unwrap(), None);
        write_whole(&path, b"one", 0o600).unwrap();
        write_whole(&path, b"two", 0o600).unwrap();
        assert_eq!(read_bounded(&path, 3).unwrap().unwrap(), b"two");
        assert!(read_bounded(&path, 2).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let aside = set_aside(&path).unwrap();
        assert_eq!(fs::read(aside).unwrap(), b"two");
        remove(&path).unwrap();
    }

    #[test]
    fn a_folder_that_the_daemon_made_first_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (own, treasure) = (folder.path().join("own"), folder.path().join("treasure"));
        make_folder(&treasure, 0o750).unwrap();
        let give_away = || std::os::unix::fs::lchown(&own, Some(1), Some(1)).unwrap();
        let modes = || [&own, &treasure].map(|p| p.symlink_metadata().unwrap().mode() & 0o7777);
        own_folder(&own, 0o711).unwrap();
        own_folder(&own, 0o700).unwrap();
        fs::write(own.join("kept"), b"").unwrap();
        own_folder(&own, 0o700).unwrap();
        assert!(own.join("kept").exists());

        give_away();
        own_folder(&own, 0o700).unwrap();
        assert_eq!(fs::read_dir(&own).unwrap().count(), 0);
        fs::remove_dir(&own).unwrap();
        std::os::unix::fs::symlink(&treasure, &own).unwrap();
        give_away();
        own_folder(&own, 0o700).unwrap();
        assert_eq!(modes(), [0o700, 0o750], "the link was followed");
        assert_eq!(own.symlink_metadata().unwrap().uid(), 0);
    }
}

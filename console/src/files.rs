//! Files that survive a power cut: temporary name, fsync, rename, fsync of the folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Its owner.
    Private,
    /// Everybody.
    Public,
}

/// Another user, for whom root writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// A file that could not be read or written, by name.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct FileError {
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// Names `path` in an I/O error.
pub fn at(path: &Path) -> impl Fn(io::Error) -> FileError + '_ {
    move |source| FileError {
        path: path.to_owned(),
        source,
    }
}

/// Makes a folder with its parents; a new one is `mode`.
pub fn make_dir(path: &Path, mode: u32) -> Result<(), FileError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(at(path))
}

/// Makes a folder, or takes one that is there; it is `owner`'s and `mode` then. A link in its place is refused.
pub fn give_dir(path: &Path, owner: Owner, mode: u32) -> Result<(), FileError> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(path)(error)),
        _ => {}
    }
    let flags = nix::libc::O_DIRECTORY | nix::libc::O_NOFOLLOW;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .and_then(|folder| {
            fchown(&folder, Some(owner.uid), Some(owner.gid))?;
            folder.set_permissions(fs::Permissions::from_mode(mode))
        })
        .map_err(at(path))
}

/// Reads a whole file as text.
pub fn read_text(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(at(path))
}

/// Writes a whole file, or leaves the old one.
pub fn write(path: &Path, bytes: &[u8], mode: Mode) -> Result<(), FileError> {
    write_for(path, bytes, mode, None)
}

/// The same, for another user. Whoever else writes into the folder cannot have it write or give away another file.
pub fn write_for(
    path: &Path,
    bytes: &[u8],
    mode: Mode,
    owner: Option<Owner>,
) -> Result<(), FileError> {
    // The parent of a bare name is "", which cannot be opened.
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let temporary = folder.join(format!(".{name}.{}.{count}.new", std::process::id()));
    let bits = match mode {
        Mode::Private => 0o600,
        Mode::Public => 0o644,
    };
    let result = (|| {
        let mut file = create_new(&temporary, bits).or_else(|error| {
            if error.kind() != io::ErrorKind::AlreadyExists {
                return Err(error);
            }
            // Of a process that was cut off and had this one's number.
            fs::remove_file(&temporary)?;
            create_new(&temporary, bits)
        })?;
        if let Some(owner) = owner {
            fchown(&file, Some(owner.uid), Some(owner.gid))?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_dir(folder)
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result.map_err(at(path))
}

fn create_new(path: &Path, bits: u32) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .mode(bits)
        .open(path)
}

/// Makes a rename or a new name in `folder` durable.
pub fn sync_dir(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_file_is_whole_and_as_private_as_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write(&path, b"one", Mode::Private).unwrap();
        write(&path, b"two", Mode::Private).unwrap();
        assert_eq!(read_text(&path).unwrap(), "two");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no temporary file is left"
        );
        let error = write(&dir.path().join("no/x"), b"", Mode::Public).unwrap_err();
        assert!(error.to_string().contains("no/x"), "{error}");
    }

    #[test]
    fn a_link_that_waits_under_the_temporary_name_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "mine").unwrap();
        for count in 0..2000 {
            let name = format!(".x.{}.{count}.new", std::process::id());
            std::os::unix::fs::symlink(&victim, dir.path().join(name)).unwrap();
        }
        write(&dir.path().join("x"), b"theirs", Mode::Public).unwrap();
        assert_eq!(read_text(&victim).unwrap(), "mine");
        assert_eq!(read_text(&dir.path().join("x")).unwrap(), "theirs");
        // Nor does one in a folder's place.
        let folder = dir.path().join("folder");
        std::os::unix::fs::symlink(dir.path(), &folder).unwrap();
        let me = fs::metadata(dir.path()).unwrap();
        use std::os::unix::fs::MetadataExt;
        let (uid, gid) = (me.uid(), me.gid());
        let error = give_dir(&folder, Owner { uid, gid }, 0o700).unwrap_err();
        assert!(error.to_string().contains("folder"), "{error}");
    }

    #[test]
    fn a_bare_name_is_in_this_folder() {
        let name = format!(".files-test-{}", std::process::id());
        write(Path::new(&name), b"x", Mode::Private).unwrap();
        fs::remove_file(name).unwrap();
    }
}

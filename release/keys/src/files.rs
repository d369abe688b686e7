//! Whole files. Outputs appear complete or not at all: temporary file, fsync, rename, fsync of the
//! folder.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Why a file can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Reading.
    #[error("reading `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Writing.
    #[error("writing `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Longer than such a file can be.
    #[error("`{path}` has more than {limit} bytes; is it the right file?")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes allowed.
        limit: u64,
    },
    /// Nothing is replaced that cannot be made again.
    #[error("`{0}` is there already; remove it or choose another name")]
    Exists(PathBuf),
}

/// Reads at most `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .map_err(|source| FileError::Read {
            path: path.to_owned(),
            source,
        })?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

/// Reads text of at most `limit` bytes, without the line end.
pub fn read_line(path: &Path, limit: u64) -> Result<String, FileError> {
    let text = String::from_utf8(read(path, limit)?).map_err(|_| FileError::Read {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, "it is no text"),
    })?;
    Ok(text.trim_end().to_owned())
}

/// Who may read what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// 0644 below the umask; an older file is replaced.
    Public,
    /// 0600; an older file is never replaced: a private key exists once.
    Secret,
}

/// Writes a file in one step.
pub fn write(path: &Path, bytes: &[u8], access: Access) -> Result<(), FileError> {
    write_with(path, access, |file| file.write_all(bytes))
}

/// Writes a file in one step; `fill` gets it empty and open for reading and writing.
pub fn write_with(
    path: &Path,
    access: Access,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), FileError> {
    if access == Access::Secret && path.exists() {
        return Err(FileError::Exists(path.to_owned()));
    }
    let failed = |source| FileError::Write {
        path: path.to_owned(),
        source,
    };
    let temporary = temporary_name(path).map_err(failed)?;
    let result = (|| {
        let mode = if access == Access::Secret {
            0o600
        } else {
            0o644
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        if access == Access::Secret {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        fill(&mut file)?;
        file.sync_all()?;
        match access {
            Access::Public => std::fs::rename(&temporary, path)?,
            // Unlike a rename, a link does not replace what somebody made in the meantime.
            Access::Secret => std::fs::hard_link(&temporary, path)?,
        }
        sync_folder(path)
    })();
    let _ = std::fs::remove_file(&temporary);
    result.map_err(failed)
}

fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
    let name = format!(".{}.{}.tmp", name.to_string_lossy(), std::process::id());
    Ok(path.with_file_name(name))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_for_the_owner_and_exist_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write(&path, b"one", Access::Secret).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(
            write(&path, b"two", Access::Secret),
            Err(FileError::Exists(_))
        ));
        assert_eq!(read(&path, 3).unwrap(), b"one");
        assert!(matches!(
            read(&path, 2),
            Err(FileError::TooLarge { limit: 2, .. })
        ));
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        write(&path, b"old", Access::Public).unwrap();
        let failed = write_with(&path, Access::Public, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("the disk is full"))
        });
        assert!(failed.is_err());
        assert_eq!(read(&path, 10).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

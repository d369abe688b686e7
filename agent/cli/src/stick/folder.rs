//! A stick that is mounted, or a folder that was copied from one.

use super::{BLOB_FOLDER, LeaveError, MediumError, bounded};
use coracle_protocol::Sha256Digest;
use coracle_protocol::stick::{BoardResult, FOLDER, INDEX};
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The folder that holds `stick.json`.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// `path` holds `coracle/stick.json` or `stick.json`.
    pub fn open(path: &Path) -> Result<Self, MediumError> {
        let candidates = [path.join(FOLDER), path.to_owned()];
        let found = candidates.into_iter().find(|p| p.join(INDEX).is_file());
        let missing = || MediumError::NoIndex {
            path: path.to_owned(),
        };
        found.map(|path| Self { path }).ok_or_else(missing)
    }

    /// `stick.json`, not longer than it may be by more than one byte.
    pub fn index(&self) -> Result<Vec<u8>, MediumError> {
        let path = self.path.join(INDEX);
        let read = plain(&path).and_then(bounded);
        read.map_err(|source| MediumError::Read { path, source })
    }

    /// The size of a blob that is there.
    pub fn size(&self, digest: &Sha256Digest) -> Option<u64> {
        let metadata = std::fs::symlink_metadata(self.blob(digest)).ok()?;
        metadata.is_file().then_some(metadata.len())
    }

    /// A blob's bytes.
    pub fn read(&self, digest: &Sha256Digest) -> io::Result<File> {
        plain(&self.blob(digest))
    }

    /// Leaves a result beside `stick.json`, under the first name that nothing has; which one that is.
    pub fn leave(&self, of: &str, json: &[u8]) -> Result<String, LeaveError> {
        for name in BoardResult::names(of) {
            let path = self.path.join(&name);
            // Whatever has the name, also a link that leads nowhere, keeps it.
            let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(source) => return Err(LeaveError::Open { path, source }),
                Ok(file) => file,
            };
            let done = file.write_all(json).and_then(|()| file.sync_all());
            let done = done.and_then(|()| File::open(&self.path)?.sync_all());
            return match done {
                Ok(()) => Ok(name),
                Err(source) => {
                    let _ = std::fs::remove_file(&path);
                    Err(LeaveError::Write { name, source })
                }
            };
        }
        Err(LeaveError::TooMany)
    }

    fn blob(&self, digest: &Sha256Digest) -> PathBuf {
        let [blobs, sha256] = BLOB_FOLDER;
        self.path.join(blobs).join(sha256).join(digest.hex())
    }
}

/// Opens a plain file. A stick may have a file system with links and pipes: neither is followed or
/// waited for.
fn plain(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a plain file",
        ))
    }
}

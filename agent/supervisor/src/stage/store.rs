//! The daemon's store, as a place that somebody else writes to: no link is followed, nothing but a
//! regular file is read, and no byte is believed before its digest was.

use super::{StageError, fault};
use coracle_board_support::config::Config;
use coracle_digest::Sha256Digest;
use coracle_images::Limits;
use coracle_protocol::release::Blob;
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Opens `blobs/sha256/<hex>` below the store, following no link on the way: each of these folders is
/// the daemon's. Only a regular file will do; O_NONBLOCK keeps a FIFO from holding the supervisor up.
pub fn open_blob(store: &Path, digest: Sha256Digest) -> Result<File, Errno> {
    let folder = open_blobs(store)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&folder, digest.hex(), flags, Mode::empty())?;
    match FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file.into()),
        _ => Err(Errno::INVAL),
    }
}

fn open_blobs(store: &Path) -> Result<OwnedFd, Errno> {
    let mut folder = open_folder(store)?;
    for name in ["blobs", "sha256"] {
        folder = rustix::fs::openat(&folder, name, FOLDER, Mode::empty())?;
    }
    Ok(folder)
}

/// Where the daemon's blobs are.
pub fn blobs_dir(config: &Config) -> PathBuf {
    config.store_dir().join("blobs/sha256")
}

/// The complete blobs, of the first thousands of names.
pub fn blobs(config: &Config) -> Vec<Sha256Digest> {
    let folder = open_blobs(&config.store_dir());
    let entries = folder.and_then(|folder| Dir::read_from(&folder));
    let digest =
        |entry: rustix::fs::DirEntry| Sha256Digest::from_hex(entry.file_name().to_str().ok()?).ok();
    let entries = entries.into_iter().flatten().take(NAMES).flatten();
    entries.filter_map(digest).collect()
}

/// Names that are read of a folder that the daemon may fill.
const NAMES: usize = 4096;

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

pub(crate) fn open_folder(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(CWD, path, FOLDER, Mode::empty())
}

/// Reads an image configuration: exactly the bytes that the release names, or nothing.
pub fn read_config(store: &Path, blob: Blob) -> Result<String, StageError> {
    let limit = Limits::default().document_bytes;
    let name = blob.digest;
    if blob.size > limit {
        return Err(fault(
            "bad-config",
            format!(
                "image configuration {name} has {} bytes; {limit} are allowed",
                blob.size
            ),
        ));
    }
    let file = open_blob(store, name)
        .map_err(|errno| fault("no-blob", format!("image configuration {name}: {errno}")))?;
    let mut bytes = Vec::new();
    file.take(blob.size + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fault("no-blob", format!("image configuration {name}: {error}")))?;
    if bytes.len() as u64 != blob.size || Sha256Digest::of(&bytes) != name {
        return Err(fault(
            "bad-config",
            format!("blob {name} has other bytes than its name says"),
        ));
    }
    String::from_utf8(bytes).map_err(|_| {
        fault(
            "bad-config",
            format!("image configuration {name} is not UTF-8"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        folder
    }

    fn blob_path(store: &Path, digest: Sha256Digest) -> PathBuf {
        store.join("blobs/sha256").join(digest.hex())
    }

    #[test]
    fn a_configuration_is_what_its_digest_says_or_nothing() {
        let store = store();
        let bytes = b"{}";
        let digest = Sha256Digest::of(bytes);
        let blob = Blob { digest, size: 2 };
        let code = |result: Result<String, StageError>| result.unwrap_err().code;
        assert_eq!(code(read_config(store.path(), blob)), "no-blob");
        std::fs::write(blob_path(store.path(), digest), b"[]").unwrap();
        assert_eq!(code(read_config(store.path(), blob)), "bad-config");
        std::fs::write(blob_path(store.path(), digest), b"{} ").unwrap();
        assert_eq!(code(read_config(store.path(), blob)), "bad-config");
        std::fs::write(blob_path(store.path(), digest), bytes).unwrap();
        assert_eq!(read_config(store.path(), blob).unwrap(), "{}");
        let huge = Blob {
            digest,
            size: 1 << 40,
        };
        assert_eq!(code(read_config(store.path(), huge)), "bad-config");
    }

    #[test]
    fn links_and_pipes_in_the_store_are_not_followed() {
        let store = store();
        let digest = Sha256Digest::of(b"x");
        let path = blob_path(store.path(), digest);
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert_eq!(open_blob(store.path(), digest).unwrap_err(), Errno::LOOP);
        std::fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        assert_eq!(open_blob(store.path(), digest).unwrap_err(), Errno::INVAL);
        std::fs::remove_dir_all(store.path().join("blobs")).unwrap();
        std::os::unix::fs::symlink("/", store.path().join("blobs")).unwrap();
        assert!(open_blob(store.path(), digest).is_err());
    }
}

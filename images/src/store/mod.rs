//! Content by digest in a folder: `blobs/sha256/<hex>`, the blobs of an OCI image layout.
//!
//! A blob under its name is complete: downloads go to `<hex>.part` and get the name after the digest was
//! right and the bytes were on the disk. A damaged blob is set aside as `<hex>.bad`, never used.

mod download;
mod incoming;

use std::collections::{BTreeSet, BinaryHeap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use coracle_digest::{Hasher, Sha256Digest};

pub use download::Download;
pub use incoming::Incoming;

/// Why the store can't do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system said no.
    #[error("the store's `{path}`")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not here.
    #[error("the blob {0} is not in the store")]
    Missing(Sha256Digest),
    /// The bytes that came are not the blob. They were thrown away.
    #[error("what was downloaded as {wanted} is {found}")]
    WrongDigest {
        /// Asked for.
        wanted: Sha256Digest,
        /// What came.
        found: Sha256Digest,
    },
    /// More bytes came than the blob has.
    #[error("the blob {digest} has {limit} bytes, but more came")]
    TooLong {
        /// The blob.
        digest: Sha256Digest,
        /// Bytes that it has.
        limit: u64,
    },
    /// Fewer bytes are here than the blob has.
    #[error("the blob {digest} has {wanted} bytes, {found} are here")]
    TooShort {
        /// The blob.
        digest: Sha256Digest,
        /// Bytes that it has.
        wanted: u64,
        /// Bytes that came so far.
        found: u64,
    },
    /// Another download of the same blob is going on.
    #[error("the blob {0} is being downloaded already")]
    Busy(Sha256Digest),
}

/// What a garbage collection took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs and partial downloads.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The blobs below one folder.
#[derive(Debug, Clone)]
pub struct BlobStore {
    blobs: PathBuf,
}

impl BlobStore {
    /// Opens the store in `dir`, making `blobs/sha256` when it is not there.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, StoreError> {
        let blobs = dir.as_ref().join("blobs").join("sha256");
        fs::create_dir_all(&blobs).map_err(at(&blobs))?;
        Ok(Self { blobs })
    }

    /// Where a blob lies, or would lie.
    #[must_use]
    pub fn path(&self, digest: &Sha256Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    /// Whether it is here, complete.
    #[must_use]
    pub fn has(&self, digest: &Sha256Digest) -> bool {
        self.path(digest).is_file()
    }

    /// Bytes of a blob that is here.
    pub fn size(&self, digest: &Sha256Digest) -> Result<u64, StoreError> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(facts) => Ok(facts.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::Missing(*digest))
            }
            Err(error) => Err(at(&path)(error)),
        }
    }

    /// Opens a blob for reading.
    pub fn open_blob(&self, digest: &Sha256Digest) -> Result<File, StoreError> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => Ok(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::Missing(*digest))
            }
            Err(error) => Err(at(&path)(error)),
        }
    }

    /// Begins or resumes a download of a blob of `size` bytes.
    pub fn download(&self, digest: Sha256Digest, size: u64) -> Result<Download, StoreError> {
        Download::open(self.blobs.clone(), digest, size)
    }

    /// Stores bytes that are in memory.
    pub fn put(&self, bytes: &[u8]) -> Result<Sha256Digest, StoreError> {
        let digest = Sha256Digest::of(bytes);
        if !self.has(&digest) {
            let mut download = self.download(digest, bytes.len() as u64)?;
            download.restart()?;
            download.write(bytes)?;
            download.finish()?;
        }
        Ok(digest)
    }

    /// Reads a blob again and compares; a damaged one is set aside as `<hex>.bad`.
    pub fn verify(&self, digest: &Sha256Digest) -> Result<(), StoreError> {
        let path = self.path(digest);
        let mut hasher = Hasher::new();
        io::copy(&mut self.open_blob(digest)?, &mut hasher).map_err(at(&path))?;
        let found = hasher.finish();
        if found == *digest {
            return Ok(());
        }
        fs::rename(&path, path.with_extension("bad")).map_err(at(&path))?;
        Err(StoreError::WrongDigest {
            wanted: *digest,
            found,
        })
    }

    /// Removes a blob and what was downloaded of it; no error when there is none.
    pub fn remove(&self, digest: &Sha256Digest) -> Result<(), StoreError> {
        let path = self.path(digest);
        for path in [path.with_extension("part"), path] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(at(&path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The complete blobs, sorted.
    pub fn list(&self) -> Result<Vec<Sha256Digest>, StoreError> {
        let mut digests = BinaryHeap::new();
        for entry in fs::read_dir(&self.blobs).map_err(at(&self.blobs))? {
            let name = entry.map_err(at(&self.blobs))?.file_name();
            digests.extend(
                name.to_str()
                    .and_then(|name| Sha256Digest::from_hex(name).ok()),
            );
        }
        Ok(digests.into_sorted_vec())
    }

    /// Removes what is not reachable, partial downloads and set-aside blobs too. Files that this store
    /// did not make stay.
    pub fn collect(&self, reachable: &BTreeSet<Sha256Digest>) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        for entry in fs::read_dir(&self.blobs).map_err(at(&self.blobs))? {
            let entry = entry.map_err(at(&self.blobs))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let (hex, bad) = match name.split_once('.') {
                None => (name, false),
                Some((hex, "part")) => (hex, false),
                Some((hex, "bad")) => (hex, true),
                Some(_) => continue,
            };
            let Ok(digest) = Sha256Digest::from_hex(hex) else {
                continue;
            };
            if reachable.contains(&digest) && !bad {
                continue;
            }
            let bytes = entry.metadata().map_err(at(&entry.path()))?.len();
            fs::remove_file(entry.path()).map_err(at(&entry.path()))?;
            collected.files += 1;
            collected.bytes += bytes;
        }
        sync(&self.blobs)?;
        Ok(collected)
    }
}

/// Also a writer, for `io::copy`.
impl Write for Download {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Download::write(self, bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn sync(dir: &Path) -> Result<(), StoreError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(at(dir))
}

fn at(path: &Path) -> impl Fn(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests;

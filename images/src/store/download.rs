//! A blob on its way into the store.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use coracle_digest::{Hasher, Sha256Digest};
use rustix::fs::{FlockOperation, flock};

use super::{StoreError, at, sync};

/// Writes `<hex>.part`; dropped before [`finish`](Self::finish) it stays for the next attempt.
#[derive(Debug)]
pub struct Download {
    blobs: PathBuf,
    part: PathBuf,
    file: File,
    digest: Sha256Digest,
    size: u64,
    hasher: Hasher,
    length: u64,
}

impl Download {
    /// Takes up what is there. It is hashed again: a power cut may have left anything in it. The file stays
    /// locked, so that two downloads never write into each other.
    pub(super) fn open(
        blobs: PathBuf,
        digest: Sha256Digest,
        size: u64,
    ) -> Result<Self, StoreError> {
        let part = blobs.join(digest.hex()).with_extension("part");
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .append(true)
            .create(true)
            .open(&part)
            .map_err(at(&part))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StoreError::Busy(digest)),
            other => other.map_err(|errno| at(&part)(errno.into()))?,
        }
        let mut hasher = Hasher::new();
        let length = io::copy(&mut &file, &mut hasher).map_err(at(&part))?;
        let mut this = Self {
            blobs,
            part,
            file,
            digest,
            size,
            hasher,
            length,
        };
        if length > size {
            this.restart()?;
        }
        Ok(this)
    }

    /// Bytes that are here: where the next request has to begin.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes that the blob has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Throws away what is here: the source does not take ranges, or the digest was wrong.
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.file.set_len(0).map_err(at(&self.part))?;
        self.hasher = Hasher::new();
        self.length = 0;
        Ok(())
    }

    /// Takes in the next bytes. Beyond the blob's size nothing is written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let length = self.length + bytes.len() as u64;
        if length > self.size {
            return Err(StoreError::TooLong {
                digest: self.digest,
                limit: self.size,
            });
        }
        self.file.write_all(bytes).map_err(at(&self.part))?;
        self.hasher.update(bytes);
        self.length = length;
        Ok(())
    }

    /// Checks size and digest, writes all to the disk and gives the blob its name. With the wrong digest
    /// what came is thrown away; when bytes are missing it stays, to be resumed.
    pub fn finish(mut self) -> Result<Sha256Digest, StoreError> {
        if self.length < self.size {
            let (digest, wanted, found) = (self.digest, self.size, self.length);
            return Err(StoreError::TooShort {
                digest,
                wanted,
                found,
            });
        }
        let found = std::mem::take(&mut self.hasher).finish();
        if found != self.digest {
            fs::remove_file(&self.part).map_err(at(&self.part))?;
            return Err(StoreError::WrongDigest {
                wanted: self.digest,
                found,
            });
        }
        self.file.sync_all().map_err(at(&self.part))?;
        fs::rename(&self.part, self.part.with_extension("")).map_err(at(&self.part))?;
        sync(&self.blobs)?;
        Ok(self.digest)
    }
}

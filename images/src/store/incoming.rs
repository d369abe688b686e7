//! A blob whose digest is known only when it is complete: what a build makes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use coracle_digest::{Hasher, Sha256Digest};

use super::{BlobStore, StoreError, at, sync};

/// Tells the incoming blobs of one process apart.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A temporary file in the store; dropped before [`BlobStore::accept`] it disappears.
#[derive(Debug)]
pub struct Incoming {
    path: PathBuf,
    file: File,
    hasher: Hasher,
    length: u64,
}

impl BlobStore {
    /// Begins a blob of unknown digest.
    pub fn incoming(&self) -> Result<Incoming, StoreError> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = self
            .blobs
            .join(format!(".incoming-{}-{number}", std::process::id()));
        let file = File::create_new(&path).map_err(at(&path))?;
        Ok(Incoming {
            path,
            file,
            hasher: Hasher::new(),
            length: 0,
        })
    }

    /// Writes it to the disk and gives it its name. Returns digest and bytes.
    pub fn accept(&self, mut incoming: Incoming) -> Result<(Sha256Digest, u64), StoreError> {
        let digest = std::mem::take(&mut incoming.hasher).finish();
        incoming.file.sync_all().map_err(at(&incoming.path))?;
        fs::rename(&incoming.path, self.path(&digest)).map_err(at(&incoming.path))?;
        sync(&self.blobs)?;
        Ok((digest, incoming.length))
    }
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // Gone already when it was accepted.
        let _ = fs::remove_file(&self.path);
    }
}

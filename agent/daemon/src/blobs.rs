//! The board's store: an OCI image layout whose blobs [`coracle_images::store`] keeps. What blocks
//! there (hashing what an earlier try left, flushing) runs beside the daemon's one thread.

use crate::beside::beside;
use crate::disk::{self, DiskError};
use coracle_images::store::{BlobStore, Download, StoreError};
use coracle_protocol::Sha256Digest;
use coracle_protocol::release::Blob;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The store.
#[derive(Debug, Clone)]
pub struct Blobs {
    store: BlobStore,
    folder: PathBuf,
}

/// Why a blob was not taken or given.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The disk.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Bytes or digests.
    #[error(transparent)]
    Store(StoreError),
    /// A small file of the layout.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The thread beside ours ended early: the daemon is being stopped.
    #[error("interrupted")]
    Interrupted,
    /// A document that is too long to read into memory.
    #[error("blob {} has {} bytes; the limit is {limit}", blob.digest, blob.size)]
    TooLarge {
        /// The blob.
        blob: Blob,
        /// In bytes.
        limit: u64,
    },
}

impl From<StoreError> for BlobError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Io { path, source } => Self::Io { path, source },
            other => Self::Store(other),
        }
    }
}

impl BlobError {
    /// Whether other bytes could still be the right ones: the disk is not at fault.
    pub fn is_about_bytes(&self) -> bool {
        matches!(self, Self::Store(_))
    }

    /// A stable word for feedback.
    pub fn code(&self) -> &'static str {
        const NO_SPACE: i32 = 28;
        const QUOTA: i32 = 122;
        match self {
            Self::Io { source, .. } => match source.raw_os_error() {
                Some(NO_SPACE | QUOTA) => "no-space",
                _ => "disk",
            },
            Self::Store(StoreError::WrongDigest { .. }) => "wrong-digest",
            Self::Store(StoreError::Missing(_)) => "no-blob",
            Self::Store(_) => "wrong-blob",
            Self::Disk(_) | Self::Interrupted => "disk",
            Self::TooLarge { .. } => "too-large",
        }
    }
}

impl Blobs {
    /// The store in `folder`, made when it is not there.
    pub fn open(folder: &Path) -> Result<Self, BlobError> {
        let store = BlobStore::open(folder)?;
        let layout = folder.join("oci-layout");
        if !layout.exists() {
            disk::write(&layout, b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
        }
        Ok(Self {
            store,
            folder: folder.to_owned(),
        })
    }

    /// The layout's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a blob lies once it is whole.
    pub fn path(&self, digest: &Sha256Digest) -> PathBuf {
        self.store.path(digest)
    }

    /// Whether the whole blob is here. By size only: its digest was checked when it got its name,
    /// and whoever uses it checks it again.
    pub fn has(&self, blob: &Blob) -> bool {
        self.store
            .size(&blob.digest)
            .is_ok_and(|size| size == blob.size)
    }

    /// A whole blob of at most `limit` bytes, checked against its digest. A damaged one is set aside.
    pub fn read(&self, blob: &Blob, limit: u64) -> Result<Vec<u8>, BlobError> {
        if blob.size > limit {
            return Err(BlobError::TooLarge { blob: *blob, limit });
        }
        self.store.verify(&blob.digest)?;
        let bytes = disk::read(&self.path(&blob.digest), limit)?;
        bytes.ok_or(StoreError::Missing(blob.digest).into())
    }

    /// Removes a blob that turned out not to be good.
    pub fn remove(&self, digest: &Sha256Digest) {
        if let Err(e) = self.store.remove(digest) {
            tracing::warn!(blob = %digest, error = %BlobError::from(e), "cannot remove");
        }
    }

    /// Removes every blob and part that `keep` does not name.
    pub fn keep_only(&self, keep: &BTreeSet<Sha256Digest>) {
        match self.store.collect(keep) {
            Ok(gone) if gone.files > 0 => {
                tracing::info!(
                    files = gone.files,
                    bytes = gone.bytes,
                    "removed what nobody needs"
                );
            }
            Ok(_) => {}
            Err(e) => tracing::warn!(error = %BlobError::from(e), "cannot tidy the store"),
        }
    }

    /// Begins a blob, or goes on where an earlier try ended.
    pub async fn download(&self, want: Blob) -> Result<Download, BlobError> {
        let store = self.store.clone();
        done(beside(move || store.download(want.digest, want.size)).await)
    }
}

/// Checks size and digest, flushes, and gives the blob its name. Wrong bytes are removed.
pub async fn finish(download: Download) -> Result<Sha256Digest, BlobError> {
    // Flushing many megabytes to slow flash takes seconds; the link must go on meanwhile.
    done(beside(move || download.finish()).await)
}

fn done<T>(result: Option<Result<T, StoreError>>) -> Result<T, BlobError> {
    Ok(result.ok_or(BlobError::Interrupted)??)
}

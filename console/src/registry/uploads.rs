//! Blobs on their way in: one file each in `STATE/registry/uploads`, of which clients know a
//! random name. A restart of the console interrupts none.

use super::RegistryError;
use crate::blobs::{Blobs, blocking};
use crate::files;
use crate::secrets::random_hex;
use axum::body::Body;
use coracle_digest::Sha256Digest;
use coracle_protocol::limits::LIMITS;
use futures_util::StreamExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tokio::io::AsyncWriteExt;

/// An upload that nobody touches for so long is deleted.
const LEFT_ALONE: Duration = Duration::from_secs(24 * 3600);

/// The uploads.
#[derive(Debug, Clone)]
pub struct Uploads {
    blobs: Blobs,
}

impl Uploads {
    /// Uploads that end in `blobs`.
    pub fn new(blobs: Blobs) -> Self {
        Self { blobs }
    }

    /// Begins one; its name.
    pub async fn begin(&self) -> Result<String, RegistryError> {
        let id = random_hex(16).map_err(|e| RegistryError::Inside(e.to_string()))?;
        let path = self.path(&id)?;
        tokio::fs::File::create_new(&path)
            .await
            .map_err(files::at(&path))?;
        Ok(id)
    }

    /// Bytes that are here.
    pub async fn size(&self, id: &str) -> Result<u64, RegistryError> {
        let facts = tokio::fs::metadata(self.path(id)?).await;
        Ok(facts
            .map_err(|_| RegistryError::UploadUnknown(id.to_owned()))?
            .len())
    }

    /// Appends a chunk that must begin at `first`, when the client said so. Returns the new size.
    pub async fn append(
        &self,
        id: &str,
        first: Option<u64>,
        body: Body,
    ) -> Result<u64, RegistryError> {
        let mut size = self.size(id).await?;
        if let Some(got) = first.filter(|f| *f != size) {
            return Err(RegistryError::ChunkOrder { want: size, got });
        }
        let path = self.path(id)?;
        let fault = files::at(&path);
        let mut file = tokio::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .await
            .map_err(&fault)?;
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk
                .map_err(|e| RegistryError::DigestInvalid(format!("the upload broke off: {e}")))?;
            size += chunk.len() as u64;
            if size > LIMITS.blob_bytes {
                return Err(RegistryError::TooLarge);
            }
            file.write_all(&chunk).await.map_err(&fault)?;
        }
        file.flush().await.map_err(&fault)?;
        Ok(size)
    }

    /// Ends one: the bytes must hash to `digest`, and then have that name.
    pub async fn finish(&self, id: &str, digest: Sha256Digest) -> Result<(), RegistryError> {
        self.size(id).await?;
        let (blobs, path) = (self.blobs.clone(), self.path(id)?);
        blocking(move || {
            let result = blobs.take(&path, &digest);
            if result.is_err() {
                let _ = std::fs::remove_file(&path);
            }
            result
        })
        .await?;
        Ok(())
    }

    /// Gives one up.
    pub async fn cancel(&self, id: &str) -> Result<(), RegistryError> {
        tokio::fs::remove_file(self.path(id)?)
            .await
            .map_err(|_| RegistryError::UploadUnknown(id.to_owned()))
    }

    /// Deletes what was left alone. Blocks.
    pub fn sweep(&self) {
        let Ok(entries) = std::fs::read_dir(self.blobs.scratch()) else {
            return;
        };
        let now = SystemTime::now();
        for entry in entries.flatten() {
            let age = entry
                .metadata()
                .and_then(|m| m.modified())
                .ok()
                .and_then(|t| now.duration_since(t).ok());
            if age.is_some_and(|age| age > LEFT_ALONE) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, id: &str) -> Result<PathBuf, RegistryError> {
        let fits = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if !fits {
            return Err(RegistryError::UploadUnknown(id.chars().take(64).collect()));
        }
        Ok(self.blobs.scratch().join(id))
    }
}

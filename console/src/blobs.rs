//! Blobs on disk, `STATE/registry/blobs/sha256/<hex>`: the same files for the registry and for the
//! boards' port. A file is there under its name only when all its bytes are, and hash to it.

use crate::files;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use coracle_digest::{Hasher, Sha256Digest};
use coracle_protocol::limits::LIMITS;
use std::fs::{self, File};
use std::io::{self, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

/// Why a blob was not taken.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The disk.
    #[error(transparent)]
    File(#[from] files::FileError),
    /// Other bytes than promised.
    #[error("the bytes hash to {got}, not to {want}")]
    Digest {
        /// Promised.
        want: Sha256Digest,
        /// Found.
        got: Sha256Digest,
    },
    /// Larger than `LIMITS.blob_bytes`.
    #[error("larger than {} bytes", LIMITS.blob_bytes)]
    TooLarge,
    /// A blocking task ended early: the program is shutting down.
    #[error("the console is shutting down")]
    Stopped,
}

/// The folder of blobs.
#[derive(Debug, Clone)]
pub struct Blobs {
    folder: PathBuf,
    scratch: PathBuf,
}

impl Blobs {
    /// Opens, or makes, the folder below the registry's.
    pub fn open(registry: &Path) -> Result<Self, files::FileError> {
        let blobs = Self {
            folder: registry.join("blobs/sha256"),
            scratch: registry.join("uploads"),
        };
        files::make_dir(registry, 0o700)?;
        files::make_dir(&blobs.folder, 0o700)?;
        files::make_dir(&blobs.scratch, 0o700)?;
        Ok(blobs)
    }

    /// Where unfinished files lie: the same file system, so that a rename finishes them.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// The file of a blob, whether it is there or not.
    pub fn path(&self, digest: &Sha256Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    /// Size in bytes of a blob that is there.
    pub fn size(&self, digest: &Sha256Digest) -> Option<u64> {
        let facts = fs::metadata(self.path(digest)).ok()?;
        facts.is_file().then_some(facts.len())
    }

    /// Reads a small blob whole; `None` when it is missing or larger than `most` bytes.
    pub fn read(&self, digest: &Sha256Digest, most: u64) -> Option<Vec<u8>> {
        if self.size(digest)? > most {
            return None;
        }
        fs::read(self.path(digest)).ok()
    }

    /// Stores bytes under their digest. Blocks.
    pub fn put(&self, bytes: &[u8]) -> Result<Sha256Digest, BlobError> {
        let digest = Sha256Digest::of(bytes);
        if self.size(&digest) == Some(bytes.len() as u64) {
            return Ok(digest);
        }
        let fault = |source| files::at(&self.scratch)(source);
        let mut file = tempfile::NamedTempFile::new_in(&self.scratch).map_err(fault)?;
        file.write_all(bytes).map_err(fault)?;
        let path = file.into_temp_path();
        self.take_checked(&path, &digest)?;
        Ok(digest)
    }

    /// Hashes `file` and gives it its name when the digest is `want`. Blocks.
    pub fn take(&self, file: &Path, want: &Sha256Digest) -> Result<u64, BlobError> {
        let (got, size) = hash_file(file).map_err(files::at(file))?;
        if size > LIMITS.blob_bytes {
            return Err(BlobError::TooLarge);
        }
        if got != *want {
            return Err(BlobError::Digest { want: *want, got });
        }
        self.take_checked(file, want)?;
        Ok(size)
    }

    fn take_checked(&self, file: &Path, digest: &Sha256Digest) -> Result<(), files::FileError> {
        let to = self.path(digest);
        (|| {
            File::open(file)?.sync_all()?;
            fs::rename(file, &to)?;
            files::sync_dir(&self.folder)
        })()
        .map_err(files::at(&to))
    }
}

/// Digest and size of a file. Blocks.
pub fn hash_file(path: &Path) -> io::Result<(Sha256Digest, u64)> {
    let mut hasher = Hasher::new();
    let size = io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok((hasher.finish(), size))
}

/// What part of a blob a request asks for (RFC 9110, section 14). Only one range is served; a
/// request for several gets the whole, as the RFC allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    Bytes { first: u64, last: u64 },
    Outside,
}

fn part(value: Option<&str>, size: u64) -> Part {
    let Some(spec) = value.and_then(|v| v.strip_prefix("bytes=")) else {
        return Part::Whole;
    };
    let Some((first, last)) = spec.trim().split_once('-') else {
        return Part::Whole;
    };
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| !text.starts_with('+'));
    match (first, last) {
        ("", suffix) => match number(suffix) {
            Some(0) => Part::Outside,
            Some(_) if size == 0 => Part::Outside,
            Some(n) => Part::Bytes {
                first: size.saturating_sub(n),
                last: size - 1,
            },
            None => Part::Whole,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), _) if first >= size => Part::Outside,
            (Some(first), None) if last.is_empty() => Part::Bytes {
                first,
                last: size - 1,
            },
            (Some(first), Some(last)) if last >= first => Part::Bytes {
                first,
                last: last.min(size - 1),
            },
            _ => Part::Whole,
        },
    }
}

/// Answers GET or HEAD for a blob, with a range when asked; `None` when it is not there.
pub async fn serve(
    blobs: &Blobs,
    digest: &Sha256Digest,
    request: &HeaderMap,
    head: bool,
) -> Option<Response> {
    let size = blobs.size(digest)?;
    let etag = format!("\"{digest}\"");
    let text = |name: header::HeaderName| request.get(name).and_then(|v| v.to_str().ok());
    let range = match text(header::IF_RANGE) {
        Some(condition) if condition != etag => None,
        _ => text(header::RANGE),
    };
    // RFC 9110, 14.2: a range on HEAD is ignored.
    let part = if head { Part::Whole } else { part(range, size) };
    let (status, first, length) = match part {
        Part::Whole => (StatusCode::OK, 0, size),
        Part::Bytes { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Part::Outside => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
    };
    let mut headers = HeaderMap::new();
    let mut put = |name: header::HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    put(header::CONTENT_TYPE, "application/octet-stream".into());
    put(header::ACCEPT_RANGES, "bytes".into());
    put(header::ETAG, etag);
    put(header::CONTENT_LENGTH, length.to_string());
    put(
        header::CACHE_CONTROL,
        "private, max-age=31536000, immutable".into(),
    );
    put(
        header::HeaderName::from_static("docker-content-digest"),
        digest.to_string(),
    );
    match part {
        Part::Bytes { first, last } => {
            put(
                header::CONTENT_RANGE,
                format!("bytes {first}-{last}/{size}"),
            );
        }
        Part::Outside => put(header::CONTENT_RANGE, format!("bytes */{size}")),
        Part::Whole => {}
    }
    if head || length == 0 {
        return Some((status, headers).into_response());
    }
    let mut file = tokio::fs::File::open(blobs.path(digest)).await.ok()?;
    file.seek(SeekFrom::Start(first)).await.ok()?;
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(length), 64 * 1024));
    Some((status, headers, body).into_response())
}

/// Runs blocking work on the blobs away from the event loop.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BlobError> + Send + 'static,
) -> Result<T, BlobError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(BlobError::Stopped))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_rfc_9110_has_them() {
        let bytes = |first, last| Part::Bytes { first, last };
        for (header, want) in [
            (None, Part::Whole),
            (Some("bytes=0-0"), bytes(0, 0)),
            (Some("bytes=0-499"), bytes(0, 9)),
            (Some("bytes=3-"), bytes(3, 9)),
            (Some("bytes=-4"), bytes(6, 9)),
            (Some("bytes=-400"), bytes(0, 9)),
            (Some("bytes=-0"), Part::Outside),
            (Some("bytes=10-"), Part::Outside),
            (Some("bytes=10-12"), Part::Outside),
            (Some("bytes=5-4"), Part::Whole),
            (Some("bytes=0-1,3-4"), Part::Whole),
            (Some("bytes=+1-2"), Part::Whole),
            (Some("lines=0-1"), Part::Whole),
            (Some("bytes=99999999999999999999-"), Part::Whole),
        ] {
            assert_eq!(part(header, 10), want, "{header:?}");
        }
        assert_eq!(part(Some("bytes=0-"), 0), Part::Outside);
        assert_eq!(part(Some("bytes=-1"), 0), Part::Outside);
    }

    #[test]
    fn only_the_promised_bytes_get_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let file = blobs.scratch().join("x");
        fs::write(&file, b"abc").unwrap();
        let want = Sha256Digest::of(b"abd");
        assert!(matches!(
            blobs.take(&file, &want),
            Err(BlobError::Digest { .. })
        ));
        assert_eq!(blobs.size(&want), None);
        assert_eq!(blobs.take(&file, &Sha256Digest::of(b"abc")).unwrap(), 3);
        assert_eq!(blobs.size(&Sha256Digest::of(b"abc")), Some(3));
        let digest = blobs.put(b"hello").unwrap();
        assert_eq!(blobs.read(&digest, 5).as_deref(), Some(&b"hello"[..]));
        assert_eq!(blobs.read(&digest, 4), None);
    }
}

//! What lies on a stick, from a folder or from a vfat image. Names on a stick never become paths
//! on the board: blobs are asked for by digest, and everything else is not looked at.

mod folder;
mod image;
mod leave;
mod window;

use coracle_protocol::Sha256Digest;
use coracle_protocol::release::Blob;
use coracle_protocol::stick::{INDEX, Stick, StickError};
use folder::Folder;
use image::Image;
pub use leave::{LeaveError, on_device, open as open_to_write};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Blobs on one stick: 64 apps of 127 layers would be 8128, each with a delta.
const BLOBS: usize = 16 * 1024;

/// Where blobs lie, in the folder that holds `stick.json`.
const BLOB_FOLDER: [&str; 2] = ["blobs", "sha256"];

/// Why a stick cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// The folder, the image, or the device.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Another stick.
    #[error("{} holds no coracle/{INDEX}", path.display())]
    NoIndex { path: PathBuf },
    /// Not vfat, or vfat with a fault.
    #[error("{} is no vfat image that can be read: {source}", path.display())]
    NotVfat {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// More than anybody puts there.
    #[error("{} holds more than {BLOBS} blobs", path.display())]
    TooMany { path: PathBuf },
    /// `stick.json`.
    #[error(transparent)]
    Index(#[from] StickError),
    /// Bytes that cannot be read, or end early.
    #[error("blob {digest} on the stick cannot be read: {source}")]
    Blob {
        digest: Sha256Digest,
        #[source]
        source: io::Error,
    },
    /// Other bytes than the name says.
    #[error("blob {0} on the stick is damaged: its bytes have another digest")]
    Damaged(Sha256Digest),
}

/// A stick.
pub enum Medium {
    Folder(Folder),
    Image(Box<Image>),
}

impl Medium {
    /// A folder, or a vfat image or block device.
    pub fn open(path: &Path) -> Result<Self, MediumError> {
        let metadata = std::fs::metadata(path).map_err(|source| MediumError::Read {
            path: path.to_owned(),
            source,
        })?;
        match metadata.is_dir() {
            true => Folder::open(path).map(Self::Folder),
            false => Image::open(path).map(|image| Self::Image(Box::new(image))),
        }
    }

    /// A vfat image or block device that is open already.
    pub fn of_device(file: File, path: &Path) -> Result<Self, MediumError> {
        Image::of(file, path).map(|image| Self::Image(Box::new(image)))
    }

    /// The documents, which nobody has checked, and the digest of the file that they stand in.
    pub fn documents(&self) -> Result<(Stick, Sha256Digest), MediumError> {
        let bytes = match self {
            Self::Folder(folder) => folder.index()?,
            Self::Image(image) => image.index()?,
        };
        Ok((Stick::parse(&bytes)?, Sha256Digest::of(&bytes)))
    }

    /// Whether a blob of that name and size is there.
    pub fn has(&self, blob: &Blob) -> bool {
        match self {
            Self::Folder(folder) => folder.size(&blob.digest) == Some(blob.size),
            Self::Image(image) => image.size(&blob.digest) == Some(blob.size),
        }
    }

    /// A blob's bytes. Nobody has checked them.
    pub fn read(&self, blob: &Blob) -> Result<Box<dyn Read + '_>, MediumError> {
        let reader: io::Result<Box<dyn Read>> = match self {
            Self::Folder(folder) => folder.read(&blob.digest).map(|f| Box::new(f) as _),
            Self::Image(image) => image.read(&blob.digest),
        };
        let digest = blob.digest;
        reader.map_err(|source| MediumError::Blob { digest, source })
    }
}

/// Reads a file that is not longer than an index may be by more than one byte.
fn bounded(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader
        .take(Stick::BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;

//! A vfat image, or a stick's block device, read without mounting it: no kernel code meets what a
//! stranger wrote, and no root is needed.

use super::window::{Budget, Window};
use super::{BLOB_FOLDER, BLOBS, MediumError, bounded};
use coracle_protocol::Sha256Digest;
use coracle_protocol::stick::{FOLDER, INDEX};
use fatfs::{FileSystem, FsOptions};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// An image whose blobs are known by name and size.
pub struct Image {
    path: PathBuf,
    files: FileSystem<Window>,
    budget: Budget,
    /// `coracle/`, or empty.
    base: String,
    blobs: BTreeMap<Sha256Digest, u64>,
}

impl Image {
    /// Opens an image, or a device.
    pub fn open(path: &Path) -> Result<Self, MediumError> {
        let file = File::open(path).map_err(|source| MediumError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::of(file, path)
    }

    /// Looks through the image's folder of blobs, once; `path` is what it is called.
    pub fn of(file: File, path: &Path) -> Result<Self, MediumError> {
        let not_vfat = |source| MediumError::NotVfat {
            path: path.to_owned(),
            source,
        };
        let window = Window::of_file_system(file).map_err(not_vfat)?;
        let budget = window.budget();
        let options = FsOptions::new().update_accessed_date(false);
        let files = FileSystem::new(window, options).map_err(not_vfat)?;
        let base = base(&files, &budget).map_err(not_vfat)?;
        let base = base.ok_or_else(|| MediumError::NoIndex {
            path: path.to_owned(),
        })?;
        let mut image = Self {
            path: path.to_owned(),
            files,
            budget,
            base,
            blobs: BTreeMap::new(),
        };
        image.blobs = image.list()?;
        Ok(image)
    }

    /// Names and sizes of blobs; a file with any other name is passed over.
    fn list(&self) -> Result<BTreeMap<Sha256Digest, u64>, MediumError> {
        let not_vfat = |source| MediumError::NotVfat {
            path: self.path.clone(),
            source,
        };
        self.budget.refill();
        let [blobs, sha256] = BLOB_FOLDER;
        let folder = format!("{}{blobs}/{sha256}", self.base);
        let folder = match self.files.root_dir().open_dir(&folder) {
            Ok(folder) => folder,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(e) => return Err(not_vfat(e)),
        };
        let mut found = BTreeMap::new();
        for entry in folder.iter() {
            let entry = entry.map_err(not_vfat)?;
            let Ok(digest) = Sha256Digest::from_hex(&entry.file_name()) else {
                continue;
            };
            if entry.is_file() {
                found.insert(digest, entry.len());
            }
            if found.len() > BLOBS {
                return Err(MediumError::TooMany {
                    path: self.path.clone(),
                });
            }
        }
        Ok(found)
    }

    /// `stick.json`, not longer than it may be by more than one byte.
    pub fn index(&self) -> Result<Vec<u8>, MediumError> {
        let read = self.file(INDEX).and_then(bounded);
        read.map_err(|source| MediumError::NotVfat {
            path: self.path.clone(),
            source,
        })
    }

    /// The size of a blob that is there.
    pub fn size(&self, digest: &Sha256Digest) -> Option<u64> {
        self.blobs.get(digest).copied()
    }

    /// A blob's bytes.
    pub fn read(&self, digest: &Sha256Digest) -> io::Result<Box<dyn Read + '_>> {
        let [blobs, sha256] = BLOB_FOLDER;
        self.file(&format!("{blobs}/{sha256}/{}", digest.hex()))
    }

    fn file(&self, name: &str) -> io::Result<Box<dyn Read + '_>> {
        self.budget.refill();
        let file = self
            .files
            .root_dir()
            .open_file(&format!("{}{name}", self.base))?;
        Ok(Box::new(Refilled {
            file,
            budget: &self.budget,
        }))
    }
}

/// The folder that holds `stick.json`: `coracle/`, or empty.
pub fn base(files: &FileSystem<Window>, budget: &Budget) -> io::Result<Option<String>> {
    for candidate in [format!("{FOLDER}/"), String::new()] {
        budget.refill();
        match files.root_dir().open_file(&format!("{candidate}{INDEX}")) {
            Ok(_) => return Ok(Some(candidate)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// A file of any length: each piece has a budget of its own.
struct Refilled<'a> {
    file: fatfs::File<'a, Window>,
    budget: &'a Budget,
}

impl Read for Refilled<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.budget.refill();
        self.file.read(buffer)
    }
}

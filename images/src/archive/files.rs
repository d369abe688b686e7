//! The files of an archive, each in the layout's store and held against the name that it has.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read};

use coracle_digest::Sha256Digest;
use flate2::bufread::MultiGzDecoder;
use serde::de::DeserializeOwned;
use tar::EntryType;

use super::{ArchiveError, BLOBS, FILES};
use crate::decompress::tar_stream;
use crate::layout::{Descriptor, LayerType, Layout};
use crate::limits::Limits;
use crate::store::StoreError;

enum File {
    Blob { digest: Sha256Digest, size: u64 },
    LinkTo(String),
}

/// All that comes before a file's bytes, its long name and attributes among it, in bytes.
const HEAD_BYTES: u64 = 1 << 20;

/// Ends with an error where more is read than was allowed last.
struct Bounded<'a, R> {
    inner: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let left = self.left.get().checked_sub(read as u64);
        self.left.set(left.ok_or_else(|| {
            io::Error::other(format!(
                "a file's name and attributes have more than {HEAD_BYTES} bytes"
            ))
        })?);
        Ok(read)
    }
}

/// An archive that was read.
pub(super) struct Files<'a> {
    pub(super) layout: &'a Layout,
    pub(super) limits: Limits,
    by_name: BTreeMap<String, File>,
    bytes: u64,
}

impl<'a> Files<'a> {
    /// Takes all of it in; `came` gets what is in the store by it, also when it fails.
    pub(super) fn read(
        archive: impl Read,
        layout: &'a Layout,
        limits: Limits,
        came: &mut BTreeSet<Sha256Digest>,
    ) -> Result<Self, ArchiveError> {
        let mut files = Self {
            layout,
            limits,
            by_name: BTreeMap::new(),
            bytes: 0,
        };
        let mut source = BufReader::new(archive);
        let magic = source.fill_buf().map_err(ArchiveError::Read)?;
        let unpacked: Box<dyn Read + '_> = match magic {
            [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(source)),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                Box::new(tar_stream(source, LayerType::TarZstd, &limits))
            }
            _ => Box::new(source),
        };
        let left = Cell::new(0);
        let mut archive = tar::Archive::new(Bounded {
            inner: unpacked,
            left: &left,
        });
        let mut entries = archive.entries().map_err(ArchiveError::Read)?;
        loop {
            // Long names and attributes are read into memory on the way to the next file.
            left.set(HEAD_BYTES);
            let Some(entry) = entries.next() else {
                return Ok(files);
            };
            let entry = entry.map_err(ArchiveError::Read)?;
            left.set(u64::MAX);
            files.take(entry, came)?;
        }
    }

    fn take(
        &mut self,
        mut entry: tar::Entry<'_, impl Read>,
        came: &mut BTreeSet<Sha256Digest>,
    ) -> Result<(), ArchiveError> {
        let name = plain("", &entry.path_bytes())?;
        let limit = self.limits.unpacked_bytes;
        self.bytes = self.bytes.saturating_add(entry.size());
        if self.bytes > limit {
            return Err(ArchiveError::TooMuch { name, limit });
        }
        let file = match entry.header().entry_type() {
            EntryType::Regular | EntryType::Continuous => {
                let mut blob = self.layout.store().incoming()?;
                io::copy(&mut entry, &mut blob).map_err(ArchiveError::Read)?;
                let (digest, size) = self.layout.store().accept(blob)?;
                came.insert(digest);
                if let Some(wanted) = blob_of(&name)
                    && wanted != digest
                {
                    let found = digest;
                    return Err(ArchiveError::Damaged {
                        name,
                        wanted,
                        found,
                    });
                }
                File::Blob { digest, size }
            }
            // Docker before 25 writes a layer once, and where it is needed again a link to it.
            kind @ (EntryType::Symlink | EntryType::Link) => {
                let target = entry.link_name_bytes().unwrap_or_default();
                let folder = match kind {
                    EntryType::Link => "",
                    _ => name.rsplit_once('/').map_or("", |(folder, _)| folder),
                };
                File::LinkTo(plain(folder, &target)?)
            }
            _ => {
                io::copy(&mut entry, &mut io::sink()).map_err(ArchiveError::Read)?;
                return Ok(());
            }
        };
        if self.by_name.len() == FILES {
            return Err(ArchiveError::TooManyFiles);
        }
        self.by_name.insert(name, file);
        Ok(())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Digest and size of a file, through one link.
    pub(super) fn find(&self, name: &str, by: &str) -> Result<(Sha256Digest, u64), ArchiveError> {
        let mut file = self.by_name.get(name);
        if let Some(File::LinkTo(target)) = file {
            file = self.by_name.get(target);
        }
        match file {
            Some(File::Blob { digest, size }) => Ok((*digest, *size)),
            _ => Err(ArchiveError::Missing {
                name: name.to_owned(),
                by: format!("`{by}`"),
            }),
        }
    }

    pub(super) fn document<T: DeserializeOwned>(
        &self,
        name: &str,
        by: &str,
    ) -> Result<T, ArchiveError> {
        let (digest, size) = self.find(name, by)?;
        let limit = self.limits.document_bytes;
        if size > limit {
            let name = name.to_owned();
            return Err(ArchiveError::TooLarge { name, size, limit });
        }
        let blob = self.layout.store().open_blob(&digest)?;
        serde_json::from_reader(BufReader::new(blob)).map_err(|source| ArchiveError::Json {
            name: name.to_owned(),
            source,
        })
    }

    /// The name of a blob that is in the archive under its digest, as long as its descriptor says.
    pub(super) fn there(&self, blob: &Descriptor, by: &str) -> Result<String, ArchiveError> {
        let name = name_of(&blob.digest);
        let (digest, size) = self.find(&name, by)?;
        // A link may lead to another file.
        if digest != blob.digest {
            let (wanted, found) = (blob.digest, digest);
            return Err(ArchiveError::Damaged {
                name,
                wanted,
                found,
            });
        }
        if size != blob.size {
            return Err(StoreError::TooShort {
                digest,
                wanted: blob.size,
                found: size,
            }
            .into());
        }
        Ok(name)
    }
}

pub(super) fn name_of(digest: &Sha256Digest) -> String {
    format!("{BLOBS}{}", digest.hex())
}

fn blob_of(name: &str) -> Option<Sha256Digest> {
    Sha256Digest::from_hex(name.strip_prefix(BLOBS)?).ok()
}

/// A name below the archive's root, from a path in `folder`.
fn plain(folder: &str, path: &[u8]) -> Result<String, ArchiveError> {
    let wrong = || ArchiveError::Name(String::from_utf8_lossy(path).chars().take(200).collect());
    let path = std::str::from_utf8(path).map_err(|_| wrong())?;
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or_else(wrong)?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

//! What the image below has where `[[files]]` go: a folder on the way becomes one of the new layer, and hides what the lower
//! ones say of it. Without its mode `/tmp` is nobody's but root's.

use super::{ImageFileError, io_at};
use crate::image::{self, ImageError};
use coracle_images::build::Folder;
use coracle_images::decompress::tar_stream;
use coracle_images::layout::{Image, Layout};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is at a path.
#[derive(Debug)]
pub(super) enum There {
    Folder(Folder),
    /// And where it leads.
    Link(PathBuf),
    Other,
}

/// What is at each of the paths that were asked for, and is there.
#[derive(Debug, Default)]
pub(super) struct Lower(BTreeMap<PathBuf, There>);

impl Lower {
    pub(super) fn at(&self, path: &Path) -> Option<&There> {
        self.0.get(path)
    }

    /// Of an image, whose layers are read for it.
    pub(super) fn of_image(
        name: &str,
        base: &Image,
        layout: &Layout,
        wanted: &BTreeSet<PathBuf>,
    ) -> Result<Self, ImageError> {
        let mut all = Self::default();
        for (descriptor, kind, _) in image::layers(name, base)? {
            let blob = layout.store().open_blob(&descriptor.digest)?;
            let limits = image::limits();
            let tar = tar_stream(blob, kind, &limits).take(limits.unpacked_bytes);
            all.add(tar, wanted).map_err(|source| ImageError::Layer {
                image: name.to_owned(),
                digest: descriptor.digest,
                source,
            })?;
        }
        Ok(all)
    }

    /// Of a folder, whose files are all `owner`'s in the image.
    pub(super) fn of_folder(
        root: &Path,
        owner: (u32, u32),
        wanted: &BTreeSet<PathBuf>,
    ) -> Result<Self, ImageFileError> {
        let mut all = BTreeMap::new();
        for path in wanted {
            let place = root.join(path);
            let facts = match place.symlink_metadata() {
                Ok(facts) => facts,
                // Or below what is no folder, which is on the way too.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(io_at(&place)(error)),
            };
            let there = if facts.is_dir() {
                There::Folder(Folder {
                    mode: facts.mode() & 0o7777,
                    uid: owner.0,
                    gid: owner.1,
                })
            } else if facts.is_symlink() {
                There::Link(fs::read_link(&place).map_err(io_at(&place))?)
            } else {
                There::Other
            };
            all.insert(path.clone(), there);
        }
        Ok(Self(all))
    }

    /// One more layer on top. Its whiteouts hide what lower ones have, wherever they stand in it.
    fn add(&mut self, tar: impl Read, wanted: &BTreeSet<PathBuf>) -> io::Result<()> {
        let mut added = BTreeMap::new();
        for entry in tar::Archive::new(tar).entries()? {
            let entry = entry?;
            let path = entry.path()?;
            let path = path.strip_prefix(".").unwrap_or(&path);
            let (folder, name) = (path.parent(), path.file_name().unwrap_or_default());
            let folder = folder.unwrap_or(Path::new(""));
            if name == ".wh..wh..opq" {
                self.0
                    .retain(|old, _| old == folder || !old.starts_with(folder));
            } else if let Some(hidden) = name.as_bytes().strip_prefix(b".wh.") {
                let hidden = folder.join(OsStr::from_bytes(hidden));
                self.0.retain(|old, _| !old.starts_with(&hidden));
            } else if wanted.contains(path) {
                let header = entry.header();
                let number = |number: u64| u32::try_from(number).map_err(io::Error::other);
                let there = match header.entry_type() {
                    kind if kind.is_dir() => There::Folder(Folder {
                        mode: header.mode()? & 0o7777,
                        uid: number(header.uid()?)?,
                        gid: number(header.gid()?)?,
                    }),
                    kind if kind.is_symlink() => {
                        There::Link(entry.link_name()?.unwrap_or_default().into_owned())
                    }
                    _ => There::Other,
                };
                added.insert(path.to_owned(), there);
            }
        }
        self.0.extend(added);
        Ok(())
    }
}

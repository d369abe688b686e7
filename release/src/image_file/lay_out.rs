//! `[[files]]` in a folder of their own, as the layer is to have them. A link that an entry brought is a link of the layer:
//! nothing is written through it, as it leads into this machine.

use super::lower::{Lower, There};
use super::{ImageFile, ImageFileError, io_at};
use coracle_images::build::Folder;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, FileTimes, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

/// The files of a layer, gone when this is.
pub(super) struct LaidOut {
    scratch: TempDir,
    /// Folders with the modes that they get when all is in them: one may be without the right to write.
    folders: BTreeMap<PathBuf, u32>,
    /// Folders on the way that the image below has too, by their paths below the root.
    as_below: BTreeMap<PathBuf, Folder>,
}

/// The folders on the way to the files, the root among them.
pub(super) fn leads(file: &ImageFile) -> BTreeSet<PathBuf> {
    let places = file
        .files
        .iter()
        .filter_map(|entry| below(&entry.to, &entry.from));
    let ways = places.flat_map(|to| {
        to.ancestors()
            .skip(1)
            .map(Path::to_owned)
            .collect::<Vec<_>>()
    });
    ways.collect()
}

impl LaidOut {
    /// Puts the `[[files]]` of the image.toml at `path` where they belong, on top of what is below.
    pub(super) fn of(file: &ImageFile, path: &Path, lower: &Lower) -> Result<Self, ImageFileError> {
        let scratch = tempfile::tempdir().map_err(io_at(&std::env::temp_dir()))?;
        let root = scratch.path().to_owned();
        let mut laid = Self {
            folders: BTreeMap::from([(root.clone(), 0o755)]),
            as_below: BTreeMap::new(),
            scratch,
        };
        if let Some(There::Folder(folder)) = lower.at(Path::new("")) {
            laid.as_below.insert(PathBuf::new(), *folder);
        }
        let from_here = path.parent().unwrap_or(Path::new(""));
        for (number, entry) in file.files.iter().enumerate() {
            let field = |field: &str, what: String| ImageFileError::Field {
                path: path.to_owned(),
                field: format!("files[{number}].{field}"),
                what,
            };
            let to = below(&entry.to, &entry.from)
                .ok_or_else(|| field("to", format!("`{}` is no absolute path", entry.to)))?;
            let mode = entry.mode.as_deref().map(|text| {
                let mode = u32::from_str_radix(text, 8).ok();
                mode.filter(|mode| *mode <= 0o7777)
                    .ok_or_else(|| field("mode", format!("`{text}` is no mode; write \"0755\"")))
            });
            let mode = mode.transpose()?;
            let mut lead = PathBuf::new();
            for part in to.parent().unwrap_or(Path::new("")).components() {
                lead.push(part);
                let place = root.join(&lead);
                if laid.folders.contains_key(&place) {
                    continue;
                }
                let shown = lead.display();
                if place.symlink_metadata().is_ok() {
                    let what = format!("`/{shown}` of an earlier entry is no folder");
                    return Err(field("to", what));
                }
                match lower.at(&lead) {
                    None => {}
                    Some(There::Folder(folder)) => {
                        laid.as_below.insert(lead.clone(), *folder);
                    }
                    Some(There::Link(target)) => {
                        let what = format!(
                            "`/{shown}` is a link to `{}` in the image below, and a folder would hide it; write where it leads",
                            target.display()
                        );
                        return Err(field("to", what));
                    }
                    Some(There::Other) => {
                        let what = format!("`/{shown}` of the image below is no folder");
                        return Err(field("to", what));
                    }
                }
                laid.folder(place, 0o755)?;
            }
            laid.copy(&from_here.join(&entry.from), &root.join(&to), mode)?;
        }
        laid.finish()?;
        Ok(laid)
    }

    pub(super) fn root(&self) -> &Path {
        self.scratch.path()
    }

    /// Folders that are to be as the image below has them.
    pub(super) fn as_below(&self) -> &BTreeMap<PathBuf, Folder> {
        &self.as_below
    }

    fn folder(&mut self, path: PathBuf, mode: u32) -> Result<(), ImageFileError> {
        fs::create_dir(&path).map_err(io_at(&path))?;
        self.folders.insert(path, mode);
        Ok(())
    }

    fn copy(&mut self, from: &Path, to: &Path, mode: Option<u32>) -> Result<(), ImageFileError> {
        let facts = from.symlink_metadata().map_err(io_at(from))?;
        let onto_folder = facts.is_dir() && self.folders.contains_key(to);
        if !onto_folder && to.symlink_metadata().is_ok() {
            fs::remove_file(to).map_err(io_at(to))?;
        }
        if facts.is_symlink() {
            let target = fs::read_link(from).map_err(io_at(from))?;
            return symlink(target, to).map_err(io_at(to));
        }
        if facts.is_dir() {
            if !onto_folder {
                self.folder(to.to_owned(), facts.permissions().mode() & 0o7777)?;
            }
            if let Some(mode) = mode {
                self.folders.insert(to.to_owned(), mode);
                let path = to.strip_prefix(self.root()).unwrap_or(to).to_owned();
                self.as_below.remove(&path);
            }
            for entry in fs::read_dir(from).map_err(io_at(from))? {
                let name = entry.map_err(io_at(from))?.file_name();
                self.copy(&from.join(&name), &to.join(&name), None)?;
            }
            return Ok(());
        }
        // To read one of the others may never end.
        if !facts.is_file() {
            return Err(ImageFileError::Kind(from.to_owned()));
        }
        fs::copy(from, to).map_err(io_at(from))?;
        let time = facts.modified().map_err(io_at(from))?;
        set_time(to, time).map_err(io_at(to))?;
        if let Some(mode) = mode {
            fs::set_permissions(to, Permissions::from_mode(mode)).map_err(io_at(to))?;
        }
        Ok(())
    }

    /// Modes whatever the umask is, and the time: folders are from 1970, as when they were made here says nothing of them.
    fn finish(&self) -> Result<(), ImageFileError> {
        for (path, mode) in self.folders.iter().rev() {
            set_time(path, UNIX_EPOCH).map_err(io_at(path))?;
            fs::set_permissions(path, Permissions::from_mode(*mode)).map_err(io_at(path))?;
        }
        Ok(())
    }
}

impl Drop for LaidOut {
    fn drop(&mut self) {
        // What an ordinary user may not write in, he could not remove. Where that fails, removing says nothing either.
        for path in self.folders.keys() {
            let _ = fs::set_permissions(path, Permissions::from_mode(0o700));
        }
    }
}

/// The path below the root; `None` for one that leads elsewhere.
fn below(to: &str, from: &Path) -> Option<PathBuf> {
    let mut path = PathBuf::from(to.strip_prefix('/')?);
    if to.ends_with('/') {
        path.push(from.file_name()?);
    }
    let plain = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    (plain && path.components().next().is_some()).then_some(path)
}

fn set_time(path: &Path, time: SystemTime) -> io::Result<()> {
    File::open(path)?.set_times(FileTimes::new().set_modified(time))
}

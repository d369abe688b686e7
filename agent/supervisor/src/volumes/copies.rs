//! Copies of volumes for the way back from a version that makes something else of what is in them.
//!
//! A child fills `.new-.before-<name>`; once all are whole and on the disk, each becomes `.before-<name>`, and then the volume
//! itself bears the new version's number. Nobody starts before that. On the way back the copy takes the volume's name, which is
//! free by then; as often as that is cut, the copy is there under one of the two names. Once the trial is kept, or where there
//! is none, copies go.

use super::copy;
use super::record::unix_seconds;
use super::{NEW, VolumeError, Volumes, place_in};
use crate::disk;
use coracle_protocol::names::VolumeName;
use coracle_runtime::{Child, DiskLimit, Exit, Failure, Means, spawn_plain};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

const BEFORE: &str = ".before-";

/// Bytes beyond a volume's limit while it is copied: XFS makes no file where little is left of a quota, and lets root pass none.
const MORE: u64 = 1 << 20;

/// Bytes of what the child says at its end.
const WORDS: u64 = 4096;

/// Why volumes were not copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A volume.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The child.
    #[error("the child that copies volumes: {0}")]
    Child(#[from] Failure),
    /// What it said of itself.
    #[error("the child that copies volumes: {0}")]
    Words(#[from] io::Error),
    /// What became of it.
    #[error("{0}")]
    Failed(String),
}

/// A child that copies.
#[derive(Debug)]
pub struct Copying {
    /// The child.
    pub child: Child,
    words: File,
    volumes: BTreeMap<VolumeName, u32>,
}

impl Volumes {
    fn before(&self, name: &VolumeName) -> PathBuf {
        self.own(&format!("{BEFORE}{name}"))
    }

    fn new_before(&self, name: &VolumeName) -> PathBuf {
        self.own(&format!("{NEW}{BEFORE}{name}"))
    }

    /// Starts the child that copies these volumes, of which nobody has any open.
    pub fn begin_copies(&self, volumes: BTreeMap<VolumeName, u32>) -> Result<Copying, CopyError> {
        self.drop_copies()?;
        let mut pairs = Vec::new();
        for name in volumes.keys() {
            self.begin_copy(name)?;
            pairs.push((name.clone(), self.own(name.as_str()), self.new_before(name)));
        }
        let words = memfd_create("copies", MemfdFlags::CLOEXEC).map_err(io::Error::from)?;
        let of_child = words.try_clone()?;
        let folder = self.folder.clone();
        let child = spawn_plain(vec![of_child], move |mut files| {
            // The next supervisor throws away what this one leaves.
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
            let Err(fault) = copy_all(&pairs, &folder) else {
                return 0;
            };
            if let Some(words) = files.pop() {
                let _ = File::from(words).write_all(fault.as_bytes());
            }
            1
        })?;
        Ok(Copying {
            child,
            words: words.into(),
            volumes,
        })
    }

    /// An empty place for a copy, with a limit of its own.
    fn begin_copy(&self, name: &VolumeName) -> Result<(), VolumeError> {
        let (own, place) = (self.own(name.as_str()), self.place(name));
        let mut record = self.record(name);
        if record.copied_at.take().is_some() {
            record.write(&own)?;
        }
        record.copied_at = Some(unix_seconds());
        let means = place.means()?;
        let limit = self.usage(name)?.limit;
        if means == Some(Means::Image) {
            let new = self.new_before(name);
            self.give_up(&new)?;
            disk::make_folder(&new, 0o700)?;
            return Ok(record.write(&new)?);
        }
        let as_this = Volumes {
            folder: self.folder.clone(),
            means: means.filter(|_| limit.is_some()),
        };
        let limit = limit.unwrap_or(DiskLimit::of_bytes(1 << 20));
        let limit = DiskLimit {
            bytes: limit.bytes + MORE,
            inodes: limit.inodes + 16,
        };
        as_this.begin(&format!("{BEFORE}{name}"), limit, &record)?;
        Ok(())
    }

    /// The child has ended. The volumes bear the number of the version that starts next.
    pub fn finish_copies(&self, mut copying: Copying, exit: Exit) -> Result<(), CopyError> {
        if !exit.success() {
            let mut text = String::new();
            copying.words.rewind()?;
            (&mut copying.words).take(WORDS).read_to_string(&mut text)?;
            if text.is_empty() {
                text = format!("the child that copies volumes died: {exit:?}");
            }
            return Err(CopyError::Failed(text));
        }
        for (name, version) in &copying.volumes {
            self.hold(name)?;
            disk::rename(&self.new_before(name), &self.before(name)).map_err(VolumeError::from)?;
            let mut record = self.record(name);
            record.data_version = *version;
            record.copied_at = None;
            let own = self.own(name.as_str());
            record.write(&own).map_err(VolumeError::from)?;
        }
        Ok(())
    }

    /// The copy's limit is what the volume's is.
    fn hold(&self, name: &VolumeName) -> Result<(), VolumeError> {
        let place = place_in(&self.new_before(name));
        if let (Some(Means::Quota), Some(limit)) = (place.means()?, self.usage(name)?.limit) {
            place.resize(limit)?;
        }
        Ok(())
    }

    /// Each volume that was copied whole is as it was then. No app that has one may run.
    pub fn put_back(&self) -> Result<(), VolumeError> {
        for entry in self.entries() {
            let Some(name) = entry.strip_prefix(BEFORE) else {
                continue;
            };
            let own = self.own(name);
            self.give_up(&own)?;
            disk::rename(&self.own(&entry), &own)?;
            tracing::info!(volume = name, "it is as it was before the trial");
        }
        self.drop_copies()
    }

    /// Copies go, whole or not.
    pub fn drop_copies(&self) -> Result<(), VolumeError> {
        for entry in self.entries() {
            let whole = entry.strip_prefix(NEW).unwrap_or(&entry);
            if whole.starts_with(BEFORE) {
                self.give_up(&self.own(&entry))?;
            }
        }
        Ok(())
    }

    /// Whether there is a copy of this one as it was.
    pub fn has_copy(&self, name: &VolumeName) -> bool {
        self.before(name).exists()
    }

    /// Bytes of the disk that copies have or may take.
    pub fn copies_held(&self) -> u64 {
        let entries = self.entries();
        let copies = entries.iter().filter(|entry| entry.starts_with(BEFORE));
        copies
            .map(|copy| place_in(&self.own(copy)).held_bytes().unwrap_or(0))
            .sum()
    }
}

/// In the child.
fn copy_all(pairs: &[(VolumeName, PathBuf, PathBuf)], folder: &Path) -> Result<(), String> {
    for (name, own, new) in pairs {
        let (from, to) = (place_in(own), place_in(new));
        let copied = match from.means() {
            Ok(Some(Means::Image)) => from.copy_image(&to).map_err(|error| error.to_string()),
            Ok(_) => copy::tree(from.folder(), to.folder()).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        copied.map_err(|fault| format!("volume `{name}` cannot be copied: {fault}"))?;
    }
    // All of it, once: nothing of it has its name yet.
    File::open(folder)
        .and_then(|folder| Ok(rustix::fs::syncfs(&folder)?))
        .map_err(|error| format!("copies of volumes are not on the disk: {error}"))
}

//! Copies of volumes for the way back from a version that makes something else of what is in them.
//!
//! A child fills `.new-.before-<name>`; once all are whole and on the disk, each becomes `.before-<name>`, and then the volume
//! itself bears the new version's number. Nobody starts before that. On the way back the copy takes the volume's name, which is
//! free by then; as often as that is cut, the copy is there under one of the two names. Once the trial is kept, or where there
//! is none, copies go.

use super::copy;
use super::record::unix_seconds;
use super::{NEW, Record, VolumeError, Volumes, place_in};
use crate::disk;
use crate::erase::erase;
use coracle_protocol::names::VolumeName;
use coracle_runtime::{Child, DiskLimit, Exit, Means, spawn_plain};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const BEFORE: &str = ".before-";

/// Bytes beyond a volume's limit while it is copied: XFS makes no file where little is left of a quota, and lets root pass none.
const MORE: u64 = 1 << 20;

/// For all copies of a trial: nothing runs meanwhile.
pub(super) const MOST: Duration = Duration::from_secs(6 * 3600);

/// Bytes of what the child says at its end.
const WORDS: u64 = 4096;

/// A child that copies.
#[derive(Debug)]
pub struct Copying {
    /// The child.
    pub child: Child,
    words: File,
    volumes: Vec<(VolumeName, u32)>,
    /// Until when, while it was not killed for that.
    until: Option<Instant>,
}

impl Copying {
    /// When it is to be killed.
    pub fn due(&self) -> Option<Instant> {
        self.until
    }

    /// Kills it when its time is over; its end comes as any child's.
    pub fn end_overdue(&mut self, now: Instant) {
        if self.until.is_some_and(|until| until <= now) {
            self.until = None;
            let _ = self.child.kill();
        }
    }
}

impl Volumes {
    pub(super) fn before(&self, name: &VolumeName) -> PathBuf {
        self.own(&format!("{BEFORE}{name}"))
    }

    fn new_before(&self, name: &VolumeName) -> PathBuf {
        self.own(&format!("{NEW}{BEFORE}{name}"))
    }

    /// Before a trial is on the disk: what is found beside it from then on is its own.
    pub fn make_way(&self) -> Result<(), VolumeError> {
        self.drop_copies()?;
        for name in self.names() {
            let mut record = self.record(&name);
            if record.copied_at.take().is_some() {
                record.write(&self.own(name.as_str()))?;
            }
        }
        Ok(())
    }

    /// There is no such volume, and once the trial is over there is none again.
    pub fn note_missing(&self, name: &VolumeName) -> Result<(), VolumeError> {
        let note = self.before(name);
        disk::make_folder(&note, 0o700)?;
        Ok(disk::sync_parent(&note)?)
    }

    /// Starts the child that copies these volumes, of which nobody has any open. An error is its reason, in words.
    pub fn begin_copies(&self, volumes: Vec<(VolumeName, u32)>) -> Result<Copying, String> {
        for (name, _) in &volumes {
            self.begin_copy(name).map_err(words)?;
        }
        let said = memfd_create("copies", MemfdFlags::CLOEXEC).map_err(words)?;
        let of_child = said.try_clone().map_err(words)?;
        let child = spawn_plain(vec![of_child], |mut files| {
            // The next supervisor throws away what this one leaves.
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
            let Err(fault) = self.copy_all(&volumes) else {
                return 0;
            };
            // Why it failed has to be written down, and the disk may be full of this.
            for (name, _) in &volumes {
                let _ = erase(&self.new_before(name));
            }
            if let Some(said) = files.pop() {
                let _ = File::from(said).write_all(fault.as_bytes());
            }
            1
        });
        Ok(Copying {
            child: child.map_err(words)?,
            words: said.into(),
            volumes,
            until: Some(Instant::now() + MOST),
        })
    }

    /// In the child.
    fn copy_all(&self, volumes: &[(VolumeName, u32)]) -> Result<(), String> {
        let folder = File::open(&self.folder).map_err(words)?;
        for (name, _) in volumes {
            let (from, to) = (self.place(name), place_in(&self.new_before(name)));
            let copied = match from.means() {
                Ok(Some(Means::Image)) => from.copy_image(&to).map_err(words),
                Ok(_) => copy::tree(from.folder(), to.folder()).map_err(words),
                Err(error) => Err(words(error)),
            };
            let copied = copied.and_then(|()| copy::spares(&folder).map_err(words));
            copied.map_err(|fault| format!("volume `{name}` cannot be copied: {fault}"))?;
        }
        // All of it, once: nothing of it has its name yet.
        rustix::fs::syncfs(&folder).map_err(words)
    }

    /// An empty place for a copy, with a limit of its own.
    fn begin_copy(&self, name: &VolumeName) -> Result<(), VolumeError> {
        let place = self.place(name);
        let mut record = self.known(name)?;
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
            not_now: None,
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
    pub fn finish_copies(&self, mut copying: Copying, exit: Exit) -> Result<(), String> {
        if copying.until.is_none() {
            return Err(format!(
                "volumes were not copied within {} hours",
                MOST.as_secs() / 3600
            ));
        }
        if !exit.success() {
            let mut text = String::new();
            copying.words.rewind().map_err(words)?;
            let mut said = (&mut copying.words).take(WORDS);
            said.read_to_string(&mut text).map_err(words)?;
            if text.is_empty() {
                text = format!("the child that copies volumes died: {exit:?}");
            }
            return Err(text);
        }
        for (name, version) in &copying.volumes {
            self.hold(name).map_err(words)?;
            disk::rename(&self.new_before(name), &self.before(name)).map_err(words)?;
            let mut record = self.known(name).map_err(words)?;
            record.data_version = *version;
            record.copied_at = None;
            record.write(&self.own(name.as_str())).map_err(words)?;
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
        for entry in self.listing()? {
            if let Some(name) = entry.strip_prefix(BEFORE) {
                self.take_place(name)?;
            }
        }
        self.drop_copies()
    }

    fn take_place(&self, name: &str) -> Result<(), VolumeError> {
        let own = self.own(name);
        self.give_up(&own)?;
        let copy = self.own(&format!("{BEFORE}{name}"));
        // Of one that was not there, an empty folder.
        if std::fs::remove_dir(&copy).is_ok() {
            return Ok(disk::sync_parent(&copy)?);
        }
        disk::rename(&copy, &own)?;
        tracing::info!(volume = name, "it is as it was before the trial");
        Ok(())
    }

    /// Where there is no trial: `reads` says whether the set that runs takes a volume that holds data of this version. Of one that it
    /// does not, or that is not there, the copy takes the place; all others go.
    pub fn settle_copies(&self, reads: impl Fn(&str, u32) -> bool) -> Result<(), VolumeError> {
        for entry in self.listing()? {
            if let Some(name) = entry.strip_prefix(BEFORE) {
                let record = Record::known(&self.own(name));
                if !record.is_ok_and(|record| reads(name, record.data_version)) {
                    self.take_place(name)?;
                }
            }
        }
        self.drop_copies()
    }

    /// Copies go, whole or not: all that can, whatever stays.
    pub fn drop_copies(&self) -> Result<(), VolumeError> {
        let mut gone = Ok(());
        for entry in self.listing()? {
            let whole = entry.strip_prefix(NEW).unwrap_or(&entry);
            if whole.starts_with(BEFORE) {
                gone = gone.and(self.give_up(&self.own(&entry)));
            }
        }
        gone
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

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

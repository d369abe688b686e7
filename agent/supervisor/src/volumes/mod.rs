//! Volumes: what outlives apps and releases. `volumes/<name>` holds
//!
//! - `volume.json`: who made it and when,
//! - `room/`, which cannot grow past its limit, with `room/data`, which apps see,
//! - `room.ext4`, where the limit is held by an image.
//!
//! A volume is made as `.new-<name>` and gets its name when it is whole; a restored one takes the place of the old in one
//! step. What such a name still bears at start was cut, and goes. `.before-<name>` is a volume as it was before a trial.

mod copies;
mod copy;
mod record;
mod transfer;

pub use copies::Copying;
pub use record::Record;
pub use transfer::{Direction, Transfer, TransferError, start};

use crate::apps::plan::PlannedVolume;
use crate::disk::{self, About, DiskError};
use crate::gc::throw_away;
use crate::settings::Settings;
use coracle_protocol::names::VolumeName;
use coracle_runtime::disk::PlaceError;
use coracle_runtime::{DiskLimit, DiskUse, Means, Place};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::collections::BinaryHeap;
use std::io;
use std::path::{Path, PathBuf};

/// Volumes on a board.
pub const MOST: usize = 256;

const NEW: &str = ".new-";
const MOVING: &str = ".moving-";

/// Why a volume cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A folder or file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Its limit.
    #[error("volume: {0}")]
    Place(#[from] PlaceError),
    /// The disk is full, so that nobody knows what could hold its limit.
    #[error("volume: what holds its limit cannot be told while the disk is full ({0})")]
    NotNow(String),
    /// One more than a board has.
    #[error("there are {MOST} volumes, which is the most; remove some (`coracle volume prune`)")]
    TooMany,
    /// Nobody knows what is in it.
    #[error(
        "volume `{volume}`: what it holds is not known, its volume.json cannot be read ({fault}); `coracle volume backup {volume}` and `coracle volume restore {volume}` write it anew"
    )]
    Unknown { volume: VolumeName, fault: String },
    /// What is in it is not for this app.
    #[error("{}", TooNew { volume, holds: *holds, app: *app })]
    TooNew {
        volume: VolumeName,
        holds: u32,
        app: u32,
    },
}

/// An app whose data are of an earlier version than those that are there: in words, with what to do.
#[derive(Debug)]
pub struct TooNew<'a> {
    pub volume: &'a VolumeName,
    pub holds: u32,
    pub app: u32,
}

impl std::fmt::Display for TooNew<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (volume, holds, app) = (self.volume, self.holds, self.app);
        write!(
            f,
            "volume `{volume}` holds data of data_version {holds}, and the app has data_version = {app}: where it can read them, release it with data_version = {holds}; else give it another volume, or `coracle volume restore` what it can read and release it with data_version = {}",
            holds.saturating_add(1)
        )
    }
}

impl VolumeError {
    /// Whether the disk is full.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Disk(error) => error.is_no_space(),
            Self::Place(error) => error.is_no_space(),
            Self::NotNow(_) => true,
            Self::TooMany | Self::Unknown { .. } | Self::TooNew { .. } => false,
        }
    }
}

/// The folder of all volumes.
#[derive(Debug, Clone)]
pub struct Volumes {
    folder: PathBuf,
    means: Option<Means>,
    not_now: Option<String>,
}

impl Volumes {
    /// Those of this board.
    pub fn of(settings: &Settings) -> Volumes {
        Volumes {
            folder: settings.config.volumes_dir(),
            means: settings.limiter.means,
            not_now: settings.limiter.not_now().map(str::to_owned),
        }
    }

    fn own(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Of all in that folder that are there.
    pub fn places(folder: &Path) -> Vec<Place> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| place_in(&entry.path())).collect()
    }

    /// What limits a volume.
    pub fn place(&self, name: &VolumeName) -> Place {
        place_in(&self.own(name.as_str()))
    }

    /// Where its contents are, once it is open.
    pub fn data(&self, name: &VolumeName) -> PathBuf {
        self.place(name).folder().join("data")
    }

    /// Whether there is one of this name.
    pub fn exists(&self, name: &VolumeName) -> bool {
        self.own(name.as_str()).is_dir()
    }

    /// All of them, by name.
    pub fn names(&self) -> Vec<VolumeName> {
        let names: BinaryHeap<VolumeName> = self
            .entries()
            .iter()
            .filter_map(|name| VolumeName::new(name).ok())
            .collect();
        names.into_sorted_vec()
    }

    fn entries(&self) -> Vec<String> {
        self.listing().unwrap_or_default()
    }

    fn listing(&self) -> Result<Vec<String>, DiskError> {
        let mut names = Vec::new();
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
            other => other.about("list", &self.folder)?,
        };
        for entry in entries {
            let name = entry.about("list", &self.folder)?.file_name();
            names.extend(name.into_string());
        }
        Ok(names)
    }

    /// Who made it and when.
    pub fn record(&self, name: &VolumeName) -> Record {
        Record::read(&self.own(name.as_str()))
    }

    /// The same, where something is done by what it says of the contents.
    pub fn known(&self, name: &VolumeName) -> Result<Record, VolumeError> {
        Record::known(&self.own(name.as_str())).map_err(|fault| VolumeError::Unknown {
            volume: name.clone(),
            fault,
        })
    }

    /// What it holds.
    pub fn usage(&self, name: &VolumeName) -> Result<DiskUse, VolumeError> {
        Ok(self.place(name).usage()?)
    }

    /// Bytes of the disk that it has or may take.
    pub fn held_bytes(&self, name: &VolumeName) -> u64 {
        self.place(name).held_bytes().unwrap_or_default()
    }

    /// Bytes of the disk that a new one of this limit takes.
    pub fn cost(&self, limit: DiskLimit) -> u64 {
        match self.means {
            Some(Means::Image) => limit.image_bytes(),
            _ => limit.bytes,
        }
    }

    /// The volume is there, open, and has the limit that the release declares. `user` gets one that is made now.
    pub fn ensure(&self, planned: &PlannedVolume, user: (u32, u32)) -> Result<(), VolumeError> {
        let name = &planned.name;
        let copy = self.before(name);
        if !self.exists(name) && Record::is_in(&copy) {
            // Its way back was cut and could not be finished since.
            disk::rename(&copy, &self.own(name.as_str()))?;
        }
        if !self.exists(name) {
            self.create(
                name,
                planned.limit,
                Record::of_data(planned.data_version),
                user,
            )?;
        }
        let place = self.place(name);
        let holds = self.known(name)?.data_version;
        if holds > planned.data_version {
            return Err(VolumeError::TooNew {
                volume: name.clone(),
                holds,
                app: planned.data_version,
            });
        }
        place.open()?;
        if planned.is_declared {
            resize(name, &place, planned.limit)?;
        }
        let data = self.data(name);
        if !data.exists() {
            disk::make_folder(&data, 0o755)?;
        }
        Ok(())
    }

    /// Makes a volume.
    pub fn create(
        &self,
        name: &VolumeName,
        limit: DiskLimit,
        record: Record,
        user: (u32, u32),
    ) -> Result<(), VolumeError> {
        if self.names().len() >= MOST {
            return Err(VolumeError::TooMany);
        }
        let new = self.begin(name.as_str(), limit, &record)?;
        let data = place_in(&new).folder().join("data");
        std::os::unix::fs::chown(&data, Some(user.0), Some(user.1)).about("give away", &data)?;
        place_in(&new).close()?;
        Ok(disk::rename(&new, &self.own(name.as_str()))?)
    }

    /// An empty one beside the others, open; it has no name yet.
    fn begin(&self, name: &str, limit: DiskLimit, record: &Record) -> Result<PathBuf, VolumeError> {
        let new = self.own(&format!("{NEW}{name}"));
        self.give_up(&new)?;
        disk::make_folder(&new, 0o700)?;
        let made = || -> Result<(), VolumeError> {
            let place = place_in(&new);
            match (self.means, &self.not_now) {
                (Some(means), _) => place.make(means, limit)?,
                (None, Some(why)) => return Err(VolumeError::NotNow(why.clone())),
                (None, None) => disk::make_folder(place.folder(), 0o700)?,
            }
            place.open()?;
            disk::make_folder(&place.folder().join("data"), 0o755)?;
            Ok(record.write(&new)?)
        };
        let made = made();
        if made.is_err() {
            let _ = self.give_up(&new);
        }
        made.map(|()| new)
    }

    /// Throws away what has not got its name, or shall lose it: whoever looks into it keeps nobody waiting.
    fn give_up(&self, own: &Path) -> Result<(), VolumeError> {
        if own.symlink_metadata().is_ok() {
            place_in(own).detach()?;
            throw_away(own)?;
        }
        Ok(())
    }

    /// Deletes a volume and what is in it.
    pub fn remove(&self, name: &VolumeName) -> Result<(), VolumeError> {
        self.place(name).close()?;
        self.give_up(&self.own(name.as_str()))
    }

    /// An empty volume with the same limit and owner, to be filled and then [`Volumes::replace`]d or
    /// [`Volumes::forget_new`]. Answers its data folder.
    pub fn begin_restore(&self, name: &VolumeName) -> Result<PathBuf, VolumeError> {
        let usage = self.usage(name)?;
        let mut unlimited = self.clone();
        if usage.limit.is_none() {
            unlimited.means = None;
            unlimited.not_now = None;
        }
        let limit = usage.limit.unwrap_or(DiskLimit::of_bytes(1 << 20));
        let new = unlimited.begin(name.as_str(), limit, &self.record(name))?;
        Ok(place_in(&new).folder().join("data"))
    }

    /// The filled one takes the name, in one step; the old one goes.
    pub fn replace(&self, name: &VolumeName) -> Result<(), VolumeError> {
        let (own, new) = (self.own(name.as_str()), self.own(&format!("{NEW}{name}")));
        place_in(&new).close()?;
        place_in(&own).close()?;
        match renameat_with(CWD, &new, CWD, &own, RenameFlags::EXCHANGE) {
            // A file system that cannot exchange. A cut between the two leaves the new one to be found by its name.
            Err(Errno::INVAL | Errno::NOSYS) => {
                let moving = self.own(&format!("{MOVING}{name}"));
                disk::rename(&new, &moving)?;
                throw_away(&own)?;
                return Ok(disk::rename(&moving, &own)?);
            }
            other => other.map_err(io::Error::from).about("exchange", &own)?,
        }
        disk::sync_parent(&own)?;
        self.give_up(&new)
    }

    /// A restore that failed.
    pub fn forget_new(&self, name: &VolumeName) -> Result<(), VolumeError> {
        self.give_up(&self.own(&format!("{NEW}{name}")))
    }

    /// At start: what was cut goes or is finished, and folders of older versions, which were the data themselves, become
    /// volumes without a limit.
    pub fn recover(&self) -> Result<(), VolumeError> {
        for entry in self.entries() {
            let path = self.own(&entry);
            if entry.starts_with(NEW) {
                self.give_up(&path)?;
            } else if let Some(name) = entry.strip_prefix(MOVING) {
                let own = self.own(name);
                match own.exists() {
                    true => self.give_up(&path)?,
                    false => disk::rename(&path, &own)?,
                }
            } else if VolumeName::new(&entry).is_ok() && !Record::is_in(&path) {
                self.take_in(&entry)?;
            }
        }
        Ok(())
    }

    /// The folder becomes `room/data` of a volume of its name. Until the last rename but one it keeps its name.
    fn take_in(&self, name: &str) -> Result<(), VolumeError> {
        let (old, moving) = (self.own(name), self.own(&format!("{MOVING}{name}")));
        tracing::info!(volume = name, "a volume of an earlier version");
        self.give_up(&moving)?;
        disk::make_folder(&moving, 0o700)?;
        Record::now(None).write(&moving)?;
        let room = place_in(&moving);
        disk::make_folder(room.folder(), 0o700)?;
        disk::rename(&old, &room.folder().join("data"))?;
        Ok(disk::rename(&moving, &old)?)
    }

    /// Unmounts every volume; what could not be, in words.
    pub fn close_all(&self) -> Vec<String> {
        let closed = self
            .names()
            .into_iter()
            .map(|name| self.place(&name).close());
        closed
            .filter_map(|fault| Some(fault.err()?.to_string()))
            .collect()
    }
}

fn place_in(own: &Path) -> Place {
    Place::new(own.join("room"), own.join("room.ext4"))
}

/// Gives a volume the declared limit. After a roll-back the larger one of the newer release may have to stay.
fn resize(name: &VolumeName, place: &Place, wanted: DiskLimit) -> Result<(), VolumeError> {
    let Some(now) = place.usage()?.limit else {
        tracing::warn!(volume = %name, "it was made without a limit, and has none");
        return Ok(());
    };
    let whole = |bytes: u64| bytes.div_ceil(4096);
    let same_bytes = whole(now.bytes) == whole(wanted.bytes);
    let image = place.means()? == Some(Means::Image);
    if same_bytes && (image || now.inodes == wanted.inodes) {
        return Ok(());
    }
    let used = place.usage()?;
    if used.bytes > wanted.bytes || used.inodes > wanted.inodes {
        tracing::warn!(volume = %name, used = used.bytes, "it holds more than the release says, and keeps the limit that it has");
        return Ok(());
    }
    match place.resize(wanted) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            tracing::warn!(volume = %name, %error, "it stays larger than the release says");
            Ok(())
        }
        other => {
            other?;
            tracing::info!(volume = %name, from = now.bytes, to = wanted.bytes, "resized");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;

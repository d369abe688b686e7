//! Factory reset and decommission. What was accepted is written down before anything is done; a supervisor that finds it at its
//! start does it, whoever was cut off at whatever step: each step bears to be done again, and the note goes last.
//!
//! What never goes: the root document and the counters, so that nothing that was signed for this board before can be new to it.

use crate::apps::{layer, whole};
use crate::disk::{self, About, DiskError};
use crate::gc;
use crate::settings::{Owner, Settings};
use crate::supervisor::{SupervisorError, end_everything};
use crate::volumes::Volumes;
use coracle_board_support::config::Config;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fchown, mkdirat, openat, renameat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Bytes of the note.
const NOTE_BYTES: u64 = 4096;

/// What was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    reset_version: u32,
    /// Key, certificate and name of the board go too, and it connects no more until somebody enrols it.
    pub decommission: bool,
    /// Volumes go too.
    pub volumes: bool,
}

impl Intent {
    /// Apps, releases and logs go.
    pub fn factory_reset(volumes: bool) -> Self {
        Self {
            reset_version: 1,
            decommission: false,
            volumes,
        }
    }

    /// Everything goes that makes it this fleet's board.
    pub fn decommission() -> Self {
        Self {
            reset_version: 1,
            decommission: true,
            volumes: true,
        }
    }

    /// Writes it down: from here on it is done, whatever happens.
    ///
    /// # Errors
    /// When it is not on the disk, and nothing will be done.
    pub fn note(&self, config: &Config) -> Result<(), DiskError> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        disk::write_whole(&note(config), &json, 0o600)
    }

    /// For people.
    pub fn what(&self) -> &'static str {
        match (self.decommission, self.volumes) {
            (true, _) => "decommission",
            (false, true) => "factory reset with volumes",
            (false, false) => "factory reset",
        }
    }
}

fn note(config: &Config) -> PathBuf {
    config.state_dir.join("reset.json")
}

/// What is noted. What cannot be read is set aside: nothing is wiped for a note that nobody can read.
fn noted(config: &Config) -> Result<Option<Intent>, DiskError> {
    let path = note(config);
    let Some(bytes) = disk::read_bounded(&path, NOTE_BYTES)? else {
        return Ok(None);
    };
    match serde_json::from_slice::<Intent>(&bytes) {
        Ok(intent) if intent.reset_version == 1 => Ok(Some(intent)),
        other => {
            tracing::error!(?other, "a note of a reset cannot be read; set aside");
            disk::set_aside(&path).map(|_| None)
        }
    }
}

/// Does what is noted, if anything is. What cannot be done now is told and tried again at the next start; the sets of apps go first, so
/// that none is started meanwhile.
///
/// # Errors
/// When the note cannot be read, or another supervisor runs.
pub async fn finish(settings: &Settings) -> Result<(), SupervisorError> {
    let config = &settings.config;
    let Some(intent) = noted(config)? else {
        return Ok(());
    };
    let _lock = crate::supervisor::lock(settings)?;
    tracing::warn!(what = intent.what(), "begins, or goes on");
    let mut left = end_everything(settings).await;
    wipe(settings, intent, &mut left);
    if left.is_empty() {
        let done = sync(&config.state_dir).and_then(|()| disk::remove(&note(config)));
        left.extend(done.err().map(|error| error.to_string()));
    }
    match left.is_empty() {
        true => tracing::warn!(what = intent.what(), "done"),
        false => {
            tracing::error!(
                what = intent.what(),
                left = left.join("; "),
                "not everything is gone; the next start goes on with it"
            );
        }
    }
    Ok(())
}

fn wipe(settings: &Settings, intent: Intent, left: &mut Vec<String>) {
    let config = &settings.config;
    let mut note = |outcome: Result<(), String>| left.extend(outcome.err());
    if intent.decommission {
        note(words(disk::write_whole(
            &config.decommissioned_file(),
            b"by an order that was verified, or by root on the board\n",
            0o644,
        )));
    }
    note(words(empty(&config.deployments_dir())));
    if intent.decommission {
        note(words(empty(&config.identity_dir())));
        for name in ["secret.key", "board-id"] {
            note(words(disk::remove(&config.trust_dir().join(name))));
        }
    }
    note(words(layer::collect(config, &BTreeSet::new())));
    note(words(gc::collect(config, &BTreeSet::new()).map(drop)));
    note(words(gc::clear_staging(config)));
    note(words(empty(&config.logs_dir())));
    note(empty_store(config, settings.daemon).map_err(|errno| format!("the store: {errno}")));
    if intent.volumes {
        let volumes = Volumes::of(settings);
        note(words(volumes.recover()));
        for name in volumes.names() {
            note(words(volumes.remove(&name)));
        }
    }
}

fn words<E: std::error::Error>(outcome: Result<(), E>) -> Result<(), String> {
    outcome.map_err(|error| whole(&error))
}

/// Takes everything out of a folder: files are removed, trees go to the trash. No link is followed.
fn empty(folder: &Path) -> Result<(), DiskError> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.about("list", folder)?,
    };
    for entry in entries {
        let path = entry.about("list", folder)?.path();
        if std::fs::remove_file(&path).is_err() {
            gc::throw_away(&path)?;
        }
    }
    sync(folder)
}

/// The daemon owns what is below `store/`, and could have put a link to anywhere there: by descriptors alone.
fn empty_store(config: &Config, daemon: Option<Owner>) -> Result<(), Errno> {
    const BLOBS: &str = "sha256";
    let store = folder(CWD, config.store_dir())?;
    let Some(blobs) = there(folder(&store, "blobs"))? else {
        return Ok(());
    };
    let trash = folder(CWD, config.staging_dir())?;
    if there(folder(&blobs, BLOBS))?.is_some() {
        let number = (0..u32::MAX).find(|number| {
            let name = format!("{}blobs-{number}", gc::TRASH);
            rustix::fs::statat(&trash, name, AtFlags::SYMLINK_NOFOLLOW).is_err()
        });
        let name = format!("{}blobs-{}", gc::TRASH, number.unwrap_or_default());
        renameat(&blobs, BLOBS, &trash, name)?;
    }
    match mkdirat(&blobs, BLOBS, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    let Some(owner) = daemon else { return Ok(()) };
    let uid = rustix::fs::Uid::from_raw(owner.uid);
    let gid = rustix::fs::Gid::from_raw(owner.gid);
    fchown(folder(&blobs, BLOBS)?, Some(uid), Some(gid))
}

fn folder(at: impl std::os::fd::AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, path, flags, Mode::empty())
}

fn there(found: Result<OwnedFd, Errno>) -> Result<Option<OwnedFd>, Errno> {
    match found {
        Err(Errno::NOENT) => Ok(None),
        other => other.map(Some),
    }
}

/// All that was renamed and removed on the folder's file system is final.
fn sync(path: &Path) -> Result<(), DiskError> {
    File::open(path)
        .and_then(|folder| Ok(rustix::fs::syncfs(&folder)?))
        .about("make final", path)
}

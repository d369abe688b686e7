//! Factory reset and decommission. What was accepted is written down before anything is done; a supervisor that finds it at its
//! start does it, whoever was cut off at whatever step: each step bears to be done again, and the note goes last.
//!
//! What never goes: the root document and the counters, so that nothing that was signed for this board before can be new to it.

use crate::apps::{layer, whole};
use crate::disk::{self, About, DiskError};
use crate::gc;
use crate::room;
use crate::settings::{Owner, Settings};
use crate::supervisor::{SupervisorError, end_everything};
use crate::volumes::Volumes;
use coracle_board_support::config::Config;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fchown, mkdirat, openat, renameat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of the note.
const NOTE_BYTES: u64 = 4096;

/// Apps were told to end before, or their supervisor crashed: nobody feeds a watchdog meanwhile.
const GRACE: Duration = Duration::from_secs(2);

/// For what was thrown away to be deleted, where it is needed at once. What takes longer is deleted while the board is up.
const SWEEP: Duration = Duration::from_secs(3);

/// What was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    reset_version: u32,
    /// Key, certificate and name of the board go too, and it connects no more until somebody enrols it.
    pub decommission: bool,
    /// Volumes go too.
    pub volumes: bool,
    /// Something stayed when it was done, and the board has started since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    again: bool,
}

impl Intent {
    /// Apps, releases and logs go.
    pub fn factory_reset(volumes: bool) -> Self {
        Self {
            reset_version: 1,
            decommission: false,
            volumes,
            again: false,
        }
    }

    /// Everything goes that makes it this fleet's board.
    pub fn decommission() -> Self {
        Self {
            reset_version: 1,
            decommission: true,
            volumes: true,
            again: false,
        }
    }

    /// Writes it down: from here on it is done, whatever happens.
    ///
    /// # Errors
    /// When it is not on the disk, and nothing will be done.
    pub fn note(&self, config: &Config) -> Result<(), DiskError> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        room::with(config, DiskError::is_no_space, || {
            disk::write_whole(&note(config), &json, 0o600)
        })
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

/// What is noted. What cannot be read is told and, where that can be done, set aside: nothing is wiped for a note that nobody can
/// read, and the board starts.
fn noted(config: &Config) -> Option<Intent> {
    let path = note(config);
    let bytes = match disk::read_bounded(&path, NOTE_BYTES) {
        Ok(bytes) => bytes?,
        Err(error) => {
            tracing::error!(%error, "a note of a reset cannot be read");
            return None;
        }
    };
    match serde_json::from_slice::<Intent>(&bytes) {
        Ok(intent) if intent.reset_version == 1 => Some(intent),
        other => {
            tracing::error!(?other, "a note of a reset cannot be read; set aside");
            if let Err(error) = disk::set_aside(&path) {
                tracing::error!(%error, "and cannot be");
            }
            None
        }
    }
}

/// Does what is noted, if anything is. What cannot be done now is told and tried again at the next start, unless the board was given
/// something meanwhile, which must not go with it; the sets of apps go first, so that none is started meanwhile. `true`: the disk
/// was full, and what was asked of it before is to be asked anew.
///
/// # Errors
/// When another supervisor runs.
pub async fn finish(settings: &Settings) -> Result<bool, SupervisorError> {
    let config = &settings.config;
    let Some(intent) = noted(config) else {
        return Ok(false);
    };
    let _lock = crate::supervisor::lock(settings)?;
    if intent.again && is_in_use(config, intent) {
        tracing::error!(
            what = intent.what(),
            "what stayed of it stays: the board was given other things since"
        );
        forget(config);
        return Ok(false);
    }
    let was_full = !room::is_whole(config);
    tracing::warn!(what = intent.what(), "begins, or goes on");
    for stayed in end_everything(settings, GRACE).await {
        tracing::error!(stayed, "the reset goes on without it");
    }
    let mut left = Vec::new();
    wipe(settings, intent, &mut left);
    clear_away(settings);
    if was_full {
        gc::sweep_now(config, SWEEP);
    }
    if left.is_empty() {
        left.extend(words(sync(&config.state_dir)).err());
    }
    if left.is_empty() {
        forget(config);
        tracing::warn!(what = intent.what(), "done");
        return Ok(was_full);
    }
    let left = left.join("; ");
    tracing::error!(
        what = intent.what(),
        left,
        "not everything is gone; the next start goes on with it"
    );
    let again = Intent {
        again: true,
        ..intent
    };
    if let Err(error) = again.note(config) {
        tracing::error!(%error, "nor can that be noted");
        forget(config);
    }
    Ok(was_full)
}

fn forget(config: &Config) {
    if let Err(error) = disk::remove(&note(config)) {
        tracing::error!(%error, "the note of the reset stays");
    }
}

/// Whether there is anything that came after the reset.
fn is_in_use(config: &Config, intent: Intent) -> bool {
    let deployments = std::fs::read_dir(config.deployments_dir());
    let has_set = deployments.is_ok_and(|mut entries| entries.next().is_some());
    has_set || (intent.decommission && !config.decommissioned_file().exists())
}

fn wipe(settings: &Settings, intent: Intent, left: &mut Vec<String>) {
    let config = &settings.config;
    let mut note = |outcome: Result<(), String>| left.extend(outcome.err());
    let mark = || {
        words(disk::write_whole(
            &config.decommissioned_file(),
            b"by an order that was verified, or by root on the board\n",
            0o644,
        ))
    };
    // On a full disk it is after the others that there is room for it.
    let is_marked = !intent.decommission || mark().is_ok();
    if !intent.volumes {
        // Those of a trial go back while it is known that there is one, or was when this began.
        let volumes = Volumes::of(settings);
        let trial = config.deployments_dir().join("trial.json");
        note(words(match intent.again || trial.exists() {
            true => volumes.put_back(),
            false => volumes.drop_copies(),
        }));
    }
    note(words(empty(&config.deployments_dir())));
    if intent.decommission {
        note(words(empty(&config.identity_dir())));
        for name in ["secret.key", "board-id"] {
            note(words(disk::remove(&config.trust_dir().join(name))));
        }
    }
    note(words(empty(&config.logs_dir())));
    if intent.decommission {
        note(unsent(settings).map_err(|errno| format!("what was not sent yet: {errno}")));
    }
    if intent.volumes {
        let volumes = Volumes::of(settings);
        note(words(volumes.recover()));
        note(words(volumes.drop_copies()));
        for name in volumes.names() {
            note(words(volumes.remove(&name)));
        }
    }
    if !is_marked {
        note(mark());
    }
}

fn unsent(settings: &Settings) -> Result<(), Errno> {
    let spool = Theirs::open(settings, &settings.config.spool_dir(), 0o700)?;
    spool.throw(OsStr::new("deployments.json"))?;
    spool.empty("feedback", 0o700)
}

/// What no set needs any more, and goes by and by anyway.
fn clear_away(settings: &Settings) {
    let config = &settings.config;
    let outcomes = [
        words(layer::collect(config, &BTreeSet::new())),
        words(gc::collect(config, &BTreeSet::new()).map(drop)),
        words(gc::clear_staging(config)),
        Theirs::open(settings, &config.store_dir().join("blobs"), 0o755)
            .and_then(|blobs| blobs.empty("sha256", 0o755))
            .map_err(|errno| format!("the store: {errno}")),
    ];
    for stayed in outcomes.into_iter().filter_map(Result::err) {
        tracing::error!(stayed, "the reset goes on without it");
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

/// A folder of the daemon's, which could have put a link to anywhere in it: by descriptors alone, and whatever has the place of a
/// folder goes as it is.
struct Theirs {
    own: OwnedFd,
    trash: OwnedFd,
    daemon: Option<Owner>,
}

impl Theirs {
    fn open(settings: &Settings, path: &Path, mode: u32) -> Result<Self, Errno> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::INVAL);
        };
        let above = Self {
            own: folder(CWD, above)?,
            trash: folder(CWD, settings.config.staging_dir())?,
            daemon: settings.daemon,
        };
        let own = match folder(&above.own, name) {
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => {
                above.throw(name)?;
                above.make(name, mode)?
            }
            other => other?,
        };
        Ok(Self { own, ..above })
    }

    fn empty(&self, name: &str, mode: u32) -> Result<(), Errno> {
        self.throw(OsStr::new(name))?;
        self.make(OsStr::new(name), mode).map(drop)
    }

    /// Whatever it is, it is among what is deleted in the background from now on.
    fn throw(&self, name: &OsStr) -> Result<(), Errno> {
        let number = (0..u32::MAX).find(|number| {
            let name = format!("{}reset-{number}", gc::TRASH);
            rustix::fs::statat(&self.trash, name, AtFlags::SYMLINK_NOFOLLOW).is_err()
        });
        let place = format!("{}reset-{}", gc::TRASH, number.unwrap_or_default());
        match renameat(&self.own, name, &self.trash, place) {
            Err(Errno::NOENT) => Ok(()),
            other => other,
        }
    }

    fn make(&self, name: &OsStr, mode: u32) -> Result<OwnedFd, Errno> {
        match mkdirat(&self.own, name, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let made = folder(&self.own, name)?;
        if let Some(owner) = self.daemon {
            let uid = rustix::fs::Uid::from_raw(owner.uid);
            let gid = rustix::fs::Gid::from_raw(owner.gid);
            fchown(&made, Some(uid), Some(gid))?;
        }
        Ok(made)
    }
}

fn folder(at: impl std::os::fd::AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, path, flags, Mode::empty())
}

/// All that was renamed and removed on the folder's file system is final.
fn sync(path: &Path) -> Result<(), DiskError> {
    File::open(path)
        .and_then(|folder| Ok(rustix::fs::syncfs(&folder)?))
        .about("make final", path)
}

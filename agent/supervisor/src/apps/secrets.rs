//! An app's secrets as files: on a small tmpfs that only root reaches, and from there by a read-only mount at
//! `/run/secrets`, each for the app's user alone (0400). They are never on flash, in the environment, in
//! arguments, in logs or in what the board says of its apps.

use crate::apps::plan::Plan;
use crate::disk::{self, About, DiskError};
use crate::settings::Settings;
use coracle_runtime::Mount;
use coracle_runtime::namespaces::IdRange;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

/// Where an app finds them.
const TARGET: &str = "/run/secrets";
/// For every secret of every app: 64 apps with 16 files of 8 KiB would fill it.
const OPTIONS: &std::ffi::CStr = c"mode=0700,size=8m";

fn folder(settings: &Settings) -> PathBuf {
    settings.run_state_dir().join("secrets")
}

/// Whether something is mounted there.
fn is_mounted(folder: &Path) -> bool {
    let device = |path: &Path| fs::symlink_metadata(path).map(|m| m.dev()).ok();
    device(folder).is_some() && device(folder) != folder.parent().and_then(device)
}

/// Writes the secrets of an app; what is to be mounted, when it has any. `ids` are the app's own.
pub fn write(
    settings: &Settings,
    plan: &Plan,
    ids: Option<IdRange>,
) -> Result<Option<Mount>, DiskError> {
    if plan.secrets.is_empty() {
        return Ok(None);
    }
    let folder = folder(settings);
    disk::make_folder(&folder, 0o700)?;
    if !is_mounted(&folder) {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("tmpfs", &folder, "tmpfs", flags, OPTIONS).about("mount a tmpfs on", &folder)?;
    }
    remove(settings, plan.slot.as_str())?;
    let own = folder.join(plan.slot.as_str());
    disk::make_folder(&own, 0o500)?;
    for (name, value) in &plan.secrets {
        let path = own.join(name.as_str());
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&path)
            .about("make", &path)?;
        file.write_all(value.bytes()).about("write", &path)?;
        give(&path, plan, ids)?;
    }
    give(&own, plan, ids)?;
    Ok(Some(Mount::bind(own, TARGET, true)))
}

/// By the board's numbers: a tmpfs shows other owners only since Linux 6.3.
fn give(path: &Path, plan: &Plan, ids: Option<IdRange>) -> Result<(), DiskError> {
    let (uid, gid) = plan.user.on_board(ids);
    chown(path, Some(uid), Some(gid)).about("give away", path)
}

/// Removes the secrets of an app that has ended.
pub fn remove(settings: &Settings, app: &str) -> Result<(), DiskError> {
    let own = folder(settings).join(app);
    match fs::remove_dir_all(&own) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.about("remove", &own),
    }
}

/// Takes the tmpfs away, with everything that is left on it.
pub fn unmount_all(settings: &Settings) -> Result<(), DiskError> {
    let folder = folder(settings);
    match is_mounted(&folder) {
        true => unmount(&folder, UnmountFlags::DETACH).about("unmount", &folder),
        false => Ok(()),
    }
}

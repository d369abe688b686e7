//! An app's folder for its update lock: a tmpfs of its own, so small that it holds a lock and no data, which is the app's
//! user's. The supervisor looks at it from outside, by a path that no app can change.

use crate::apps::plan::Plan;
use crate::disk::{self, About, DiskError};
use crate::settings::Settings;
use coracle_protocol::release::{UPDATE_LOCK, UPDATE_LOCK_FOLDER};
use coracle_runtime::Mount;
use coracle_runtime::namespaces::IdRange;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

/// A page, and inodes for the folder, a lock and one that is renamed over it.
const OPTIONS: &std::ffi::CStr = c"mode=0700,size=4k,nr_inodes=8";

fn all(settings: &Settings) -> PathBuf {
    settings.run_state_dir().join("locks")
}

/// What is to be mounted, where an app may hold a lock. It holds none at its start.
pub fn give(
    settings: &Settings,
    plan: &Plan,
    ids: Option<IdRange>,
) -> Result<Option<Mount>, DiskError> {
    if !plan.update_lock {
        return Ok(None);
    }
    take_back(settings, plan.slot.as_str())?;
    let all = all(settings);
    disk::make_folder(&all, 0o700)?;
    let own = all.join(plan.slot.as_str());
    disk::make_folder(&own, 0o700)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", &own, "tmpfs", flags, OPTIONS).about("mount a tmpfs on", &own)?;
    let (uid, gid) = plan.user.on_board(ids);
    chown(&own, Some(uid), Some(gid)).about("give away", &own)?;
    Ok(Some(Mount::bind(own, UPDATE_LOCK_FOLDER, false)))
}

/// Whether an app that runs holds its lock. Of whatever kind the file is: it is not opened.
pub fn is_held(settings: &Settings, app: &str) -> bool {
    let lock = all(settings).join(app).join(UPDATE_LOCK);
    fs::symlink_metadata(lock).is_ok()
}

/// Takes the folder of an app that has ended away.
pub fn take_back(settings: &Settings, app: &str) -> Result<(), DiskError> {
    let own = all(settings).join(app);
    let device = |path: &Path| fs::symlink_metadata(path).map(|m| m.dev()).ok();
    if device(&own).is_some() && device(&own) != own.parent().and_then(device) {
        unmount(&own, UnmountFlags::DETACH).about("unmount", &own)?;
    }
    match fs::remove_dir(&own) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other.about("remove", &own),
    }
}

/// Those of all apps. What stays, in words.
pub fn take_all_back(settings: &Settings) -> Vec<String> {
    let entries = fs::read_dir(all(settings)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter_map(|name| take_back(settings, &name).err())
        .map(|error| error.to_string())
        .collect()
}

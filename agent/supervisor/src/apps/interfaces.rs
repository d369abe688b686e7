//! Links of the board that an app has whole while it runs: moved into its network, and taken back from there.
//!
//! The app's network is held by a mount in the run folder, as `ip netns` does it, so that it outlives the app and the
//! supervisor both: a link that is not hardware would be destroyed with it. The names of what was lent lie beside, written
//! before the first one is moved.

use crate::apps::plan::Plan;
use crate::disk::{self, About, DiskError};
use crate::settings::Settings;
use coracle_network::Namespace;
use coracle_network::lent::{self, LentError};
use coracle_runtime::Created;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

/// Bytes of the names: 8 of 15 bytes each.
const NAMES_BYTES: u64 = 1024;
/// NSFS_MAGIC of linux/magic.h.
const NSFS: u64 = 0x6e73_6673;

/// Why an app does not get its links.
#[derive(Debug, thiserror::Error)]
pub enum InterfaceError {
    /// The place where its network is held.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A link.
    #[error(transparent)]
    Lent(#[from] LentError),
    /// Those of an earlier time are still with it.
    #[error("its links cannot be taken back from its earlier network: {0}")]
    Left(String),
}

fn folder(settings: &Settings) -> PathBuf {
    settings.run_state_dir().join("netns")
}

fn names_of(folder: &Path, app: &str) -> PathBuf {
    folder.join(format!("{app}.links"))
}

/// Moves the app's links into its network. After an error the caller takes back what there is.
pub fn lend(settings: &Settings, plan: &Plan, created: &Created) -> Result<(), InterfaceError> {
    if plan.interfaces.is_empty() {
        return Ok(());
    }
    // What is left of an earlier time, and could not be taken back then: its names must not be forgotten.
    let left = take_back(settings, plan.slot.as_str());
    if !left.is_empty() {
        return Err(InterfaceError::Left(left.join("; ")));
    }
    let folder = folder(settings);
    disk::make_folder(&folder, 0o700)?;
    let names: Vec<&str> = plan
        .interfaces
        .iter()
        .map(|link| link.name.as_str())
        .collect();
    let names_file = names_of(&folder, plan.slot.as_str());
    disk::write_volatile(&names_file, &serde_json::to_vec(&names).unwrap_or_default())?;
    let held = folder.join(plan.slot.as_str());
    File::create(&held).about("make", &held)?;
    // Not the process's own: one with users of its own enters its network later.
    let network = created.netns().about("look for the network of", &held)?;
    let path = format!("/proc/self/fd/{}", network.as_raw_fd());
    mount_bind(path, &held).about("hold the app's network at", &held)?;
    for name in names {
        lent::lend(name, Namespace::Fd(network.as_fd()))?;
    }
    Ok(())
}

/// Takes an app's links back, and its network ends. What went wrong, in words; then it is tried again with the next call.
pub fn take_back(settings: &Settings, app: &str) -> Vec<String> {
    let folder = folder(settings);
    let names_file = names_of(&folder, app);
    let names = match disk::read_bounded(&names_file, NAMES_BYTES) {
        Ok(None) => return Vec::new(),
        Ok(Some(json)) => match serde_json::from_slice::<Vec<String>>(&json) {
            Ok(names) => names,
            Err(error) => return vec![format!("{}: {error}", names_file.display())],
        },
        Err(error) => return vec![error.to_string()],
    };
    let held = folder.join(app);
    if is_network(&held) {
        let back = match File::open(&held).about("open", &held) {
            Ok(network) => lent::take_back(network.as_fd(), &names),
            Err(error) => return vec![error.to_string()],
        };
        if !back.is_empty() {
            return back.iter().map(|error| crate::apps::whole(error)).collect();
        }
        if let Err(error) = unmount(&held, UnmountFlags::DETACH).about("unmount", &held) {
            return vec![error.to_string()];
        }
        tracing::info!(
            app,
            links = names.join(", "),
            "its links are the board's again"
        );
    }
    // The names last: while something is held they say what.
    let gone = disk::remove(&held).and_then(|()| disk::remove(&names_file));
    gone.err()
        .map(|error| error.to_string())
        .into_iter()
        .collect()
}

/// Names that were never written whole: nothing was lent by them, and their app may never come again.
pub fn clear_half_written(settings: &Settings) -> Result<(), DiskError> {
    let entries = fs::read_dir(folder(settings)).into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".links.new"))
        .try_for_each(|path| disk::remove(&path))
}

/// Whether a network is held there; the mount may not have been made.
fn is_network(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type as u64 == NSFS)
}

/// Apps that links are with, whether they run or not.
pub fn borrowers(settings: &Settings) -> Vec<String> {
    let entries = fs::read_dir(folder(settings)).into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| Some(name.strip_suffix(".links")?.to_owned()))
        .collect()
}

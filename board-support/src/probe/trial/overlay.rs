//! Layers on the file system of the state folder: overlayfs refuses some as its upper side (NFS,
//! overlayfs itself, those without extended attributes), and /proc/filesystems does not say so.

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use std::ffi::CString;
use std::fs;
use std::io;
use std::path::Path;

/// Mounts two layers over each other, writes a file, deletes one of the lower side, and looks
/// whether both are on the upper side. Only for a thread with a mount namespace of its own.
pub(super) fn attempt(state: &Path) -> io::Result<()> {
    in_a_folder(state, "layers", within)
}

/// With what is tried, and the process that does.
const SCRATCH: &str = ".coracle-check-";

/// Removes from the state folder those of processes that were killed meanwhile.
pub fn remove_left(state: &Path) {
    for entry in fs::read_dir(state).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(SCRATCH));
        let maker = rest.and_then(|rest| rest.rsplit('-').next()?.parse::<u32>().ok());
        if maker.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Tries something in a folder of the state folder, which is gone afterwards.
pub(super) fn in_a_folder(
    state: &Path,
    what: &str,
    attempt: fn(&Path) -> io::Result<()>,
) -> io::Result<()> {
    // Nothing of what follows may be seen outside.
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", flags)?;
    let folder = state.join(format!("{SCRATCH}{what}-{}", std::process::id()));
    remove_left(state);
    let result = attempt(&folder);
    let removed = match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    result.and(removed)
}

fn within(folder: &Path) -> io::Result<()> {
    let sides = ["lower", "upper", "work", "merged"].map(|name| folder.join(name));
    for side in &sides {
        fs::create_dir_all(side)?;
    }
    let [lower, upper, work, merged] = &sides;
    fs::write(lower.join("gone"), b"lower")?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        upper.display(),
        work.display()
    );
    let options = CString::new(options)?;
    mount(
        "overlay",
        merged.as_path(),
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    )?;
    let result = written_and_deleted(merged, upper);
    let unmounted = unmount(merged.as_path(), UnmountFlags::DETACH);
    result.and(unmounted.map_err(Into::into))
}

fn written_and_deleted(merged: &Path, upper: &Path) -> io::Result<()> {
    fs::write(merged.join("new"), b"upper")?;
    fs::remove_file(merged.join("gone"))?;
    let whiteout = fs::symlink_metadata(upper.join("gone")).is_ok();
    if fs::read(upper.join("new"))? == b"upper" && whiteout && !merged.join("gone").exists() {
        return Ok(());
    }
    Err(io::Error::other(
        "what was written is not on the upper side",
    ))
}

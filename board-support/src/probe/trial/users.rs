//! Layers whose files belong to others than on disk: what it takes that an app's root is nobody on the board. Id-mapped mounts
//! came with Linux 5.12, overlayfs took them in 5.19, and each file system learnt them in its own time.

use super::overlay::in_a_folder;
use crate::kernel::{self, UserNamespace};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MoveMountFlags, UnmountFlags, mount, move_mount, unmount};
use rustix::thread::{capabilities, set_capabilities};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// As the gap names it.
pub(super) const SUBJECT: &str = "users of apps' own";

/// Of the board's ids; nobody has these.
const FIRST: u32 = 0x7fff_0000;
const COUNT: u32 = 0x1000;

/// Puts a writable layer over another one, both mapped: the lower one's file must belong to the first of the ids, and a file
/// that this one makes must be root's on disk. Only for a thread with a mount namespace of its own, which ends soon after.
pub(super) fn attempt(state: &Path) -> io::Result<()> {
    in_a_folder(state, "users", within)
}

fn within(folder: &Path) -> io::Result<()> {
    for part in ["lower", "layer/upper", "layer/work", "merged"] {
        fs::create_dir_all(folder.join(part))?;
    }
    fs::write(folder.join("lower/old"), b"")?;
    let namespace = UserNamespace::begin()?;
    let own = format!("/proc/{}", namespace.pid());
    for map in ["gid_map", "uid_map"] {
        fs::write(format!("{own}/{map}"), format!("0 {FIRST} {COUNT}\n"))?;
    }
    let users = File::open(format!("{own}/ns/user"))?;
    // What is on disk is looked at past the mounts.
    let disk = OwnedFd::from(File::open(folder.join("layer/upper"))?);
    // Each on itself: only kernels from 6.15 on take a mount that is on nothing.
    for part in ["lower", "layer"] {
        let path = folder.join(part);
        let tree = kernel::id_mapped(&CString::new(path.as_os_str().as_bytes())?, users.as_fd())?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&tree, "", CWD, path.as_path(), flags)?;
    }
    // Afterwards this thread may not go through every folder any more.
    let above = OwnedFd::from(File::open(folder)?);
    let [lower, upper, work, merged] =
        ["lower", "layer/upper", "layer/work", "merged"].map(|part| below(&above, part));
    let (lower, upper, work, merged) = (lower?, upper?, work?, merged?);
    let by_number = |fd: &OwnedFd| format!("/proc/thread-self/fd/{}", fd.as_raw_fd());
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        by_number(&lower),
        by_number(&upper),
        by_number(&work)
    );
    let options = CString::new(options)?;
    make_files_as(FIRST)?;
    let on = by_number(&merged);
    let mounted = mount(
        "overlay",
        on.as_str(),
        "overlay",
        MountFlags::empty(),
        options.as_c_str(),
    );
    let result = mounted
        .map_err(io::Error::from)
        .and_then(|()| owners(&below(&above, "merged")?, &disk));
    make_files_as(0)?;
    if mounted.is_ok() {
        unmount(folder.join("merged"), UnmountFlags::DETACH)?;
    }
    for part in ["layer", "lower"] {
        unmount(folder.join(part), UnmountFlags::DETACH)?;
    }
    result
}

/// What a file user other than root loses (capabilities(7)) comes back: overlayfs works in folders of mode 0.
fn make_files_as(id: u32) -> io::Result<()> {
    kernel::make_files_as(id);
    let mut sets = capabilities(None)?;
    sets.effective = sets.permitted;
    Ok(set_capabilities(None, sets)?)
}

fn below(folder: &impl AsFd, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name, flags, Mode::empty())?)
}

fn owners(merged: &OwnedFd, disk: &OwnedFd) -> io::Result<()> {
    let open = |folder: &OwnedFd, name: &str, flags: OFlags| -> io::Result<u32> {
        let mode = Mode::from_raw_mode(0o600);
        let file = rustix::fs::openat(folder, name, flags | OFlags::CLOEXEC, mode)?;
        Ok(File::from(file).metadata()?.uid())
    };
    let old = open(merged, "old", OFlags::PATH)?;
    let made = open(merged, "new", OFlags::WRONLY | OFlags::CREATE)?;
    let on_disk = open(disk, "new", OFlags::PATH)?;
    match (old, made, on_disk) {
        (FIRST, FIRST, 0) => Ok(()),
        owners => Err(io::Error::other(format!(
            "a file of a layer, a new one, and that one on disk belong to {owners:?}"
        ))),
    }
}

//! The newer mount calls, which work on descriptors.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;

/// `struct mount_attr` (linux/mount.h).
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Makes a mount and everything below it read-only. ENOSYS before 5.12.
pub(crate) fn set_readonly_recursive(mount: BorrowedFd<'_>) -> nix::Result<()> {
    set_recursive(mount, libc::MOUNT_ATTR_RDONLY)
}

/// Devices, set-user-ID bits and programs of a mount and everything below it are without effect. ENOSYS before 5.12.
pub(crate) fn set_inert(mount: BorrowedFd<'_>, read_only: bool) -> nix::Result<()> {
    let inert = libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    let read_only = if read_only {
        libc::MOUNT_ATTR_RDONLY
    } else {
        0
    };
    set_recursive(mount, inert | read_only)
}

fn set_recursive(mount: BorrowedFd<'_>, attr_set: u64) -> nix::Result<()> {
    change_recursive(mount, attr_set, 0)
}

/// MOUNT_ATTR_* of a mount and everything below it. ENOSYS before 5.12.
pub(crate) fn change_recursive(
    mount: BorrowedFd<'_>,
    attr_set: u64,
    attr_clr: u64,
) -> nix::Result<()> {
    let attr = MountAttr {
        attr_set,
        attr_clr,
        ..MountAttr::default()
    };
    set_attributes(mount, &attr, true)
}

fn set_attributes(mount: BorrowedFd<'_>, attr: &MountAttr, below: bool) -> nix::Result<()> {
    let below = if below { libc::AT_RECURSIVE } else { 0 };
    let flags = libc::AT_EMPTY_PATH | below;
    // SAFETY: the path is a valid C string and `attr` outlives the call.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// The files of a tree that is in no namespace yet belong to whom `users` says. EINVAL where the file system cannot.
pub(crate) fn map_owners(
    mount: BorrowedFd<'_>,
    users: BorrowedFd<'_>,
    below: bool,
) -> nix::Result<()> {
    let attr = MountAttr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        userns_fd: users.as_raw_fd() as u64,
        ..MountAttr::default()
    };
    set_attributes(mount, &attr, below)
}

/// Puts such a tree on a place.
pub(crate) fn move_to(tree: BorrowedFd<'_>, on: BorrowedFd<'_>) -> nix::Result<()> {
    /// MOVE_MOUNT_F_EMPTY_PATH and MOVE_MOUNT_T_EMPTY_PATH
    const BY_DESCRIPTOR: libc::c_uint = 0x04 | 0x40;
    let nothing = c"".as_ptr();
    // SAFETY: both paths are valid C strings.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            nothing,
            on.as_raw_fd(),
            nothing,
            BY_DESCRIPTOR,
        )
    })?;
    Ok(())
}

/// A private copy of the mount under `dir`, with `dir` as its top: `..` ends there. ENOSYS before 5.2.
pub(crate) fn clone_tree(dir: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    open_tree(dir, 0)
}

/// The same with all mounts below it.
pub(crate) fn clone_whole_tree(dir: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    open_tree(dir, libc::AT_RECURSIVE as u32)
}

fn open_tree(dir: BorrowedFd<'_>, flags: u32) -> nix::Result<OwnedFd> {
    let flags =
        flags | libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32;
    // SAFETY: the path is a valid C string.
    let fd = Errno::result(unsafe {
        libc::syscall(libc::SYS_open_tree, dir.as_raw_fd(), c"".as_ptr(), flags)
    })?;
    // SAFETY: a fresh descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

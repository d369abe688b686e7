//! Hiding paths and making them read-only.
//!
//! Beneath the new root by descriptors, and with the host's /dev/null: an image's own may be a link to anything, which
//! would then lie at the path that was to be hidden (CVE-2025-31133).

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs, statvfs};

use super::fd_path;
use super::target::lookup;
use crate::failure::{At, Failure, Step};

/// Files get /dev/null, folders one empty read-only tmpfs between them. What is not there needs no hiding.
pub(crate) fn hide(root: &OwnedFd, paths: &[PathBuf]) -> Result<(), Failure> {
    let mut empty: Option<&PathBuf> = None;
    for path in paths {
        let Some(on) = find(root, path)? else {
            continue;
        };
        let mode = fstat(&on).at(Step::Mask, path)?.st_mode;
        let is_folder = mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits();
        let on = fd_path(&on);
        let bind = |from: &str| {
            let flags = MsFlags::MS_BIND;
            mount(Some(from), on.as_str(), None::<&str>, flags, None::<&str>)
        };
        match (is_folder, empty) {
            (false, _) => bind("/dev/null"),
            (true, Some(other)) => {
                let other = lookup(root.as_fd(), other).at(Step::Mask, other)?;
                bind(&fd_path(&other))
            }
            (true, None) => {
                empty = Some(path);
                let flags = MsFlags::MS_RDONLY
                    | MsFlags::MS_NOSUID
                    | MsFlags::MS_NODEV
                    | MsFlags::MS_NOEXEC;
                let (kind, options) = (Some("tmpfs"), Some("size=4k,mode=755"));
                mount(kind, on.as_str(), kind, flags, options)
            }
        }
        .at(Step::Mask, path)?;
    }
    Ok(())
}

pub(crate) fn set_readonly(root: &OwnedFd, paths: &[PathBuf]) -> Result<(), Failure> {
    for path in paths {
        let Some(on) = find(root, path)? else {
            continue;
        };
        let on = fd_path(&on);
        mount(
            Some(on.as_str()),
            on.as_str(),
            None::<&str>,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None::<&str>,
        )
        .at(Step::Mask, path)?;
        let top = lookup(root.as_fd(), path).at(Step::Mask, path)?;
        let now = fstatvfs(&top).at(Step::Mask, path)?.flags();
        remount_readonly(&fd_path(&top), now).at(Step::Mask, path)?;
    }
    Ok(())
}

/// None when nothing is there.
fn find(root: &OwnedFd, path: &PathBuf) -> Result<Option<OwnedFd>, Failure> {
    match lookup(root.as_fd(), path) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno).at(Step::Mask, path),
    }
}

/// The root's own mount only: volumes, /dev and /tmp mounts keep theirs. The root is the container's by now.
pub(crate) fn remount_root_readonly() -> Result<(), Failure> {
    let now = statvfs("/").at(Step::Mask, "/")?.flags();
    remount_readonly("/", now).at(Step::Mask, "/")
}

/// The same from outside.
pub(crate) fn set_mount_readonly(root: &OwnedFd) -> Result<(), Failure> {
    let now = fstatvfs(root).at(Step::Mask, "/")?.flags();
    remount_readonly(&fd_path(root), now).at(Step::Mask, "/")
}

/// A remount sets all flags, so the ones that are there have to be named again.
fn remount_readonly(path: &str, now: FsFlags) -> nix::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | kept(now);
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
}

/// What a mount has by now, in the terms of the call that would otherwise take it away.
pub(super) fn kept(now: FsFlags) -> MsFlags {
    let mut flags = MsFlags::empty();
    for (is, flag) in [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ] {
        flags.set(flag, now.contains(is));
    }
    flags
}

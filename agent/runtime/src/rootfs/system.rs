//! /proc, /sys and /sys/fs/cgroup.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;

use super::{fd_path, mount_at, mount_point};
use crate::cgroup::Place;
use crate::failure::{At, Failure, Step};

const INERT: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);

pub(super) fn mount_proc(root: &OwnedFd) -> Result<(), Failure> {
    let on = mount_point(root, "proc", Step::Proc)?;
    mount_at((root, "proc"), &on, "proc", INERT, None)
        .at(Step::Proc, "/proc")
        .map(drop)
}

pub(super) fn mount_sys(root: &OwnedFd) -> Result<(), Failure> {
    let on = mount_point(root, "sys", Step::Sys)?;
    mount_at(
        (root, "sys"),
        &on,
        "sysfs",
        INERT | MsFlags::MS_RDONLY,
        None,
    )
    .at(Step::Sys, "/sys")
    .map(drop)
}

/// The container's own cgroup, read-only, laid out as on the host. Bind mounts of what is there: cheaper than a new
/// instance for each hierarchy, and the cgroup namespace makes the names in /proc fit.
pub(super) fn mount_cgroup(root: &OwnedFd, cgroup: &Place) -> Result<(), Failure> {
    let name = "sys/fs/cgroup";
    // Inside the sysfs that was just mounted: the image has no say here.
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let on = openat(root, name, flags, Mode::empty()).at(Step::Sys, name)?;
    match cgroup {
        Place::V2(folder) => bind_readonly(folder, (root, name), &on),
        Place::V1(folders) => {
            let tmpfs = mount_at((root, name), &on, "tmpfs", INERT, Some("mode=755,size=64k"))
                .at(Step::Sys, name)?;
            for folder in folders {
                let Some(hierarchy) = folder.mount.file_name().and_then(|name| name.to_str())
                else {
                    continue;
                };
                mkdirat(&tmpfs, hierarchy, Mode::from_bits_truncate(0o755))
                    .at(Step::Sys, hierarchy)?;
                let on =
                    openat(&tmpfs, hierarchy, flags, Mode::empty()).at(Step::Sys, hierarchy)?;
                bind_readonly(&folder.path, (&tmpfs, hierarchy), &on)?;
                for controller in folder
                    .controllers
                    .iter()
                    .map(|controller| controller.v1_name())
                {
                    if controller != hierarchy {
                        symlinkat(hierarchy, &tmpfs, controller).at(Step::Sys, controller)?;
                    }
                }
            }
            remount_readonly(&tmpfs).at(Step::Sys, name)
        }
    }
}

fn bind_readonly(
    source: &Path,
    (parent, name): (&OwnedFd, &str),
    on: &OwnedFd,
) -> Result<(), Failure> {
    mount(
        Some(source),
        fd_path(on).as_str(),
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .at(Step::Sys, source)?;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let top = openat(parent, name, flags, Mode::empty()).at(Step::Sys, name)?;
    remount_readonly(&top).at(Step::Sys, source)
}

fn remount_readonly(top: &OwnedFd) -> nix::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | INERT;
    mount(
        None::<&str>,
        fd_path(top).as_str(),
        None::<&str>,
        flags,
        None::<&str>,
    )
}

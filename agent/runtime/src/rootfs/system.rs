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

/// Where the cgroup goes when we decide.
const CGROUP: &str = "sys/fs/cgroup";

/// The container's own cgroup, read-only, laid out as on the host. Bind mounts of what is there: cheaper than a new
/// instance for each hierarchy, and the cgroup namespace makes the names in /proc fit.
pub(super) fn mount_cgroup(root: &OwnedFd, cgroup: &Place) -> Result<(), Failure> {
    // Inside the sysfs that was just mounted: the image has no say here.
    let on = openat(root, CGROUP, FOLDER, Mode::empty()).at(Step::Sys, CGROUP)?;
    let top = || openat(root, CGROUP, FOLDER, Mode::empty()).at(Step::Sys, CGROUP);
    mount_cgroup_on(&on, &top, cgroup, MsFlags::MS_RDONLY | INERT)
}

const FOLDER: OFlag = OFlag::O_PATH
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// The same on any folder. `top` finds that folder anew, which then is the mount.
pub(super) fn mount_cgroup_on(
    on: &OwnedFd,
    top: &dyn Fn() -> Result<OwnedFd, Failure>,
    cgroup: &Place,
    flags: MsFlags,
) -> Result<(), Failure> {
    match cgroup {
        Place::V2(folder) => {
            bind(folder, on)?;
            remount(&top()?, flags).at(Step::Sys, folder)
        }
        Place::V1(folders) => {
            let options = Some("mode=755,size=64k");
            mount(
                Some("tmpfs"),
                fd_path(on).as_str(),
                Some("tmpfs"),
                INERT,
                options,
            )
            .at(Step::Sys, CGROUP)?;
            let tmpfs = top()?;
            for folder in folders {
                let Some(hierarchy) = folder.mount.file_name().and_then(|name| name.to_str())
                else {
                    continue;
                };
                mkdirat(&tmpfs, hierarchy, Mode::from_bits_truncate(0o755))
                    .at(Step::Sys, hierarchy)?;
                let on =
                    openat(&tmpfs, hierarchy, FOLDER, Mode::empty()).at(Step::Sys, hierarchy)?;
                bind(&folder.path, &on)?;
                let bound =
                    openat(&tmpfs, hierarchy, FOLDER, Mode::empty()).at(Step::Sys, hierarchy)?;
                remount(&bound, flags).at(Step::Sys, &folder.path)?;
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
            remount(&tmpfs, flags | MsFlags::MS_RDONLY).at(Step::Sys, CGROUP)
        }
    }
}

fn bind(source: &Path, on: &OwnedFd) -> Result<(), Failure> {
    mount(
        Some(source),
        fd_path(on).as_str(),
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .at(Step::Sys, source)
}

fn remount(top: &OwnedFd, flags: MsFlags) -> nix::Result<()> {
    mount(
        None::<&str>,
        fd_path(top).as_str(),
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags,
        None::<&str>,
    )
}

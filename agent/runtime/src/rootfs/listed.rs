//! Mounts that somebody else has listed, one by one and in order.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::sys::statvfs::fstatvfs;

use super::mask::kept;
use super::target::{Kind, find_or_make, find_or_make_without_links, lookup};
use super::{IdMapped, copy_up, dev, fd_path, system};
use crate::failure::{At, Failure, Step};
use crate::kernel::mounts::{change_recursive, move_to};
use crate::spec::{FileSystem, LaunchSpec, Listed, Origin, Rootfs, View};

/// Files of /proc on which LXCFS and the like may mount their own: figures to be read, none of which is trusted by us.
const SHOWN_BY_OTHERS: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
];

/// The container's mounts do not reach the host unless the list says so, and then only below its root.
pub(super) fn detach_from_host(wanted: &Listed, rootfs: &Rootfs) -> Result<(), Failure> {
    let flags = if wanted.propagation.is_empty() {
        MsFlags::MS_SLAVE | MsFlags::MS_REC
    } else {
        wanted.propagation
    };
    change(Path::new("/"), flags)?;
    // Otherwise the bind mount of the root on itself, and all that follows, would show outside.
    match rootfs {
        Rootfs::Directory(folder) => make_mount_private(folder),
        Rootfs::Overlay { merged, .. } => make_mount_private(merged),
    }
}

/// The mount that `folder` lies on: found by trying, since only the top of a mount can be changed (EINVAL elsewhere),
/// and a machine's list of mounts is long to read.
fn make_mount_private(folder: &Path) -> Result<(), Failure> {
    let folder = std::fs::canonicalize(folder).at(Step::Rootfs, folder)?;
    for above in folder.ancestors() {
        match propagate(above, MsFlags::MS_PRIVATE) {
            Err(Errno::EINVAL) => {}
            other => return other.at(Step::Rootfs, above),
        }
    }
    Err(Errno::EINVAL).at(Step::Rootfs, folder)
}

fn change(path: &Path, propagation: MsFlags) -> Result<(), Failure> {
    propagate(path, propagation).at(Step::Rootfs, path)
}

fn propagate(path: &Path, propagation: MsFlags) -> nix::Result<()> {
    mount(None::<&str>, path, None::<&str>, propagation, None::<&str>)
}

/// Makes the root's mount point private to the container, then everything in the list, then the devices.
pub(super) fn build(
    root: &OwnedFd,
    wanted: &Listed,
    spec: &LaunchSpec<'_>,
    id_mapped: &IdMapped,
) -> Result<(), Failure> {
    for (place, file_system) in wanted.file_systems.iter().enumerate() {
        mount_one(root, file_system, spec, id_mapped.at(place))?;
    }
    let dev_is_bound = wanted.file_systems.iter().any(|one| {
        same_path(&one.target, Path::new("/dev")) && matches!(one.origin, Origin::Bind { .. })
    });
    if dev_is_bound {
        return Ok(());
    }
    dev::make_in_listed(root, spec)
}

/// After the change of root, for a container whose mounts others are to see.
pub(crate) fn set_propagation(spec: &LaunchSpec<'_>) -> Result<(), Failure> {
    match &spec.view {
        View::Listed(wanted) if !wanted.propagation.is_empty() => {
            change(Path::new("/"), wanted.propagation)
        }
        View::Listed(_) | View::Standard => Ok(()),
    }
}

fn mount_one(
    root: &OwnedFd,
    one: &FileSystem,
    spec: &LaunchSpec<'_>,
    tree: Option<&OwnedFd>,
) -> Result<(), Failure> {
    let target = &one.target;
    match &one.origin {
        Origin::Bind { source, recursive } => {
            let from = match tree {
                Some(tree) => Source::Tree(tree),
                None => Source::Path(source, *recursive),
            };
            bind(root, one, &from)?;
        }
        Origin::Cgroup => {
            let on = target_for(root, one, Kind::Folder)?;
            let top = || lookup(root.as_fd(), target).at(Step::Mount, target);
            system::mount_cgroup_on(&on, &top, spec.cgroup.place(), one.flags)?;
        }
        Origin::New { kind, source } => {
            let on = target_for(root, one, Kind::Folder)?;
            let data = (!one.data.is_empty()).then_some(one.data.as_str());
            let (from, to) = (Some(source.as_str()), fd_path(&on));
            // A copy has to be written before the mount is read-only.
            let flags = if one.copy_up {
                one.flags - MsFlags::MS_RDONLY
            } else {
                one.flags
            };
            mount(from, to.as_str(), Some(kind.as_str()), flags, data).at(Step::Mount, target)?;
            if one.copy_up {
                let top = lookup(root.as_fd(), target).at(Step::Mount, target)?;
                copy_up::copy(&on, &top).at(Step::Mount, target)?;
                if one.flags.contains(MsFlags::MS_RDONLY) {
                    remount(&top, one.flags).at(Step::Mount, target)?;
                }
            }
        }
    }
    settle(root, one)
}

/// What takes a call of its own, on the top of what was mounted.
fn settle(root: &OwnedFd, one: &FileSystem) -> Result<(), Failure> {
    let (set, clear) = one.recursive;
    if one.propagation.is_empty() && set | clear == 0 {
        return Ok(());
    }
    let target = &one.target;
    let top = lookup(root.as_fd(), target).at(Step::Mount, target)?;
    if set | clear != 0 {
        change_recursive(top.as_fd(), set, clear).at(Step::Mount, target)?;
    }
    one.propagation
        .iter()
        .try_for_each(|flags| change(Path::new(&fd_path(&top)), *flags))
}

/// Of a bind mount.
enum Source<'a> {
    /// With all mounts below it, or alone.
    Path(&'a Path, bool),
    /// Made outside: see [`IdMapped`].
    Tree(&'a OwnedFd),
}

fn bind(root: &OwnedFd, one: &FileSystem, source: &Source<'_>) -> Result<(), Failure> {
    let opened = match source {
        Source::Path(path, _) => {
            open(*path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).at(Step::Mount, path)?
        }
        Source::Tree(tree) => tree.try_clone().at(Step::Mount, &one.target)?,
    };
    let mode = fstat(&opened).at(Step::Mount, &one.target)?.st_mode;
    let is_folder = SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR;
    let kind = if is_folder { Kind::Folder } else { Kind::File };
    let is_proc = is_on_proc(&opened).at(Step::Mount, &one.target)?;
    let on = if is_proc && same_path(&one.target, Path::new("/proc")) {
        // The host's processes for a container that shares their namespace.
        plain_folder(root, &one.target)?
    } else {
        target_for(root, one, kind)?
    };
    match source {
        Source::Tree(tree) => move_to(tree.as_fd(), on.as_fd()),
        Source::Path(_, recursive) => {
            let mut flags = MsFlags::MS_BIND;
            flags.set(MsFlags::MS_REC, *recursive);
            let (from, to) = (fd_path(&opened), fd_path(&on));
            let (from, none) = (Some(from.as_str()), None::<&str>);
            mount(from, to.as_str(), none, flags, none)
        }
    }
    .at(Step::Mount, &one.target)?;
    if one.flags.is_empty() && one.cleared.is_empty() {
        return Ok(());
    }
    // A bind mount takes its flags only in a second call.
    let top = lookup(root.as_fd(), &one.target).at(Step::Mount, &one.target)?;
    let now = kept(fstatvfs(&top).at(Step::Mount, &one.target)?.flags());
    let wanted = one.flags | (now - one.cleared);
    match remount(&top, wanted) {
        // In a user namespace what the host has forbidden stays forbidden, and asking for less is refused.
        Err(Errno::EPERM) => remount(&top, one.flags | now),
        other => other,
    }
    .at(Step::Mount, &one.target)
}

fn remount(top: &OwnedFd, flags: MsFlags) -> nix::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags;
    mount(
        None::<&str>,
        fd_path(top).as_str(),
        None::<&str>,
        flags,
        None::<&str>,
    )
}

fn is_on_proc(file: &OwnedFd) -> nix::Result<bool> {
    Ok(fstatfs(file)?.filesystem_type() == PROC_SUPER_MAGIC)
}

/// The mount's place in the root. The kernel's own file systems go on ordinary folders only, never behind a link of the
/// image; and nothing lies in /proc but the few files that others show there.
pub(super) fn target_for(root: &OwnedFd, one: &FileSystem, kind: Kind) -> Result<OwnedFd, Failure> {
    let target = &one.target;
    if !target
        .components()
        .any(|part| matches!(part, Component::Normal(_)))
    {
        let reason = format!("{} cannot be mounted on", target.display());
        return Err(Failure::refused(Step::Mount, reason));
    }
    if matches!(&one.origin, Origin::New { kind, .. } if kind == "proc" || kind == "sysfs")
        || same_path(target, Path::new("/dev"))
    {
        return plain_folder(root, target);
    }
    let on = find_or_make(root.as_fd(), target, kind).at(Step::Mount, target)?;
    let is_shown = SHOWN_BY_OTHERS
        .iter()
        .any(|shown| same_path(target, Path::new(shown)));
    if is_on_proc(&on).at(Step::Mount, target)? && !is_shown {
        let reason = format!("{} leads into /proc", target.display());
        return Err(Failure::refused(Step::Mount, reason));
    }
    Ok(on)
}

fn plain_folder(root: &OwnedFd, target: &Path) -> Result<OwnedFd, Failure> {
    match find_or_make_without_links(root, target) {
        Err(Errno::ELOOP) => Err(Failure::refused(
            Step::Mount,
            format!(
                "the image's {} is not a folder, and a file system of the kernel must be mounted on ordinary directory",
                target.display()
            ),
        )),
        other => other.at(Step::Mount, target),
    }
}

fn same_path(path: &Path, as_this: &Path) -> bool {
    let names = |path: &Path| -> Vec<std::ffi::OsString> {
        path.components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(name.to_owned()),
                _ => None,
            })
            .collect()
    };
    names(path) == names(as_this)
}

//! The mounts that a container sees.
//!
//! Built below the new root while the host's files are still in view, by descriptors, never by a path through the image:
//! an image decides what its names point to, and a symlink at /proc, /sys or /dev has led other runtimes out of the
//! container (CVE-2026-41579 and its older relatives). What the image may follow are its own links, inside its own root.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, mkdirat};

use crate::failure::{At, Failure, Step};
use crate::kernel::mounts::clone_whole_tree;
use crate::launch::child::join_namespace;
use crate::spec::{LaunchSpec, Rootfs, View};

mod copy_up;
mod dev;
mod id_mapped;
mod listed;
mod mask;
mod points;
mod system;
mod target;
mod volumes;

pub(crate) use dev::bind_console;
pub(crate) use id_mapped::IdMapped;
pub(crate) use listed::set_propagation;
pub(crate) use mask::{hide, remount_root_readonly, set_mount_readonly, set_readonly};
pub use points::{make_mount_points, path_inside};
pub(crate) use target::lookup;

/// Nothing that is mounted from now on reaches the host.
pub(crate) fn make_private() -> Result<(), Failure> {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .at(Step::Rootfs, "/")
}

/// Mounts everything and answers the new root. The calling process is alone in its mount namespace.
pub(crate) fn build(spec: &LaunchSpec<'_>, id_mapped: &IdMapped) -> Result<OwnedFd, Failure> {
    match &spec.view {
        View::Standard => make_private()?,
        View::Listed(wanted) => listed::detach_from_host(wanted, &spec.rootfs)?,
    }
    let root = match &spec.rootfs {
        Rootfs::Overlay {
            lower,
            upper,
            work,
            merged,
        } => overlay(lower, upper, work, merged)?,
        Rootfs::Directory(folder) => bind_self(folder)?,
    };
    match &spec.view {
        View::Standard => standard(&root, spec)?,
        View::Listed(wanted) => listed::build(&root, wanted, spec, id_mapped)?,
    }
    Ok(root)
}

fn standard(root: &OwnedFd, spec: &LaunchSpec<'_>) -> Result<(), Failure> {
    system::mount_proc(root)?;
    system::mount_sys(root)?;
    system::mount_cgroup(root, spec.cgroup.place())?;
    dev::make(root, spec)?;
    spec.mounts
        .iter()
        .try_for_each(|volume| volumes::mount_volume(root, volume))
}

/// `root` becomes `/`, and the host's files are out of reach.
pub(crate) fn enter(root: &OwnedFd) -> Result<(), Failure> {
    nix::unistd::fchdir(root).at(Step::Pivot, "new root")?;
    // Old and new root in one place: the old one ends up on top, and goes with the next call (pivot_root(2), Notes).
    nix::unistd::pivot_root(".", ".").at(Step::Pivot, "new root")?;
    umount2(".", MntFlags::MNT_DETACH).at(Step::Pivot, "old root")?;
    nix::unistd::chdir("/").at(Step::Pivot, "/")
}

/// The same for a process that is to be in the host's mount namespace. The tree of mounts is copied out of the one that
/// it was made in, which ends here, and is then this process's root only.
pub(crate) fn enter_beside(root: &OwnedFd, host: &OwnedFd) -> Result<(), Failure> {
    let tree = clone_whole_tree(root.as_fd()).at(Step::Pivot, "new root")?;
    join_namespace(host, CloneFlags::CLONE_NEWNS).at(Step::Namespace, "mount")?;
    nix::unistd::fchdir(&tree).at(Step::Pivot, "new root")?;
    nix::unistd::chroot(".").at(Step::Pivot, "new root")?;
    nix::unistd::chdir("/").at(Step::Pivot, "/")
}

/// A bind mount of a folder on itself, since pivot_root wants a mount.
pub(crate) fn bind_self(folder: &Path) -> Result<OwnedFd, Failure> {
    mount(
        Some(folder),
        folder,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )
    .at(Step::Rootfs, folder)?;
    open_folder(folder).at(Step::Rootfs, folder)
}

/// The folders go to the kernel as `/proc/self/fd/n`: all options must fit into one page, paths with 64 hexadecimal
/// digits would limit an image to some forty layers, and a `:` or `,` in a path needs no escaping this way.
fn overlay(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    merged: &Path,
) -> Result<OwnedFd, Failure> {
    let mut open_folders = Vec::with_capacity(lower.len() + 2);
    let mut by_fd = |path: &Path| -> Result<String, Failure> {
        let folder = open_folder(path).at(Step::Overlay, path)?;
        let name = fd_path(&folder);
        open_folders.push(folder);
        Ok(name)
    };
    let lower = lower
        .iter()
        .map(|path| by_fd(path))
        .collect::<Result<Vec<_>, _>>()?
        .join(":");
    // What an upper folder means must not depend on the kernel's defaults: it is read by diff and commit, and it may be
    // mounted again by another kernel.
    let options = format!(
        "lowerdir={lower},upperdir={},workdir={},index=off,metacopy=off",
        by_fd(upper)?,
        by_fd(work)?
    );
    mount(
        Some("overlay"),
        merged,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .at(Step::Overlay, merged)?;
    open_folder(merged).at(Step::Overlay, merged)
}

fn open_folder(path: &Path) -> nix::Result<OwnedFd> {
    open(
        path,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

/// How the classic mount call is given a descriptor.
fn fd_path(fd: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// One of the folders that we mount on, made when the image lacks it. Anything else there refuses the image.
fn mount_point(root: &OwnedFd, name: &str, step: Step) -> Result<OwnedFd, Failure> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(root, name, flags, Mode::empty()) {
        Err(nix::errno::Errno::ENOENT) => {
            mkdirat(root, name, Mode::from_bits_truncate(0o755)).at(step, name)?;
            openat(root, name, flags, Mode::empty()).at(step, name)
        }
        Err(nix::errno::Errno::ENOTDIR | nix::errno::Errno::ELOOP) => Err(Failure::refused(
            step,
            format!("the image's /{name} is not a folder"),
        )),
        other => other.at(step, name),
    }
}

/// Mounts on a descriptor and answers the top of the new mount, reached through `parent`.
fn mount_at(
    (parent, name): (&OwnedFd, &str),
    on: &OwnedFd,
    kind: &str,
    flags: MsFlags,
    options: Option<&str>,
) -> nix::Result<OwnedFd> {
    mount(Some(kind), fd_path(on).as_str(), Some(kind), flags, options)?;
    // Ours by now, whatever the image had there.
    openat(
        parent,
        name,
        OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

/// Write a file of the host's /proc on behalf of the calling process.
pub(crate) fn write_proc(path: &Path, value: &str) -> std::io::Result<()> {
    let mut file = File::options().write(true).open(path)?;
    std::io::Write::write_all(&mut file, value.as_bytes())
}

//! The mounts that a container sees.
//!
//! Built below the new root while the host's files are still in view, by descriptors, never by a path through the image:
//! an image decides what its names point to, and a symlink at /proc, /sys or /dev has led other runtimes out of the
//! container (CVE-2026-41579 and its older relatives). What the image may follow are its own links, inside its own root.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{OFlag, open, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;
use nix::sys::stat::{Mode, mkdirat};

use crate::failure::{At, Failure, Step};
use crate::kernel::mounts::{clone_whole_tree, move_to};
use crate::launch::child::join_namespace;
use crate::namespaces::Users;
use crate::spec::{LaunchSpec, Rootfs, View};

mod copy_up;
mod dev;
mod id_mapped;
mod listed;
mod mask;
mod overlay;
mod points;
mod system;
mod target;
mod volumes;

pub(crate) use dev::bind_console;
pub(crate) use id_mapped::IdMapped;
pub(crate) use listed::set_propagation;
pub(crate) use mask::{hide, remount_root_readonly, set_mount_readonly, set_readonly};
pub(crate) use overlay::overlay;
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
pub(crate) fn build(
    spec: &LaunchSpec<'_>,
    id_mapped: &IdMapped,
    users: Option<&Users>,
) -> Result<OwnedFd, Failure> {
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
        } => overlay(lower, upper, work, merged, users)?,
        Rootfs::Directory(folder) => match users {
            Some(users) => bind_mapped(folder, users)?,
            None => bind_self(folder)?,
        },
    };
    match &spec.view {
        View::Standard => standard(&root, spec, users)?,
        View::Listed(wanted) => listed::build(&root, wanted, spec, id_mapped)?,
    }
    Ok(root)
}

fn standard(root: &OwnedFd, spec: &LaunchSpec<'_>, users: Option<&Users>) -> Result<(), Failure> {
    system::mount_proc(root)?;
    system::mount_sys(root)?;
    system::mount_cgroup(root, spec.cgroup.place())?;
    dev::make(root, spec, users)?;
    spec.mounts
        .iter()
        .try_for_each(|volume| volumes::mount_volume(root, volume, users))
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

/// The same with the owners of inside, in a mount namespace of its own.
fn bind_mapped(folder: &Path, users: &Users) -> Result<OwnedFd, Failure> {
    let opened = open_folder(folder).at(Step::Rootfs, folder)?;
    let tree = users.map(&opened, folder)?;
    move_to(tree.as_fd(), opened.as_fd()).at(Step::Rootfs, folder)?;
    open_folder(folder).at(Step::Rootfs, folder)
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

//! /dev: a tmpfs of ours with the few nodes that every program expects.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstat, makedev, mkdirat, mknodat, stat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use super::target::{Kind, find_or_make};
use super::{fd_path, mount_at, mount_point};
use crate::failure::{At, Failure, Step};
use crate::spec::{DeviceKind, DeviceNode, LaunchSpec};

/// Name, major, minor (Documentation/admin-guide/devices.txt); anybody may open them.
const NODES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
    ("pts/ptmx", "ptmx"),
];

/// The group that owns terminals, as in Docker and Debian.
const DEVPTS: &str = "newinstance,ptmxmode=0666,mode=0620,gid=5";

/// Expects a umask of 0.
pub(super) fn make(root: &OwnedFd, spec: &LaunchSpec<'_>) -> Result<(), Failure> {
    let on = mount_point(root, "dev", Step::Dev)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME;
    let dev = mount_at(
        (root, "dev"),
        &on,
        "tmpfs",
        flags,
        Some("mode=755,size=65536k"),
    )
    .at(Step::Dev, "/dev")?;

    for (name, major, minor) in NODES {
        let mode = Mode::from_bits_truncate(0o666);
        mknodat(&dev, name, SFlag::S_IFCHR, mode, makedev(major, minor))
            .at(Step::Dev, Path::new("/dev").join(name))?;
    }
    for (to, name) in LINKS {
        symlinkat(to, &dev, name).at(Step::Dev, Path::new("/dev").join(name))?;
    }

    let inert = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let shm = format!("mode=1777,size={}", spec.shm_size_bytes);
    for (name, kind, flags, options) in [
        ("pts", "devpts", inert, Some(DEVPTS)),
        (
            "shm",
            "tmpfs",
            inert | MsFlags::MS_NODEV,
            Some(shm.as_str()),
        ),
        ("mqueue", "mqueue", inert | MsFlags::MS_NODEV, None),
    ] {
        let path = Path::new("/dev").join(name);
        mkdirat(&dev, name, Mode::from_bits_truncate(0o755)).at(Step::Dev, &path)?;
        let on = mount_point(&dev, name, Step::Dev)?;
        match mount_at((&dev, name), &on, kind, flags, options) {
            // Small kernels come without POSIX message queues; whoever uses them gets their own error.
            Err(Errno::ENODEV) if name == "mqueue" => {}
            other => other.at(Step::Dev, &path).map(drop)?,
        }
    }

    if spec.stdio.terminal {
        bind_console(&dev, &spec.stdio.stdin)?;
    }
    spec.devices
        .iter()
        .try_for_each(|device| make_device(&dev, device))
}

fn bind_console(dev: &OwnedFd, terminal: &OwnedFd) -> Result<(), Failure> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_WRONLY;
    let console = openat(dev, "console", flags, Mode::from_bits_truncate(0o600))
        .at(Step::Dev, "/dev/console")?;
    // Not the descriptor itself: it was opened in the supervisor's mount namespace, from which nothing can be bound here.
    let source = std::fs::read_link(fd_path(terminal)).at(Step::Dev, "terminal")?;
    let (named, held) = (
        stat(&source).at(Step::Dev, &source)?,
        fstat(terminal).at(Step::Dev, "terminal")?,
    );
    if (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino) {
        return Err(Failure::refused(
            Step::Dev,
            format!("{} is not the terminal", source.display()),
        ));
    }
    mount(
        Some(&source),
        fd_path(&console).as_str(),
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .at(Step::Dev, "/dev/console")
}

fn make_device(dev: &OwnedFd, device: &DeviceNode) -> Result<(), Failure> {
    let path = &device.path;
    let (Ok(below), Some(name)) = (path.strip_prefix("/dev"), path.file_name()) else {
        return Err(Failure::refused(
            Step::Dev,
            format!("{} is not below /dev", path.display()),
        ));
    };
    let folder = find_or_make(
        dev.as_fd(),
        below.parent().unwrap_or(Path::new("")),
        Kind::Folder,
    )
    .at(Step::Dev, path)?;
    let kind = match device.kind {
        DeviceKind::Char => SFlag::S_IFCHR,
        DeviceKind::Block => SFlag::S_IFBLK,
    };
    let number = makedev(device.major.into(), device.minor.into());
    mknodat(
        &folder,
        name,
        kind,
        Mode::from_bits_truncate(device.mode),
        number,
    )
    .at(Step::Dev, path)?;
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    fchownat(
        &folder,
        name,
        Some(uid),
        Some(gid),
        nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW,
    )
    .at(Step::Dev, path)
}

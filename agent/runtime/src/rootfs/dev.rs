//! /dev: a tmpfs of ours with the few nodes that every program expects.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstat, makedev, mkdirat, mknodat, stat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use super::target::{Kind, find_or_make, find_or_make_without_links};
use super::{fd_path, mount_at, mount_point};
use crate::failure::{At, Failure, Step};
use crate::namespaces::Users;
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
const TERMINALS: u32 = 5;

/// Expects a umask of 0.
pub(super) fn make(
    root: &OwnedFd,
    spec: &LaunchSpec<'_>,
    users: Option<&Users>,
) -> Result<(), Failure> {
    let outside = |id| users.map_or(Ok(id), |users| users.outside(id));
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
    let group = outside(TERMINALS)?;
    let terminals = format!("newinstance,ptmxmode=0666,mode=0620,gid={group}");
    let shm = format!("mode=1777,size={}", spec.shm_size_bytes);
    for (name, kind, flags, options) in [
        ("pts", "devpts", inert, Some(terminals.as_str())),
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
        bind_host_terminal(&dev, &spec.stdio.stdin)?;
    }
    spec.devices.iter().try_for_each(|device| {
        let device = DeviceNode {
            uid: outside(device.uid)?,
            gid: outside(device.gid)?,
            ..device.clone()
        };
        make_device(&dev, &device)
    })
}

/// /dev/console of a container whose terminal is its own.
pub(crate) fn bind_console(root: &OwnedFd, terminal: &OwnedFd) -> Result<(), Failure> {
    let dev = mount_point(root, "dev", Step::Dev)?;
    let console = match openat(&dev, "console", CONSOLE, Mode::from_bits_truncate(0o600)) {
        // An image may bring one along; a link it must not be.
        Err(Errno::EEXIST) => {
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            openat(&dev, "console", flags, Mode::empty())
        }
        other => other,
    }
    .at(Step::Dev, "/dev/console")?;
    let kind = fstat(&console).at(Step::Dev, "/dev/console")?.st_mode;
    if SFlag::from_bits_truncate(kind & SFlag::S_IFMT.bits()) == SFlag::S_IFLNK {
        return Err(Failure::refused(
            Step::Dev,
            "the image's /dev/console is a link",
        ));
    }
    bind(&fd_path(terminal), &console).at(Step::Dev, "/dev/console")
}

/// Never through a link, never an old one.
const CONSOLE: OFlag = OFlag::O_CREAT
    .union(OFlag::O_EXCL)
    .union(OFlag::O_CLOEXEC)
    .union(OFlag::O_WRONLY);

fn bind(source: &str, on: &OwnedFd) -> nix::Result<()> {
    let flags = MsFlags::MS_BIND;
    mount(
        Some(source),
        fd_path(on).as_str(),
        None::<&str>,
        flags,
        None::<&str>,
    )
}

fn bind_host_terminal(dev: &OwnedFd, terminal: &OwnedFd) -> Result<(), Failure> {
    let console = openat(dev, "console", CONSOLE, Mode::from_bits_truncate(0o600))
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
    make_node(&folder, name, device).at(Step::Dev, path)
}

fn make_node(folder: &OwnedFd, name: &OsStr, device: &DeviceNode) -> nix::Result<()> {
    let (kind, number) = numbers(device);
    mknodat(
        folder,
        name,
        kind,
        Mode::from_bits_truncate(device.mode),
        number,
    )?;
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
    fchownat(folder, name, Some(uid), Some(gid), flags)
}

fn numbers(device: &DeviceNode) -> (SFlag, u64) {
    let kind = match device.kind {
        DeviceKind::Char => SFlag::S_IFCHR,
        DeviceKind::Block => SFlag::S_IFBLK,
        DeviceKind::Fifo => return (SFlag::S_IFIFO, 0),
    };
    (kind, makedev(device.major.into(), device.minor.into()))
}

/// What every container has, in a /dev that was mounted by somebody's list, or that is the image's own. Nothing of it is
/// made behind a link of the image: that may lead to a volume, which is the host's.
pub(super) fn make_in_listed(root: &OwnedFd, spec: &LaunchSpec<'_>) -> Result<(), Failure> {
    let dev = mount_point(root, "dev", Step::Dev)?;
    let own_users = !spec.namespaces.user.is_host();
    // First, since the list may give one of ours another owner. A multiplexer of the host is of no use beside a devpts.
    for node in spec
        .devices
        .iter()
        .filter(|node| node.path != Path::new("/dev/ptmx"))
    {
        let (Some(above), Some(name)) = (node.path.parent(), node.path.file_name()) else {
            let reason = format!("{} cannot be a device", node.path.display());
            return Err(Failure::refused(Step::Dev, reason));
        };
        let folder = find_or_make_without_links(root, above).at(Step::Dev, &node.path)?;
        node_or_bind((&folder, name), node, own_users)?;
    }
    for (name, major, minor) in NODES {
        let node = DeviceNode {
            path: Path::new("/dev").join(name),
            kind: DeviceKind::Char,
            major: major as u32,
            minor: minor as u32,
            mode: 0o666,
            uid: 0,
            gid: 0,
        };
        node_or_bind((&dev, OsStr::new(name)), &node, own_users)?;
    }
    for (to, name) in LINKS {
        match symlinkat(to, &dev, name) {
            // `core` needs a /proc/kcore to be of use, and an image may have any of them.
            Err(Errno::EEXIST) => {}
            other => other.at(Step::Dev, Path::new("/dev").join(name))?,
        }
    }
    Ok(())
}

/// In a user namespace no nodes can be made: there the host's own of that name is mounted.
fn node_or_bind(
    (folder, name): (&OwnedFd, &OsStr),
    node: &DeviceNode,
    own_users: bool,
) -> Result<(), Failure> {
    let made = if own_users {
        Err(Errno::EPERM)
    } else {
        make_node(folder, name, node)
    };
    match made {
        Err(Errno::EEXIST) => {}
        Err(Errno::EPERM) => {
            let flags = OFlag::O_CREAT
                | OFlag::O_NOFOLLOW
                | OFlag::O_NONBLOCK
                | OFlag::O_CLOEXEC
                | OFlag::O_WRONLY;
            let mode = Mode::from_bits_truncate(0o644);
            let on = openat(folder, name, flags, mode).at(Step::Dev, &node.path)?;
            return mount(
                Some(&node.path),
                fd_path(&on).as_str(),
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .at(Step::Dev, &node.path);
        }
        other => return other.at(Step::Dev, &node.path),
    }
    // The image's own is as good as ours when it is the same device.
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let there = openat(folder, name, flags, Mode::empty())
        .and_then(fstat)
        .at(Step::Dev, &node.path)?;
    let kind = SFlag::from_bits_truncate(there.st_mode & SFlag::S_IFMT.bits());
    if (kind, there.st_rdev) != numbers(node) {
        let reason = format!("the image's {} is something else", node.path.display());
        return Err(Failure::refused(Step::Dev, reason));
    }
    Ok(())
}

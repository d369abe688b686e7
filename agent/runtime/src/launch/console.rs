//! A terminal of the container's own devpts, whose other end is sent to whoever shows it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, major, minor};
use nix::sys::statfs::fstatfs;
use nix::unistd::{Gid, Uid, fchown};

use crate::failure::{At, Failure, Step};
use crate::kernel::{self, terminal};
use crate::rootfs;
use crate::spec::Console;

/// linux/magic.h
const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;
/// /dev/ptmx (Documentation/admin-guide/devices.txt).
const PTMX: (u64, u64) = (5, 2);

/// For a container's first process: the terminal is its /dev/console too. The host's files are in view.
pub(crate) fn make(root: &OwnedFd, wanted: &Console) -> Result<OwnedFd, Failure> {
    let (master, slave) = open(root.as_fd(), wanted)?;
    rootfs::bind_console(root, &slave)?;
    send(master, wanted)?;
    Ok(slave)
}

/// For one more process, which is in the container already.
pub(crate) fn make_in_own_root(wanted: &Console) -> Result<OwnedFd, Failure> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open("/", flags, Mode::empty()).at(Step::Console, "/")?;
    let (master, slave) = open(root.as_fd(), wanted)?;
    send(master, wanted)?;
    Ok(slave)
}

/// Whatever the container has put at that path: only a terminal multiplexer of a devpts is taken.
fn open(root: BorrowedFd<'_>, wanted: &Console) -> Result<(OwnedFd, OwnedFd), Failure> {
    let path = Path::new("/dev/pts/ptmx");
    let found = rootfs::lookup(root, path).at(Step::Console, path)?;
    let is = fstat(&found).at(Step::Console, path)?;
    let on = fstatfs(&found).at(Step::Console, path)?.filesystem_type();
    if is.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFCHR.bits()
        || (major(is.st_rdev), minor(is.st_rdev)) != PTMX
        || on.0 as i64 != DEVPTS_SUPER_MAGIC
    {
        return Err(Failure::refused(
            Step::Console,
            "/dev/pts/ptmx is no terminal multiplexer",
        ));
    }
    let above = rootfs::lookup(root, Path::new("/dev/pts")).at(Step::Console, "/dev/pts")?;
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let master = openat(&above, "ptmx", flags, Mode::empty()).at(Step::Console, path)?;
    let opened = fstat(&master).at(Step::Console, path)?;
    if (opened.st_dev, opened.st_ino) != (is.st_dev, is.st_ino) {
        return Err(Failure::new(
            Step::Console,
            "/dev/pts/ptmx",
            Errno::ESTALE as i32,
        ));
    }
    terminal::unlock(master.as_fd()).at(Step::Console, path)?;
    let slave = match terminal::peer(master.as_fd()) {
        Err(Errno::ENOTTY | Errno::EINVAL) => {
            let name = terminal::number(master.as_fd())
                .at(Step::Console, path)?
                .to_string();
            openat(&above, name.as_str(), flags, Mode::empty()).at(Step::Console, name)?
        }
        other => other.at(Step::Console, path)?,
    };
    if let Some((rows, columns)) = wanted.size {
        terminal::resize(master.as_fd(), rows, columns).at(Step::Console, "size")?;
    }
    Ok((master, slave))
}

/// The terminal belongs to the user who is to read it; some programs open it anew by its name.
pub(crate) fn give_to(slave: &OwnedFd, uid: u32) -> Result<(), Failure> {
    fchmod(slave, Mode::from_bits_truncate(0o620)).at(Step::Console, "mode")?;
    fchown(slave, Some(Uid::from_raw(uid)), None::<Gid>).at(Step::Console, "owner")
}

/// The message's text is the terminal's name, as runc sends it.
fn send(master: OwnedFd, wanted: &Console) -> Result<(), Failure> {
    kernel::send_descriptor(&wanted.receiver, b"/dev/ptmx", master.as_fd())
        .at(Step::Console, "console socket")
}

//! Folders handed to a jail, as mounts of their own: `..` ends at the folder, nothing in it is a device or a program.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat, readlink};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{FileStat, Mode, fstat};

use crate::failure::{At, Failure, Step};
use crate::kernel::landlock::Ruleset;
use crate::kernel::mounts;

/// In the order in which the folders were given.
pub(super) struct Fenced {
    pub(super) read: Vec<OwnedFd>,
    pub(super) write: Vec<OwnedFd>,
}

const SUBJECT: &str = "folder of a jail";
const READABLE_FOLDER: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

/// By the newer mount calls, in the mount namespace that the folders were opened in. None when the kernel lacks them: it
/// is older than 5.12.
pub(super) fn by_descriptor(
    read: &[OwnedFd],
    write: &[OwnedFd],
) -> Result<Option<Fenced>, Failure> {
    let fence = |folders: &[OwnedFd], read_only| -> nix::Result<Vec<OwnedFd>> {
        let fence_one = |folder: &OwnedFd| {
            let copy = mounts::clone_tree(folder.as_fd())?;
            mounts::set_inert(copy.as_fd(), read_only)?;
            // The mount's own descriptor names a place (O_PATH); the closure wants to read the folder.
            openat(&copy, ".", READABLE_FOLDER, Mode::empty())
        };
        folders.iter().map(fence_one).collect()
    };
    match fence(read, true).and_then(|read| Ok((read, fence(write, false)?))) {
        Ok((read, write)) => Ok(Some(Fenced { read, write })),
        Err(Errno::ENOSYS) => Ok(None),
        Err(errno) => Err(errno).at(Step::Mount, SUBJECT),
    }
}

/// Below the root and the passed folders, and nowhere else, may the calling process do anything to files: whatever descriptors
/// it comes by. An extra, where the kernel has it (5.19): mounts and root hold without it.
pub(super) fn restrict_to(fenced: &Fenced, root_readonly: bool) -> nix::Result<()> {
    let Some(ruleset) = Ruleset::new()? else {
        return Ok(());
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open("/", flags, Mode::empty())?;
    ruleset.allow(root.as_fd(), !root_readonly)?;
    let folders = |folders: &[OwnedFd], write| {
        let mut all = folders.iter();
        all.try_for_each(|folder| ruleset.allow(folder.as_fd(), write))
    };
    folders(&fenced.read, false)?;
    folders(&fenced.write, true)?;
    ruleset.restrict_self()
}

/// By mounts on `place` that are taken away again and live on in their descriptors, in the jail's own mount namespace.
/// Its mounts are other ones than those the folders were opened in, so each is looked up again, and must be the same.
pub(super) fn by_path(
    place: &Path,
    read: &[OwnedFd],
    write: &[OwnedFd],
) -> Result<Fenced, Failure> {
    let fence = |folders: &[OwnedFd], read_only| -> nix::Result<Vec<OwnedFd>> {
        folders
            .iter()
            .map(|folder| fence_on(place, folder, read_only))
            .collect()
    };
    Ok(Fenced {
        read: fence(read, true).at(Step::Mount, SUBJECT)?,
        write: fence(write, false).at(Step::Mount, SUBJECT)?,
    })
}

fn fence_on(place: &Path, folder: &OwnedFd, read_only: bool) -> nix::Result<OwnedFd> {
    let path = readlink(format!("/proc/self/fd/{}", folder.as_raw_fd()).as_str())?;
    let bind = |from: Option<&Path>, flags| {
        mount(
            from,
            place,
            None::<&str>,
            MsFlags::MS_BIND | flags,
            None::<&str>,
        )
    };
    bind(Some(Path::new(&path)), MsFlags::empty())?;
    let mut inert =
        MsFlags::MS_REMOUNT | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    inert.set(MsFlags::MS_RDONLY, read_only);
    let fenced = bind(None, inert).and_then(|()| open(place, READABLE_FOLDER, Mode::empty()));
    // Once it is nowhere, there is no folder above it.
    umount2(place, MntFlags::MNT_DETACH)?;
    let fenced = fenced?;
    let identity = |stat: FileStat| (stat.st_dev, stat.st_ino);
    if identity(fstat(&fenced)?) != identity(fstat(folder)?) {
        return Err(Errno::ESTALE);
    }
    Ok(fenced)
}

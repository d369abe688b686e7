//! Copying what an image has at a place into the tmpfs that was mounted over it.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

const FOLDER: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Folders, files and links with their owners and modes; nothing else belongs into a container's tmpfs.
pub(super) fn copy(from: &OwnedFd, to: &OwnedFd) -> nix::Result<()> {
    // Below the new mount: a descriptor of the place itself does not step onto it.
    let from = openat(from, ".", FOLDER, Mode::empty())?;
    let to = openat(to, ".", FOLDER, Mode::empty())?;
    let top = fstat(&from)?;
    folder(&from, &to)?;
    nix::sys::stat::fchmod(&to, Mode::from_bits_truncate(top.st_mode))?;
    nix::unistd::fchown(
        &to,
        Some(Uid::from_raw(top.st_uid)),
        Some(Gid::from_raw(top.st_gid)),
    )
}

fn folder(from: &OwnedFd, to: &OwnedFd) -> nix::Result<()> {
    let mut entries = Dir::openat(from, ".", FOLDER, Mode::empty())?;
    for entry in entries.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            one(from, to, name)?;
        }
    }
    Ok(())
}

fn one(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> nix::Result<()> {
    let is = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let kind = SFlag::from_bits_truncate(is.st_mode & SFlag::S_IFMT.bits());
    let mode = Mode::from_bits_truncate(is.st_mode);
    if kind == SFlag::S_IFDIR {
        mkdirat(to, name, Mode::S_IRWXU)?;
        let below = openat(from, name, FOLDER, Mode::empty())?;
        folder(&below, &openat(to, name, FOLDER, Mode::empty())?)?;
    } else if kind == SFlag::S_IFREG {
        let source = openat(
            from,
            name,
            OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let copy = openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        std::io::copy(&mut File::from(source), &mut File::from(copy)).map_err(|error| {
            nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
        })?;
    } else if kind == SFlag::S_IFLNK {
        let link = readlinkat(from, OsStr::from_bytes(name.to_bytes()))?;
        symlinkat(link.as_os_str(), to, name)?;
    } else {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(is.st_uid), Gid::from_raw(is.st_gid));
    fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    // Last: a change of owner takes set-user-ID bits away.
    if kind != SFlag::S_IFLNK {
        fchmodat(to, name, mode, FchmodatFlags::NoFollowSymlink)?;
    }
    Ok(())
}

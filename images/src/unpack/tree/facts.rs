//! Owner, mode, times and extended attributes.

use std::fs::File;
use std::os::fd::BorrowedFd;

use rustix::fs::{self, AtFlags, FileType, Gid, Uid, XattrFlags};
use rustix::io::Errno;

use super::{io_error, lossy};
use crate::beneath::{permissions, seconds};
use crate::unpack::{Kind, Member, UnpackError};

/// Bytes of the names of a file's attributes, and of one value (Linux `XATTR_SIZE_MAX`).
const NAMES: usize = 4 << 10;
const VALUE: usize = 64 << 10;

/// overlayfs reads its own attributes from the layers, and `redirect` would let one name another
/// folder: a layer must not bring them.
pub(super) fn check_attributes(member: &Member) -> Result<(), UnpackError> {
    let overlay =
        |name: &[u8]| name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    match member
        .xattrs
        .iter()
        .find(|(name, _)| overlay(name) || name.contains(&0))
    {
        Some((name, _)) => Err(UnpackError::Attribute {
            path: lossy(&member.path),
            name: lossy(name),
        }),
        None => Ok(()),
    }
}

/// Owner, mode and attributes of a file or folder, in the order that keeps them: a change of owner
/// clears set-uid bits and `security.capability`. Returns how many attributes were left out.
pub(super) fn finish_node(fd: BorrowedFd<'_>, member: &Member) -> Result<u64, UnpackError> {
    let failed = |source: Errno| io_error("setting owner and mode of", &member.path, source);
    fs::fchown(
        fd,
        Some(Uid::from_raw(member.uid)),
        Some(Gid::from_raw(member.gid)),
    )
    .map_err(failed)?;
    fs::fchmod(fd, permissions(member.mode)).map_err(failed)?;
    let mut left_out = 0;
    for (name, value) in &member.xattrs {
        if !is_taken(name) {
            left_out += 1;
            continue;
        }
        match fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
            // A file system without user attributes: programs expect that. A lost capability they don't.
            Err(Errno::OPNOTSUPP) if name != b"security.capability" => left_out += 1,
            other => other.map_err(|e| io_error("setting attributes of", &member.path, e))?,
        }
    }
    Ok(left_out)
}

/// The others (SELinux labels, IMA hashes) belong to the machine that the image was built on.
pub(super) fn is_taken(name: &[u8]) -> bool {
    name == b"security.capability"
        || name.starts_with(b"user.")
        || name.starts_with(b"system.posix_acl_")
}

/// A regular file that is there, as a layer would say it, without its path. `EINVAL`: it is no such file.
pub(super) fn of_file(file: &File) -> Result<Member, Errno> {
    let stat = fs::fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let mut names = vec![0_u8; NAMES];
    let length = match fs::flistxattr(file, names.as_mut_slice()) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let mut xattrs = Vec::new();
    for name in names[..length].split(|&byte| byte == 0) {
        if is_taken(name) {
            let mut value = vec![0_u8; VALUE];
            let length = fs::fgetxattr(file, name, value.as_mut_slice())?;
            value.truncate(length);
            xattrs.push((name.to_vec(), value));
        }
    }
    Ok(Member {
        path: Vec::new(),
        kind: Kind::File,
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime as i64,
        mtime_nanos: stat.st_mtime_nsec as u32,
        size: stat.st_size as u64,
        xattrs,
    })
}

/// Whether what a layer says of a new file is said of the old one that is there. Its bytes are not looked at.
pub(super) fn is_alike(old: &Member, new: &Member) -> bool {
    let says = |file: &Member| {
        let time = (file.mtime, file.mtime_nanos);
        (permissions(file.mode), file.uid, file.gid, time, file.size)
    };
    // No two of the old one's have one name, so that as many, each of which it has, are the same.
    let taken = new.xattrs.iter().filter(|(name, _)| is_taken(name));
    says(old) == says(new)
        && taken.clone().count() == old.xattrs.len()
        && old
            .xattrs
            .iter()
            .all(|one| taken.clone().any(|other| other == one))
}

/// As [`finish_node`], for what must not be opened: links, devices, pipes. `parent` has the name and we
/// made it a moment ago.
pub(super) fn finish_by_name(
    parent: BorrowedFd<'_>,
    name: &[u8],
    member: &Member,
    has_mode: bool,
) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(member.uid), Gid::from_raw(member.gid));
    fs::chownat(
        parent,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    if has_mode {
        fs::chmodat(parent, name, permissions(member.mode), AtFlags::empty())?;
    }
    let times = seconds(member.mtime, member.mtime_nanos);
    fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
}

//! Owner, mode, times and extended attributes.

use std::os::fd::BorrowedFd;

use rustix::fs::{self, AtFlags, Gid, Uid, XattrFlags};
use rustix::io::Errno;

use super::{io_error, lossy};
use crate::beneath::{permissions, seconds};
use crate::unpack::{Member, UnpackError};

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
        // The others (SELinux labels, IMA hashes) belong to the machine that the image was built on.
        let known = name == b"security.capability"
            || name.starts_with(b"user.")
            || name.starts_with(b"system.posix_acl_");
        if !known {
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

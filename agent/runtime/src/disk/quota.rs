//! Project quotas: each limited folder is a project of its own.
//!
//! The project's number is written in the folder (FS_IOC_FSSETXATTR), so that no list is kept. A number is free when nothing
//! is counted for it: a tree that was thrown away and waits for its deletion still has its own.
//!
//! XFS sets aside what a new name may take at worst, some hundred KiB, before it makes one: where less is left of a quota, no
//! file can be made at all. A writable layer that is full could not be mounted again, for which overlay makes a folder; a
//! [`Loan`] is for that moment.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statfs::{XFS_SUPER_MAGIC, fstatfs};

use super::{About, DiskLimit, DiskUse, PlaceError};
use crate::kernel::disk as kernel;

/// First number of ours: far from what people write into /etc/projid.
const FIRST: u32 = 0x434f_0000;
/// Numbers that are tried.
const COUNT: u32 = 0x1_0000;
/// More than XFS wants to have left for a new name.
const XFS_NAME_BYTES: u64 = 512 << 10;

fn open(folder: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(folder)
}

/// The project of a folder, when it is one of ours.
pub(super) fn project(folder: &Path) -> Result<Option<u32>, PlaceError> {
    let opened = match open(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.about("open", folder)?,
    };
    match kernel::project(opened.as_fd()) {
        Ok(number) => Ok((FIRST..FIRST + COUNT).contains(&number).then_some(number)),
        // A file system without projects.
        Err(Errno::ENOTTY | Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(None),
        Err(errno) => Err(errno).about("ask for the project of", folder),
    }
}

/// Makes an empty folder a project. The limit is there before the folder belongs to it.
pub(super) fn begin(folder: &Path, limit: DiskLimit) -> Result<(), PlaceError> {
    let opened = open(folder).about("open", folder)?;
    let on = opened.as_fd();
    let holds = kernel::holds_project_quotas(on).about("ask for project quotas of", folder)?;
    if !holds {
        let text = "the file system is not mounted with prjquota";
        return Err(io::Error::other(text)).about("limit", folder);
    }
    let mut number = FIRST;
    let free = loop {
        match kernel::quota(on, number) {
            Ok(quota) if quota.inodes == 0 && quota.bytes == 0 => {
                break number;
            }
            // XFS knows nothing yet of a number that was never used.
            Err(Errno::ENOENT) => break number,
            Ok(_) => number += 1,
            Err(errno) => return Err(errno).about("ask for a quota on", folder),
        }
        if number == FIRST + COUNT {
            return Err(io::Error::other("all projects are taken")).about("limit", folder);
        }
    };
    write(&opened, free, limit, folder)?;
    let given = kernel::set_project(on, free);
    if given.is_err() {
        let _ = kernel::set_quota(on, free, 0, 0);
    }
    given.about("give a project to", folder)?;
    opened.sync_all().about("sync", folder)
}

fn write(opened: &File, project: u32, limit: DiskLimit, folder: &Path) -> Result<(), PlaceError> {
    let on = opened.as_fd();
    let doing = "set the quota of";
    if limit.bytes < XFS_NAME_BYTES && is_xfs(on) {
        let text = format!(
            "XFS makes no file where little is left of a quota: give {} KiB or more, not {}",
            XFS_NAME_BYTES >> 10,
            limit.bytes >> 10
        );
        return Err(io::Error::new(io::ErrorKind::Unsupported, text)).about(doing, folder);
    }
    // The folder itself is an inode, and a block where its names are.
    let blocks = limit.bytes.div_ceil(4096) * 4 + 4;
    kernel::set_quota(on, project, blocks, limit.inodes + 1).about(doing, folder)
}

fn is_xfs(on: BorrowedFd<'_>) -> bool {
    fstatfs(on).is_ok_and(|seen| seen.filesystem_type() == XFS_SUPER_MAGIC)
}

/// More of a quota, until it is dropped. What the hard limit was is the soft one meanwhile: [`take_back`] finds it there when
/// whoever borrowed was killed.
pub(crate) struct Loan<'a> {
    on: BorrowedFd<'a>,
    project: u32,
    before: kernel::Quota,
}

impl<'a> Loan<'a> {
    /// So much more that XFS makes a name, for the project that a folder of it belongs to. None on other file systems, which
    /// make one where a block is left, and without a limit.
    pub(crate) fn of_a_name(on: BorrowedFd<'a>) -> Option<Loan<'a>> {
        if !is_xfs(on) {
            return None;
        }
        let project = kernel::project(on).ok()?;
        let before = kernel::quota(on, project).ok()?;
        if before.hard_blocks == 0 {
            return None;
        }
        let mut more = before;
        more.soft_blocks = before.hard_blocks;
        more.hard_blocks += XFS_NAME_BYTES >> 10;
        kernel::set_limits(on, project, more).ok()?;
        Some(Loan {
            on,
            project,
            before,
        })
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        // What fails here is put right by the next `take_back`.
        let _ = kernel::set_limits(self.on, self.project, self.before);
    }
}

/// What was lent to somebody who was killed. What cannot be asked for was not lent either (the disk is mounted without quotas), and
/// no folder is worth less for having 512 KiB too much.
pub(super) fn take_back(folder: &Path) {
    let Ok(opened) = open(folder) else { return };
    let on = opened.as_fd();
    let lent = kernel::project(on).and_then(|project| Ok((project, kernel::quota(on, project)?)));
    if let Ok((project, quota)) = lent
        && quota.soft_blocks > 0
    {
        let _ = kernel::set_quota(on, project, quota.soft_blocks, quota.hard_inodes);
    }
}

pub(super) fn set(folder: &Path, limit: DiskLimit) -> Result<(), PlaceError> {
    let opened = open(folder).about("open", folder)?;
    let project = kernel::project(opened.as_fd()).about("ask for the project of", folder)?;
    write(&opened, project, limit, folder)
}

pub(super) fn usage(folder: &Path) -> Result<DiskUse, PlaceError> {
    let opened = open(folder).about("open", folder)?;
    let on = opened.as_fd();
    let project = kernel::project(on).about("ask for the project of", folder)?;
    let quota = kernel::quota(on, project).about("ask for the quota of", folder)?;
    let limited = quota.hard_blocks > 0 || quota.hard_inodes > 0;
    Ok(DiskUse {
        bytes: quota.bytes.saturating_sub(4096),
        inodes: quota.inodes.saturating_sub(1),
        limit: limited.then(|| DiskLimit {
            bytes: (quota.hard_blocks * 1024).saturating_sub(4096),
            inodes: quota.hard_inodes.saturating_sub(1),
        }),
    })
}

/// Nothing holds the project any more. The folder keeps its number until it is deleted, and with it what it counts.
pub(super) fn end(folder: &Path) -> Result<(), PlaceError> {
    let Some(project) = project(folder)? else {
        return Ok(());
    };
    let opened = open(folder).about("open", folder)?;
    match kernel::set_quota(opened.as_fd(), project, 0, 0) {
        // Mounted without quotas since.
        Ok(()) | Err(Errno::ESRCH | Errno::ENOSYS | Errno::ENOTBLK) => Ok(()),
        Err(errno) => Err(errno).about("take the quota from", folder),
    }
}

//! Project quotas: each limited folder is a project of its own.
//!
//! The project's number is written in the folder (FS_IOC_FSSETXATTR), so that no list is kept. A number is free when nothing
//! is counted for it: a tree that was thrown away and waits for its deletion still has its own.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;

use super::{About, DiskLimit, DiskUse, PlaceError};
use crate::kernel::disk as kernel;

/// First number of ours: far from what people write into /etc/projid.
const FIRST: u32 = 0x434f_0000;
/// Numbers that are tried.
const COUNT: u32 = 0x1_0000;

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
    write(&opened, free, limit).about("set the quota of", folder)?;
    let given = kernel::set_project(on, free);
    if given.is_err() {
        let _ = kernel::set_quota(on, free, 0, 0);
    }
    given.about("give a project to", folder)?;
    opened.sync_all().about("sync", folder)
}

fn write(opened: &File, project: u32, limit: DiskLimit) -> nix::Result<()> {
    // The folder itself is an inode, and a block where its names are.
    let blocks = limit.bytes.div_ceil(4096) * 4 + 4;
    kernel::set_quota(opened.as_fd(), project, blocks, limit.inodes + 1)
}

pub(super) fn set(folder: &Path, limit: DiskLimit) -> Result<(), PlaceError> {
    let opened = open(folder).about("open", folder)?;
    let project = kernel::project(opened.as_fd()).about("ask for the project of", folder)?;
    write(&opened, project, limit).about("set the quota of", folder)
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

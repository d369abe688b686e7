//! A tmpfs on a folder.

use std::io;
use std::path::Path;

use nix::mount::{MsFlags, mount as mount_call};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::statvfs;

use super::{About, DiskLimit, DiskUse, PlaceError, image, wide};

/// Whether a tmpfs of its own is on this folder.
pub(super) fn is_on(folder: &Path) -> Result<bool, PlaceError> {
    if !image::is_mounted(folder)? {
        return Ok(false);
    }
    let seen = statfs(folder).map_err(io::Error::from);
    Ok(seen.about("look at", folder)?.filesystem_type() == TMPFS_MAGIC)
}

pub(super) fn mount(folder: &Path, limit: DiskLimit) -> Result<(), PlaceError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = options(limit);
    let kind = Some("tmpfs");
    mount_call(kind, folder, kind, flags, Some(options.as_str())).about("mount a tmpfs on", folder)
}

/// tmpfs refuses a limit below what is in it (mm/shmem.c, shmem_reconfigure).
pub(super) fn resize(folder: &Path, limit: DiskLimit) -> Result<(), PlaceError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_REMOUNT;
    let options = options(limit);
    mount_call(
        None::<&str>,
        folder,
        None::<&str>,
        flags,
        Some(options.as_str()),
    )
    .about("resize the tmpfs on", folder)
}

/// The tmpfs's own folder is one of its inodes.
fn options(limit: DiskLimit) -> String {
    format!(
        "mode=755,size={},nr_inodes={}",
        limit.bytes,
        limit.inodes + 1
    )
}

pub(super) fn usage(folder: &Path) -> Result<DiskUse, PlaceError> {
    let seen = statvfs(folder)
        .map_err(io::Error::from)
        .about("ask for the use of", folder)?;
    let block = wide(seen.block_size());
    let (blocks, inodes) = (wide(seen.blocks()), wide(seen.files()));
    Ok(DiskUse {
        bytes: blocks.saturating_sub(wide(seen.blocks_free())) * block,
        inodes: inodes.saturating_sub(wide(seen.files_free()) + 1),
        limit: Some(DiskLimit {
            bytes: blocks * block,
            inodes: inodes.saturating_sub(1),
        }),
    })
}

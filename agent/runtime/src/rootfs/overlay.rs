//! Layers over each other.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::syncfs;

use super::{bind_mapped, fd_path, open_folder};
use crate::disk::Loan;
use crate::failure::{At, Failure, Step};
use crate::namespaces::Users;

/// The folders go to the kernel as `/proc/self/fd/n`: all options must fit into one page, paths with 64 hexadecimal
/// digits would limit an image to some forty layers, and a `:` or `,` in a path needs no escaping this way.
///
/// With `users` each becomes an id-mapped mount on itself first, in the caller's own mount namespace: only kernels from 6.15
/// on take a tree that is in none. `upper` and `work` must be on one mount then: they lie in one folder.
pub(crate) fn overlay(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    merged: &Path,
    users: Option<&Users>,
) -> Result<OwnedFd, Failure> {
    if let Some(users) = users {
        bind_mapped(above_both(upper, work)?, users)?;
    }
    let mut open_folders = Vec::with_capacity(lower.len() + 2);
    let mut name = |folder: OwnedFd| {
        let name = fd_path(&folder);
        open_folders.push(folder);
        name
    };
    let mut names = Vec::with_capacity(lower.len());
    for path in lower {
        names.push(name(match users {
            Some(users) => bind_mapped(path, users)?,
            None => open_folder(path).at(Step::Overlay, path)?,
        }));
    }
    // What an upper folder means must not depend on the kernel's defaults: it is read by diff and commit, and it may be
    // mounted again by another kernel.
    let options = format!(
        "lowerdir={},upperdir={},workdir={},index=off",
        names.join(":"),
        name(open_folder(upper).at(Step::Overlay, upper)?),
        name(open_folder(work).at(Step::Overlay, work)?)
    );
    let upper = open_folders.iter().rev().nth(1);
    mount_writable(merged, &options, upper.expect("upper is the last but one"))?;
    open_folder(merged).at(Step::Overlay, merged)
}

/// Kernels before 4.19 know no `metacopy`, have nothing that it would switch off, and answer EINVAL to the word.
fn mount_once(merged: &Path, options: &str) -> nix::Result<()> {
    let mount_with = |options: &str| {
        let none = MsFlags::empty();
        mount(
            Some("overlay"),
            merged,
            Some("overlay"),
            none,
            Some(options),
        )
    };
    match mount_with(&format!("{options},metacopy=off")) {
        Err(Errno::EINVAL) => mount_with(options),
        other => other,
    }
}

/// The kernel removes the folder that the mount before made in `work`, makes another, and mounts read-only where it cannot.
/// On a full disk there is room for it once what was removed is free: when the disk's journal is written, and the mount before,
/// which whoever reads a dead container's mounts keeps up, is gone. On XFS there is room only with a loan.
fn mount_writable(merged: &Path, options: &str, upper: &OwnedFd) -> Result<(), Failure> {
    const TRIES: u32 = 50;
    const WAIT: Duration = Duration::from_millis(20);
    let mut readable = None;
    for tried in 0.. {
        let loan = readable
            .as_ref()
            .and_then(|upper: &File| Loan::of_a_name(upper.as_fd()));
        let mounted = mount_once(merged, options);
        drop(loan);
        mounted.at(Step::Overlay, merged)?;
        let flags = statvfs(merged).at(Step::Overlay, merged)?.flags();
        if !flags.contains(FsFlags::ST_RDONLY) {
            return Ok(());
        }
        umount2(merged, MntFlags::UMOUNT_NOFOLLOW).at(Step::Overlay, merged)?;
        if tried == TRIES {
            break;
        }
        let layer = File::open(fd_path(upper)).at(Step::Overlay, "the writable layer")?;
        syncfs(&layer).at(Step::Overlay, "the writable layer")?;
        readable = Some(layer);
        std::thread::sleep(WAIT);
    }
    let text = "the writable layer, which has no room for one more folder: free some, or raise the disk limit";
    Err(Failure::new(Step::Overlay, text, libc::ENOSPC))
}

fn above_both<'a>(upper: &'a Path, work: &Path) -> Result<&'a Path, Failure> {
    let above = upper.parent().filter(|above| work.parent() == Some(above));
    above.ok_or_else(|| {
        let text = format!(
            "{} and {} are not in one folder",
            upper.display(),
            work.display()
        );
        Failure::refused(Step::Overlay, text)
    })
}

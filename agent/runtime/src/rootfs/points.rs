//! Places of mounts, for those who let another program mount.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::stat::{SFlag, stat};

use super::listed::target_for;
use super::target::{Kind, find_or_make, lookup};
use super::{fd_path, open_folder};
use crate::failure::{At, Failure, Step};
use crate::spec::{FileSystem, Origin};

/// Makes the places that a root lacks, as a launch makes them. What lies on a bind mount of the list is made in its source; what
/// lies on another one is not made.
///
/// # Errors
/// A place that a launch would refuse too.
pub fn make_mount_points(rootfs: &Path, file_systems: &[FileSystem]) -> Result<(), Failure> {
    let root = open_folder(rootfs).at(Step::Rootfs, rootfs)?;
    for (count, one) in file_systems.iter().enumerate() {
        let before = file_systems[..count].iter().rev();
        let below = before
            .filter(|other| one.target.starts_with(&other.target))
            .max_by_key(|other| other.target.components().count());
        let kind = match &one.origin {
            Origin::Bind { source, .. } => {
                let mode = stat(source).at(Step::Mount, source)?.st_mode;
                match SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits()) {
                    SFlag::S_IFDIR => Kind::Folder,
                    _ => Kind::File,
                }
            }
            Origin::Cgroup | Origin::New { .. } => Kind::Folder,
        };
        let Some(below) = below else {
            target_for(&root, one, kind)?;
            continue;
        };
        let rest = one.target.strip_prefix(&below.target);
        let (Origin::Bind { source, .. }, Ok(rest)) = (&below.origin, rest) else {
            continue;
        };
        if !rest.as_os_str().is_empty() && source.is_dir() {
            let source = open_folder(source).at(Step::Mount, source)?;
            find_or_make(source.as_fd(), rest, kind).at(Step::Mount, &one.target)?;
        }
    }
    Ok(())
}

/// The path without links of what `path` is to a process with this root, as that process would write it. The root may be
/// another mount namespace's.
///
/// # Errors
/// When nothing is there.
pub fn path_inside(root: BorrowedFd<'_>, path: &Path) -> io::Result<PathBuf> {
    let found: OwnedFd = lookup(root, path)?;
    std::fs::read_link(fd_path(&found.as_fd()))
}

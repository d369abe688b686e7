//! What is in a tree, and not in its layer.

use std::os::fd::OwnedFd;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode};
use rustix::io::Errno;

use super::Faults;
use super::names::Names;
use crate::beneath::FOLDER;
use crate::limits::Limits;

pub(super) fn find(root: OwnedFd, names: &Names, limits: &Limits, faults: &mut Faults) {
    look(root, &mut Vec::new(), limits.path_depth, names, faults);
}

/// `depth`: folders that there may be below. One that is no folder of the layer's is not looked into.
fn look(folder: OwnedFd, path: &mut Vec<u8>, depth: usize, names: &Names, faults: &mut Faults) {
    let length = path.len();
    let end = each(&folder, |name, mut kind| {
        path.truncate(length);
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        if names.last(path).is_none() {
            faults.add(path, "is not in the layer".to_owned());
            return Ok(());
        }
        if kind == FileType::Unknown {
            let stat = fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            kind = FileType::from_raw_mode(stat.st_mode);
        }
        if kind == FileType::Directory && depth > 0 {
            let below = fs::openat(&folder, name, FOLDER, Mode::empty())?;
            look(below, path, depth - 1, names, faults);
        }
        Ok(())
    });
    path.truncate(length);
    if let Err(errno) = end {
        faults.add(path, format!("cannot be looked into: {errno}"));
    }
}

fn each(
    folder: &OwnedFd,
    mut entry: impl FnMut(&[u8], FileType) -> Result<(), Errno>,
) -> Result<(), Errno> {
    for found in Dir::read_from(folder)? {
        let found = found?;
        let name = found.file_name().to_bytes();
        if name != b"." && name != b".." {
            entry(name, found.file_type())?;
        }
    }
    Ok(())
}

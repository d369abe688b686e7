//! What waits for a link to the old layer's file, once nothing that the layer was read by can write any more.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, Dir, FileType, Mode};
use rustix::io::Errno;

use super::file::{COPY_BUFFER, copy_of};
use super::io_error;
use crate::beneath::{FOLDER, times_of};
use crate::limits::Limits;
use crate::unpack::UnpackError;

/// What became of the files that waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Linked {
    /// Hard links to the old layer's files.
    pub links: u64,
    /// Copies: a file has as many names as it may, or belongs to another file system or quota.
    pub copies: u64,
}

/// Gives each file of `tree` that waits for it (see [`apply_layer_beside`](crate::unpack::apply_layer_beside)) the old layer's
/// file at the same path, as a hard link or else as a copy, and syncs the file system.
///
/// The tree may be anybody's work: nothing but folders is entered, no link is followed, nothing but a regular file of the
/// same path is linked, and no file gets two names in the tree, as the layer did not say so.
pub fn link_unchanged(
    old: BorrowedFd<'_>,
    tree: BorrowedFd<'_>,
    limits: &Limits,
) -> Result<Linked, UnpackError> {
    let mut linker = Linker {
        linked: Linked::default(),
        names: BTreeSet::new(),
        buffer: vec![0; COPY_BUFFER],
    };
    linker.folder(Some(old), tree, limits.path_depth)?;
    fs::syncfs(tree).map_err(|e| io_error("finishing", b".", e))?;
    Ok(linker.linked)
}

struct Linker {
    linked: Linked,
    /// Inodes of files that had several names before: one of them may have been in the old layer.
    names: BTreeSet<u64>,
    buffer: Vec<u8>,
}

impl Linker {
    fn folder(
        &mut self,
        old: Option<BorrowedFd<'_>>,
        new: BorrowedFd<'_>,
        depth: usize,
    ) -> Result<(), UnpackError> {
        let failed = |source: Errno| io_error("reading a folder of", b".", source);
        let times = times_of(new).map_err(failed)?;
        let before = self.linked;
        for entry in Dir::read_from(new).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                let stat = fs::statat(new, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                kind = FileType::from_raw_mode(stat.st_mode);
            }
            match kind {
                FileType::Socket => self.file(old, new, name)?,
                FileType::Directory if depth > 0 => {
                    let enter = |folder| fs::openat(folder, name, FOLDER, Mode::empty());
                    let inner = enter(new).map_err(failed)?;
                    let old = old.and_then(|old| enter(old).ok());
                    self.folder(old.as_ref().map(OwnedFd::as_fd), inner.as_fd(), depth - 1)?;
                }
                _ => {}
            }
        }
        if self.linked != before {
            fs::futimens(new, &times).map_err(failed)?;
        }
        Ok(())
    }

    fn file(
        &mut self,
        old: Option<BorrowedFd<'_>>,
        new: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<(), UnpackError> {
        let failed = |source: Errno| io_error("linking the old layer's", name, source);
        let old = old.ok_or(Errno::NOENT).map_err(failed)?;
        let stat = fs::statat(old, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        // Anything else must not even be opened.
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(failed(Errno::INVAL));
        }
        fs::unlinkat(new, name, AtFlags::empty()).map_err(failed)?;
        let is_free = stat.st_nlink == 1 || self.names.insert(stat.st_ino);
        if is_free && fs::linkat(old, name, new, name, AtFlags::empty()).is_ok() {
            self.linked.links += 1;
        } else {
            copy_of(old, new, name, &mut self.buffer)?;
            self.linked.copies += 1;
        }
        Ok(())
    }
}

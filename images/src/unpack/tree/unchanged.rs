//! Files that the old layer has just as they are to be: nothing is written for them.
//!
//! A new file is held against the old layer's of the same path while it is decoded, and written from the first byte on that
//! differs. One that is the same to its end becomes a reflink, or, where the file system has none and owner, mode, time and
//! attributes are the same too, a hard link. That link is not made here: whoever may write to the new tree could then write
//! to the old one's file. A socket takes its place, which no layer can hold, until [`link_unchanged`](super::link_unchanged).

use std::fs::File;
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{self, AtFlags, FileType, Mode};

use super::facts::{is_alike, is_taken, of_file};
use super::file::{COPY_BUFFER, copy, copy_of, make, open, read_some};
use super::{Place, io_error};
use crate::beneath::{Walker, times_of};
use crate::unpack::{Member, UnpackError};

/// The old layer.
pub(super) struct Old {
    tree: Walker,
    /// Whether the file system has reflinks: as long as none has failed.
    clones: bool,
    /// What was read of the new file last.
    ahead: Vec<u8>,
    /// Sockets that were made.
    pub(super) waiting: u64,
    /// Bytes that were not written.
    pub(super) spared: u64,
}

/// What is known of a new file before anything of it is written.
#[derive(Default)]
pub(super) struct Begun {
    old: Option<File>,
    is_alike: bool,
    /// Bytes from its start on that the old one has too.
    same: u64,
    /// Bytes that follow and were read already.
    ahead: usize,
}

/// What an unchanged file became.
pub(super) enum Taken {
    Not,
    /// It has its bytes.
    Clone(File),
    /// A socket; so many attributes are left out.
    Waits(u64),
}

impl Old {
    pub(super) fn new(tree: OwnedFd) -> Self {
        Self {
            tree: Walker::reader(tree),
            clones: true,
            ahead: vec![0; COPY_BUFFER],
            waiting: 0,
            spared: 0,
        }
    }

    /// Reads the new file for as long as it is the old one, if it can come to be that.
    pub(super) fn compare(
        &mut self,
        member: &Member,
        place: Place<'_>,
        data: &mut dyn Read,
        buffer: &mut [u8],
    ) -> Result<Begun, UnpackError> {
        let mut begun = Begun::default();
        let folder = self.tree.enter(place.folder);
        let Ok(old) = folder.and_then(|folder| open(folder, place.name)) else {
            return Ok(begun);
        };
        let Ok(facts) = of_file(&old) else {
            return Ok(begun);
        };
        begun.is_alike = is_alike(&facts, member);
        if facts.size != member.size || !(begun.is_alike || self.clones) {
            return Ok(begun);
        }
        while begun.same < member.size && begun.ahead == 0 {
            let left = member.size - begun.same;
            let read = read_some(data, &mut self.ahead, left, &member.path)?;
            // One that cannot be read, on a disk that wears out, is written anew.
            match old.read_exact_at(&mut buffer[..read], begun.same) {
                Ok(()) if buffer[..read] == self.ahead[..read] => begun.same += read as u64,
                _ => begun.ahead = read,
            }
        }
        begun.old = Some(old);
        Ok(begun)
    }

    /// Makes `name` in the new tree share the old file's bytes, if all of them are the new one's.
    pub(super) fn take(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        begun: &Begun,
        member: &Member,
    ) -> Result<Taken, UnpackError> {
        let Some(old) = begun.old.as_ref().filter(|_| begun.same == member.size) else {
            return Ok(Taken::Not);
        };
        if self.clones {
            let file = make(parent, name, &member.path)?;
            if fs::ioctl_ficlone(&file, old).is_ok() {
                self.spared += member.size;
                return Ok(Taken::Clone(file));
            }
            self.clones = false;
            fs::unlinkat(parent, name, AtFlags::empty())
                .map_err(|e| io_error("replacing", &member.path, e))?;
        }
        let mode = Mode::RUSR | Mode::WUSR;
        if !begun.is_alike || fs::mknodat(parent, name, FileType::Socket, mode, 0).is_err() {
            return Ok(Taken::Not);
        }
        self.waiting += 1;
        self.spared += member.size;
        let left_out = member.xattrs.iter().filter(|(name, _)| !is_taken(name));
        Ok(Taken::Waits(left_out.count() as u64))
    }

    /// Writes what is known of a new file; returns its bytes.
    pub(super) fn write_begun(
        &self,
        begun: &Begun,
        file: &mut File,
        buffer: &mut [u8],
        path: &[u8],
    ) -> Result<u64, UnpackError> {
        let Some(mut same) = begun.old.as_ref() else {
            return Ok(0);
        };
        copy(&mut same, file, begun.same, buffer, path)?;
        let ahead = begun.ahead as u64;
        copy(&mut &self.ahead[..begun.ahead], file, ahead, buffer, path)?;
        Ok(begun.same + ahead)
    }

    /// Writes the file that waits at this path of the new tree, in `folder`, after all.
    pub(super) fn write_out(
        &mut self,
        folder: BorrowedFd<'_>,
        parts: &[&[u8]],
        buffer: &mut [u8],
    ) -> Result<(), UnpackError> {
        let Some((name, above)) = parts.split_last() else {
            return Ok(());
        };
        let failed = |e| io_error("replacing", name, e);
        let old = self.tree.enter(above).map_err(failed)?;
        // The walk may have left the folder already.
        let times = times_of(folder).map_err(failed)?;
        fs::unlinkat(folder, *name, AtFlags::empty()).map_err(failed)?;
        self.spared -= copy_of(old, folder, name, buffer)?;
        fs::futimens(folder, &times).map_err(failed)
    }
}

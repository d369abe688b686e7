//! Writes members below a folder: [`file`] and [`node`] make them, [`facts`] sets owner, mode and the like,
//! [`whiteout`] hides what lower layers have, [`unchanged`] spares what the old layer has, [`link`] links it.

mod facts;
mod file;
mod link;
mod node;
mod unchanged;
mod whiteout;

use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType};
use rustix::io::Errno;

use super::UnpackError;
use super::tar_stream::{Kind, Member};
use crate::beneath::{Walker, components, seconds};
use crate::limits::Limits;

use facts::{check_attributes, finish_node};
use file::COPY_BUFFER;
use unchanged::Old;

pub use link::{Linked, link_unchanged};
pub(crate) use whiteout::{OPAQUE, WHITEOUT};
pub use whiteout::{mark_opaque, not_opaque};

/// Where a member goes.
#[derive(Clone, Copy)]
struct Place<'p> {
    /// All of the path.
    parts: &'p [&'p [u8]],
    /// The path of its folder.
    folder: &'p [&'p [u8]],
    name: &'p [u8],
}

impl<'p> Place<'p> {
    /// `None` is the root.
    fn of(parts: &'p [&'p [u8]]) -> Option<Self> {
        let (name, folder) = parts.split_last()?;
        Some(Self {
            parts,
            folder,
            name,
        })
    }
}

/// The tree in the making.
pub(super) struct TreeWriter<'a> {
    walker: Walker,
    limits: &'a Limits,
    buffer: Vec<u8>,
    old: Option<Old>,
    pub(super) opaque_pending: Vec<Vec<u8>>,
    /// Bytes of these.
    opaque_bytes: usize,
    pub(super) xattrs_left_out: u64,
}

impl<'a> TreeWriter<'a> {
    /// With an `old` layer, unchanged files are not written again.
    pub(super) fn new(root: OwnedFd, old: Option<OwnedFd>, limits: &'a Limits) -> Self {
        Self {
            walker: Walker::writer(root),
            limits,
            buffer: vec![0; COPY_BUFFER],
            old: old.map(Old::new),
            opaque_pending: Vec::new(),
            opaque_bytes: 0,
            xattrs_left_out: 0,
        }
    }

    /// Makes one member; `data` gives a file's bytes.
    pub(super) fn put(&mut self, member: &Member, data: &mut impl Read) -> Result<(), UnpackError> {
        let refused = |source| UnpackError::Path {
            path: lossy(&member.path),
            source,
        };
        let parts = components(&member.path, self.limits).map_err(refused)?;
        let Some(place) = Place::of(&parts) else {
            return self.root(member);
        };
        let whiteouts = self.limits.whiteouts;
        if whiteouts && place.folder.iter().any(|part| part.starts_with(WHITEOUT)) {
            return Err(UnpackError::Whiteout(lossy(&member.path)));
        }
        if whiteouts && let Some(hidden) = place.name.strip_prefix(WHITEOUT) {
            return self.whiteout(member, place.folder, hidden);
        }
        check_attributes(member)?;
        self.node(member, place, data)
    }

    /// Sets the times that are still open and writes everything to the disk, unless links are to come.
    pub(super) fn finish(mut self) -> Result<Self, UnpackError> {
        let failed = |source: Errno| io_error("finishing", b".", source);
        self.walker.finish().map_err(failed)?;
        if self.unchanged().0 == 0 {
            fs::syncfs(self.walker.root()).map_err(failed)?;
        }
        Ok(self)
    }

    /// Files that wait for [`link_unchanged`], and bytes that were not written.
    pub(super) fn unchanged(&self) -> (u64, u64) {
        let counts = |old: &Old| (old.waiting, old.spared);
        self.old.as_ref().map_or((0, 0), counts)
    }

    /// `./`: the facts of the root itself.
    fn root(&mut self, member: &Member) -> Result<(), UnpackError> {
        if member.kind != Kind::Folder {
            return Err(UnpackError::RootNotFolder);
        }
        check_attributes(member)?;
        let failed = |source: Errno| io_error("setting up", b".", source);
        self.walker.leave_to(0).map_err(failed)?;
        let left_out = finish_node(self.walker.root(), member)?;
        self.xattrs_left_out += left_out;
        self.walker
            .set_times(seconds(member.mtime, member.mtime_nanos));
        Ok(())
    }
}

fn is_folder(parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    let stat = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn io_error(doing: &'static str, path: &[u8], source: Errno) -> UnpackError {
    UnpackError::Io {
        doing,
        path: lossy(path),
        source: source.into(),
    }
}

/// For messages: at most 200 bytes of a hostile path.
pub(crate) fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned()
}

//! Names below a folder, reached without following a single symbolic link.
//!
//! A path from a layer or from a delta is hostile. It is cut into components first (no `..`, no
//! NUL, bounded length and depth), then walked one `openat(O_NOFOLLOW | O_DIRECTORY)` at a time
//! from a folder descriptor. That works on every kernel, after a pivot, without /proc, and under a
//! seccomp filter that can't look into `openat2`'s arguments. The folders on the way stay open,
//! because the next path mostly shares them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, RawMode, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::limits::Limits;

/// Bytes of one name (Linux `NAME_MAX`).
const NAME_BYTES: usize = 255;

/// How every folder is opened: as itself, never as what a link points to.
pub(crate) const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Why a path is refused before anything is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The path climbs: a `..` component. Refused, not resolved.
    #[error("the path has a `..` component")]
    Climbs,
    /// A NUL byte inside.
    #[error("the path has a NUL byte")]
    Nul,
    /// Longer than [`Limits::path_bytes`], deeper than [`Limits::path_depth`] or with a name
    /// above 255 bytes.
    #[error("the path is too long or too deep")]
    TooLong,
}

/// The components of `path` below a root: leading `/`, empty and `.` components fall away, so that
/// the root itself is the empty list.
pub(crate) fn components<'a>(path: &'a [u8], limits: &Limits) -> Result<Vec<&'a [u8]>, PathError> {
    if path.len() > limits.path_bytes {
        return Err(PathError::TooLong);
    }
    if path.contains(&0) {
        return Err(PathError::Nul);
    }
    let mut parts = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err(PathError::Climbs),
            _ if part.len() > NAME_BYTES || parts.len() == limits.path_depth => {
                return Err(PathError::TooLong);
            }
            _ => parts.push(part),
        }
    }
    Ok(parts)
}

/// An open folder on the way to the current one.
struct Frame {
    name: Vec<u8>,
    fd: OwnedFd,
    /// Set back when the walk leaves the folder, because writing below it changed them.
    times: Timestamps,
}

/// Walks below a root, keeping the folders of the last path open.
pub(crate) struct Walker {
    root: OwnedFd,
    root_times: Option<Timestamps>,
    frames: Vec<Frame>,
    keep_times: bool,
}

impl Walker {
    /// A walker for reading: missing folders are errors, times are left alone.
    pub(crate) fn reader(root: OwnedFd) -> Self {
        Self {
            root,
            root_times: None,
            frames: Vec::new(),
            keep_times: false,
        }
    }

    /// A walker for writing: missing folders are made (0755, owned by root, time 0, as no layer
    /// says otherwise), and each folder gets its modification time back when the walk leaves it.
    pub(crate) fn writer(root: OwnedFd) -> Self {
        Self {
            root,
            root_times: None,
            frames: Vec::new(),
            keep_times: true,
        }
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens the folder with these components. A component that is a symbolic link or no folder is
    /// `ENOTDIR` or `ELOOP`.
    pub(crate) fn enter(&mut self, parts: &[&[u8]]) -> Result<BorrowedFd<'_>, Errno> {
        let shared = self
            .frames
            .iter()
            .zip(parts)
            .take_while(|(frame, part)| frame.name == **part)
            .count();
        self.leave_to(shared)?;
        for part in &parts[shared..] {
            let fd = match fs::openat(self.current(), *part, FOLDER, Mode::empty()) {
                Err(Errno::NOENT) if self.keep_times => self.make_folder(part)?,
                other => other?,
            };
            let times = times_of(&fd)?;
            self.frames.push(Frame {
                name: part.to_vec(),
                fd,
                times,
            });
        }
        Ok(self.current())
    }

    fn current(&self) -> BorrowedFd<'_> {
        self.frames
            .last()
            .map_or(self.root.as_fd(), |frame| frame.fd.as_fd())
    }

    fn make_folder(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        fs::mkdirat(self.current(), name, Mode::from_raw_mode(0o755))?;
        let fd = fs::openat(self.current(), name, FOLDER, Mode::empty())?;
        fs::fchown(&fd, Some(Uid::ROOT), Some(Gid::ROOT))?;
        fs::fchmod(&fd, Mode::from_raw_mode(0o755))?;
        fs::futimens(&fd, &seconds(0, 0))?;
        Ok(fd)
    }

    /// Notes the modification time of the folder that was entered last (the root when `parts` was
    /// empty); it is set when the walk leaves that folder.
    pub(crate) fn set_times(&mut self, times: Timestamps) {
        match self.frames.last_mut() {
            Some(frame) => frame.times = times,
            None => self.root_times = Some(times),
        }
    }

    /// Leaves all folders that are open below the first `depth` components.
    pub(crate) fn leave_to(&mut self, depth: usize) -> Result<(), Errno> {
        while self.frames.len() > depth
            && let Some(frame) = self.frames.pop()
        {
            if self.keep_times {
                fs::futimens(&frame.fd, &frame.times)?;
            }
        }
        Ok(())
    }

    /// Leaves everything and sets the root's time.
    pub(crate) fn finish(&mut self) -> Result<(), Errno> {
        self.leave_to(0)?;
        match &self.root_times {
            Some(times) => fs::futimens(&self.root, times),
            None => Ok(()),
        }
    }

    /// Whether the folder with these components is one of the open ones; it must be left before it
    /// is removed.
    pub(crate) fn is_open(&self, parts: &[&[u8]]) -> bool {
        parts.len() <= self.frames.len()
            && parts
                .iter()
                .zip(&self.frames)
                .all(|(part, frame)| frame.name == **part)
    }
}

/// Opens a folder below `root` for reading, without keeping anything.
pub(crate) fn open_folder(root: BorrowedFd<'_>, parts: &[&[u8]]) -> Result<OwnedFd, Errno> {
    let mut current = fs::openat(root, c".", FOLDER, Mode::empty())?;
    for part in parts {
        current = fs::openat(&current, *part, FOLDER, Mode::empty())?;
    }
    Ok(current)
}

/// Removes `name` in `folder` with all that is below it, following nothing.
pub(crate) fn remove_tree(folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match fs::unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        other => return other,
    }
    let inner = fs::openat(folder, name, FOLDER, Mode::empty())?;
    for entry in fs::Dir::read_from(&inner)? {
        let entry = entry?;
        let child = entry.file_name().to_bytes();
        if child != b"." && child != b".." {
            remove_tree(inner.as_fd(), child)?;
        }
    }
    fs::unlinkat(folder, name, AtFlags::REMOVEDIR)
}

pub(crate) fn times_of(fd: impl AsFd) -> Result<Timestamps, Errno> {
    let stat = fs::fstat(fd)?;
    Ok(seconds(stat.st_mtime as i64, stat.st_mtime_nsec as u32))
}

/// The same time for access and modification: what a layer does not say must not depend on when it
/// was unpacked.
pub(crate) fn seconds(seconds: i64, nanos: u32) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanos.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Permission bits of a mode as a layer writes it, with set-uid, set-gid and sticky.
pub(crate) fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode((mode & 0o7777) as RawMode)
}

//! Regular files: new ones, and copies of the old layer's.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{self, Mode, OFlags};
use rustix::io::Errno;

use super::facts::{finish_node, of_file};
use super::node::vacate;
use super::unchanged::{Begun, Taken};
use super::{Place, TreeWriter, io_error, lossy};
use crate::beneath::seconds;
use crate::unpack::{Member, UnpackError};

/// Bytes copied at once: one system call per flash-page-sized piece would be slow, more takes memory.
pub(super) const COPY_BUFFER: usize = 64 << 10;

impl TreeWriter<'_> {
    pub(super) fn file(
        &mut self,
        member: &Member,
        place: Place<'_>,
        data: &mut dyn Read,
    ) -> Result<(), UnpackError> {
        let parent = vacate(&mut self.walker, member, place)?;
        let (name, path, buffer) = (place.name, &member.path, &mut self.buffer);
        let mut begun = Begun::default();
        let mut taken = Taken::Not;
        if let Some(old) = &mut self.old {
            begun = old.compare(member, place, data, buffer)?;
            taken = old.take(parent, name, &begun, member)?;
        }
        let file = match taken {
            Taken::Waits(left_out) => {
                self.xattrs_left_out += left_out;
                return Ok(());
            }
            Taken::Clone(file) => file,
            Taken::Not => {
                let mut file = make(parent, name, path)?;
                let done = match &self.old {
                    Some(old) => old.write_begun(&begun, &mut file, buffer, path)?,
                    None => 0,
                };
                copy(data, &mut file, member.size - done, buffer, path)?;
                file
            }
        };
        self.xattrs_left_out += finish(&file, member)?;
        Ok(())
    }
}

/// Makes `name` in `folder`, where nothing is, a file of its own with all that the one in `old` has. Returns its bytes.
pub(super) fn copy_of(
    old: BorrowedFd<'_>,
    folder: BorrowedFd<'_>,
    name: &[u8],
    buffer: &mut [u8],
) -> Result<u64, UnpackError> {
    let failed = |source: Errno| io_error("copying the old layer's", name, source);
    let mut from = open(old, name).map_err(failed)?;
    let mut facts = of_file(&from).map_err(failed)?;
    facts.path = name.to_vec();
    let mut file = make(folder, name, name)?;
    copy(&mut from, &mut file, facts.size, buffer, name)?;
    finish(&file, &facts)?;
    Ok(facts.size)
}

/// Opens what is hoped to be a file. Not blocking: a pipe must not hang before it is found to be none.
pub(super) fn open(folder: BorrowedFd<'_>, name: &[u8]) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    fs::openat(folder, name, flags, Mode::empty()).map(File::from)
}

pub(super) fn make(folder: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<File, UnpackError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR);
    made.map(File::from)
        .map_err(|e| io_error("making", path, e))
}

fn finish(file: &File, member: &Member) -> Result<u64, UnpackError> {
    let left_out = finish_node(file.as_fd(), member)?;
    fs::futimens(file, &seconds(member.mtime, member.mtime_nanos))
        .map_err(|e| io_error("making", &member.path, e))?;
    Ok(left_out)
}

pub(super) fn copy(
    data: &mut dyn Read,
    file: &mut File,
    size: u64,
    buffer: &mut [u8],
    path: &[u8],
) -> Result<(), UnpackError> {
    let mut left = size;
    while left > 0 {
        let read = read_some(data, buffer, left, path)?;
        let written = file.write_all(&buffer[..read]);
        written.map_err(|source| UnpackError::Io {
            doing: "writing",
            path: lossy(path),
            source,
        })?;
        left -= read as u64;
    }
    Ok(())
}

/// Reads at most `most` bytes into the buffer, one at least.
pub(super) fn read_some(
    data: &mut dyn Read,
    buffer: &mut [u8],
    most: u64,
    path: &[u8],
) -> Result<usize, UnpackError> {
    let most = buffer
        .len()
        .min(usize::try_from(most).unwrap_or(usize::MAX));
    loop {
        let source = match data.read(&mut buffer[..most]) {
            Ok(0) => io::ErrorKind::UnexpectedEof.into(),
            Ok(read) => return Ok(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => error,
        };
        return Err(UnpackError::Stream {
            path: lossy(path),
            source,
        });
    }
}

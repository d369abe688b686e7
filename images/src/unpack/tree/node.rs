//! One member of each kind, made in its place.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::facts::{finish_by_name, finish_node};
use super::whiteout::is_whiteout;
use super::{Place, TreeWriter, io_error, is_folder, lossy};
use crate::beneath::{Walker, components, open_folder, remove_tree, seconds};
use crate::unpack::{Kind, Member, UnpackError};

/// Bytes copied at once: one system call per flash-page-sized piece would be slow, more takes memory.
pub(super) const COPY_BUFFER: usize = 64 << 10;

impl TreeWriter<'_> {
    pub(super) fn node(
        &mut self,
        member: &Member,
        place: Place<'_>,
        data: &mut impl Read,
    ) -> Result<(), UnpackError> {
        let device = |refused: bool| match refused || !self.limits.devices {
            true => Err(UnpackError::Device(lossy(&member.path))),
            false => Ok(()),
        };
        match &member.kind {
            Kind::Folder => self.folder(member, place),
            Kind::File => self.file(member, place, data),
            Kind::HardLink(target) => self.hard_link(member, target, place),
            Kind::Symlink(target) => self.symlink(member, target, place),
            Kind::CharDevice(major, minor) => {
                // 0/0 is how overlayfs writes a whiteout: a layer must say that with a name.
                device((*major, *minor) == (0, 0))?;
                self.special(member, place, FileType::CharacterDevice, (*major, *minor))
            }
            Kind::BlockDevice(major, minor) => {
                device(false)?;
                self.special(member, place, FileType::BlockDevice, (*major, *minor))
            }
            Kind::Fifo => self.special(member, place, FileType::Fifo, (0, 0)),
        }
    }

    fn file(
        &mut self,
        member: &Member,
        place: Place<'_>,
        data: &mut impl Read,
    ) -> Result<(), UnpackError> {
        let failed = |source: Errno| io_error("making", &member.path, source);
        let parent = vacate(&mut self.walker, member, place)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(parent, place.name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        let mut file = std::fs::File::from(fd);
        copy(data, &mut file, member.size, &mut self.buffer, &member.path)?;
        self.xattrs_left_out += finish_node(file.as_fd(), member)?;
        fs::futimens(&file, &seconds(member.mtime, member.mtime_nanos)).map_err(failed)
    }

    fn symlink(
        &mut self,
        member: &Member,
        target: &[u8],
        place: Place<'_>,
    ) -> Result<(), UnpackError> {
        if target.len() > self.limits.path_bytes || target.is_empty() || target.contains(&0) {
            return Err(UnpackError::LinkTarget(lossy(&member.path)));
        }
        let failed = |source: Errno| io_error("making", &member.path, source);
        let parent = vacate(&mut self.walker, member, place)?;
        fs::symlinkat(target, parent, place.name).map_err(failed)?;
        finish_by_name(parent, place.name, member, false).map_err(failed)
    }

    /// A device or a pipe.
    fn special(
        &mut self,
        member: &Member,
        place: Place<'_>,
        kind: FileType,
        device: (u32, u32),
    ) -> Result<(), UnpackError> {
        let failed = |source: Errno| io_error("making", &member.path, source);
        let parent = vacate(&mut self.walker, member, place)?;
        make_device(parent, place.name, kind, device).map_err(failed)?;
        finish_by_name(parent, place.name, member, true).map_err(failed)
    }

    fn folder(&mut self, member: &Member, place: Place<'_>) -> Result<(), UnpackError> {
        let name = place.name;
        let failed = |source: Errno| io_error("making the folder", &member.path, source);
        let parent = self.walker.enter(place.folder).map_err(failed)?;
        let mut hides_lower = false;
        match fs::mkdirat(parent, name, Mode::RWXU) {
            Err(Errno::EXIST) if !is_folder(parent, name).map_err(failed)? => {
                // A whiteout came first: the new folder must go on hiding what the lower layers have there.
                hides_lower = is_whiteout(parent, name).map_err(failed)?;
                remove_tree(parent, name).map_err(failed)?;
                fs::mkdirat(parent, name, Mode::RWXU).map_err(failed)?;
            }
            Err(Errno::EXIST) => {}
            other => other.map_err(failed)?,
        }
        let fd = self.walker.enter(place.parts).map_err(failed)?;
        self.xattrs_left_out += finish_node(fd, member)?;
        self.walker
            .set_times(seconds(member.mtime, member.mtime_nanos));
        if hides_lower {
            self.opaque(place.parts)
        } else {
            Ok(())
        }
    }

    /// The target is a path below the root too, and no link on its way is followed.
    fn hard_link(
        &mut self,
        member: &Member,
        target: &[u8],
        place: Place<'_>,
    ) -> Result<(), UnpackError> {
        let (path, name) = (&member.path, place.name);
        // Not vacated yet: a hard link that names itself must not lose its file.
        parent_of(&mut self.walker, member, place)?;
        let refused = |source| UnpackError::Path {
            path: lossy(target),
            source,
        };
        let target_parts = components(target, self.limits).map_err(refused)?;
        let Some((&target_name, target_folder)) = target_parts.split_last() else {
            return Err(UnpackError::LinkTarget(lossy(path)));
        };
        let failed = |source: Errno| io_error("hard-linking", path, source);
        let from = open_folder(self.walker.root(), target_folder).map_err(failed)?;
        let parent = self.walker.enter(place.folder).map_err(failed)?;
        let stat = fs::statat(&from, target_name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return Err(UnpackError::LinkTarget(lossy(path))),
            FileType::CharacterDevice if stat.st_rdev == 0 => {
                return Err(UnpackError::LinkTarget(lossy(path)));
            }
            _ => {}
        }
        if let Ok(there) = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            if (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino) {
                return Ok(());
            }
            remove_tree(parent, name).map_err(failed)?;
        }
        fs::linkat(&from, target_name, parent, name, AtFlags::empty()).map_err(failed)
    }
}

/// The open folder of something that is no folder; if there is one in its place, it is left.
fn parent_of<'w>(
    walker: &'w mut Walker,
    member: &Member,
    place: Place<'_>,
) -> Result<BorrowedFd<'w>, UnpackError> {
    if walker.is_open(place.parts) {
        walker
            .leave_to(place.folder.len())
            .map_err(|e| io_error("leaving", &member.path, e))?;
    }
    walker
        .enter(place.folder)
        .map_err(|e| io_error("entering the folder of", &member.path, e))
}

/// As [`parent_of`], with nothing at the name any more: a later member replaces an earlier one of the same
/// name (POSIX pax, "-r").
fn vacate<'w>(
    walker: &'w mut Walker,
    member: &Member,
    place: Place<'_>,
) -> Result<BorrowedFd<'w>, UnpackError> {
    let parent = parent_of(walker, member, place)?;
    remove_tree(parent, place.name).map_err(|e| io_error("replacing", &member.path, e))?;
    Ok(parent)
}

pub(super) fn make_device(
    parent: BorrowedFd<'_>,
    name: &[u8],
    kind: FileType,
    (major, minor): (u32, u32),
) -> Result<(), Errno> {
    fs::mknodat(
        parent,
        name,
        kind,
        Mode::RUSR | Mode::WUSR,
        fs::makedev(major, minor),
    )
}

fn copy(
    data: &mut impl Read,
    file: &mut std::fs::File,
    size: u64,
    buffer: &mut [u8],
    path: &[u8],
) -> Result<(), UnpackError> {
    let mut left = size;
    while left > 0 {
        let most = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = match data.read(&mut buffer[..most]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(UnpackError::Stream {
                    path: lossy(path),
                    source: error,
                });
            }
        };
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

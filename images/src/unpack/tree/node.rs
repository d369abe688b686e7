//! One member of each kind, made in its place.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{self, AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::facts::{finish_by_name, finish_node};
use super::whiteout::is_whiteout;
use super::{Place, TreeWriter, io_error, is_folder, lossy};
use crate::beneath::{Walker, components, open_folder, remove_tree, seconds};
use crate::unpack::{Kind, Member, UnpackError};

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
        let look = || fs::statat(&from, target_name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed);
        let mut stat = look()?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Socket
            && let Some(old) = &mut self.old
        {
            // It waits for a link to the old layer's file, which would be a name too many for both of its own.
            old.write_out(from.as_fd(), &target_parts, &mut self.buffer)?;
            stat = look()?;
        }
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
pub(super) fn vacate<'w>(
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

//! Writes members below a folder.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Uid, XattrFlags};
use rustix::io::Errno;

use super::UnpackError;
use super::tar_stream::{Kind, Member};
use crate::beneath::{Walker, components, open_folder, permissions, remove_tree, seconds};
use crate::limits::Limits;

/// Prefix of a whiteout (image-spec `layer.md`, "Whiteouts"). A member with it is never a file.
const WHITEOUT: &[u8] = b".wh.";

/// Name that makes its folder opaque, without the prefix.
const OPAQUE: &[u8] = b".wh..opq";

/// overlayfs: hides what the lower layers have in this folder.
const OPAQUE_XATTR: &std::ffi::CStr = c"trusted.overlay.opaque";

/// Bytes copied at once: one system call per flash-page-sized piece would be slow, more takes memory.
const COPY_BUFFER: usize = 64 << 10;

/// The tree in the making.
pub(super) struct TreeWriter<'a> {
    walker: Walker,
    limits: &'a Limits,
    buffer: Vec<u8>,
    pub(super) opaque_pending: Vec<Vec<u8>>,
    pub(super) xattrs_left_out: u64,
}

impl<'a> TreeWriter<'a> {
    pub(super) fn new(root: OwnedFd, limits: &'a Limits) -> Self {
        Self {
            walker: Walker::writer(root),
            limits,
            buffer: vec![0; COPY_BUFFER],
            opaque_pending: Vec::new(),
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
        let Some((&name, folder)) = parts.split_last() else {
            return self.root(member);
        };
        if folder.iter().any(|part| part.starts_with(WHITEOUT)) {
            return Err(UnpackError::Whiteout(lossy(&member.path)));
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            return self.whiteout(member, folder, hidden);
        }
        self.check_attributes(member)?;
        self.node(member, &parts, name, folder, data)
    }

    /// Sets the times that are still open and writes everything to the disk.
    pub(super) fn finish(mut self) -> Result<Self, UnpackError> {
        let failed = |source: Errno| io_error("finishing", b".", source);
        self.walker.finish().map_err(failed)?;
        fs::syncfs(self.walker.root()).map_err(failed)?;
        Ok(self)
    }

    /// `./`: the facts of the root itself.
    fn root(&mut self, member: &Member) -> Result<(), UnpackError> {
        if member.kind != Kind::Folder {
            return Err(UnpackError::RootNotFolder);
        }
        self.check_attributes(member)?;
        let failed = |source: Errno| io_error("setting up", b".", source);
        self.walker.leave_to(0).map_err(failed)?;
        let left_out = finish_node(self.walker.root(), member)?;
        self.xattrs_left_out += left_out;
        self.walker
            .set_times(seconds(member.mtime, member.mtime_nanos));
        Ok(())
    }

    fn node(
        &mut self,
        member: &Member,
        parts: &[&[u8]],
        name: &[u8],
        folder: &[&[u8]],
        data: &mut impl Read,
    ) -> Result<(), UnpackError> {
        let path = &member.path;
        if member.kind == Kind::Folder {
            return self.folder(member, parts, name, folder);
        }
        if self.walker.is_open(parts) {
            self.walker
                .leave_to(folder.len())
                .map_err(|e| io_error("leaving", path, e))?;
        }
        let parent = self
            .walker
            .enter(folder)
            .map_err(|e| io_error("entering the folder of", path, e))?;
        // A later member replaces an earlier one of the same name (POSIX pax, "-r"); a hard link must be
        // able to name itself without losing its file.
        if !matches!(&member.kind, Kind::HardLink(_)) {
            remove_tree(parent, name).map_err(|e| io_error("replacing", path, e))?;
        }
        let failed = |source: Errno| io_error("making", path, source);
        match &member.kind {
            Kind::Folder => unreachable!("handled above"),
            Kind::File => {
                let flags = OFlags::WRONLY
                    | OFlags::CREATE
                    | OFlags::EXCL
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let fd =
                    fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
                let mut file = std::fs::File::from(fd);
                copy(data, &mut file, member.size, &mut self.buffer, path)?;
                self.xattrs_left_out += finish_node(file.as_fd(), member)?;
                fs::futimens(&file, &seconds(member.mtime, member.mtime_nanos)).map_err(failed)?;
                Ok(())
            }
            Kind::HardLink(target) => self.hard_link(member, target, name, folder),
            Kind::Symlink(target) => {
                if target.len() > self.limits.path_bytes || target.is_empty() || target.contains(&0)
                {
                    return Err(UnpackError::LinkTarget(lossy(path)));
                }
                fs::symlinkat(target.as_slice(), parent, name).map_err(failed)?;
                finish_by_name(parent, name, member, false).map_err(failed)
            }
            Kind::CharDevice(major, minor) => {
                // 0/0 is how overlayfs writes a whiteout: a layer must say that with a name.
                if (*major, *minor) == (0, 0) || !self.limits.devices {
                    return Err(UnpackError::Device(lossy(path)));
                }
                make_device(parent, name, FileType::CharacterDevice, *major, *minor)
                    .map_err(failed)?;
                finish_by_name(parent, name, member, true).map_err(failed)
            }
            Kind::BlockDevice(major, minor) => {
                if !self.limits.devices {
                    return Err(UnpackError::Device(lossy(path)));
                }
                make_device(parent, name, FileType::BlockDevice, *major, *minor).map_err(failed)?;
                finish_by_name(parent, name, member, true).map_err(failed)
            }
            Kind::Fifo => {
                make_device(parent, name, FileType::Fifo, 0, 0).map_err(failed)?;
                finish_by_name(parent, name, member, true).map_err(failed)
            }
        }
    }

    fn folder(
        &mut self,
        member: &Member,
        parts: &[&[u8]],
        name: &[u8],
        folder: &[&[u8]],
    ) -> Result<(), UnpackError> {
        let failed = |source: Errno| io_error("making the folder", &member.path, source);
        let parent = self.walker.enter(folder).map_err(failed)?;
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
        let fd = self.walker.enter(parts).map_err(failed)?;
        self.xattrs_left_out += finish_node(fd, member)?;
        self.walker
            .set_times(seconds(member.mtime, member.mtime_nanos));
        if hides_lower {
            self.opaque(parts)
        } else {
            Ok(())
        }
    }

    /// The target is a path below the root too, and no link on its way is followed.
    fn hard_link(
        &mut self,
        member: &Member,
        target: &[u8],
        name: &[u8],
        folder: &[&[u8]],
    ) -> Result<(), UnpackError> {
        let path = &member.path;
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
        let parent = self.walker.enter(folder).map_err(failed)?;
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

    /// `.wh.<hidden>` in `folder`.
    fn whiteout(
        &mut self,
        member: &Member,
        folder: &[&[u8]],
        hidden: &[u8],
    ) -> Result<(), UnpackError> {
        let failed = |source: Errno| io_error("hiding", &member.path, source);
        if hidden == OPAQUE {
            self.walker.enter(folder).map_err(failed)?;
            return self.opaque(folder);
        }
        if hidden.starts_with(WHITEOUT) {
            // `.wh..wh.aufs`, `.wh..wh.plnk`: bookkeeping of aufs, in old images. It says nothing.
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(UnpackError::Whiteout(lossy(&member.path)));
        }
        let parent = self.walker.enter(folder).map_err(failed)?;
        match make_device(parent, hidden, FileType::CharacterDevice, 0, 0) {
            // Whiteouts apply to lower layers only: what this layer brings itself stays.
            Err(Errno::EXIST) if is_folder(parent, hidden).map_err(failed)? => {
                let mut parts = folder.to_vec();
                parts.push(hidden);
                self.walker.enter(&parts).map_err(failed)?;
                self.opaque(&parts)
            }
            Err(Errno::EXIST) => Ok(()),
            // Its time is the member's: a tree must not depend on when it was unpacked.
            Ok(()) => {
                let times = seconds(member.mtime, member.mtime_nanos);
                fs::utimensat(parent, hidden, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
            }
            Err(errno) => Err(failed(errno)),
        }
    }

    /// Marks the folder that was entered last. Only CAP_SYS_ADMIN may; without it the caller's parent gets
    /// the path.
    fn opaque(&mut self, parts: &[&[u8]]) -> Result<(), UnpackError> {
        let path = parts.join(&b'/');
        let fd = self
            .walker
            .enter(parts)
            .map_err(|e| io_error("opening", &path, e))?;
        match fs::fsetxattr(fd, OPAQUE_XATTR, b"y", XattrFlags::empty()) {
            Err(Errno::PERM | Errno::OPNOTSUPP)
                if self.opaque_pending.len() < self.limits.opaque_pending =>
            {
                if !self.opaque_pending.contains(&path) {
                    self.opaque_pending.push(path);
                }
                Ok(())
            }
            other => other.map_err(|e| io_error("making opaque", &path, e)),
        }
    }

    /// overlayfs reads its own attributes from the layers, and `redirect` would let one name another
    /// folder: a layer must not bring them.
    fn check_attributes(&self, member: &Member) -> Result<(), UnpackError> {
        let overlay = |name: &[u8]| {
            name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
        };
        match member
            .xattrs
            .iter()
            .find(|(name, _)| overlay(name) || name.contains(&0))
        {
            Some((name, _)) => Err(UnpackError::Attribute {
                path: lossy(&member.path),
                name: lossy(name),
            }),
            None => Ok(()),
        }
    }
}

/// Marks folders opaque that [`apply_layer`](super::apply_layer) could not: for the parent of a jailed
/// child, which has CAP_SYS_ADMIN. The paths are walked as a layer's are.
pub fn mark_opaque(
    root: BorrowedFd<'_>,
    paths: &[Vec<u8>],
    limits: &Limits,
) -> Result<(), UnpackError> {
    for path in paths {
        let refused = |source| UnpackError::Path {
            path: lossy(path),
            source,
        };
        let parts = components(path, limits).map_err(refused)?;
        let mark = |fd: OwnedFd| fs::fsetxattr(fd, OPAQUE_XATTR, b"y", XattrFlags::empty());
        open_folder(root, &parts)
            .and_then(mark)
            .map_err(|e| io_error("making opaque", path, e))?;
    }
    Ok(())
}

fn make_device(
    parent: BorrowedFd<'_>,
    name: &[u8],
    kind: FileType,
    major: u32,
    minor: u32,
) -> Result<(), Errno> {
    fs::mknodat(
        parent,
        name,
        kind,
        Mode::RUSR | Mode::WUSR,
        fs::makedev(major, minor),
    )
}

fn is_folder(parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    let stat = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

fn is_whiteout(parent: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    let stat = fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0)
}

/// Owner, mode and attributes of a file or folder, in the order that keeps them: a change of owner
/// clears set-uid bits and `security.capability`. Returns how many attributes were left out.
fn finish_node(fd: BorrowedFd<'_>, member: &Member) -> Result<u64, UnpackError> {
    let failed = |source: Errno| io_error("setting owner and mode of", &member.path, source);
    fs::fchown(
        fd,
        Some(Uid::from_raw(member.uid)),
        Some(Gid::from_raw(member.gid)),
    )
    .map_err(failed)?;
    fs::fchmod(fd, permissions(member.mode)).map_err(failed)?;
    let mut left_out = 0;
    for (name, value) in &member.xattrs {
        // The others (SELinux labels, IMA hashes) belong to the machine that the image was built on.
        let known = name == b"security.capability"
            || name.starts_with(b"user.")
            || name.starts_with(b"system.posix_acl_");
        if !known {
            left_out += 1;
            continue;
        }
        match fs::fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
            // A file system without user attributes: programs expect that. A lost capability they don't.
            Err(Errno::OPNOTSUPP) if name != b"security.capability" => left_out += 1,
            other => other.map_err(|e| io_error("setting attributes of", &member.path, e))?,
        }
    }
    Ok(left_out)
}

/// As [`finish_node`], for what must not be opened: links, devices, pipes. `parent` has the name and we
/// made it a moment ago.
fn finish_by_name(
    parent: BorrowedFd<'_>,
    name: &[u8],
    member: &Member,
    has_mode: bool,
) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(member.uid), Gid::from_raw(member.gid));
    fs::chownat(
        parent,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    if has_mode {
        fs::chmodat(parent, name, permissions(member.mode), AtFlags::empty())?;
    }
    let times = seconds(member.mtime, member.mtime_nanos);
    fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
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

fn io_error(doing: &'static str, path: &[u8], source: Errno) -> UnpackError {
    UnpackError::Io {
        doing,
        path: lossy(path),
        source: source.into(),
    }
}

/// For messages: at most 200 bytes of a hostile path.
fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(200)]).into_owned()
}

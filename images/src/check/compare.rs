//! A member of the stream, and what the tree has in its place.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::Faults;
use crate::beneath::{Walker, components, permissions};
use crate::limits::Limits;
use crate::record::Found;
use crate::unpack::{Kind, Member, lossy};

/// Attributes of one file, in bytes: the kernel's own limit (XATTR_SIZE_MAX).
const ATTRIBUTES: usize = 64 << 10;

pub(super) struct Tree {
    walker: Walker,
    buffer: Vec<u8>,
}

impl Tree {
    pub(super) fn new(walker: Walker) -> Self {
        Self {
            walker,
            buffer: vec![0; ATTRIBUTES],
        }
    }

    /// Says what is wrong with anything but the contents; a file is opened for these.
    pub(super) fn node(
        &mut self,
        member: &Member,
        parts: &[&[u8]],
        limits: &Limits,
        faults: &mut Faults,
    ) -> Option<File> {
        let path = parts.join(&b'/');
        let found = match self.stat(parts) {
            Ok(found) => found,
            Err(errno) => {
                faults.add(&path, absent(errno));
                return None;
            }
        };
        if let Kind::HardLink(target) = &member.kind {
            let other = components(target, limits).ok();
            let other = other.and_then(|parts| self.stat(&parts).ok());
            // Of one that is gone its own member tells.
            if other.is_some_and(|o| (o.st_dev, o.st_ino) != (found.st_dev, found.st_ino)) {
                faults.add(
                    &path,
                    format!("is not the same file as `{}`", lossy(target)),
                );
            }
            return None;
        }
        let kind = FileType::from_raw_mode(found.st_mode);
        let wanted = kind_of(&member.kind);
        if kind != wanted {
            faults.add(
                &path,
                format!("is a {} instead of a {}", word(kind), word(wanted)),
            );
            return None;
        }
        self.facts(member, parts, &found, faults, &path);
        if !matches!(member.kind, Kind::File | Kind::Folder) {
            return None;
        }
        let file = match self.open(parts, kind) {
            Ok(file) => file,
            Err(errno) => {
                faults.add(&path, format!("cannot be read: {errno}"));
                return None;
            }
        };
        if let Err(errno) = self.attributes(member, &file, &path, faults) {
            faults.add(
                &path,
                format!("has attributes that cannot be read: {errno}"),
            );
        }
        (kind == FileType::RegularFile).then_some(file)
    }

    /// What hides a lower layer's file.
    pub(super) fn whiteout(&mut self, parts: &[&[u8]], faults: &mut Faults) {
        let is_one = |stat: &Stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
        };
        let what = match self.stat(parts) {
            Ok(found) if is_one(&found) => return,
            Ok(_) => "does not hide what is below it".to_owned(),
            Err(errno) => absent(errno),
        };
        faults.add(&parts.join(&b'/'), what);
    }

    fn stat(&mut self, parts: &[&[u8]]) -> Result<Stat, Errno> {
        match parts.split_last() {
            None => fs::fstat(self.walker.root()),
            Some((name, folder)) => {
                fs::statat(self.walker.enter(folder)?, *name, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    fn open(&mut self, parts: &[&[u8]], kind: FileType) -> Result<File, Errno> {
        let folder = match kind {
            FileType::Directory => OFlags::DIRECTORY,
            _ => OFlags::NONBLOCK,
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | folder;
        let (name, above) = match parts.split_last() {
            None => (&b"."[..], &[][..]),
            Some((name, above)) => (*name, above),
        };
        let fd = fs::openat(self.walker.enter(above)?, name, flags, Mode::empty())?;
        Ok(File::from(fd))
    }

    fn facts(
        &mut self,
        member: &Member,
        parts: &[&[u8]],
        found: &Stat,
        faults: &mut Faults,
        path: &[u8],
    ) {
        if member.kind == Kind::File && found.st_size as u64 != member.size {
            let (is, was) = (found.st_size, member.size);
            faults.add(path, format!("has {is} bytes instead of {was}"));
        }
        let owner = (found.st_uid, found.st_gid);
        let wanted = (member.uid, member.gid);
        if owner != wanted {
            let (is, was) = (owner, wanted);
            let text = format!(
                "belongs to {}:{} instead of {}:{}",
                is.0, is.1, was.0, was.1
            );
            faults.add(path, text);
        }
        let is_link = matches!(member.kind, Kind::Symlink(_));
        // With an access list the group's bits are its mask.
        let acl = |(name, _): &(Vec<u8>, Vec<u8>)| name.starts_with(b"system.posix_acl_");
        let compared = match member.xattrs.iter().any(acl) {
            true => 0o7707,
            false => 0o7777,
        };
        let (is, was) = (found.st_mode & 0o7777, permissions(member.mode).bits());
        if !is_link && (is ^ was) & compared != 0 {
            faults.add(path, format!("has mode {is:04o} instead of {was:04o}"));
        }
        match &member.kind {
            Kind::Symlink(target) if self.target(parts).as_ref() != Some(target) => {
                faults.add(path, format!("does not lead to `{}`", lossy(target)));
            }
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor)
                if found.st_rdev != fs::makedev(*major, *minor) =>
            {
                faults.add(path, format!("is not the device {major}:{minor}"));
            }
            _ => {}
        }
    }

    fn target(&mut self, parts: &[&[u8]]) -> Option<Vec<u8>> {
        let (name, folder) = parts.split_last()?;
        let folder = self.walker.enter(folder).ok()?;
        let target = fs::readlinkat(folder, *name, Vec::new()).ok()?;
        Some(target.into_bytes())
    }

    /// Those that a board takes from images, but for access lists, which the kernel writes in its own way.
    fn attributes(
        &mut self,
        member: &Member,
        file: impl AsFd,
        path: &[u8],
        faults: &mut Faults,
    ) -> Result<(), Errno> {
        let file = file.as_fd();
        for (index, (name, value)) in member.xattrs.iter().enumerate() {
            let later = &member.xattrs[index + 1..];
            if !is_compared(name) || later.iter().any(|(other, _)| other == name) {
                continue;
            }
            match fs::fgetxattr(file, name.as_slice(), &mut self.buffer[..]) {
                Ok(length) if self.buffer[..length] == *value => {}
                // A file system without them, as when it was unpacked.
                Err(Errno::OPNOTSUPP) => {}
                Ok(_) => faults.add(path, format!("has another attribute `{}`", lossy(name))),
                Err(Errno::NODATA) => {
                    faults.add(path, format!("lacks its attribute `{}`", lossy(name)));
                }
                Err(errno) => return Err(errno),
            }
        }
        let length = match fs::flistxattr(file, &mut self.buffer[..]) {
            Err(Errno::OPNOTSUPP) => 0,
            other => other?,
        };
        for name in self.buffer[..length].split(|byte| *byte == 0) {
            if is_compared(name) && !member.xattrs.iter().any(|(known, _)| known == name) {
                let text = format!(
                    "has an attribute `{}`, which is not in the layer",
                    lossy(name)
                );
                faults.add(path, text);
            }
        }
        Ok(())
    }
}

/// What is wrong with a file's contents.
pub(super) fn contents(found: Found) -> Option<String> {
    match found {
        Found::Same => None,
        Found::Other => Some("has other bytes".to_owned()),
        Found::Unreadable(errno) => Some(format!(
            "cannot be read: {}",
            std::io::Error::from_raw_os_error(errno)
        )),
    }
}

fn is_compared(name: &[u8]) -> bool {
    name == b"security.capability" || name.starts_with(b"user.")
}

fn absent(errno: Errno) -> String {
    match errno {
        Errno::NOENT | Errno::NOTDIR => "is missing".to_owned(),
        errno => format!("cannot be looked at: {errno}"),
    }
}

fn kind_of(kind: &Kind) -> FileType {
    match kind {
        Kind::File | Kind::HardLink(_) => FileType::RegularFile,
        Kind::Symlink(_) => FileType::Symlink,
        Kind::CharDevice(..) => FileType::CharacterDevice,
        Kind::BlockDevice(..) => FileType::BlockDevice,
        Kind::Folder => FileType::Directory,
        Kind::Fifo => FileType::Fifo,
    }
}

fn word(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "file",
        FileType::Directory => "folder",
        FileType::Symlink => "link",
        FileType::Fifo => "pipe",
        FileType::Socket => "socket",
        _ => "device",
    }
}

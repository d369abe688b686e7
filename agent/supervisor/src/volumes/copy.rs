//! What is in a volume, once more: owners, modes, times, extended attributes, hard links, holes. Bytes are shared with the old
//! file where the file system can. No link is followed, and a folder may be as deep as an app likes: two descriptors are enough.

use crate::erase::erase;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid,
    XattrFlags, chmodat, chownat, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, fstat,
    fstatvfs, ftruncate, futimens, ioctl_ficlone, linkat, mkdirat, mknodat, openat, readlinkat,
    seek, statat, symlinkat, utimensat,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes that are copied at a time, and of the longest list of attributes and the longest value (linux/limits.h).
const CHUNK: usize = 64 << 10;

/// Bytes that are left to whoever else writes to the disk meanwhile; less than what an offer is held against.
const SPARE_BYTES: u64 = 512 << 10;

/// Whether so much is left on this folder's file system.
pub(super) fn spares(folder: impl AsFd) -> io::Result<()> {
    let fs = fstatvfs(folder)?;
    match fs.f_bavail.saturating_mul(fs.f_frsize) < SPARE_BYTES {
        true => Err(Errno::NOSPC.into()),
        false => Ok(()),
    }
}

/// Copies `data` of one folder to the other's, where it is empty. Both are of whoever calls; what is in `data` is not.
pub(super) fn tree(from: &Path, to: &Path) -> io::Result<()> {
    let links = to.join("links");
    std::fs::create_dir(&links)?;
    let mut copy = Copy {
        links: folder(CWD, &links)?,
        above: folder(CWD, to.join(".."))?,
        clones: true,
        chunk: vec![0; CHUNK],
    };
    copy.all(
        folder(CWD, from.join("data"))?,
        folder(CWD, to.join("data"))?,
    )?;
    drop(copy);
    erase(&links)
}

struct Copy {
    /// A name for each file that has several, by its number: as many as there are, no memory holds.
    links: OwnedFd,
    /// Beside the copy: a project's own folder tells no more than the project has left.
    above: OwnedFd,
    /// Whether the file system shares bytes.
    clones: bool,
    chunk: Vec<u8>,
}

fn folder(at: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

fn times(facts: &Stat) -> Timestamps {
    let time = |seconds, nanos| Timespec {
        tv_sec: seconds,
        tv_nsec: nanos,
    };
    Timestamps {
        last_access: time(facts.st_atime as _, facts.st_atime_nsec as _),
        last_modification: time(facts.st_mtime as _, facts.st_mtime_nsec as _),
    }
}

fn owner(facts: &Stat) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(facts.st_uid)),
        Some(Gid::from_raw(facts.st_gid)),
    )
}

fn about(name: &CStr, error: impl Into<io::Error>) -> io::Error {
    let error = error.into();
    io::Error::new(
        error.kind(),
        format!("`{}`: {error}", name.to_string_lossy()),
    )
}

impl Copy {
    /// Down and up again by `..`, which nobody moves meanwhile.
    fn all(&mut self, mut from: OwnedFd, mut to: OwnedFd) -> io::Result<()> {
        let mut below = vec![self.files(&from, &to)?];
        while let Some(folders) = below.last_mut() {
            if let Some(name) = folders.pop() {
                let inner = folder(&from, &name).map_err(|errno| about(&name, errno))?;
                let made = mkdirat(&to, &name, Mode::RWXU).and_then(|()| folder(&to, &name));
                to = made.map_err(|errno| about(&name, errno))?;
                from = inner;
                below.push(self.files(&from, &to)?);
                continue;
            }
            self.facts(&from, &to, &fstat(&from)?)?;
            below.pop();
            if !below.is_empty() {
                (from, to) = (folder(&from, c"..")?, folder(&to, c"..")?);
            }
        }
        Ok(())
    }

    /// All of a folder but those in it, whose names it answers.
    fn files(&mut self, from: &OwnedFd, to: &OwnedFd) -> io::Result<Vec<CString>> {
        let mut folders = Vec::new();
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            match self.file(from, to, name) {
                Ok(true) => folders.push(name.to_owned()),
                Ok(false) => {}
                Err(error) => return Err(about(name, error)),
            }
        }
        Ok(folders)
    }

    /// Anything but a folder, of which it says so.
    fn file(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr) -> io::Result<bool> {
        let facts = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(facts.st_mode);
        if kind == FileType::Directory {
            return Ok(true);
        }
        let number = facts.st_ino.to_string();
        let several = facts.st_nlink > 1;
        if several {
            match linkat(&self.links, &number, to, name, AtFlags::empty()) {
                Err(Errno::NOENT) => {}
                other => return Ok(other.map(|()| false)?),
            }
        }
        match kind {
            FileType::RegularFile => self.regular(from, to, name)?,
            FileType::Symlink => symlinkat(&readlinkat(from, name, Vec::new())?, to, name)?,
            other => mknodat(to, name, other, Mode::empty(), facts.st_rdev as _)?,
        }
        if kind != FileType::RegularFile {
            let (user, group) = owner(&facts);
            chownat(to, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?;
            if kind != FileType::Symlink {
                chmodat(
                    to,
                    name,
                    Mode::from_raw_mode(facts.st_mode),
                    AtFlags::empty(),
                )?;
            }
            utimensat(to, name, &times(&facts), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if several {
            linkat(to, name, &self.links, &number, AtFlags::empty())?;
        }
        Ok(false)
    }

    fn regular(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr) -> io::Result<()> {
        spares(&self.above)?;
        let plain = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let old = openat(from, name, plain | OFlags::RDONLY, Mode::empty())?;
        let flags = plain | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let new = openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
        let facts = fstat(&old)?;
        self.clones = self.clones && (facts.st_size == 0 || ioctl_ficlone(&new, &old).is_ok());
        let (old, new) = (File::from(old), File::from(new));
        if !self.clones {
            self.bytes(&old, &new, facts.st_size as u64)?;
        }
        self.facts(&old, &new, &facts)
    }

    /// Without its holes.
    fn bytes(&mut self, old: &File, new: &File, length: u64) -> io::Result<()> {
        ftruncate(new, length)?;
        let mut at = 0;
        while at < length {
            let begin = match seek(old, SeekFrom::Data(at)) {
                Ok(begin) => begin,
                // Nothing but a hole is left.
                Err(Errno::NXIO) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            };
            let end = seek(old, SeekFrom::Hole(begin))?.min(length);
            at = begin;
            while at < end {
                let most = (end - at).min(CHUNK as u64) as usize;
                let piece = &mut self.chunk[..most];
                old.read_exact_at(piece, at)?;
                new.write_all_at(piece, at)?;
                spares(&self.above)?;
                at += piece.len() as u64;
            }
        }
        Ok(())
    }

    /// What is known of a file or folder beside what is in it. In this order: a change of owner takes bits and capabilities away.
    fn facts(&mut self, old: &impl AsFd, new: &impl AsFd, facts: &Stat) -> io::Result<()> {
        let (user, group) = owner(facts);
        fchown(new, user, group)?;
        fchmod(new, Mode::from_raw_mode(facts.st_mode))?;
        let length = match flistxattr(old, self.chunk.as_mut_slice()) {
            Err(Errno::OPNOTSUPP) => 0,
            other => other?,
        };
        let names = self.chunk[..length].to_vec();
        let names = names.split(|byte| *byte == 0);
        for name in names.filter(|name| !name.is_empty()) {
            let length = fgetxattr(old, name, self.chunk.as_mut_slice())?;
            fsetxattr(new, name, &self.chunk[..length], XattrFlags::empty())?;
        }
        Ok(futimens(new, &times(facts))?)
    }
}

#[cfg(test)]
mod tests;

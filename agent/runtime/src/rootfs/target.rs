//! Looking up a path inside a root, so that no symlink, absolute or with `..`, leads out of it.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

/// As the kernel's own (MAXSYMLINKS).
const MAX_LINKS: usize = 40;

/// What to make where nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File,
}

/// An O_PATH descriptor of `path` as a process with this root would find it.
pub(crate) fn lookup(root: BorrowedFd<'_>, path: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    // What Path::parent says of a single name; the kernel knows no empty path.
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    for _ in 0..MAX_LINKS {
        match openat2(root, path, how) {
            // Before 5.6.
            Err(Errno::ENOSYS) => return walk(root, path),
            // Something was renamed meanwhile, and the kernel could not tell whether a `..` stayed inside.
            Err(Errno::EAGAIN) => {}
            answer => return answer,
        }
    }
    Err(Errno::EAGAIN)
}

/// The same, one name at a time. Nothing else changes the tree while a container is being built, except volumes that
/// another container writes to: there a name may change between two steps, but each step is one name below an open
/// folder and follows no link, so it still cannot lead out.
fn walk(root: BorrowedFd<'_>, path: &Path) -> nix::Result<OwnedFd> {
    let mut folders = vec![root.try_clone_to_owned().map_err(|_| Errno::EMFILE)?];
    let mut left: VecDeque<PathBuf> = path
        .components()
        .map(|part| part.as_os_str().into())
        .collect();
    let mut links = 0;
    while let Some(part) = left.pop_front() {
        match part.components().next() {
            None | Some(Component::CurDir | Component::Prefix(_)) => {}
            Some(Component::RootDir) => folders.truncate(1),
            Some(Component::ParentDir) => folders.truncate((folders.len() - 1).max(1)),
            Some(Component::Normal(name)) => {
                let above = &folders[folders.len() - 1];
                let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let found = openat(above, name, flags, Mode::empty())?;
                let kind = SFlag::from_bits_truncate(fstat(&found)?.st_mode & SFlag::S_IFMT.bits());
                if kind != SFlag::S_IFLNK {
                    folders.push(found);
                    continue;
                }
                links += 1;
                if links > MAX_LINKS {
                    return Err(Errno::ELOOP);
                }
                let link = PathBuf::from(readlinkat(&found, "")?);
                for part in link.components().rev() {
                    left.push_front(part.as_os_str().into());
                }
            }
        }
    }
    folders.pop().ok_or(Errno::ENOENT)
}

/// Finds `path`, or makes it and the folders above it. EINVAL for a path with `..`, EEXIST for a dangling symlink.
pub(super) fn find_or_make(root: BorrowedFd<'_>, path: &Path, kind: Kind) -> nix::Result<OwnedFd> {
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(Errno::EINVAL);
    }
    match lookup(root, path) {
        Err(Errno::ENOENT) => {}
        answer => return answer,
    }
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::ENOENT);
    };
    let above = find_or_make(root, above, Kind::Folder)?;
    match kind {
        Kind::Folder => mkdirat(&above, name, Mode::from_bits_truncate(0o755))?,
        Kind::File => {
            let flags = OFlag::O_CREAT
                | OFlag::O_EXCL
                | OFlag::O_NOFOLLOW
                | OFlag::O_CLOEXEC
                | OFlag::O_WRONLY;
            drop(openat(
                &above,
                name,
                flags,
                Mode::from_bits_truncate(0o644),
            )?);
        }
    }
    openat(
        above.as_fd(),
        name,
        OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

/// A folder, found or made, on a way that has no link at all. ELOOP where the image has one.
pub(super) fn find_or_make_without_links(root: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut folder = root.try_clone().map_err(|_| Errno::EMFILE)?;
    for part in path.components() {
        let name = match part {
            Component::Normal(name) => name,
            Component::RootDir | Component::CurDir => continue,
            Component::ParentDir | Component::Prefix(_) => return Err(Errno::EINVAL),
        };
        folder = match openat(&folder, name, flags, Mode::empty()) {
            Err(Errno::ENOENT) => {
                mkdirat(&folder, name, Mode::from_bits_truncate(0o755))?;
                openat(&folder, name, flags, Mode::empty())?
            }
            // What O_DIRECTORY says of a link.
            Err(Errno::ENOTDIR) => return Err(Errno::ELOOP),
            other => other?,
        };
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    /// `outside/` beside `root/`, with links from the second that try to reach the first.
    fn hostile() -> (tempfile::TempDir, fs::File) {
        let folder = tempfile::tempdir().unwrap();
        let (outside, root) = (folder.path().join("outside"), folder.path().join("root"));
        fs::create_dir(&outside).unwrap();
        fs::create_dir_all(root.join("data/inner")).unwrap();
        symlink(&outside, root.join("absolute")).unwrap();
        symlink("../../../../../../outside", root.join("relative")).unwrap();
        symlink("/data", root.join("good")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let root = fs::File::open(root).unwrap();
        (folder, root)
    }

    fn inode(fd: OwnedFd) -> u64 {
        fstat(&fd).unwrap().st_ino
    }

    #[test]
    fn both_ways_stay_inside() {
        let (folder, root) = hostile();
        let inner = fs::metadata(folder.path().join("root/data/inner"))
            .unwrap()
            .ino();
        let top = fs::metadata(folder.path().join("root")).unwrap().ino();
        for way in [lookup, walk] {
            let look = |path: &str| way(root.as_fd(), Path::new(path));
            assert_eq!(look("/absolute").unwrap_err(), Errno::ENOENT);
            assert_eq!(look("/relative").unwrap_err(), Errno::ENOENT);
            assert_eq!(look("/loop").unwrap_err(), Errno::ELOOP);
            assert_eq!(inode(look("/good/inner").unwrap()), inner);
            assert_eq!(inode(look("/../../..").unwrap()), top);
        }
    }

    #[test]
    fn making_a_target_makes_nothing_outside() {
        let (folder, root) = hostile();
        let make = |path: &str, kind| find_or_make(root.as_fd(), Path::new(path), kind);
        assert!(make("/absolute/new", Kind::Folder).is_err());
        assert!(make("/relative/new", Kind::File).is_err());
        assert_eq!(
            make("/data/../../x", Kind::Folder).unwrap_err(),
            Errno::EINVAL
        );
        make("/good/new/deep", Kind::Folder).unwrap();
        make("/good/new/file", Kind::File).unwrap();
        assert!(folder.path().join("root/data/new/deep").is_dir());
        assert!(folder.path().join("root/data/new/file").is_file());
        assert_eq!(
            fs::read_dir(folder.path().join("outside")).unwrap().count(),
            0
        );
    }
}

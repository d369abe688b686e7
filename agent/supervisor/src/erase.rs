//! Deletion of trees that somebody else made.
//!
//! An app makes its folders as deep as it likes, deeper than a path may be long or a process may have files open:
//! `std::fs::remove_dir_all` holds one descriptor for each level, and gives up. Here folders within folders are moved up
//! instead, so that two descriptors and one level of depth are always enough.

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

/// Removes a file, or a folder with all that is in it. No link is followed; what is gone already is no error.
///
/// # Errors
/// What could not be removed first (a mount point, an immutable file). The rest is removed all the same.
pub fn erase(path: &Path) -> io::Result<()> {
    match unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // What a folder answers: Linux, POSIX.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    let top = open_folder(CWD, path)?;
    let mut names = Names(0);
    loop {
        let pass = clear(&top, &mut names)?;
        match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // Folders that were moved up, or an app that still writes here.
            Err(Errno::NOTEMPTY | Errno::EXIST) if pass.removed > 0 => {}
            Err(errno) => return Err(pass.fault.unwrap_or(errno).into()),
        }
    }
}

/// What one walk through the top folder did.
#[derive(Default)]
struct Pass {
    removed: u64,
    fault: Option<Errno>,
}

impl Pass {
    fn note(&mut self, outcome: Result<(), Errno>) {
        match outcome {
            Ok(()) => self.removed += 1,
            Err(Errno::NOENT) => {}
            Err(errno) => self.fault = self.fault.or(Some(errno)),
        }
    }
}

/// Removes what is in `top`; the folders two levels down come up to it.
fn clear(top: &OwnedFd, names: &mut Names) -> Result<Pass, Errno> {
    let mut pass = Pass::default();
    for_each(top, |name| {
        let outcome = match remove(top, name) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => empty(top, name, names, &mut pass)
                .and_then(|()| unlinkat(top, name, AtFlags::REMOVEDIR)),
            other => other,
        };
        pass.note(outcome);
    })?;
    Ok(pass)
}

/// Removes what is in the folder `name` of `top`, or moves it up.
fn empty(top: &OwnedFd, name: &CStr, names: &mut Names, pass: &mut Pass) -> Result<(), Errno> {
    let folder = open_folder(top, name)?;
    for_each(&folder, |inner| {
        let outcome = match remove(&folder, inner) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => names.move_up(&folder, inner, top),
            other => other,
        };
        pass.note(outcome);
    })
}

fn open_folder(at: impl std::os::fd::AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty())
}

/// A file, or a folder that is empty.
fn remove(folder: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => unlinkat(folder, name, AtFlags::REMOVEDIR),
        other => other,
    }
}

fn for_each(folder: &OwnedFd, mut act: impl FnMut(&CStr)) -> Result<(), Errno> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            act(name);
        }
    }
    Ok(())
}

/// Names for what is moved up. They are taken one after the other, since the tree may hold the same ones.
struct Names(u64);

impl Names {
    fn move_up(&mut self, from: &OwnedFd, name: &CStr, top: &OwnedFd) -> Result<(), Errno> {
        loop {
            self.0 += 1;
            match renameat(from, name, top, format!(".up-{}", self.0)) {
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn links_are_removed_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, treasure) = (folder.path().join("tree"), folder.path().join("treasure"));
        fs::create_dir_all(tree.join("a/b/c")).unwrap();
        fs::create_dir_all(treasure.join("gold")).unwrap();
        for place in ["link", "a/link", "a/b/link", "a/b/c/link"] {
            std::os::unix::fs::symlink(&treasure, tree.join(place)).unwrap();
        }
        // Names that those which are moved up would get.
        fs::create_dir_all(tree.join(".up-1/x/y")).unwrap();
        fs::write(tree.join(".up-2"), b"").unwrap();
        erase(&tree).unwrap();
        assert!(!tree.exists());
        assert!(treasure.join("gold").is_dir());

        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&treasure, &link).unwrap();
        erase(&link).unwrap();
        erase(&link).unwrap();
        assert!(treasure.join("gold").is_dir());
    }
}

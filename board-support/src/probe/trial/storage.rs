//! What can limit how much is written, and whether keys can be made.

use super::Outcome;
use crate::text::{cut, read_text};
use rustix::fs::{StatVfsMountFlags, statvfs};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use std::path::Path;

/// Whether anything can be kept in `state`: on a board with a read-only root it is to lie on another file system.
pub(super) fn writable(state: &Path) -> Outcome {
    match statvfs(state) {
        Ok(found) if found.f_flag.contains(StatVfsMountFlags::RDONLY) => {
            Outcome::Fails(cut(&format!(
                "{} is on a file system that is mounted read-only",
                state.display()
            )))
        }
        Ok(_) => Outcome::Works,
        Err(error) => Outcome::NotTried(cut(&error.to_string())),
    }
}

/// Whether the file system of `state` was mounted with project quotas: the longest mount point that
/// `state` is below (proc_pid_mountinfo(5)), and its super block's options.
pub(super) fn project_quota(root: &Path, state: &Path) -> Outcome {
    let mounts = read_text(&root.join("proc/self/mountinfo"), 1 << 20);
    let state = std::fs::canonicalize(state).unwrap_or_else(|_| state.to_owned());
    let found = mounts
        .lines()
        .filter_map(|line| {
            let (mount, filesystem) = line.split_once(" - ")?;
            let point = mount.split(' ').nth(4)?;
            let mut fields = filesystem.split(' ');
            let (kind, options) = (fields.next()?, fields.nth(1)?);
            state.starts_with(point).then_some((point, kind, options))
        })
        // Of mounts over each other the last one is seen.
        .max_by_key(|(point, _, _)| point.len());
    let Some((_, kind, options)) = found else {
        return Outcome::NotTried(cut("no mount holds the state folder"));
    };
    let on = |option: &str| ["prjquota", "pquota"].contains(&option);
    match options.split(',').any(on) {
        true => Outcome::Works,
        false => Outcome::Fails(cut(&format!("{kind} is mounted without prjquota"))),
    }
}

/// Whether a file can be a disk with a file system: the supervisor tries it for real, this looks for what it takes.
pub(super) fn image(root: &Path) -> Outcome {
    let known = read_text(&root.join("proc/filesystems"), 16 * 1024);
    let ext4 = known
        .lines()
        .any(|line| line.split_whitespace().last() == Some("ext4"));
    match (root.join("dev/loop-control").exists(), ext4) {
        (true, true) => Outcome::Works,
        (false, _) => Outcome::Fails(cut("there is no /dev/loop-control")),
        (true, false) => Outcome::Fails(cut("ext4 is not in /proc/filesystems")),
    }
}

/// Whether the kernel gives random bytes without waiting (getrandom(2), GRND_NONBLOCK).
pub(super) fn noise() -> Outcome {
    let mut bytes = [0u8; 16];
    match getrandom(&mut bytes[..], GetRandomFlags::NONBLOCK) {
        Ok(16) => Outcome::Works,
        Ok(_) | Err(Errno::AGAIN) => Outcome::Fails(cut("the kernel's pool is not filled yet")),
        Err(error) => Outcome::NotTried(cut(&error.to_string())),
    }
}

//! Hiding paths and making them read-only, from inside the container's root: paths cannot lead out any more.

use std::path::PathBuf;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::failure::{At, Failure, Step};

/// Files get /dev/null, folders one empty read-only tmpfs between them. What is not there needs no hiding.
pub(crate) fn hide(paths: &[PathBuf]) -> Result<(), Failure> {
    let mut empty: Option<&PathBuf> = None;
    for path in paths {
        let is_folder = match std::fs::metadata(path) {
            Ok(found) => found.is_dir(),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
                continue;
            }
            Err(error) => return Err(error).at(Step::Mask, path),
        };
        let bind = |from: &str| {
            mount(
                Some(from),
                path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
        };
        match (is_folder, empty) {
            (false, _) => bind("/dev/null"),
            (true, Some(other)) => mount(
                Some(other),
                path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            ),
            (true, None) => {
                empty = Some(path);
                let flags = MsFlags::MS_RDONLY
                    | MsFlags::MS_NOSUID
                    | MsFlags::MS_NODEV
                    | MsFlags::MS_NOEXEC;
                mount(
                    Some("tmpfs"),
                    path,
                    Some("tmpfs"),
                    flags,
                    Some("size=4k,mode=755"),
                )
            }
        }
        .at(Step::Mask, path)?;
    }
    Ok(())
}

pub(crate) fn set_readonly(paths: &[PathBuf]) -> Result<(), Failure> {
    for path in paths {
        match mount(
            Some(path),
            path,
            None::<&str>,
            MsFlags::MS_BIND | MsFlags::MS_REC,
            None::<&str>,
        ) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
            other => other.at(Step::Mask, path)?,
        }
        remount_readonly(path).at(Step::Mask, path)?;
    }
    Ok(())
}

/// The root's own mount only: volumes, /dev and /tmp mounts keep theirs.
pub(crate) fn remount_root_readonly() -> Result<(), Failure> {
    remount_readonly(&PathBuf::from("/")).at(Step::Mask, "/")
}

/// A remount sets all flags, so the ones that are there have to be named again.
fn remount_readonly(path: &PathBuf) -> nix::Result<()> {
    let now = statvfs(path)?.flags();
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    flags.set(MsFlags::MS_NOSUID, now.contains(FsFlags::ST_NOSUID));
    flags.set(MsFlags::MS_NODEV, now.contains(FsFlags::ST_NODEV));
    flags.set(MsFlags::MS_NOEXEC, now.contains(FsFlags::ST_NOEXEC));
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
}

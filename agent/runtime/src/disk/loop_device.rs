//! A file as a block device.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::kernel::disk as kernel;

/// Tries to get a device before somebody else does.
const TRIES: u32 = 32;

/// A loop device with a file behind it. It goes by itself when this is dropped and nothing is mounted from it.
pub(super) struct LoopDevice {
    pub(super) path: PathBuf,
    pub(super) node: File,
}

impl LoopDevice {
    /// The device that has `file` behind it, a new one where none has. Two devices with one file would be two file systems
    /// that do not know of each other.
    pub(super) fn of(file: &Path) -> io::Result<LoopDevice> {
        match Self::find(file)? {
            Some(device) => Ok(device),
            None => Self::attach(file),
        }
    }

    pub(super) fn find(file: &Path) -> io::Result<Option<LoopDevice>> {
        let wanted = file.canonicalize()?;
        let inode = wanted.metadata()?.ino();
        for entry in std::fs::read_dir("/sys/block")? {
            let entry = entry?;
            let backing = entry.path().join("loop/backing_file");
            let Ok(backing) = std::fs::read_to_string(backing) else {
                continue;
            };
            if Path::new(backing.trim_end_matches('\n')) != wanted {
                continue;
            }
            let path = Path::new("/dev").join(entry.file_name());
            let node = File::options().read(true).write(true).open(&path)?;
            // The name may be that of an earlier file, which is deleted.
            if kernel::loop_inode(node.as_fd()) == Ok(inode) {
                kernel::let_loop_go(node.as_fd())?;
                return Ok(Some(LoopDevice { path, node }));
            }
        }
        Ok(None)
    }

    fn attach(file: &Path) -> io::Result<LoopDevice> {
        let backing = File::options().read(true).write(true).open(file)?;
        let control = File::options()
            .read(true)
            .write(true)
            .open("/dev/loop-control")?;
        for _ in 0..TRIES {
            let number = kernel::free_loop(control.as_fd())?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let node = File::options().read(true).write(true).open(&path)?;
            match kernel::attach_loop(node.as_fd(), backing.as_fd()) {
                Ok(()) => return Ok(LoopDevice { path, node }),
                Err(Errno::EBUSY) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::EBUSY.into())
    }
}

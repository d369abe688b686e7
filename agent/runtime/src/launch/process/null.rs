//! Standard streams that go nowhere.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::kernel;

/// makedev(1, 3), /dev/null's.
const NULL: u64 = 0x103;

/// Of the host's /dev/null among the three makes the container's own. The file that was opened outside belongs to a mount that
/// is not there inside: a checkpoint could not name it, nor could a label of the container's allow it. A container that has no
/// /dev/null keeps the other.
pub(super) fn own() {
    // Nothing else of an image's is opened.
    let is_there = std::fs::symlink_metadata("/dev/null").is_ok_and(|found| is_the_device(&found));
    for stream in (0..3).filter(|_| is_there) {
        let outer = format!("/proc/self/fd/{stream}");
        if !is_null(Path::new(&outer)) {
            continue;
        }
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/null");
        if let Ok(inner) = opened
            && is_null_file(&inner)
        {
            let _ = kernel::become_stream(stream, inner.as_raw_fd());
        }
    }
}

fn is_null(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| is_the_device(&found))
}

fn is_null_file(file: &File) -> bool {
    file.metadata().is_ok_and(|found| is_the_device(&found))
}

fn is_the_device(found: &std::fs::Metadata) -> bool {
    found.file_type().is_char_device() && found.rdev() == NULL
}

//! Two calls that no crate of ours wraps: the only `unsafe` here.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes a descriptor that a message has just brought.
pub fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has made it for the message, and the caller hands each out once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A terminal that has no size gives none.
pub fn copy_size(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    // SAFETY: both calls take a winsize that outlives them; zeroes are a valid one.
    unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        if libc::ioctl(from.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) == 0 {
            libc::ioctl(to.as_raw_fd(), libc::TIOCSWINSZ, &raw const size);
        }
    }
}

//! Three calls that no crate of ours wraps: the only `unsafe` here.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes a descriptor that a message has just brought.
pub fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has made it for the message, and the caller hands each out once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Rows and columns of a terminal that has a size.
pub fn size(of: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let size = read_size(of)?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

fn read_size(of: BorrowedFd<'_>) -> Option<libc::winsize> {
    // SAFETY: the call writes one winsize, which outlives it; zeroes are a valid one.
    unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        (libc::ioctl(of.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) == 0).then_some(size)
    }
}

/// A terminal that has no size gives none.
pub fn copy_size(from: BorrowedFd<'_>, to: BorrowedFd<'_>) {
    if let Some(size) = read_size(from) {
        // SAFETY: the call reads one winsize, which outlives it.
        unsafe { libc::ioctl(to.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    }
}

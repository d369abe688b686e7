//! A process that need not be a child of the caller, by a descriptor that never means another one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::kernel;

/// Whether the number still was the right process's when this was made, the caller has to check afterwards.
#[derive(Debug)]
pub struct ProcessHandle(OwnedFd);

impl ProcessHandle {
    /// # Errors
    /// ESRCH when there is no such process.
    pub fn open(pid: i32) -> io::Result<ProcessHandle> {
        Ok(ProcessHandle(kernel::pidfd_open(pid)?))
    }

    /// # Errors
    /// ESRCH when it has ended.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        Ok(kernel::pidfd_signal(self.0.as_fd(), signal)?)
    }
}

impl From<ProcessHandle> for OwnedFd {
    fn from(handle: ProcessHandle) -> Self {
        handle.0
    }
}

impl AsFd for ProcessHandle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

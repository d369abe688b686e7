//! Processes by descriptor.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

/// A descriptor for a child that has not been reaped yet (so that its number cannot have a new owner).
///
/// Before 5.3 it is the process's folder in /proc, which is never another process's: it can be signalled, and cannot be
/// waited for.
pub(crate) fn pidfd_open(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: takes two integers.
    match Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }) {
        // SAFETY: a fresh descriptor.
        Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
        Err(Errno::ENOSYS) => folder_of(pid),
        Err(errno) => Err(errno),
    }
}

fn folder_of(pid: i32) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    match open(format!("/proc/{pid}").as_str(), flags, Mode::empty()) {
        Err(Errno::ENOENT) => Err(Errno::ESRCH),
        other => other,
    }
}

/// What the clone gave, or a new one where the kernel could not give it (clone before 5.2 ignores the flag).
pub(crate) fn or_open_pidfd(pidfd: Option<OwnedFd>, pid: i32) -> nix::Result<OwnedFd> {
    pidfd.map_or_else(|| pidfd_open(pid), Ok)
}

pub(crate) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> nix::Result<()> {
    let null = ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo asks for the one that kill() would send.
    let answer = Errno::result(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            null,
            0,
        )
    });
    match answer {
        // Before 5.1.
        Err(Errno::ENOSYS) => signal_by_folder(pidfd, signal),
        other => other.map(drop),
    }
}

/// The number is asked of the folder, which has none for a process that was reaped. Between that and the signal a number
/// cannot come round unless the caller lets somebody else reap.
fn signal_by_folder(folder: BorrowedFd<'_>, signal: i32) -> nix::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let stat = match openat(folder, "stat", flags, Mode::empty()) {
        Err(Errno::ENOENT) => return Err(Errno::ESRCH),
        other => other?,
    };
    let mut text = String::new();
    File::from(stat)
        .read_to_string(&mut text)
        .map_err(|_| Errno::ESRCH)?;
    let pid = text.split(' ').next().and_then(|pid| pid.parse().ok());
    let pid = pid.filter(|pid| *pid > 0).ok_or(Errno::ESRCH)?;
    // SAFETY: takes two integers.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

//! What neither std nor rustix wraps safely: the only `unsafe` of this crate.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that the runtime watches for being readable.
pub fn when_readable(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names one open descriptor, the same one at each call of `as_raw_fd`, and closes
    // it only when it is dropped, which `AsyncFd` does after it has deregistered it.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Into::into)
}

/// `struct pidfd_info` (linux/pidfd.h, PIDFD_INFO_SIZE_VER0: 64 bytes).
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroupid: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}

/// `PIDFD_INFO_EXIT`, since 6.15.
const INFO_EXIT: u64 = 1 << 3;

/// `_IOWR(0xFF, 11, struct pidfd_info)`, with the size that this file knows.
const GET_INFO: libc::c_ulong =
    (3 << 30) | ((size_of::<PidfdInfo>() as libc::c_ulong) << 16) | (0xff << 8) | 11;

/// The raw wait status of a process that has ended and was somebody else's child. `None` where the
/// kernel does not keep it.
pub fn exit_status(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let mut info = PidfdInfo {
        mask: INFO_EXIT,
        ..PidfdInfo::default()
    };
    // SAFETY: the kernel writes at most the size that is encoded in the request, which is that of `info`.
    let answer = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO as _, &raw mut info) };
    (answer == 0 && info.mask & INFO_EXIT != 0).then_some(info.exit_code)
}

/// Whoever writes to a pipe that nobody reads gets an error, and lives. A program that is executed in a container has the
/// signal's default again.
pub fn ignore_closed_pipes() {
    // SAFETY: SIG_IGN needs no handler.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// `WDIOC_SETTIMEOUT` of linux/watchdog.h, `_IOWR('W', 6, int)`.
const SET_TIMEOUT: libc::c_ulong = (3 << 30)
    | ((size_of::<libc::c_int>() as libc::c_ulong) << 16)
    | ((b'W' as libc::c_ulong) << 8)
    | 6;

/// Asks a watchdog for a timeout in seconds, and gives the one that its driver took.
pub fn watchdog_timeout(node: BorrowedFd<'_>, seconds: libc::c_int) -> std::io::Result<i32> {
    let mut value = seconds;
    // SAFETY: the kernel reads and writes one int, which is `value` and lives until the call returns.
    match unsafe { libc::ioctl(node.as_raw_fd(), SET_TIMEOUT as _, &raw mut value) } {
        0 => Ok(value),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// The minute of the day, 0 to 1439, that it is where the board is, by /etc/localtime.
pub fn local_minute(unix_seconds: libc::time_t) -> Option<u16> {
    let mut local = std::mem::MaybeUninit::<libc::tm>::uninit();
    // SAFETY: localtime_r reads the one and writes the other, both of which live until it returns.
    let answer = unsafe { libc::localtime_r(&raw const unix_seconds, local.as_mut_ptr()) };
    if answer.is_null() {
        return None;
    }
    // SAFETY: localtime_r has filled it, since it did not answer with null.
    let local = unsafe { local.assume_init() };
    u16::try_from(local.tm_hour * 60 + local.tm_min).ok()
}

/// SIGALRM, whose default is the process's end, after so many seconds, also for what this process executes meanwhile; 0: not
/// any more.
pub fn alarm(seconds: u32) {
    // SAFETY: it has no argument that could be wrong, and nothing else here uses the process's alarm.
    unsafe { libc::alarm(seconds) };
}

/// Whoever else wants the processor, or the disk, has it first. Where the kernel says no the process goes on as it is.
pub fn lowest_priority() {
    /// linux/ioprio.h: IOPRIO_WHO_PROCESS, and IOPRIO_CLASS_IDLE in the bits from 13 on.
    const PROCESS: libc::c_int = 1;
    const IDLE: libc::c_int = 3 << 13;
    // SAFETY: integers only, and both are about the calling process.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
        libc::syscall(libc::SYS_ioprio_set, PROCESS, 0, IDLE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn requests_are_the_kernels() {
        // As linux/watchdog.h comes out for x86-64 and ARM.
        assert_eq!(SET_TIMEOUT, 0xc004_5706);
    }

    #[test]
    fn the_size_is_the_kernels() {
        assert_eq!(size_of::<PidfdInfo>(), 64);
    }

    #[test]
    fn a_living_process_has_no_status_yet() {
        let own = rustix::process::pidfd_open(
            rustix::process::getpid(),
            rustix::process::PidfdFlags::empty(),
        )
        .unwrap();
        assert_eq!(exit_status(own.as_fd()), None);
    }

    #[test]
    fn the_local_minute_is_the_utc_one_and_an_offset_of_quarters() {
        for at in [0, 1_800_000_000, 1_815_000_059] {
            let utc = i64::from(u16::try_from(at / 60 % 1440).unwrap());
            let local = i64::from(local_minute(at).unwrap());
            assert!((0..1440).contains(&local));
            assert_eq!((local - utc).rem_euclid(15), 0);
        }
    }
}

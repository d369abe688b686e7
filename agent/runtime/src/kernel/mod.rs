//! System calls that neither std nor nix wrap, each behind a safe function: the only `unsafe` of this crate.
//!
//! Processes are here; what confines them, mounts, disks and eBPF are in the files beside this one.
#![allow(unsafe_code)]

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::{Duration, Instant};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

pub(crate) mod bpf;
pub(crate) mod confine;
pub(crate) mod disk;
pub(crate) mod init;
pub(crate) mod landlock;
pub(crate) mod mounts;
mod pidfd;
pub(crate) mod sched;
pub(crate) mod terminal;

pub(crate) use pidfd::{or_open_pidfd, pidfd_open, pidfd_signal};

/// Which side of a clone this is.
pub(crate) enum Forked {
    Child {
        /// It began its life in the cgroup that was asked for.
        in_cgroup: bool,
    },
    Parent {
        pid: i32,
        /// None in the child of `CLONE_PARENT`, where the caller is not the parent.
        pidfd: Option<OwnedFd>,
    },
}

/// `struct clone_args` up to its cgroup field (linux/sched.h, CLONE_ARGS_SIZE_VER2).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Clones the calling process. `flags` are CLONE_* of linux/sched.h without an exit signal.
///
/// Tries clone3 with CLONE_INTO_CGROUP (5.7), clone3 without (5.3), then clone (any), so the child has to look
/// at `in_cgroup`. The calling process has one thread: the child may then run any code.
pub(crate) fn clone_process(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> nix::Result<Forked> {
    let with_pidfd = flags & libc::CLONE_PARENT as u64 == 0;
    let flags = if with_pidfd {
        flags | libc::CLONE_PIDFD as u64
    } else {
        flags
    };
    // CLONE_PARENT takes the exit signal of the caller and refuses one of its own.
    let exit_signal = if with_pidfd { libc::SIGCHLD as u64 } else { 0 };

    if let Some(cgroup) = cgroup {
        match clone3(
            flags | CLONE_INTO_CGROUP,
            exit_signal,
            cgroup.as_raw_fd() as u64,
        ) {
            Err(Errno::ENOSYS | Errno::EINVAL | Errno::E2BIG) => {}
            answer => return answer,
        }
    }
    match clone3(flags, exit_signal, 0) {
        Err(Errno::ENOSYS) => clone_legacy(flags, exit_signal),
        answer => answer,
    }
}

fn clone3(flags: u64, exit_signal: u64, cgroup: u64) -> nix::Result<Forked> {
    let mut pidfd: RawFd = -1;
    let wants_pidfd = flags & libc::CLONE_PIDFD as u64 != 0;
    let args = CloneArgs {
        flags,
        pidfd: if wants_pidfd {
            &raw mut pidfd as u64
        } else {
            0
        },
        exit_signal,
        cgroup,
        ..CloneArgs::default()
    };
    // Kernels 5.3 to 5.6 know a shorter struct and refuse a longer one only when its tail is not zero.
    // SAFETY: `args` and `pidfd` outlive the call. No stack is given and CLONE_VM is not among the flags, so the child
    // goes on in a copy of this stack, as after fork.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    let in_cgroup = flags & CLONE_INTO_CGROUP != 0;
    // SAFETY: the kernel wrote `pidfd` if it was asked to; nobody else owns it.
    unsafe { forked(pid, pidfd, in_cgroup) }
}

fn clone_legacy(flags: u64, exit_signal: u64) -> nix::Result<Forked> {
    let mut pidfd: RawFd = -1;
    let null = ptr::null_mut::<libc::c_void>();
    let flags = (flags | exit_signal) as libc::c_ulong;
    // The order of the last two arguments differs between architectures; both are null.
    // SAFETY: as in `clone3`; CLONE_PIDFD writes through the parent_tid argument, which points to `pidfd`.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, null, &raw mut pidfd, null, null) };
    // SAFETY: the kernel wrote `pidfd` if it was asked to; nobody else owns it.
    unsafe { forked(pid, pidfd, false) }
}

/// # Safety
/// `pidfd` is -1 or a descriptor that nobody else owns.
unsafe fn forked(pid: libc::c_long, pidfd: RawFd, in_cgroup: bool) -> nix::Result<Forked> {
    match Errno::result(pid)? {
        0 => Ok(Forked::Child { in_cgroup }),
        pid => {
            // SAFETY: promised by the caller.
            let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
            Ok(Forked::Parent {
                pid: pid as i32,
                pidfd,
            })
        }
    }
}

/// Ends the calling process at once: no destructors, no exit handlers, which belong to the parent.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: always sound.
    unsafe { libc::_exit(code) }
}

/// The raw wait status of a child, `pid` -1 for any. None when nothing has ended (`block` false).
///
/// Not nix's, which answers EINVAL for a child killed by a real-time signal, after having reaped it.
pub(crate) fn wait_pid(pid: i32, block: bool) -> nix::Result<Option<(i32, i32)>> {
    let mut status = 0;
    let options = if block { 0 } else { libc::WNOHANG };
    loop {
        // SAFETY: `status` outlives the call.
        match Errno::result(unsafe { libc::waitpid(pid, &raw mut status, options) }) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(0) => return Ok(None),
            Ok(pid) => return Ok(Some((pid, status))),
        }
    }
}

/// poll(2) of one descriptor, so long at most: whether it says one of `events`, or that there is an end.
pub(crate) fn comes(fd: impl AsFd, events: i16, most: Duration) -> bool {
    let until = Instant::now() + most;
    loop {
        let left = until.saturating_duration_since(Instant::now()).as_millis();
        let mut look = libc::pollfd {
            fd: fd.as_fd().as_raw_fd(),
            events,
            revents: 0,
        };
        // SAFETY: one pollfd, which outlives the call.
        let said = unsafe { libc::poll(&raw mut look, 1, left.try_into().unwrap_or(i32::MAX)) };
        if said >= 0 || Errno::last() != Errno::EINTR {
            return look.revents != 0;
        }
    }
}

/// Every signal back to its default and none blocked. execve would keep what is ignored (Rust ignores SIGPIPE) and
/// blocked.
pub(crate) fn reset_signals() {
    // SAFETY: SIG_DFL needs no handler; signals that cannot be changed answer an error, which does not matter.
    unsafe {
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
    block_signals(false);
}

/// All signals, but for SIGKILL and SIGSTOP, which nobody can block, and those that libc keeps to itself.
pub(crate) fn block_signals(all: bool) {
    // SAFETY: the set is initialised before it is used.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        if all {
            libc::sigfillset(&raw mut set);
        } else {
            libc::sigemptyset(&raw mut set);
        }
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut());
    }
}

/// Closes every descriptor from `first` on whose number is not in `keep`.
///
/// For a fresh child only: the owners of those descriptors are values of the parent that the child never drops.
pub(crate) fn close_all_except(first: RawFd, keep: &[RawFd]) -> nix::Result<()> {
    let mut from = first;
    while let Some(&kept) = keep.iter().filter(|fd| **fd >= from).min() {
        if kept > from {
            close_range(from as u32, kept as u32 - 1)?;
        }
        from = kept + 1;
    }
    close_range(from as u32, u32::MAX)
}

/// Whether [`close_on_exec_from`] does without a listing: since Linux 5.11.
pub(crate) fn closes_on_exec_by_range() -> bool {
    // No descriptor has this number.
    close_range_call(u32::MAX, u32::MAX, libc::CLOSE_RANGE_CLOEXEC).is_ok()
}

/// Descriptors from `first` on are closed by the next execve. `listing` is this process's `fd` in a /proc of the host's, where
/// the kernel has no call for it: what is at that place in a container is the container's.
pub(crate) fn close_on_exec_from(first: RawFd, listing: Option<OwnedFd>) -> nix::Result<()> {
    let Some(listing) = listing else {
        return close_range_call(first as u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    };
    for entry in Dir::from_fd(listing)?.iter() {
        let name = entry?;
        let number = name.file_name().to_str().ok().map(str::parse);
        if let Some(Ok(fd)) = number
            && fd >= first
        {
            // SAFETY: an integer; whose descriptor it is does not change.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

fn close_range(first: u32, last: u32) -> nix::Result<()> {
    match close_range_call(first, last, 0) {
        // Before 5.9.
        Err(Errno::ENOSYS) => close_each(first, last),
        other => other,
    }
}

fn close_range_call(first: u32, last: u32, flags: libc::c_uint) -> nix::Result<()> {
    // SAFETY: integers only. That the descriptors have no live owner is promised by the callers above.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// In a child that sees the host's /proc still.
fn close_each(first: u32, last: u32) -> nix::Result<()> {
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| (first..=last).contains(&(*fd as u32)))
        .collect();
    for fd in open {
        // SAFETY: as in `close_range_call`. The listing's own descriptor is closed by now and answers EBADF.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// Closes one whose owner is a value of the parent's, in a fresh child.
pub(crate) fn close_one(fd: RawFd) {
    // SAFETY: the child never drops the owner. One that is closed already answers EBADF.
    unsafe { libc::close(fd) };
}

/// Makes `fd` the controlling terminal of this session's leader.
pub(crate) fn set_controlling_terminal(fd: impl AsFd) -> nix::Result<()> {
    // SAFETY: TIOCSCTTY takes an integer.
    Errno::result(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0) })?;
    Ok(())
}

/// `prctl` with integer arguments.
fn prctl(option: libc::c_int, args: [libc::c_ulong; 4]) -> nix::Result<libc::c_int> {
    // SAFETY: the callers in this module use options whose arguments are integers.
    Errno::result(unsafe { libc::prctl(option, args[0], args[1], args[2], args[3]) })
}

/// The three become descriptors 0, 1 and 2, open across execve. None of them may be one of these already.
pub(crate) fn become_stdio(streams: [RawFd; 3]) -> nix::Result<()> {
    for (number, stream) in streams.into_iter().enumerate() {
        become_stream(number as RawFd, stream)?;
    }
    Ok(())
}

/// `stream` becomes the standard stream `number`, open across execve.
pub(crate) fn become_stream(number: RawFd, stream: RawFd) -> nix::Result<()> {
    // SAFETY: replaces what a standard stream refers to, which nobody owns; the source is closed by its owner or by execve.
    Errno::result(unsafe { libc::dup2(stream, number) })?;
    Ok(())
}

/// Soft and hard.
pub(crate) fn rlimit(resource: u32) -> nix::Result<(u64, u64)> {
    // struct rlimit64
    let mut limit = [0_u64; 2];
    // SAFETY: `limit` outlives the call; no new value is given.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            ptr::null::<u64>(),
            limit.as_mut_ptr(),
        )
    })?;
    Ok((limit[0], limit[1]))
}

/// Takes the kernel's number, so that a limit newer than nix can be set.
pub(crate) fn set_rlimit(resource: u32, soft: u64, hard: u64) -> nix::Result<()> {
    // struct rlimit64
    let limit = [soft, hard];
    // SAFETY: `limit` outlives the call; the old value is not asked for.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            limit.as_ptr(),
            ptr::null::<u64>(),
        )
    })?;
    Ok(())
}

/// `number` becomes what `with` is, closed by execve as before.
pub(crate) fn replace_descriptor(number: RawFd, with: OwnedFd) -> nix::Result<()> {
    // SAFETY: the owner of `number` goes on owning it, and finds another open file behind it.
    Errno::result(unsafe { libc::dup3(with.as_raw_fd(), number, libc::O_CLOEXEC) })?;
    Ok(())
}

/// An empty session keyring, in place of the caller's. Kernels without keys need none.
pub(crate) fn new_session_keyring() -> nix::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    let anonymous = ptr::null::<libc::c_char>();
    // SAFETY: a null name asks for a keyring without one.
    match Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, anonymous) })
    {
        Ok(_) | Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The NIS domain name of the calling process's UTS namespace.
pub(crate) fn set_domainname(name: &str) -> nix::Result<()> {
    // SAFETY: `name` is valid for its length.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) })?;
    Ok(())
}

/// SCM_RIGHTS with a text beside it.
pub(crate) fn send_descriptor(
    socket: &OwnedFd,
    text: &[u8],
    descriptor: BorrowedFd<'_>,
) -> nix::Result<()> {
    let fds = [descriptor.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let text = [IoSlice::new(text)];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &text,
        &rights,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

//! Stops a process before its n-th system call that changes something (ptrace(2)). The process has one thread; its children run
//! on by themselves. [`family`] takes threads and children too.

// Each test file uses its own part of it.
#![allow(dead_code)]

pub mod family;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where it came to.
#[derive(Debug)]
pub enum Cut {
    /// It is stopped, about to make this system call: the number and its arguments.
    Before(String),
    /// It made so many of them until it was over, or ended.
    Over(usize),
}

/// System calls that leave the board as it was. A new one is taken for one that changes it.
const HARMLESS: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_execve,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_futex,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    libc::SYS_lgetxattr,
    libc::SYS_listen,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_newfstatat,
    libc::SYS_pidfd_open,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_prlimit64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setsockopt,
    libc::SYS_sigaltstack,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_wait4,
    libc::SYS_waitid,
];

/// Those that newer architectures do not have.
#[cfg(target_arch = "x86_64")]
const HARMLESS_OF_OLD: &[i64] = &[
    libc::SYS_access,
    libc::SYS_arch_prctl,
    libc::SYS_dup2,
    libc::SYS_epoll_wait,
    libc::SYS_getdents,
    libc::SYS_lstat,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_stat,
];
#[cfg(not(target_arch = "x86_64"))]
const HARMLESS_OF_OLD: &[i64] = &[];

const WRITES: [i64; 6] = [
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
];

/// The process that is looked into.
pub struct Traced<'a> {
    pid: Pid,
    /// Writing there changes nothing.
    log: &'a Path,
}

impl<'a> Traced<'a> {
    /// Stops it. Only the thread that did so can go on with it.
    pub fn seize(pid: u32, log: &'a Path) -> Self {
        let pid = Pid::from_raw(pid as i32);
        ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
        ptrace::interrupt(pid).unwrap();
        let traced = Self { pid, log };
        let stopped = traced.wait();
        assert!(
            matches!(stopped, WaitStatus::PtraceEvent(..)),
            "{stopped:?}"
        );
        traced
    }

    fn wait(&self) -> WaitStatus {
        waitpid(self.pid, Some(WaitPidFlag::__WALL)).unwrap()
    }

    /// Lets it run to its n-th call that changes something, and no longer than until it is `over`; then it is let go.
    pub fn run_to(self, n: usize, over: &AtomicBool) -> Cut {
        let mut seen = 0;
        let mut signal = None;
        loop {
            ptrace::syscall(self.pid, signal.take()).unwrap();
            match self.wait() {
                WaitStatus::PtraceSyscall(_) => {
                    let enters = ptrace::syscall_info(self.pid).unwrap().op
                        == libc::PTRACE_SYSCALL_INFO_ENTRY;
                    if enters && let Some(call) = call_that_changes(self.pid, self.log) {
                        seen += 1;
                        if seen == n {
                            return Cut::Before(call);
                        }
                    }
                    if over.load(Ordering::Relaxed) {
                        ptrace::detach(self.pid, None).unwrap();
                        return Cut::Over(seen);
                    }
                }
                WaitStatus::Stopped(_, came) => signal = Some(came),
                WaitStatus::PtraceEvent(..) => {}
                WaitStatus::Exited(..) => return Cut::Over(seen),
                other => panic!("the process that is cut: {other:?}"),
            }
        }
    }
}

/// The call that a thread is about to make, unless that leaves the board as it was, as writing to the `log` does.
fn call_that_changes(pid: Pid, log: &Path) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    let mut words = text.split_whitespace();
    let call: i64 = words.next()?.parse().ok()?;
    if HARMLESS.contains(&call) || HARMLESS_OF_OLD.contains(&call) {
        return None;
    }
    let number = |word: &str| i64::from_str_radix(word.trim_start_matches("0x"), 16);
    let arguments: Vec<i64> = words.filter_map(|word| number(word).ok()).collect();
    let to = match call {
        libc::SYS_openat if arguments.get(2)? & i64::from(libc::O_CREAT | libc::O_TRUNC) == 0 => {
            return None;
        }
        _ if WRITES.contains(&call) => {
            let descriptor = arguments.first()?;
            let to = std::fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).unwrap_or_default();
            if to == log || is_talk(pid, &to) {
                return None;
            }
            to.display().to_string()
        }
        _ => String::new(),
    };
    Some(format!("{} {to}", text.trim()))
}

/// Whether what is written there goes to a process, and not to the board.
fn is_talk(pid: Pid, file: &Path) -> bool {
    let name = file.to_string_lossy();
    let unix = |inode: &str| {
        let all = std::fs::read_to_string(format!("/proc/{pid}/net/unix")).unwrap_or_default();
        all.lines()
            .any(|line| line.split(' ').any(|word| word == inode))
    };
    let inode = name
        .strip_prefix("socket:[")
        .and_then(|name| name.strip_suffix(']'));
    name.starts_with("pipe:") || name.starts_with("anon_inode:") || inode.is_some_and(unix)
}

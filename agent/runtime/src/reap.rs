//! Exits of the supervisor's children: containers, execs, jails.

use crate::kernel;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    /// By its number; 9 is also what an OOM kill looks like (see [`crate::cgroup::Stats::oom_kills`]).
    Signal(i32),
}

impl Exit {
    pub fn success(self) -> bool {
        self == Exit::Code(0)
    }

    /// The shell's and Docker's convention: 128 + signal.
    pub fn shell_code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }

    fn from_status(status: i32) -> Exit {
        if libc::WIFSIGNALED(status) {
            return Exit::Signal(libc::WTERMSIG(status));
        }
        Exit::Code(libc::WEXITSTATUS(status))
    }
}

/// Every child that has ended by now, without waiting. Call it at each SIGCHLD: several exits share one signal.
pub fn reap_all() -> Vec<(i32, Exit)> {
    let mut ended = Vec::new();
    while let Ok(Some((pid, status))) = kernel::wait_pid(-1, false) {
        ended.push((pid, Exit::from_status(status)));
    }
    ended
}

/// Waits for one child, however long it takes. None when it is not, or no longer, a child of this process.
pub fn wait(pid: i32) -> Option<Exit> {
    let (_, status) = kernel::wait_pid(pid, true).ok()??;
    Some(Exit::from_status(status))
}

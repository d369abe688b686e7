//! What may be said of a process beyond what an app of the supervisor needs.

use std::os::fd::OwnedFd;
use std::time::Duration;

/// A terminal that is made inside the container.
#[derive(Debug)]
pub struct Console {
    /// A connected unix socket: the terminal's other end is sent there with SCM_RIGHTS.
    pub receiver: OwnedFd,
    /// Rows and columns.
    pub size: Option<(u16, u16)>,
}

/// sched_setattr(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scheduler {
    /// SCHED_* of linux/sched.h.
    pub policy: u32,
    /// SCHED_FLAG_*.
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    /// Nanoseconds; SCHED_DEADLINE only, as the next two.
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// set_mempolicy(2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryPolicy {
    /// MPOL_* with MPOL_F_* (linux/mempolicy.h).
    pub mode: i32,
    pub nodes: Vec<usize>,
}

/// All of it is absent by default.
#[derive(Debug, Default)]
pub struct ProcessSettings {
    /// A connected unix socket, to which the descriptor goes that answers for calls of [`Action::Notify`]. The text beside it
    /// comes from [`Inside::listener_message`], of an exec from the caller of [`exec_telling`].
    ///
    /// [`exec_telling`]: crate::exec_telling
    /// [`Action::Notify`]: crate::seccomp::Action::Notify
    /// [`Inside::listener_message`]: crate::Inside::listener_message
    pub seccomp_listener: Option<OwnedFd>,
    /// Takes the place of the standard streams.
    pub console: Option<Console>,
    /// Descriptors from 3 on, this many, are the program's too.
    pub preserved_fds: u32,
    /// HOME is taken from the container's /etc/passwd when the variables lack it.
    pub home_from_passwd: bool,
    pub scheduler: Option<Scheduler>,
    /// Class and level as one number (linux/ioprio.h).
    pub io_priority: Option<i32>,
    /// Bits of CPU numbers.
    pub cpu_affinity: Option<Vec<usize>>,
    pub memory_policy: Option<MemoryPolicy>,
    /// PER_* of linux/personality.h.
    pub personality: Option<u64>,
    /// An AppArmor profile, or a SELinux label, from the next execve on.
    pub apparmor: Option<String>,
    pub selinux: Option<String>,
    /// Abstract sockets of others are out of reach, as those of the host in its network are not otherwise: where the kernel has it
    /// (Landlock 6, Linux 6.12). What is executed beside it is then a stranger to it: neither finds the other's sockets, nor looks
    /// into it.
    pub own_sockets: bool,
    /// Of an exec: the caller is a process that does nothing else than wait for the program, which is killed when that one ends,
    /// however it does. Has it not been executed so long after the call, then it has failed; what is left of it ends with the
    /// caller.
    pub kept: Option<Duration>,
}

//! How the calling process is scheduled.

use std::ptr;

use nix::errno::Errno;

use crate::spec::{MemoryPolicy, Scheduler};

/// `struct sched_attr` up to SCHED_ATTR_SIZE_VER0 (linux/sched/types.h).
#[repr(C)]
struct SchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

pub(crate) fn set_scheduler(wanted: &Scheduler) -> nix::Result<()> {
    let attr = SchedAttr {
        size: size_of::<SchedAttr>() as u32,
        policy: wanted.policy,
        flags: wanted.flags,
        nice: wanted.nice,
        priority: wanted.priority,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
    };
    // SAFETY: `attr` outlives the call and says its own size.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) })?;
    Ok(())
}

/// Class and level as one number.
pub(crate) fn set_io_priority(priority: i32) -> nix::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    // SAFETY: integers only.
    Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, priority) })?;
    Ok(())
}

pub(crate) fn set_affinity(cpus: &[usize]) -> nix::Result<()> {
    let words = bits(cpus)?;
    // SAFETY: `words` is valid for its size in bytes.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            0,
            size_of_val(&words),
            ptr::from_ref(&words),
        )
    })?;
    Ok(())
}

pub(crate) fn set_memory_policy(wanted: &MemoryPolicy) -> nix::Result<()> {
    let words = bits(&wanted.nodes)?;
    // The kernel counts one less than it is told (mm/mempolicy.c, get_nodes).
    let count = if wanted.nodes.is_empty() {
        0
    } else {
        64 * words.len() + 1
    };
    // SAFETY: `words` is valid for `count` - 1 bits.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_set_mempolicy, wanted.mode, words.as_ptr(), count)
    })?;
    Ok(())
}

/// Room for 4096 CPUs or nodes.
fn bits(numbers: &[usize]) -> nix::Result<[u64; 64]> {
    let mut words = [0_u64; 64];
    for number in numbers {
        *words.get_mut(number / 64).ok_or(Errno::EINVAL)? |= 1 << (number % 64);
    }
    Ok(words)
}

pub(crate) fn set_personality(personality: u64) -> nix::Result<()> {
    // SAFETY: an integer.
    Errno::result(unsafe { libc::syscall(libc::SYS_personality, personality as libc::c_ulong) })?;
    Ok(())
}

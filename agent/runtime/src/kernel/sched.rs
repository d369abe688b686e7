//! How the calling process is scheduled.

use std::ptr;

use nix::errno::Errno;

use crate::spec::Scheduler;

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
    let mut words = [0_u64; 64];
    for cpu in cpus {
        *words.get_mut(cpu / 64).ok_or(Errno::EINVAL)? |= 1 << (cpu % 64);
    }
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

pub(crate) fn set_personality(personality: u64) -> nix::Result<()> {
    // SAFETY: an integer.
    Errno::result(unsafe { libc::syscall(libc::SYS_personality, personality) })?;
    Ok(())
}

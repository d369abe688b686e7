//! Just enough of bpf(2) for the device controller of cgroup v2.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// `struct bpf_insn` (linux/bpf.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u8,
    /// Destination in the low four bits, source in the high four (little endian, as all our boards are).
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
/// Loads that a signal may interrupt, one after the other. libbpf has 5; a board may lose many children at once.
const LOAD_TRIES: u32 = 32;
/// More programs than anyone attaches to one cgroup (systemd attaches one).
const QUERY_ROOM: usize = 16;

#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

#[repr(C)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    /// Tail padding that the kernel checks to be zero.
    padding: u32,
}

fn bpf<T>(command: libc::c_int, attr: &mut T) -> nix::Result<RawFd> {
    // SAFETY: `attr` is the part of union bpf_attr that `command` reads, padded explicitly, and what it points to is
    // kept alive by the callers in this file.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attr),
            size_of::<T>(),
        )
    };
    Errno::result(answer).map(|fd| fd as RawFd)
}

/// Loads a device program; the kernel's verifier judges it.
pub(crate) fn load_device_program(program: &[Instruction]) -> nix::Result<OwnedFd> {
    let mut attr = LoadAttr {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        // It calls no helper, so the licence does not matter to the kernel; ours it is.
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    let mut tries = LOAD_TRIES;
    let fd = loop {
        match bpf(BPF_PROG_LOAD, &mut attr) {
            // The verifier stops for a signal, as of a child that ended; it is handled between the calls.
            Err(Errno::EAGAIN) if tries > 1 => tries -= 1,
            other => break other?,
        }
    };
    // SAFETY: a fresh descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches; it stays until it is detached or the cgroup is gone. All attached programs must agree to an access.
pub(crate) fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
) -> nix::Result<()> {
    let mut attr = AttachAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    bpf(BPF_PROG_ATTACH, &mut attr).map(drop)
}

pub(crate) fn detach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
) -> nix::Result<()> {
    let mut attr = AttachAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: 0,
    };
    bpf(BPF_PROG_DETACH, &mut attr).map(drop)
}

/// The programs attached to this cgroup itself.
pub(crate) fn attached_device_programs(cgroup: BorrowedFd<'_>) -> nix::Result<Vec<OwnedFd>> {
    let mut ids = [0u32; QUERY_ROOM];
    let mut attr = QueryAttr {
        target_fd: cgroup.as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: QUERY_ROOM as u32,
        padding: 0,
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    let found = (attr.prog_cnt as usize).min(QUERY_ROOM);
    ids[..found].iter().map(|id| program_by_id(*id)).collect()
}

fn program_by_id(id: u32) -> nix::Result<OwnedFd> {
    // prog_id, next_id, open_flags
    let mut attr = [id, 0, 0];
    let fd = bpf(BPF_PROG_GET_FD_BY_ID, &mut attr)?;
    // SAFETY: a fresh descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

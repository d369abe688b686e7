//! Users, capabilities and seccomp of the calling process.

use std::marker::PhantomData;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

use libc::{c_ulong, sock_filter};
use nix::errno::Errno;

use super::prctl;

mod user_calls {
    #[cfg(not(target_arch = "arm"))]
    pub(super) use libc::{
        SYS_setfsgid as FILE_GROUP, SYS_setfsuid as FILE_USER, SYS_setgroups as GROUPS,
        SYS_setresgid as GROUP, SYS_setresuid as USER,
    };
    /// The older ones take numbers of 16 bits there.
    #[cfg(target_arch = "arm")]
    pub(super) use libc::{
        SYS_setfsgid32 as FILE_GROUP, SYS_setfsuid32 as FILE_USER, SYS_setgroups32 as GROUPS,
        SYS_setresgid32 as GROUP, SYS_setresuid32 as USER,
    };
}

/// Becomes `uid` and `gid` with exactly these supplementary groups.
///
/// The raw system calls, because libc's wrappers signal every thread it believes to exist, and a process that came from
/// a raw clone still has the parent's list of threads.
pub(crate) fn become_user(uid: u32, gid: u32, groups: &[u32]) -> nix::Result<()> {
    // SAFETY: `groups` is valid for its length; the others take integers.
    unsafe {
        Errno::result(libc::syscall(
            user_calls::GROUPS,
            groups.len(),
            groups.as_ptr(),
        ))?;
        Errno::result(libc::syscall(user_calls::GROUP, gid, gid, gid))?;
        Errno::result(libc::syscall(user_calls::USER, uid, uid, uid))?;
    }
    Ok(())
}

/// What the process makes belongs to these from now on. It may do what it could: the kernel takes from a file user other
/// than root what has to do with files, and gives it back here (capabilities(7), "Effect of user ID changes").
pub(crate) fn make_files_as(uid: u32, gid: u32) -> nix::Result<()> {
    for (call, id) in [(user_calls::FILE_GROUP, gid), (user_calls::FILE_USER, uid)] {
        // SAFETY: integers only.
        let now = unsafe {
            libc::syscall(call, id);
            // These calls know no error: they answer what was before.
            libc::syscall(call, id)
        };
        if now as u32 != id {
            return Err(Errno::EPERM);
        }
    }
    raise_effective()
}

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// _LINUX_CAPABILITY_VERSION_3
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// Sets the three sets that capset knows; bit n is capability n.
pub(crate) fn set_capabilities(
    effective: u64,
    permitted: u64,
    inheritable: u64,
) -> nix::Result<()> {
    let header = CapHeader {
        version: CAPABILITY_VERSION,
        pid: 0,
    };
    let half = |shift: u32| CapData {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads one header and two data structs.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    Ok(())
}

/// The effective set becomes the permitted one again, which a change of user has emptied (PR_SET_KEEPCAPS).
pub(crate) fn raise_effective() -> nix::Result<()> {
    let header = CapHeader {
        version: CAPABILITY_VERSION,
        pid: 0,
    };
    let mut data = [CapData {
        effective: 0,
        permitted: 0,
        inheritable: 0,
    }; 2];
    // SAFETY: version 3 writes two data structs, and reads them in the second call.
    unsafe {
        Errno::result(libc::syscall(
            libc::SYS_capget,
            &raw const header,
            data.as_mut_ptr(),
        ))?;
        for half in &mut data {
            half.effective = half.permitted;
        }
        Errno::result(libc::syscall(
            libc::SYS_capset,
            &raw const header,
            data.as_ptr(),
        ))?;
    }
    Ok(())
}

/// Drops from the bounding set everything outside `keep`.
pub(crate) fn limit_bounding_set(keep: u64) -> nix::Result<()> {
    for capability in 0..64 {
        match prctl(libc::PR_CAPBSET_READ, [capability, 0, 0, 0]) {
            // Past the last one that this kernel knows.
            Err(Errno::EINVAL) => return Ok(()),
            Err(errno) => return Err(errno),
            Ok(1) if keep & (1 << capability) == 0 => {
                prctl(libc::PR_CAPBSET_DROP, [capability, 0, 0, 0])?;
            }
            Ok(_) => {}
        }
    }
    Ok(())
}

/// The ambient set becomes exactly `set`, which must be within permitted and inheritable.
pub(crate) fn set_ambient(set: u64) -> nix::Result<()> {
    prctl(
        libc::PR_CAP_AMBIENT,
        [libc::PR_CAP_AMBIENT_CLEAR_ALL as c_ulong, 0, 0, 0],
    )?;
    for capability in (0..64).filter(|bit| set & (1 << bit) != 0) {
        prctl(
            libc::PR_CAP_AMBIENT,
            [libc::PR_CAP_AMBIENT_RAISE as c_ulong, capability, 0, 0],
        )?;
    }
    Ok(())
}

/// Loads a classic BPF filter for this process and its children. Needs no_new_privs or CAP_SYS_ADMIN.
pub(crate) fn load_seccomp(filter: &[sock_filter], flags: u64) -> nix::Result<()> {
    let program = Program::new(filter)?;
    if flags != 0 {
        return seccomp(&program, flags).map(drop);
    }
    // SAFETY: `program` has the layout of struct sock_fprog and points to `len` instructions.
    Errno::result(unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
            0,
            0,
        )
    })?;
    Ok(())
}

/// The same, with a descriptor that answers for calls whose action is to notify.
pub(crate) fn load_seccomp_listening(filter: &[sock_filter], flags: u64) -> nix::Result<OwnedFd> {
    /// SECCOMP_FILTER_FLAG_NEW_LISTENER
    const NEW_LISTENER: u64 = 8;
    let fd = seccomp(&Program::new(filter)?, flags | NEW_LISTENER)?;
    // SAFETY: a fresh descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program<'a> {
    len: u16,
    filter: *const sock_filter,
    of: PhantomData<&'a [sock_filter]>,
}

impl Program<'_> {
    fn new(filter: &[sock_filter]) -> nix::Result<Program<'_>> {
        Ok(Program {
            len: u16::try_from(filter.len()).map_err(|_| Errno::EINVAL)?,
            filter: filter.as_ptr(),
            of: PhantomData,
        })
    }
}

fn seccomp(program: &Program<'_>, flags: u64) -> nix::Result<libc::c_long> {
    const SET_MODE_FILTER: libc::c_uint = 1;
    // SAFETY: `program` has the layout of struct sock_fprog and points to `len` instructions, which it borrows.
    Errno::result(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            SET_MODE_FILTER,
            flags as c_ulong,
            ptr::from_ref(program),
        )
    })
}

//! System calls that neither std nor rustix wraps safely: the only `unsafe` of this crate.
#![allow(unsafe_code)]

use rustix::thread::UnshareFlags;
use std::io;

/// Gives the calling thread, and no other, new namespaces. Only for a thread that ends soon after:
/// whatever runs on it later would be in them too.
pub(crate) fn unshare(flags: UnshareFlags) -> io::Result<()> {
    // SAFETY: unshare is unsafe for `FILES`, which can take descriptors away that others believe in;
    // the callers pass namespace flags alone, and those invalidate no descriptor and no memory.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(Into::into)
}

/// Puts a filter that allows everything on the calling thread: seccomp(2), SECCOMP_SET_MODE_FILTER.
pub(crate) fn allow_all_filter() -> io::Result<()> {
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const ALLOW: u32 = 0x7fff_0000; // SECCOMP_RET_ALLOW
    let mut filter = [libc::sock_filter {
        code: RETURN,
        jt: 0,
        jf: 0,
        k: ALLOW,
    }];
    let program = libc::sock_fprog {
        len: 1,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: PR_SET_NO_NEW_PRIVS takes four numbers and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `program` and the one instruction that it points to live until the call returns, and
    // the kernel copies both.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What the kernel's clock discipline says (adjtimex(2), RFC 1589): its state and status bits.
pub(crate) fn clock_state() -> Option<(i32, i32)> {
    let mut state = std::mem::MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: `timex` is plain integers, for which all zero is a value; `modes` 0 asks the kernel to change
    // nothing and to fill the struct, which lives until after the call.
    let result = unsafe { libc::adjtimex(state.as_mut_ptr()) };
    // SAFETY: initialised by `zeroed`, whatever the call did.
    let state = unsafe { state.assume_init() };
    (result >= 0).then_some((result, state.status))
}

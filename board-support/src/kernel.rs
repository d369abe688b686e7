//! System calls that neither std nor rustix wraps safely: the only `unsafe` of this crate.
#![allow(unsafe_code)]

use rustix::thread::UnshareFlags;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

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

/// Executes what an open file holds, in this process; answers only when it could not, and then nothing has changed.
pub(crate) fn execute(
    file: BorrowedFd<'_>,
    arguments: &[CString],
    environment: &[CString],
) -> io::Error {
    let pointers = |texts: &[CString]| -> Vec<_> {
        let texts = texts.iter().map(|text| text.as_ptr());
        texts.chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: a path that is empty and ends, and two arrays of texts that end in a null and live until the call returns.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
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

/// A child in a user namespace of its own, which waits until it is ended by [`UserNamespace::drop`].
pub(crate) struct UserNamespace {
    pid: libc::pid_t,
}

impl UserNamespace {
    /// The child does nothing but system calls: in a process with threads nothing else is allowed after fork (fork(2)).
    pub(crate) fn begin() -> io::Result<Self> {
        let mut told = [0; 2];
        // SAFETY: the kernel writes two descriptors.
        if unsafe { libc::pipe2(told.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: nothing but system calls follows in the child, and it ends by _exit.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: numbers, and four bytes of this frame.
            unsafe {
                let errno: i32 = match libc::unshare(libc::CLONE_NEWUSER) {
                    0 => 0,
                    _ => *libc::__errno_location(),
                };
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::write(told[1], (&raw const errno).cast(), size_of::<i32>());
                loop {
                    libc::pause();
                }
            }
        }
        let namespace = Self { pid };
        let mut errno = [0; size_of::<i32>()];
        // SAFETY: the buffer is as long as is said, and both descriptors are this function's own.
        let read = unsafe {
            libc::close(told[1]);
            let read = libc::read(told[0], errno.as_mut_ptr().cast(), errno.len());
            libc::close(told[0]);
            read
        };
        match (pid, i32::from_ne_bytes(errno)) {
            (..0, _) => Err(io::Error::other("there can be no further process")),
            (_, 0) if read == errno.len() as isize => Ok(namespace),
            (_, 0) => Err(io::Error::other("the child died")),
            (_, errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Its process, as long as this value is there.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }
}

impl Drop for UserNamespace {
    fn drop(&mut self) {
        if self.pid > 0 {
            // SAFETY: numbers only; the child has not been reaped, so that the number is still its own.
            unsafe {
                libc::kill(self.pid, libc::SIGKILL);
                libc::waitpid(self.pid, std::ptr::null_mut(), 0);
            }
        }
    }
}

/// A copy of the mount at `folder` in which files have the owners that `users` makes of those on disk:
/// open_tree(2), mount_setattr(2) with MOUNT_ATTR_IDMAP.
pub(crate) fn id_mapped(folder: &CStr, users: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// `struct mount_attr` (linux/mount.h).
    #[repr(C)]
    struct MountAttr {
        attr_set: u64,
        attr_clr: u64,
        propagation: u64,
        userns_fd: u64,
    }
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path is a C string.
    let tree =
        unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, folder.as_ptr(), flags) };
    if tree < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor.
    let tree = unsafe { OwnedFd::from_raw_fd(tree as i32) };
    let attr = MountAttr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: users.as_raw_fd() as u64,
    };
    // SAFETY: the path is a C string, and `attr` lives until the call returns.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    match answer {
        0 => Ok(tree),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What the calling thread, and no other, makes belongs to this user from now on (setfsuid(2)). Only for a thread that ends
/// soon after.
pub(crate) fn make_files_as(id: u32) {
    #[cfg(not(target_arch = "arm"))]
    use libc::{SYS_setfsgid as GROUP, SYS_setfsuid as USER};
    /// The older ones take numbers of 16 bits there.
    #[cfg(target_arch = "arm")]
    use libc::{SYS_setfsgid32 as GROUP, SYS_setfsuid32 as USER};
    // SAFETY: numbers only. Neither call can fail; what is made shows whether it did what it should.
    unsafe {
        libc::syscall(GROUP, id);
        libc::syscall(USER, id);
    }
}

/// Bytes of a page. By the C library, which was told at the start: rustix reads /proc/self/auxv before Linux 6.4, which is shut to
/// a process that has given up root, and panics then.
pub(crate) fn page_size() -> Option<usize> {
    // SAFETY: sysconf takes a number and gives one.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(bytes)
        .ok()
        .filter(|bytes| bytes.is_power_of_two())
}

/// mallopt(3): whether the C library took the value.
#[cfg(target_env = "gnu")]
pub(crate) fn heap_option(option: libc::c_int, value: libc::c_int) -> bool {
    // SAFETY: mallopt takes two numbers; the allocator changes its own state under its own lock.
    unsafe { libc::mallopt(option, value) == 1 }
}

/// malloc_trim(3): free pages of the heap go back to the kernel.
#[cfg(target_env = "gnu")]
pub(crate) fn trim_heap() {
    // SAFETY: malloc_trim gives back pages that hold no allocation, under the allocator's own lock.
    unsafe { libc::malloc_trim(0) };
}

/// What [`drop_clean_pages`] is given, and what it counts.
struct Dropping {
    page: usize,
    libraries: bool,
    bytes: usize,
}

/// Takes those pages of this program's file, and of its libraries' if asked to, off this process's page tables that cannot have
/// been written to: they are in the page cache, and come back by a fault when they are used. How many bytes of the files that
/// are, mapped or not.
pub(crate) fn drop_clean_pages(page: usize, libraries: bool) -> usize {
    // SAFETY: called by dl_iterate_phdr alone, with what it is given below.
    unsafe extern "C" fn visit(
        object: *mut libc::dl_phdr_info,
        _size: libc::size_t,
        given: *mut libc::c_void,
    ) -> libc::c_int {
        // SAFETY: `given` is what stands below, which outlives the iteration and is used by nobody else during it.
        let given = unsafe { &mut *given.cast::<Dropping>() };
        // SAFETY: the loader gives a valid object for the length of the call.
        let object = unsafe { &*object };
        if object.dlpi_phdr.is_null() {
            return 1;
        }
        // SAFETY: the loader says how many headers there are at that place, and keeps them as long as the object is loaded.
        let headers =
            unsafe { std::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
        for header in headers {
            if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
                continue;
            }
            // Whole pages of this segment alone: those at its ends may be shared with what is written to.
            let start = object.dlpi_addr as usize + header.p_vaddr as usize;
            let first = start.next_multiple_of(given.page);
            let end = (start + header.p_filesz as usize) / given.page * given.page;
            if end <= first {
                continue;
            }
            let length = end - first;
            // SAFETY: the range is a read-only private mapping of the object's file, of which no page was written to (the
            // segment is not writable, and what relocation changes lies in one that was; no object has text relocations): the
            // kernel gives the same bytes back at the next access.
            if unsafe { libc::madvise(first as *mut libc::c_void, length, libc::MADV_DONTNEED) }
                == 0
            {
                given.bytes += length;
            }
        }
        // The first object is the program itself.
        libc::c_int::from(!given.libraries)
    }
    let mut given = Dropping {
        page,
        libraries,
        bytes: 0,
    };
    // SAFETY: `visit` is called while this call lasts, with the pointer that is given here, and does not unwind.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut given).cast()) };
    given.bytes
}

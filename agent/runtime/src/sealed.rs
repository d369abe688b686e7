//! The calling program in a form that no container can write to.
//!
//! A container's program may be a link to /proc/self/exe, which at that moment is this one; run by the container's root,
//! it could then be opened for writing and replaced on the host (CVE-2019-5736). A process that execs inside containers
//! first executes itself anew from what [`program`] answers.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::kernel::mounts;

const OWN: &str = "/proc/self/exe";

/// None when the program that runs is sealed already: on a read-only mount, or in a sealed memory file.
///
/// # Errors
/// When neither can be made.
pub fn program() -> nix::Result<Option<OwnedFd>> {
    let own = open(OWN, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    if fstatvfs(&own)?.flags().contains(FsFlags::ST_RDONLY) || is_sealed_memory()? {
        return Ok(None);
    }
    match readonly_mount(&own) {
        // Before 5.12, or no right to mount.
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EINVAL) => memory_copy().map(Some),
        other => other.map(Some),
    }
}

/// A mount of that one file, which is in nobody's mount namespace and cannot be made writable by any.
fn readonly_mount(own: &OwnedFd) -> nix::Result<OwnedFd> {
    let mount = mounts::clone_tree(own.as_fd())?;
    mounts::change_recursive(mount.as_fd(), libc::MOUNT_ATTR_RDONLY, 0)?;
    Ok(mount)
}

const SEALS: SealFlag = SealFlag::F_SEAL_SEAL
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE);

fn is_sealed_memory() -> nix::Result<bool> {
    let own = open(OWN, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    match fcntl(&own, FcntlArg::F_GET_SEALS) {
        Ok(seals) => Ok(SealFlag::from_bits_truncate(seals).contains(SEALS)),
        Err(_) => Ok(false),
    }
}

fn memory_copy() -> nix::Result<OwnedFd> {
    let mut own = File::open(OWN).map_err(errno)?;
    memory(c"coracle-runtime", &mut own)
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// A memory file with all of that, which nobody can change and anybody execute.
pub(crate) fn memory(name: &CStr, of: &mut impl Read) -> nix::Result<OwnedFd> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    // Asked for, where sysctl vm.memfd_noexec is 1. Before 6.3 there is nothing to ask.
    let executable = MFdFlags::from_bits_retain(libc::MFD_EXEC);
    let file = match memfd_create(name, flags | executable) {
        Err(Errno::EINVAL) => memfd_create(name, flags)?,
        other => other?,
    };
    let mut file = File::from(file);
    std::io::copy(of, &mut file).map_err(errno)?;
    file.flush().and_then(|()| file.rewind()).map_err(errno)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(file.into())
}

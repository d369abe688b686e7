//! Landlock (kernel, Documentation/userspace-api/landlock.rst): what a process may do to files, by the folders below which
//! they lie, whatever descriptors and mounts it comes by; and which abstract sockets it reaches.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;

/// By the same numbers on every architecture.
const SYS_CREATE_RULESET: libc::c_long = 444;
const SYS_ADD_RULE: libc::c_long = 445;
const SYS_RESTRICT_SELF: libc::c_long = 446;
const RULE_PATH_BENEATH: libc::c_int = 1;
const CREATE_RULESET_VERSION: u32 = 1;

/// LANDLOCK_ACCESS_FS_READ_FILE and _READ_DIR.
pub(crate) const READ: u64 = 1 << 2 | 1 << 3;
/// Those of the first version: EXECUTE, WRITE_FILE, reading, removing, and making of seven kinds.
const FIRST: u64 = (1 << 13) - 1;
const EXECUTE: u64 = 1;
/// REFER: linking and moving from folder to folder, since 5.19. Before, whoever is restricted can do neither.
const REFER: u64 = 1 << 13;
/// TRUNCATE, since 6.2.
const TRUNCATE: u64 = 1 << 14;

/// Scopes, since 6.12.
const SCOPES: libc::c_long = 6;
/// LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET.
const ABSTRACT_SOCKETS: u64 = 1;

/// 0 where there is none: built without it, or not among the modules that were asked for at boot.
fn version() -> nix::Result<libc::c_long> {
    // SAFETY: with this flag the kernel reads nothing and answers a number.
    let version = Errno::result(unsafe {
        libc::syscall(
            SYS_CREATE_RULESET,
            ptr::null::<u64>(),
            0,
            CREATE_RULESET_VERSION,
        )
    });
    match version {
        Err(Errno::ENOSYS | Errno::EOPNOTSUPP) => Ok(0),
        other => other,
    }
}

/// What it is to be about: the first fields of `struct landlock_ruleset_attr`, files, network and scopes.
fn create(about: &[u64]) -> nix::Result<OwnedFd> {
    // SAFETY: the kernel reads as many bytes as it is told, which outlive the call.
    let fd = Errno::result(unsafe {
        libc::syscall(
            SYS_CREATE_RULESET,
            about.as_ptr(),
            size_of_val(about),
            0_u32,
        )
    })?;
    // SAFETY: a fresh descriptor, which the kernel closes on execve.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// For the calling process and its children, for good. It may gain no privileges, or must be allowed to administer.
fn restrict_self(ruleset: &OwnedFd) -> nix::Result<()> {
    // SAFETY: takes two integers.
    Errno::result(unsafe { libc::syscall(SYS_RESTRICT_SELF, ruleset.as_raw_fd(), 0_u32) })?;
    Ok(())
}

/// The calling process and its children reach no abstract socket but their own, where the kernel can see to that. About files
/// it says nothing: who may mount may still.
pub(crate) fn keep_to_own_sockets() -> nix::Result<()> {
    match version()? {
        ..SCOPES => Ok(()),
        _ => restrict_self(&create(&[0, 0, ABSTRACT_SOCKETS])?),
    }
}

/// Rights of an own process, as far as this kernel knows them.
#[derive(Debug)]
pub(crate) struct Ruleset {
    fd: OwnedFd,
    handled: u64,
}

impl Ruleset {
    /// Allows nothing yet. None where there is no Landlock, or none that lets files be linked from folder to folder.
    pub(crate) fn new() -> nix::Result<Option<Ruleset>> {
        let handled = match version()? {
            ..=1 => return Ok(None),
            2 => FIRST | REFER,
            _ => FIRST | REFER | TRUNCATE,
        };
        let fd = create(&[handled])?;
        Ok(Some(Ruleset { fd, handled }))
    }

    /// Everything below a folder may be read, and written to as well when `write`; programs there do not run.
    pub(crate) fn allow(&self, folder: BorrowedFd<'_>, write: bool) -> nix::Result<()> {
        let wanted = if write { !EXECUTE } else { READ };
        // `struct landlock_path_beneath_attr` is packed: eight bytes of rights and four of a descriptor.
        let mut rule = [0_u8; 12];
        rule[..8].copy_from_slice(&(self.handled & wanted).to_ne_bytes());
        rule[8..].copy_from_slice(&folder.as_raw_fd().to_ne_bytes());
        // SAFETY: the kernel reads one such struct, which outlives the call.
        Errno::result(unsafe {
            libc::syscall(
                SYS_ADD_RULE,
                self.fd.as_raw_fd(),
                RULE_PATH_BENEATH,
                rule.as_ptr(),
                0_u32,
            )
        })?;
        Ok(())
    }

    /// See [`restrict_self`].
    pub(crate) fn restrict_self(self) -> nix::Result<()> {
        restrict_self(&self.fd)
    }
}

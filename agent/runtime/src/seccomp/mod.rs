//! System call filters, compiled once and loaded into many processes.

use libc::{c_long, sock_filter};

use crate::capabilities::Capabilities;

mod docker;
mod fast;
mod kept;
mod rules;
#[cfg(test)]
mod tests;

pub use rules::{Action, Argument, Compare, Rule};

/// Why no filter could be made.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    #[error("no seccomp filter can be made for this architecture")]
    Architecture,
    #[error("the seccomp filter does not compile: {0}")]
    Compile(String),
}

/// A compiled filter. Making one takes about a millisecond; keep it for every container with the same capabilities.
#[derive(Debug, Clone)]
pub struct SeccompProgram {
    instructions: Vec<sock_filter>,
    /// SECCOMP_FILTER_FLAG_* to load it with.
    flags: u64,
}

/// The namespaces that clone may not make: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// PER_LINUX, PER_LINUX32, UNAME26, both, and "tell me" (linux/personality.h).
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Sockets to the hypervisor know no network namespace.
const AF_VSOCK: u64 = 40;
/// Those of the kernel's ciphers have led into pages that containers share (CVE-2026-31431).
const AF_ALG: u64 = 38;
/// FS_IOC_FSSETXATTR of linux/fs.h, the same number on all architectures that we know. Who owns a file may change its project,
/// and with it whose quota it counts for.
const SET_PROJECT: u64 = 0x401c_5820;
/// FS_IOC_SETFLAGS, `_IOW('f', 2, long)`: one of its flags is whether what is made in a folder counts for the folder's project
/// (`chattr -P`). Flags lie in memory, where no filter sees them, so that none can be set.
const SET_FLAGS: u64 = 0x4000_6602 | (size_of::<c_long>() as u64) << 16;

impl SeccompProgram {
    /// Docker's default profile for a process with these capabilities: what is not allowed answers EPERM, clone3 answers
    /// ENOSYS (its flags lie in memory, where no filter sees them, and libraries then use clone).
    ///
    /// # Errors
    /// On an architecture whose number we do not know.
    pub fn docker(capabilities: Capabilities) -> Result<SeccompProgram, SeccompError> {
        let mut free = [docker::ALLOWED, docker::ALLOWED_HERE, docker::ALLOWED_NEW].concat();
        for (capability, calls) in docker::BY_CAPABILITY {
            if capabilities.contains(*capability) {
                free.extend(*calls);
            }
        }
        free.push(libc::SYS_socket);

        let mut rules = vec![
            plain_rule(&[libc::SYS_clone3], Action::Errno(libc::ENOSYS as u16)),
            plain_rule(&free, Action::Allow),
            forbidden_ioctl(SET_PROJECT),
            forbidden_ioctl(SET_FLAGS),
            forbidden_socket(AF_VSOCK),
            forbidden_socket(AF_ALG),
            Rule {
                arguments: vec![Argument {
                    index: 0,
                    compare: Compare::Masked {
                        mask: NAMESPACE_FLAGS,
                        value: 0,
                    },
                }],
                ..plain_rule(&[libc::SYS_clone], Action::Allow)
            },
        ];
        rules.extend(PERSONALITIES.map(|value| Rule {
            arguments: vec![first_word(value)],
            ..plain_rule(&[libc::SYS_personality], Action::Allow)
        }));
        SeccompProgram::from_rules(&rules, Action::Errno(libc::EPERM as u16), 0)
    }

    /// These calls and no others; a forbidden one ends the process with SIGSYS. For jails whose needs are known.
    ///
    /// # Errors
    /// On an architecture whose number we do not know.
    pub fn allow_only(calls: &[c_long]) -> Result<SeccompProgram, SeccompError> {
        let rules = [plain_rule(calls, Action::Allow)];
        SeccompProgram::from_rules(&rules, Action::KillProcess, 0)
    }

    /// All calls but these, which answer `errno`.
    ///
    /// # Errors
    /// On an architecture whose number we do not know.
    pub fn deny(calls: &[c_long], errno: i32) -> Result<SeccompProgram, SeccompError> {
        let rules = [plain_rule(calls, Action::Errno(errno as u16))];
        SeccompProgram::from_rules(&rules, Action::Allow, 0)
    }

    /// For a jail that works on files: no new program, no tracing, no mounts, no namespaces, no sockets, nothing that
    /// reaches into the kernel itself. Answers EPERM.
    ///
    /// # Errors
    /// On an architecture whose number we do not know.
    pub fn files_only() -> Result<SeccompProgram, SeccompError> {
        const DENIED: [c_long; 34] = [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_setns,
            libc::SYS_unshare,
            libc::SYS_clone3,
            libc::SYS_open_by_handle_at,
            libc::SYS_socket,
            libc::SYS_socketpair,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_userfaultfd,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_fsmount,
            libc::SYS_mount_setattr,
        ];
        SeccompProgram::deny(&DENIED, libc::EPERM)
    }

    pub(crate) fn flags(&self) -> u64 {
        self.flags
    }

    pub(crate) fn instructions(&self) -> &[sock_filter] {
        &self.instructions
    }
}

fn plain_rule(calls: &[c_long], action: Action) -> Rule {
    Rule {
        calls: calls.iter().map(|call| *call as u32).collect(),
        arguments: Vec::new(),
        action,
    }
}

fn forbidden_ioctl(request: u64) -> Rule {
    Rule {
        arguments: vec![word(1, request)],
        ..plain_rule(&[libc::SYS_ioctl], Action::Errno(libc::EPERM as u16))
    }
}

fn forbidden_socket(family: u64) -> Rule {
    Rule {
        arguments: vec![first_word(family)],
        ..plain_rule(&[libc::SYS_socket], Action::Errno(libc::EPERM as u16))
    }
}

fn first_word(value: u64) -> Argument {
    word(0, value)
}

/// An argument as 32 bits: the upper half of the register is whatever was in it.
fn word(index: u8, value: u64) -> Argument {
    let compare = Compare::Masked {
        mask: 0xffff_ffff,
        value,
    };
    Argument { index, compare }
}

/// AUDIT_ARCH_* of linux/audit.h.
fn native_audit_arch() -> Result<u32, SeccompError> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(0xc000_003e),
        "aarch64" => Ok(0xc000_00b7),
        "arm" => Ok(0x4000_0028),
        "riscv64" => Ok(0xc000_00f3),
        _ => Err(SeccompError::Architecture),
    }
}

/// Of the 32-bit programs that the same processor runs.
fn audit_arch_of_32_bit() -> Option<u32> {
    match std::env::consts::ARCH {
        "x86_64" => Some(0x4000_0003),
        "aarch64" => Some(0x4000_0028),
        _ => None,
    }
}

//! System call filters, compiled once and loaded into many processes.

use std::collections::{BTreeMap, BTreeSet};

use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use crate::capabilities::Capabilities;

mod docker;
mod fast;
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

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The namespaces that clone may not make: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// PER_LINUX, PER_LINUX32, UNAME26, both, and "tell me" (linux/personality.h).
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Sockets to the hypervisor know no network namespace.
const AF_VSOCK: u64 = 40;

impl SeccompProgram {
    /// Docker's default profile for a process with these capabilities: what is not allowed answers EPERM, clone3 answers
    /// ENOSYS (its flags lie in memory, where no filter sees them, and libraries then use clone).
    ///
    /// # Errors
    /// On an architecture that seccompiler does not know.
    pub fn docker(capabilities: Capabilities) -> Result<SeccompProgram, SeccompError> {
        let mut free: BTreeSet<i64> = [docker::ALLOWED, docker::ALLOWED_HERE, docker::ALLOWED_NEW]
            .concat()
            .into_iter()
            .collect();
        for (capability, calls) in docker::BY_CAPABILITY {
            if capabilities.contains(*capability) {
                free.extend(*calls);
            }
        }

        let mut rules = Rules::new();
        let personality = PERSONALITIES
            .iter()
            .map(|value| argument(0, SeccompCmpOp::Eq, *value))
            .collect::<Result<_, _>>()?;
        rules.insert(libc::SYS_personality, personality);
        rules.insert(
            libc::SYS_clone,
            vec![argument(0, SeccompCmpOp::MaskedEq(NAMESPACE_FLAGS), 0)?],
        );
        rules.insert(
            libc::SYS_socket,
            vec![argument(0, SeccompCmpOp::Ne, AF_VSOCK)?],
        );
        let careful = compile(
            rules,
            SeccompAction::Errno(libc::EPERM as u32),
            SeccompAction::Allow,
        )?;

        let mut quick = fast::allow(&free);
        if !free.contains(&libc::SYS_clone3) {
            quick.extend(fast::answer(libc::SYS_clone3 as u32, libc::ENOSYS as u32));
        }
        let instructions = fast::on_native(native_audit_arch()?, quick, careful);
        Ok(SeccompProgram {
            instructions,
            flags: 0,
        })
    }

    /// These calls and no others; a forbidden one ends the process with SIGSYS. For jails whose needs are known.
    ///
    /// # Errors
    /// On an architecture that seccompiler does not know.
    pub fn allow_only(calls: &[i64]) -> Result<SeccompProgram, SeccompError> {
        let rules = calls.iter().map(|call| (*call, vec![])).collect();
        let instructions = compile(rules, SeccompAction::KillProcess, SeccompAction::Allow)?;
        Ok(SeccompProgram {
            instructions,
            flags: 0,
        })
    }

    /// All calls but these, which answer `errno`.
    ///
    /// # Errors
    /// On an architecture that seccompiler does not know.
    pub fn deny(calls: &[i64], errno: i32) -> Result<SeccompProgram, SeccompError> {
        let rules = calls.iter().map(|call| (*call, vec![])).collect();
        let instructions = compile(
            rules,
            SeccompAction::Allow,
            SeccompAction::Errno(errno as u32),
        )?;
        Ok(SeccompProgram {
            instructions,
            flags: 0,
        })
    }

    /// For a jail that works on files: no new program, no tracing, no mounts, no namespaces, no sockets, nothing that
    /// reaches into the kernel itself. Answers EPERM.
    ///
    /// # Errors
    /// On an architecture that seccompiler does not know.
    pub fn files_only() -> Result<SeccompProgram, SeccompError> {
        const DENIED: [i64; 34] = [
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

fn argument(index: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule, SeccompError> {
    // The upper half of a 32-bit argument is whatever was in the register.
    let condition =
        SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value).map_err(wrong)?;
    SeccompRule::new(vec![condition]).map_err(wrong)
}

fn compile(
    rules: Rules,
    otherwise: SeccompAction,
    listed: SeccompAction,
) -> Result<Vec<sock_filter>, SeccompError> {
    let architecture =
        TargetArch::try_from(std::env::consts::ARCH).map_err(|_| SeccompError::Architecture)?;
    let filter = SeccompFilter::new(rules, otherwise, listed, architecture).map_err(wrong)?;
    filter.try_into().map_err(wrong)
}

fn wrong(error: seccompiler::BackendError) -> SeccompError {
    SeccompError::Compile(error.to_string())
}

/// AUDIT_ARCH_* of linux/audit.h.
fn native_audit_arch() -> Result<u32, SeccompError> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(0xc000_003e),
        "aarch64" => Ok(0xc000_00b7),
        _ => Err(SeccompError::Architecture),
    }
}

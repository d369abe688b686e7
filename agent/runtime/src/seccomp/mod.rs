//! System call filters, compiled once and loaded into many processes.

use std::collections::{BTreeMap, BTreeSet};

use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use crate::capabilities::Capabilities;

mod docker;
mod fast;

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
        Ok(SeccompProgram { instructions })
    }

    /// These calls and no others; a forbidden one ends the process with SIGSYS. For jails whose needs are known.
    ///
    /// # Errors
    /// On an architecture that seccompiler does not know.
    pub fn allow_only(calls: &[i64]) -> Result<SeccompProgram, SeccompError> {
        let rules = calls.iter().map(|call| (*call, vec![])).collect();
        let instructions = compile(rules, SeccompAction::KillProcess, SeccompAction::Allow)?;
        Ok(SeccompProgram { instructions })
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
        Ok(SeccompProgram { instructions })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capabilities::Capability;

    const EPERM: u32 = 0x0005_0000 | libc::EPERM as u32;
    const ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS as u32;
    const ALLOW: u32 = 0x7fff_0000;
    const KILL: u32 = 0x8000_0000;

    /// Runs a classic BPF program over a seccomp_data, as the kernel would.
    fn answer(program: &SeccompProgram, call: i64, first_argument: u64) -> u32 {
        answer_on(native_audit_arch().unwrap(), program, call, first_argument)
    }

    fn answer_on(
        architecture: u32,
        program: &SeccompProgram,
        call: i64,
        first_argument: u64,
    ) -> u32 {
        let mut data = [0u32; 16];
        (data[0], data[1], data[4], data[5]) = (
            call as u32,
            architecture,
            first_argument as u32,
            (first_argument >> 32) as u32,
        );
        let (mut at, mut a) = (0usize, 0u32);
        loop {
            let step = &program.instructions[at];
            at += 1;
            let jump = |taken: bool| {
                if taken {
                    step.jt as usize
                } else {
                    step.jf as usize
                }
            };
            match step.code {
                0x20 => a = data[step.k as usize / 4],
                0x05 => at += step.k as usize,
                0x15 => at += jump(a == step.k),
                0x25 => at += jump(a > step.k),
                0x35 => at += jump(a >= step.k),
                0x54 => a &= step.k,
                0x06 => return step.k,
                code => panic!("unexpected instruction {code:#x}"),
            }
        }
    }

    fn docker() -> SeccompProgram {
        SeccompProgram::docker(Capabilities::docker()).unwrap()
    }

    #[test]
    fn everyday_calls_pass_and_dangerous_ones_do_not() {
        let program = docker();
        for call in [
            libc::SYS_read,
            libc::SYS_openat,
            libc::SYS_execve,
            libc::SYS_socket,
            439,
        ] {
            assert_eq!(answer(&program, call, 1), ALLOW, "{call}");
        }
        for call in [
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_unshare,
            libc::SYS_io_uring_setup,
            9999,
        ] {
            assert_eq!(answer(&program, call, 0), EPERM, "{call}");
        }
    }

    #[test]
    fn arguments_decide_clone_personality_and_socket() {
        let program = docker();
        assert_eq!(
            answer(&program, libc::SYS_clone, libc::SIGCHLD as u64),
            ALLOW
        );
        assert_eq!(
            answer(&program, libc::SYS_clone, libc::CLONE_NEWUSER as u64),
            EPERM
        );
        assert_eq!(answer(&program, libc::SYS_clone3, 0), ENOSYS);
        assert_eq!(answer(&program, libc::SYS_personality, 0xffff_ffff), ALLOW);
        assert_eq!(answer(&program, libc::SYS_personality, 0x40000), EPERM);
        assert_eq!(answer(&program, libc::SYS_socket, AF_VSOCK), EPERM);
        assert_eq!(
            answer(&program, libc::SYS_socket, AF_VSOCK | 1 << 40),
            EPERM
        );
    }

    #[test]
    fn a_capability_opens_its_calls() {
        let program =
            SeccompProgram::docker(Capabilities::docker().with(Capability::SYS_ADMIN)).unwrap();
        assert_eq!(answer(&program, libc::SYS_mount, 0), ALLOW);
        assert_eq!(
            answer(&program, libc::SYS_clone, libc::CLONE_NEWUSER as u64),
            ALLOW
        );
        assert_eq!(answer(&program, libc::SYS_clone3, 0), ALLOW);
        assert_eq!(answer(&program, libc::SYS_reboot, 0), EPERM);
    }

    #[test]
    fn jails_allow_or_deny_a_list() {
        let strict = SeccompProgram::allow_only(&[libc::SYS_read]).unwrap();
        assert_eq!(answer(&strict, libc::SYS_read, 0), ALLOW);
        assert_eq!(answer(&strict, libc::SYS_write, 0), KILL);
        let files = SeccompProgram::files_only().unwrap();
        assert_eq!(answer(&files, libc::SYS_write, 0), ALLOW);
        assert_eq!(answer(&files, libc::SYS_execve, 0), EPERM);
    }

    #[test]
    fn another_architectures_numbers_are_not_taken_for_ours() {
        const I386: u32 = 0x4000_0003;
        assert_eq!(answer_on(I386, &docker(), libc::SYS_read, 0), KILL);
        assert_eq!(answer_on(I386, &docker(), libc::SYS_clone3, 0), KILL);
    }

    /// The kernel runs the filter once for each call number when it is loaded, in the time of the launch.
    #[test]
    fn the_default_filter_is_short() {
        let length = docker().instructions.len();
        assert!(length < 300, "{length} instructions");
    }

    #[test]
    fn every_listed_call_is_allowed_and_its_unlisted_neighbour_is_not() {
        let listed: BTreeSet<i64> = [docker::ALLOWED, docker::ALLOWED_HERE, docker::ALLOWED_NEW]
            .concat()
            .into_iter()
            .collect();
        let program = docker();
        let conditional = [
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_personality,
            libc::SYS_socket,
            libc::SYS_chroot,
        ];
        for call in (0..=500).filter(|call| !conditional.contains(call)) {
            let expected = if listed.contains(&call) { ALLOW } else { EPERM };
            assert_eq!(answer(&program, call, 0), expected, "{call}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn the_x32_numbers_are_no_way_around() {
        assert_eq!(answer(&docker(), 0x4000_0000 | libc::SYS_read, 0), EPERM);
    }
}

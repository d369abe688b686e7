use std::collections::BTreeSet;

use super::*;
use crate::capabilities::Capability;

const EPERM: u32 = 0x0005_0000 | libc::EPERM as u32;
const ENOSYS: u32 = 0x0005_0000 | libc::ENOSYS as u32;
const ALLOW: u32 = 0x7fff_0000;
const KILL: u32 = 0x8000_0000;

/// Runs a classic BPF program over a seccomp_data, as the kernel would.
pub(super) fn answer(program: &SeccompProgram, call: c_long, first_argument: u64) -> u32 {
    answer_on(native_audit_arch().unwrap(), program, call, first_argument)
}

pub(super) fn answer_on(
    architecture: u32,
    program: &SeccompProgram,
    call: c_long,
    first_argument: u64,
) -> u32 {
    answer_to(architecture, program, call, [first_argument, 0])
}

fn answer_to(
    architecture: u32,
    program: &SeccompProgram,
    call: c_long,
    arguments: [u64; 2],
) -> u32 {
    let mut data = [0u32; 16];
    (data[0], data[1]) = (call as u32, architecture);
    for (at, argument) in arguments.into_iter().enumerate() {
        (data[4 + 2 * at], data[5 + 2 * at]) = (argument as u32, (argument >> 32) as u32);
    }
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
fn nobody_changes_the_project_of_a_file() {
    let program = docker();
    let ioctl = |request: u64| {
        let architecture = native_audit_arch().unwrap();
        answer_to(architecture, &program, libc::SYS_ioctl, [3, request])
    };
    assert_eq!(ioctl(SET_PROJECT), EPERM);
    assert_eq!(ioctl(SET_PROJECT | 1 << 40), EPERM);
    assert_eq!(ioctl(SET_FLAGS), EPERM);
    assert_eq!(ioctl(SET_FLAGS | 1 << 40), EPERM);
    #[cfg(target_pointer_width = "64")]
    assert_eq!(SET_FLAGS, 0x4008_6602);
    // Reading both, TIOCGWINSZ, FIONREAD.
    for other in [0x801c_581f, 0x8008_6601, 0x5413, 0x541b] {
        assert_eq!(ioctl(other), ALLOW);
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
    assert_eq!(answer(&program, libc::SYS_ioctl, SET_PROJECT), ALLOW);
    assert_eq!(answer(&program, libc::SYS_personality, 0xffff_ffff), ALLOW);
    assert_eq!(answer(&program, libc::SYS_personality, 0x40000), EPERM);
    assert_eq!(answer(&program, libc::SYS_socket, AF_VSOCK), EPERM);
    assert_eq!(answer(&program, libc::SYS_socket, AF_ALG), EPERM);
    assert_eq!(
        answer(&program, libc::SYS_socket, libc::AF_INET as u64),
        ALLOW
    );
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
    let listed: BTreeSet<c_long> = [docker::ALLOWED, docker::ALLOWED_HERE, docker::ALLOWED_NEW]
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
    // file_setattr, which changes a file's project too, is 469.
    for call in (0..=500).filter(|call| !conditional.contains(call)) {
        let expected = if listed.contains(&call) { ALLOW } else { EPERM };
        assert_eq!(answer(&program, call, 0), expected, "{call}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_x32_numbers_are_no_way_around() {
    let read = 0x4000_0000 | libc::SYS_read;
    assert_eq!(answer(&docker(), read, 0), EPERM);
    let files = SeccompProgram::files_only().unwrap();
    assert_eq!(answer(&files, libc::SYS_read, 0), ALLOW);
    assert_eq!(answer(&files, read, 0), EPERM);
    let strict = SeccompProgram::allow_only(&[libc::SYS_read]).unwrap();
    assert_eq!(answer(&strict, read, 0), KILL);
}

#[test]
fn a_program_is_the_same_from_its_bytes() {
    let program = SeccompProgram::docker(Capabilities::docker()).unwrap();
    let bytes = program.to_bytes();
    let again = SeccompProgram::from_bytes(&bytes).unwrap();
    assert_eq!(again.to_bytes(), bytes);
    assert_eq!(again.flags, program.flags);
    for call in 0..600 {
        assert_eq!(answer(&again, call, 0), answer(&program, call, 0), "{call}");
    }
    for wrong in [&bytes[..bytes.len() - 1], &bytes[..8], &[]] {
        assert!(SeccompProgram::from_bytes(wrong).is_none());
    }
}

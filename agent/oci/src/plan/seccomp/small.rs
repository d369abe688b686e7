//! Calls of the 32-bit programs that the machine's processor runs too.

use coracle_runtime::seccomp::{Action, Argument, Compare, Rule};
use oci_spec::runtime::{Arch, LinuxSeccomp};

use super::action;
use crate::failure::Failure;

#[cfg(target_arch = "aarch64")]
use syscalls::arm::Sysno;
#[cfg(target_arch = "x86_64")]
use syscalls::x86::Sysno;

/// What a profile calls them; None on a machine that is 32-bit itself.
#[cfg(target_arch = "x86_64")]
pub const ARCHITECTURE: Option<Arch> = Some(Arch::ScmpArchX86);
#[cfg(target_arch = "aarch64")]
pub const ARCHITECTURE: Option<Arch> = Some(Arch::ScmpArchArm);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub const ARCHITECTURE: Option<Arch> = None;

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub fn number(name: &str) -> Option<u32> {
    #[cfg(target_arch = "aarch64")]
    if let Some(call) = of_arm_alone(name) {
        return Some(call);
    }
    name.parse::<Sysno>().ok().map(|call| call.id() as u32)
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub fn number(_: &str) -> Option<u32> {
    None
}

/// ARM's own calls (arch/arm/include/uapi/asm/unistd.h), without which no program's C library gets to `main`.
#[cfg(any(test, target_arch = "arm", target_arch = "aarch64"))]
pub fn of_arm_alone(name: &str) -> Option<u32> {
    const BASE: u32 = 0x0f_0000;
    let calls = [
        ("breakpoint", 1),
        ("cacheflush", 2),
        ("usr26", 3),
        ("usr32", 4),
        ("set_tls", 5),
        ("get_tls", 6),
    ];
    let call = calls.into_iter().find(|(known, _)| *known == name)?;
    Some(BASE + call.1)
}

/// The calls that i386 also makes by way of `socketcall` or `ipc`, with their numbers there (linux/net.h, linux/ipc.h). ARM's
/// programs have no such way.
#[cfg(target_arch = "x86_64")]
const MULTIPLEXED: [(&str, &[(&str, u64)]); 2] = [
    (
        "socketcall",
        &[
            ("socket", 1),
            ("bind", 2),
            ("connect", 3),
            ("listen", 4),
            ("accept", 5),
            ("getsockname", 6),
            ("getpeername", 7),
            ("socketpair", 8),
            ("send", 9),
            ("recv", 10),
            ("sendto", 11),
            ("recvfrom", 12),
            ("shutdown", 13),
            ("setsockopt", 14),
            ("getsockopt", 15),
            ("sendmsg", 16),
            ("recvmsg", 17),
            ("accept4", 18),
            ("recvmmsg", 19),
            ("sendmmsg", 20),
        ],
    ),
    (
        "ipc",
        &[
            ("semop", 1),
            ("semget", 2),
            ("semctl", 3),
            ("semtimedop", 4),
            ("msgsnd", 11),
            ("msgrcv", 12),
            ("msgget", 13),
            ("msgctl", 14),
            ("shmat", 21),
            ("shmdt", 22),
            ("shmget", 23),
            ("shmctl", 24),
        ],
    ),
];
#[cfg(not(target_arch = "x86_64"))]
const MULTIPLEXED: [(&str, &[(&str, u64)]); 0] = [];

/// What the profile forbids by name must not be had the other way. There the arguments lie in memory, where no filter sees
/// them: a call that is forbidden for some arguments is forbidden whole, and so is one that is allowed for some alone.
pub fn with_multiplexed(
    mut rules: Vec<Rule>,
    profile: &LinuxSeccomp,
) -> Result<Vec<Rule>, Failure> {
    let otherwise = action(profile.default_action(), profile.default_errno_ret())?;
    for (way, calls) in MULTIPLEXED {
        let Some(way) = number(way) else { continue };
        let is_open = |rule: &Rule| {
            rule.calls.contains(&way) && rule.arguments.is_empty() && permits(rule.action)
        };
        if !permits(otherwise) && rules.iter().any(is_open) {
            for (name, number) in calls {
                if !is_free(name, profile)? {
                    rules.push(by_way(way, *number, otherwise));
                }
            }
        }
        for one in profile.syscalls().iter().flatten() {
            let action = action(one.action(), one.errno_ret())?;
            if permits(action) {
                continue;
            }
            let named = calls
                .iter()
                .filter(|(name, _)| one.names().iter().any(|listed| listed == name));
            rules.extend(named.map(|(_, number)| by_way(way, *number, action)));
        }
    }
    Ok(rules)
}

fn permits(action: Action) -> bool {
    matches!(action, Action::Allow | Action::Log)
}

/// Whether the profile allows it whatever its arguments are.
fn is_free(name: &str, profile: &LinuxSeccomp) -> Result<bool, Failure> {
    for one in profile.syscalls().iter().flatten() {
        if one.names().iter().any(|listed| listed == name)
            && one.args().iter().flatten().next().is_none()
            && permits(action(one.action(), one.errno_ret())?)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn by_way(way: u32, number: u64, action: Action) -> Rule {
    Rule {
        calls: vec![way],
        // The version of `ipc` is in the upper half.
        arguments: vec![Argument {
            index: 0,
            compare: Compare::Masked {
                mask: 0xffff,
                value: number,
            },
        }],
        action,
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_32_bits() {
        assert_eq!(number("exit"), Some(1));
        assert_eq!(number("socketcall"), Some(102));
        assert_eq!(number("ipc"), Some(117));
        assert_eq!(number("no_such_call"), None);
    }

    #[test]
    fn what_is_forbidden_by_name_is_forbidden_by_the_other_way() {
        let profile: LinuxSeccomp = serde_json::from_str(
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["socket", "shmget"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}]},
                {"names": ["connect"], "action": "SCMP_ACT_ALLOW"}]}"#,
        )
        .unwrap();
        let rules = with_multiplexed(Vec::new(), &profile).unwrap();
        let forbidden: Vec<(u32, Compare)> = rules
            .iter()
            .map(|rule| (rule.calls[0], rule.arguments[0].compare))
            .collect();
        let masked = |value| Compare::Masked {
            mask: 0xffff,
            value,
        };
        assert_eq!(forbidden, [(102, masked(1)), (117, masked(23))]);
    }
    /// As Docker's profile has it.
    #[test]
    fn what_is_allowed_for_some_arguments_is_not_to_be_had_whole_by_the_other_way() {
        let profile: LinuxSeccomp = serde_json::from_str(
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": [
                {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]},
                {"names": ["connect", "socketcall"], "action": "SCMP_ACT_ALLOW"}]}"#,
        )
        .unwrap();
        let rules =
            with_multiplexed(super::super::rules(&profile, &number).unwrap(), &profile).unwrap();
        let refused = |call: u64| {
            let by_way = by_way(102, call, Action::Errno(1));
            rules.contains(&by_way)
        };
        assert!(refused(1), "socket");
        assert!(!refused(3), "connect");
        assert!(refused(18), "accept4, which is not listed");
        assert!(
            rules.iter().all(|rule| rule.calls != [117]),
            "ipc is not open"
        );
    }

    #[test]
    fn arm_has_calls_of_its_own() {
        assert_eq!(of_arm_alone("set_tls"), Some(0x0f_0005));
        assert_eq!(of_arm_alone("cacheflush"), Some(0x0f_0002));
        assert_eq!(of_arm_alone("read"), None);
    }
}

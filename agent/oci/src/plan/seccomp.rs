//! The profile of config.json. Engines have resolved capabilities and architectures in it by then. The calls of this
//! machine's own architecture are compiled, and those of its 32-bit programs when the profile lists theirs; others end the
//! process.

use std::path::Path;

use coracle_runtime::SeccompProgram;
use coracle_runtime::seccomp::{Action, Argument, Compare, Rule};
use oci_spec::runtime::{
    Linux, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag,
    LinuxSeccompOperator,
};
use syscalls::Sysno;

use crate::failure::Failure;

pub mod small;

/// None for a container without a profile.
pub fn compile(linux: &Linux) -> Result<Option<SeccompProgram>, Failure> {
    let Some(profile) = linux.seccomp() else {
        return Ok(None);
    };
    let otherwise = action(profile.default_action(), profile.default_errno_ret())?;
    let number = |name: &str| {
        #[cfg(target_arch = "arm")]
        if let Some(call) = small::of_arm_alone(name) {
            return Some(call);
        }
        name.parse::<Sysno>().ok().map(|call| call.id() as u32)
    };
    let native = rules(profile, &number)?;
    let listed = profile.architectures().iter().flatten();
    let of_32_bit = match small::ARCHITECTURE {
        Some(small) if listed.into_iter().any(|one| *one == small) => Some(
            small::with_multiplexed(rules(profile, &small::number)?, profile)?,
        ),
        _ => None,
    };
    let flags = profile
        .flags()
        .iter()
        .flatten()
        .map(flag)
        .fold(0, |all, one| all | one);
    Ok(Some(SeccompProgram::from_rules_of_two(
        &native,
        of_32_bit.as_deref(),
        otherwise,
        flags,
    )?))
}

fn rules(
    profile: &LinuxSeccomp,
    number: &dyn Fn(&str) -> Option<u32>,
) -> Result<Vec<Rule>, Failure> {
    let mut rules = Vec::new();
    for one in profile.syscalls().iter().flatten() {
        // A call that this architecture or this version does not have cannot be made by that name.
        let calls: Vec<u32> = one.names().iter().filter_map(|name| number(name)).collect();
        let action = action(one.action(), one.errno_ret())?;
        let arguments: Vec<Argument> = one
            .args()
            .iter()
            .flatten()
            .map(argument)
            .collect::<Result<_, _>>()?;
        rules.extend(split(calls, arguments, action));
    }
    Ok(rules)
}

/// Who answers for calls of SCMP_ACT_NOTIFY; None when there are none.
pub fn listener(linux: &Linux) -> Result<Option<&Path>, Failure> {
    const NOTIFY: LinuxSeccompAction = LinuxSeccompAction::ScmpActNotify;
    let Some(profile) = linux.seccomp() else {
        return Ok(None);
    };
    let asked = || {
        profile
            .syscalls()
            .iter()
            .flatten()
            .filter(|one| one.action() == NOTIFY)
    };
    // The listener is sent when the filter holds already.
    if profile.default_action() == NOTIFY
        || asked().any(|one| one.names().iter().any(|name| name == "sendmsg"))
    {
        return Err(Failure::Unsupported(
            "SCMP_ACT_NOTIFY for sendmsg, with which the listener is told".into(),
        ));
    }
    if asked().next().is_none() {
        return Ok(None);
    }
    let path = profile.listener_path().as_deref();
    path.map(Some)
        .ok_or_else(|| Failure::Config("SCMP_ACT_NOTIFY without a listenerPath".into()))
}

/// Conditions on the same argument are alternatives, as runc has it.
fn split(calls: Vec<u32>, arguments: Vec<Argument>, action: Action) -> Vec<Rule> {
    let repeated = arguments
        .iter()
        .enumerate()
        .any(|(at, one)| arguments[..at].iter().any(|other| other.index == one.index));
    if !repeated {
        return vec![Rule {
            calls,
            arguments,
            action,
        }];
    }
    let alone = |argument: Argument| Rule {
        calls: calls.clone(),
        arguments: vec![argument],
        action,
    };
    arguments.into_iter().map(alone).collect()
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<Action, Failure> {
    let errno = errno.unwrap_or(libc::EPERM as u32);
    let errno = u16::try_from(errno)
        .map_err(|_| Failure::Config(format!("errnoRet {errno} is no error number")))?;
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => {
            Action::KillThread
        }
        LinuxSeccompAction::ScmpActKillProcess => Action::KillProcess,
        LinuxSeccompAction::ScmpActTrap => Action::Trap,
        LinuxSeccompAction::ScmpActErrno => Action::Errno(errno),
        LinuxSeccompAction::ScmpActTrace => Action::Trace(errno),
        LinuxSeccompAction::ScmpActLog => Action::Log,
        LinuxSeccompAction::ScmpActAllow => Action::Allow,
        LinuxSeccompAction::ScmpActNotify => Action::Notify,
    })
}

fn argument(argument: &LinuxSeccompArg) -> Result<Argument, Failure> {
    use LinuxSeccompOperator as Operator;
    let value = argument.value();
    let compare = match argument.op() {
        Operator::ScmpCmpNe => Compare::NotEqual(value),
        Operator::ScmpCmpLt => Compare::Less(value),
        Operator::ScmpCmpLe => Compare::LessOrEqual(value),
        Operator::ScmpCmpEq => Compare::Equal(value),
        Operator::ScmpCmpGe => Compare::GreaterOrEqual(value),
        Operator::ScmpCmpGt => Compare::Greater(value),
        // The specification's `value` is the mask here.
        Operator::ScmpCmpMaskedEq => Compare::Masked {
            mask: value,
            value: argument.value_two().unwrap_or(0),
        },
    };
    let index = u8::try_from(argument.index())
        .map_err(|_| Failure::Config(format!("seccomp argument {}", argument.index())))?;
    Ok(Argument { index, compare })
}

/// linux/seccomp.h.
fn flag(flag: &LinuxSeccompFilterFlag) -> u64 {
    match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 1,
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => 2,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => 4,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => 32,
    }
}

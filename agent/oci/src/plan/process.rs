//! One process: a container's first, or one that is executed in it.

use std::path::{Path, PathBuf};

use coracle_runtime::spec::{MemoryPolicy, ProcessSettings, Rlimit, Scheduler};
use coracle_runtime::{Capabilities, Capability};
use oci_spec::runtime::{
    Capabilities as Names, IOPriorityClass, Linux, LinuxPersonalityDomain, LinuxSchedulerFlag,
    LinuxSchedulerPolicy, MemoryPolicyFlagType, MemoryPolicyModeType, PosixRlimitType, Process,
};

use crate::failure::Failure;

pub struct Planned {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: PathBuf,
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
    pub umask: u32,
    pub capabilities: Capabilities,
    pub no_new_privs: bool,
    pub rlimits: Vec<Rlimit>,
    pub oom_score_adj: Option<i32>,
    pub settings: ProcessSettings,
}

/// For a container that is created without one.
pub fn none() -> Process {
    let mut none = Process::default();
    none.set_args(None)
        .set_env(None)
        .set_rlimits(None)
        .set_capabilities(None);
    none
}

pub fn plan(process: &Process) -> Result<Planned, Failure> {
    let user = process.user();
    Ok(Planned {
        args: process.args().clone().unwrap_or_default(),
        env: process.env().clone().unwrap_or_default(),
        cwd: process.cwd().clone(),
        uid: user.uid(),
        gid: user.gid(),
        additional_gids: user.additional_gids().clone().unwrap_or_default(),
        umask: user.umask().unwrap_or(0o022),
        capabilities: capabilities(process)?,
        no_new_privs: process.no_new_privileges().unwrap_or(false),
        rlimits: rlimits(process)?,
        oom_score_adj: process.oom_score_adj(),
        settings: settings(process)?,
    })
}

fn settings(process: &Process) -> Result<ProcessSettings, Failure> {
    let label = |label: &Option<String>| label.clone().filter(|label| !label.is_empty());
    let (apparmor, selinux) = (
        label(process.apparmor_profile()),
        label(process.selinux_label()),
    );
    if apparmor.is_some() && !Path::new("/sys/kernel/security/apparmor").exists() {
        return Err(Failure::Unsupported(
            "process.apparmorProfile: this kernel has no AppArmor".into(),
        ));
    }
    if selinux.is_some() && !Path::new("/sys/fs/selinux/enforce").exists() {
        return Err(Failure::Unsupported(
            "process.selinuxLabel: this kernel has no SELinux".into(),
        ));
    }
    Ok(ProcessSettings {
        home_from_passwd: true,
        scheduler: scheduler(process)?,
        io_priority: io_priority(process)?,
        apparmor,
        selinux,
        ..ProcessSettings::default()
    })
}

/// Names that this kernel, or the caller, does not have are left out: the specification wants a warning and no more.
fn capabilities(process: &Process) -> Result<Capabilities, Failure> {
    let Some(wanted) = process.capabilities() else {
        return Ok(Capabilities::exactly([&[]; 5]));
    };
    let had = bounding_set();
    let set = |names: &Option<Names>| -> Vec<Capability> {
        names
            .iter()
            .flatten()
            .filter_map(|name| Capability::from_name(&name.to_string()))
            .filter(|capability| had & (1 << *capability as u8) != 0)
            .collect()
    };
    let permitted = set(wanted.permitted());
    let inheritable = set(wanted.inheritable());
    let bounding = set(wanted.bounding());
    // Told here and not by the last steps of a start (capabilities(7), Programmatically adjusting capability sets).
    if let Some(one) = inheritable.iter().find(|one| !bounding.contains(one)) {
        let reason = format!(
            "CAP_{} is inheritable and not in the bounding set: Operation not permitted",
            one.name()
        );
        return Err(Failure::Config(reason));
    }
    // The kernel keeps in ambient only what is in both of these.
    let ambient: Vec<Capability> = set(wanted.ambient())
        .into_iter()
        .filter(|one| permitted.contains(one) && inheritable.contains(one))
        .collect();
    Ok(Capabilities::exactly([
        &bounding,
        &set(wanted.effective()),
        &permitted,
        &inheritable,
        &ambient,
    ]))
}

/// CapBnd of this process.
fn bounding_set() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapBnd:")?.trim(), 16).ok())
        .unwrap_or(u64::MAX)
}

fn rlimits(process: &Process) -> Result<Vec<Rlimit>, Failure> {
    let mut planned: Vec<Rlimit> = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        let resource = resource(limit.typ());
        if planned.iter().any(|other| other.resource == resource) {
            return Err(Failure::Config(format!("two limits of {:?}", limit.typ())));
        }
        if limit.soft() > limit.hard() {
            let (kind, soft, hard) = (limit.typ(), limit.soft(), limit.hard());
            return Err(Failure::Config(format!(
                "{kind}: soft limit {soft} is above the hard one, {hard}"
            )));
        }
        planned.push(Rlimit {
            resource,
            soft: limit.soft(),
            hard: limit.hard(),
        });
    }
    Ok(planned)
}

fn resource(kind: PosixRlimitType) -> u32 {
    use PosixRlimitType as Kind;
    match kind {
        Kind::RlimitCpu => libc::RLIMIT_CPU,
        Kind::RlimitFsize => libc::RLIMIT_FSIZE,
        Kind::RlimitData => libc::RLIMIT_DATA,
        Kind::RlimitStack => libc::RLIMIT_STACK,
        Kind::RlimitCore => libc::RLIMIT_CORE,
        Kind::RlimitRss => libc::RLIMIT_RSS,
        Kind::RlimitNproc => libc::RLIMIT_NPROC,
        Kind::RlimitNofile => libc::RLIMIT_NOFILE,
        Kind::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        Kind::RlimitAs => libc::RLIMIT_AS,
        Kind::RlimitLocks => libc::RLIMIT_LOCKS,
        Kind::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        Kind::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        Kind::RlimitNice => libc::RLIMIT_NICE,
        Kind::RlimitRtprio => libc::RLIMIT_RTPRIO,
        Kind::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

/// linux/ioprio.h: the class in the bits from 13 on.
fn io_priority(process: &Process) -> Result<Option<i32>, Failure> {
    let Some(wanted) = process.io_priority() else {
        return Ok(None);
    };
    let class = match wanted.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match i32::try_from(wanted.priority()) {
        Ok(level @ 0..=7) => Ok(Some(class << 13 | level)),
        _ => Err(Failure::Config(format!(
            "ioPriority {} is not 0 to 7",
            wanted.priority()
        ))),
    }
}

fn scheduler(process: &Process) -> Result<Option<Scheduler>, Failure> {
    use LinuxSchedulerPolicy as Policy;
    let Some(wanted) = process.scheduler() else {
        return Ok(None);
    };
    let policy = match wanted.policy() {
        Policy::SchedOther => libc::SCHED_OTHER,
        Policy::SchedFifo => libc::SCHED_FIFO,
        Policy::SchedRr => libc::SCHED_RR,
        Policy::SchedBatch => libc::SCHED_BATCH,
        Policy::SchedIdle => libc::SCHED_IDLE,
        Policy::SchedDeadline => libc::SCHED_DEADLINE,
        Policy::SchedIso => {
            return Err(Failure::Unsupported("SCHED_ISO: no kernel has it".into()));
        }
    };
    let flag = |flag: &LinuxSchedulerFlag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    };
    let priority = wanted.priority().unwrap_or(0);
    Ok(Some(Scheduler {
        policy: policy as u32,
        flags: wanted
            .flags()
            .iter()
            .flatten()
            .map(flag)
            .fold(0, |all, one| all | one),
        nice: wanted.nice().unwrap_or(0),
        priority: u32::try_from(priority)
            .map_err(|_| Failure::Config(format!("scheduler.priority {priority} is negative")))?,
        runtime: wanted.runtime().unwrap_or(0),
        deadline: wanted.deadline().unwrap_or(0),
        period: wanted.period().unwrap_or(0),
    }))
}

pub fn personality(linux: &Linux) -> Result<Option<u64>, Failure> {
    let Some(wanted) = linux.personality() else {
        return Ok(None);
    };
    if wanted
        .flags()
        .as_ref()
        .is_some_and(|flags| !flags.is_empty())
    {
        return Err(Failure::Config("personality.flags must be empty".into()));
    }
    Ok(Some(match wanted.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    }))
}

/// linux/mempolicy.h.
pub fn memory_policy(linux: &Linux) -> Result<Option<MemoryPolicy>, Failure> {
    use MemoryPolicyFlagType as Flag;
    use MemoryPolicyModeType as Mode;
    let Some(wanted) = linux.memory_policy() else {
        return Ok(None);
    };
    let mode = match wanted.mode() {
        Mode::MpolDefault => 0,
        Mode::MpolPreferred => 1,
        Mode::MpolBind => 2,
        Mode::MpolInterleave => 3,
        Mode::MpolLocal => 4,
        Mode::MpolPreferredMany => 5,
        Mode::MpolWeightedInterleave => 6,
    };
    let flag = |flag: &Flag| match flag {
        Flag::MpolFStaticNodes => 1 << 15,
        Flag::MpolFRelativeNodes => 1 << 14,
        Flag::MpolFNumaBalancing => 1 << 13,
    };
    Ok(Some(MemoryPolicy {
        mode: wanted
            .flags()
            .iter()
            .flatten()
            .map(flag)
            .fold(mode, |all, one| all | one),
        nodes: number_list(wanted.nodes().as_deref().unwrap_or_default())?,
    }))
}

/// `0-1,3`, as for a cpuset.
pub fn number_list(text: &str) -> Result<Vec<usize>, Failure> {
    let wrong = || Failure::Config(format!("{text:?} is no list of numbers"));
    let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n < 4096);
    let mut cpus = Vec::new();
    for part in text.split(',').filter(|part| !part.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (
            number(first).ok_or_else(wrong)?,
            number(last).ok_or_else(wrong)?,
        );
        if first > last {
            return Err(wrong());
        }
        cpus.extend(first..=last);
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_ranges() {
        assert_eq!(number_list("0-2, 5").unwrap(), [0, 1, 2, 5]);
        assert!(number_list("").unwrap().is_empty());
        for wrong in ["2-1", "x", "-1", "0-99999"] {
            assert!(number_list(wrong).is_err(), "{wrong}");
        }
    }
}

//! What is missing, what that costs, and how to get it.

use super::{CORACLE_OPTIONS, CgroupLayout, KernelFacts, OptionState, Presence};
use crate::profile::Profile;
use serde::Serialize;

/// How much a gap matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// No app can be started as promised.
    Needed,
    /// A feature is lost; the rest works.
    Wanted,
    /// A limit of the kernel that nothing on the board can change but a newer kernel or layout.
    Note,
}

/// One thing that the kernel lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// `cgroup memory`.
    pub subject: String,
    /// How much it matters.
    pub severity: Severity,
    /// Whether it is known to be missing, or only not known to be there.
    pub certain: bool,
    /// What does not work.
    pub cost: String,
    /// What to do.
    pub remedy: String,
}

/// Collects gaps; each call is one question.
struct Gaps(Vec<Gap>);

impl Gaps {
    fn ask(
        &mut self,
        presence: Presence,
        severity: Severity,
        subject: &str,
        cost: &str,
        remedy: &str,
    ) {
        if presence != Presence::Present {
            self.0.push(Gap {
                subject: subject.to_owned(),
                severity,
                certain: presence == Presence::Absent,
                cost: cost.to_owned(),
                remedy: remedy.to_owned(),
            });
        }
    }
}

/// Everything that is missing on this kernel for this board, the worst first.
pub fn gaps(facts: &KernelFacts, profile: &Profile) -> Vec<Gap> {
    let mut gaps = Gaps(Vec::new());
    namespaces(facts, &mut gaps);
    cgroups(facts, &mut gaps);
    files_and_network(facts, &mut gaps);
    system_calls(facts, &mut gaps);
    hardware(facts, profile, &mut gaps);
    options(facts, profile, &mut gaps);
    gaps.0.sort_by_key(|gap| gap.severity);
    gaps.0
}

fn namespaces(facts: &KernelFacts, gaps: &mut Gaps) {
    use Severity::{Needed, Wanted};
    for (name, severity, cost, option) in [
        (
            "mnt",
            Needed,
            "apps cannot have a root file system of their own",
            "CONFIG_NAMESPACES",
        ),
        (
            "pid",
            Needed,
            "apps see and can signal each other's processes",
            "CONFIG_PID_NS",
        ),
        (
            "net",
            Needed,
            "apps can only use the board's network",
            "CONFIG_NET_NS",
        ),
        (
            "ipc",
            Needed,
            "apps share memory segments with the board",
            "CONFIG_IPC_NS",
        ),
        (
            "uts",
            Needed,
            "apps cannot have a host name",
            "CONFIG_UTS_NS",
        ),
        (
            "cgroup",
            Wanted,
            "apps see the board's cgroup paths",
            "CONFIG_CGROUPS and Linux 4.6",
        ),
        (
            "user",
            Wanted,
            "apps' root is the board's root, with fewer capabilities",
            "CONFIG_USER_NS",
        ),
    ] {
        gaps.ask(
            Presence::of(facts.namespaces.iter().any(|n| n == name)),
            severity,
            &format!("{name} namespace"),
            cost,
            &format!("build the kernel with {option}"),
        );
    }
}

fn cgroups(facts: &KernelFacts, gaps: &mut Gaps) {
    use Severity::{Needed, Note, Wanted};
    let cgroup = &facts.cgroup;
    if cgroup.layout == CgroupLayout::None {
        gaps.ask(
            Presence::Absent,
            Needed,
            "cgroups",
            "no limit of any kind can be kept",
            "mount a hierarchy: `mount -t cgroup2 cgroup2 /sys/fs/cgroup`, or an init system that does",
        );
        return;
    }
    for (name, severity, cost, option) in [
        (
            "memory",
            Needed,
            "memory limits are not kept",
            "CONFIG_MEMCG",
        ),
        (
            "cpu",
            Needed,
            "CPU quotas and weights are not kept",
            "CONFIG_CGROUP_SCHED and CONFIG_CFS_BANDWIDTH",
        ),
        (
            "pids",
            Needed,
            "an app can use up the board's processes",
            "CONFIG_CGROUP_PIDS",
        ),
        (
            "io",
            Wanted,
            "IO limits are not kept",
            "CONFIG_BLK_CGROUP and CONFIG_BLK_DEV_THROTTLING",
        ),
        (
            "cpuset",
            Wanted,
            "apps cannot be kept to cores",
            "CONFIG_CPUSETS",
        ),
        (
            "devices",
            Needed,
            "apps can open any device node that they make",
            "CONFIG_CGROUP_DEVICE",
        ),
        (
            "freezer",
            Wanted,
            "apps cannot be paused, and a fork bomb can outrun a kill",
            "CONFIG_CGROUP_FREEZER",
        ),
    ] {
        let disabled = cgroup
            .controllers
            .iter()
            .any(|c| c.name.as_str() == name && c.disabled);
        let remedy = match (disabled, name) {
            (true, "memory") => "it is compiled in but off: add `cgroup_enable=memory cgroup_memory=1` to the kernel's command line (Raspberry Pi: /boot/firmware/cmdline.txt)".to_owned(),
            (true, _) => format!("it is compiled in but not mounted, or off by `cgroup_disable=`: mount it or remove `cgroup_disable={name}`"),
            (false, _) => format!("build the kernel with {option}"),
        };
        gaps.ask(
            Presence::of(cgroup.usable(name)),
            severity,
            &format!("cgroup {name}"),
            cost,
            &remedy,
        );
    }
    if cgroup.layout != CgroupLayout::V2 {
        gaps.ask(
            Presence::Absent,
            Note,
            "buffered IO",
            "IO limits hold for direct and synchronous IO only: cgroup v1 cannot tell who wrote a page",
            "use cgroup v2: `systemd.unified_cgroup_hierarchy=1`, or mount only cgroup2",
        );
    }
    if facts.version >= (5, 16) {
        gaps.ask(
            Presence::Absent,
            Note,
            "kernel memory limit",
            "a limit on kernel memory alone is not enforced since Linux 5.16; kernel memory counts against the app's memory limit",
            "nothing to do: the memory limit covers it",
        );
    }
}

fn files_and_network(facts: &KernelFacts, gaps: &mut Gaps) {
    use Severity::{Needed, Wanted};
    for (presence, severity, subject, cost, option) in [
        (
            facts.overlayfs,
            Needed,
            "overlayfs",
            "images of several layers cannot be run",
            "CONFIG_OVERLAY_FS",
        ),
        (
            facts.seccomp,
            Needed,
            "seccomp filters",
            "apps can make any system call",
            "CONFIG_SECCOMP and CONFIG_SECCOMP_FILTER",
        ),
        (
            facts.nf_tables,
            Wanted,
            "nf_tables",
            "no NAT and no published ports: apps need `host` or `none`",
            "CONFIG_NF_TABLES, CONFIG_NFT_NAT, CONFIG_NFT_MASQ, CONFIG_NFT_CT",
        ),
        (
            facts.bridge,
            Wanted,
            "bridge",
            "no bridge network: apps need `host` or `none`",
            "CONFIG_BRIDGE",
        ),
        (
            facts.veth,
            Wanted,
            "veth",
            "no bridge network: apps need `host` or `none`",
            "CONFIG_VETH",
        ),
    ] {
        gaps.ask(
            presence,
            severity,
            subject,
            cost,
            &format!("build the kernel with {option}, built in or as modules"),
        );
    }
}

fn system_calls(facts: &KernelFacts, gaps: &mut Gaps) {
    use Severity::{Note, Wanted};
    for (presence, severity, subject, cost, since) in [
        (
            facts.clone3,
            Note,
            "clone3",
            "launches take the older `clone`",
            "5.3",
        ),
        (
            facts.clone_into_cgroup,
            Note,
            "clone3 into a cgroup",
            "launches move the process into its cgroup in a second step",
            "5.7",
        ),
        (
            facts.openat2,
            Wanted,
            "openat2",
            "paths inside an app's file system are walked step by step",
            "5.6",
        ),
        (
            facts.pidfd,
            Wanted,
            "pidfd_open",
            "the supervisor watches children by SIGCHLD",
            "5.3",
        ),
    ] {
        gaps.ask(
            presence,
            severity,
            subject,
            cost,
            &format!("Linux {since} or newer"),
        );
    }
}

fn hardware(facts: &KernelFacts, profile: &Profile, gaps: &mut Gaps) {
    use Severity::{Note, Wanted};
    if let Some(watchdog) = &profile.watchdog {
        gaps.ask(
            Presence::of(!facts.watchdogs.is_empty()),
            Wanted,
            "watchdog",
            &format!(
                "a board that hangs stays so: the profile expects {}",
                watchdog.device
            ),
            "enable the board's watchdog driver in the kernel and its device tree node",
        );
    }
    gaps.ask(
        facts.rtc,
        Note,
        "real-time clock",
        "after a power cut the time is a lower bound until the network tells it; documents are judged by that bound",
        "add a battery-backed clock if apps need the time before the network is up",
    );
}

fn options(facts: &KernelFacts, profile: &Profile, gaps: &mut Gaps) {
    for (option, purpose) in CORACLE_OPTIONS {
        if facts.options.state(option) == OptionState::Off && !renamed(option, facts) {
            gaps.ask(
                Presence::Absent,
                Severity::Wanted,
                option,
                &format!("it is for {purpose}"),
                "set it in the kernel's configuration (the layer's coracle.cfg has all of them)",
            );
        }
    }
    for option in &profile.kernel.required_options {
        if facts.options.state(option) == OptionState::Off {
            gaps.ask(
                Presence::Absent,
                Severity::Wanted,
                option,
                "the board's profile asks for it",
                "set it in the kernel's configuration",
            );
        }
    }
}

/// Options that later kernels no longer need to have set. CONFIG_CGROUP_DEVICE is v1's alone.
fn renamed(option: &str, facts: &KernelFacts) -> bool {
    option == "CONFIG_CGROUP_DEVICE" && facts.cgroup.layout == CgroupLayout::V2
}

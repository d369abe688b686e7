//! Gaps in what keeps limits: control groups and their controllers.

use super::{Gaps, Severity};
use crate::probe::{CgroupLayout, KernelFacts, Presence};

pub(super) fn cgroups(facts: &KernelFacts, gaps: &mut Gaps) {
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

//! Gaps in what keeps limits: control groups and their controllers.

use super::{Gaps, Severity};
use crate::probe::options::MEMCG_V1;
use crate::probe::{CgroupLayout, KernelFacts, OptionState, Presence};
use crate::profile::{Architecture, Profile};

pub(super) fn cgroups(facts: &KernelFacts, profile: &Profile, gaps: &mut Gaps) {
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
            (_, "memory") if lost_v1_memory(facts) => "Linux 6.11 and newer keep cgroup v1's memory controller only with CONFIG_MEMCG_V1: set it, or use cgroup v2 (`systemd.unified_cgroup_hierarchy=1`)".to_owned(),
            (true, "memory") => format!(
                "it is compiled in but off: add `cgroup_enable=memory cgroup_memory=1` to the kernel's command line ({})",
                profile.kernel.command_line_file.as_deref().unwrap_or("Raspberry Pi: /boot/firmware/cmdline.txt")
            ),
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
    if profile.architecture == Architecture::Arm && cgroup.usable("io") {
        // Seen with 32-bit Linux 6.1; which other series do so nobody has tried.
        gaps.ask(
            Presence::Unknown,
            Wanted,
            "IO rate on 32 bits",
            "a rate of reads or writes may stop the kernel (`kernel BUG` in block/blk-throttle.c); no app gets one that its release does not name, whatever [quotas] says",
            "leave `io_*` out of the limits of releases for this board, or let one with such a rate run for some minutes from a start of a board at hand before a fleet gets it",
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

/// Since 6.11 v1's half of the memory controller is an option of its own (mm/Kconfig, MEMCG_V1).
fn lost_v1_memory(facts: &KernelFacts) -> bool {
    let v1 = [CgroupLayout::V1, CgroupLayout::Hybrid].contains(&facts.cgroup.layout);
    // Turned off by a person or by firmware: then the option is not what is missing.
    let off = facts.command_line.contains("cgroup_disable=memory");
    v1 && facts.version >= (6, 11) && !off && facts.options.state(MEMCG_V1) != OptionState::BuiltIn
}

/// Limits that were tried. Where the whole controller is missing, that was said already.
pub(super) fn knobs(facts: &KernelFacts, gaps: &mut Gaps) {
    use Severity::{Needed, Note, Wanted};
    for (controller, severity, subject, cost, remedy) in [
        (
            "memory",
            Needed,
            "memory limit",
            "an app can use up the board's memory",
            "build the kernel with CONFIG_MEMCG; on cgroup v1 since Linux 6.11 also CONFIG_MEMCG_V1",
        ),
        (
            "memory",
            Note,
            "memory guarantee",
            "no app can be promised memory: releases with `memory_min` are refused",
            "use cgroup v2, which has it since Linux 4.18: `systemd.unified_cgroup_hierarchy=1`, or mount only cgroup2; cgroup v1 has nothing like it",
        ),
        (
            "memory",
            Note,
            "memory reservation",
            "no app's memory can be taken back last: releases with `memory_reservation` are refused",
            "use cgroup v2; cgroup v1 has it, since Linux 6.11 with CONFIG_MEMCG_V1, but not on a real-time kernel (PREEMPT_RT)",
        ),
        (
            "memory",
            Note,
            "swap limit",
            "no app can have swap: releases with `memory_swap` are refused",
            "a kernel with swap; on cgroup v1 before Linux 6.1 also `swapaccount=1` on its command line",
        ),
        (
            "memory",
            Note,
            "OOM group",
            "an app that runs out of memory loses one process, not all: releases with `oom_group` are refused",
            "use cgroup v2, which has it since Linux 4.19; cgroup v1 has nothing like it",
        ),
        (
            "cpu",
            Note,
            "CPU burst",
            "no app can save CPU up: releases with `cpu_burst_micros` are refused",
            "Linux 5.14 or newer, with CONFIG_CFS_BANDWIDTH",
        ),
        (
            "cpu",
            Needed,
            "CPU quota",
            "an app can use up the board's cores: its quota is not kept",
            "build the kernel with CONFIG_CFS_BANDWIDTH, which arm64's defconfig leaves out",
        ),
        (
            "cpu",
            Wanted,
            "CPU weight",
            "apps share the cores evenly, whatever their weights",
            "build the kernel with CONFIG_FAIR_GROUP_SCHED",
        ),
        (
            "pids",
            Needed,
            "process limit",
            "an app can use up the board's processes",
            "build the kernel with CONFIG_CGROUP_PIDS",
        ),
        (
            "cpuset",
            Wanted,
            "fixed cores",
            "apps cannot be kept to cores",
            "build the kernel with CONFIG_CPUSETS; on cgroup v1 since Linux 6.12 also CONFIG_CPUSETS_V1",
        ),
        (
            "io",
            Wanted,
            "IO limit",
            "an app can keep the disk busy for all: its IO rates are not kept",
            "build the kernel with CONFIG_BLK_DEV_THROTTLING, which arm64's defconfig leaves out",
        ),
        (
            "io",
            Wanted,
            "IO weight",
            "apps share the disk evenly, whatever their IO weights; hard rates are kept all the same",
            "build the kernel with CONFIG_IOSCHED_BFQ and CONFIG_BFQ_GROUP_IOSCHED and write `bfq` to /sys/block/DISK/queue/scheduler, or with CONFIG_BLK_CGROUP_IOCOST and switch it on in io.cost.qos",
        ),
    ] {
        if facts.cgroup.usable(controller) {
            gaps.ask_trial(severity, subject, cost, remedy);
        }
    }
}

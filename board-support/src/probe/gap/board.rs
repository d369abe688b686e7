//! Gaps in what this board is expected to have: its hardware, and how its kernel was configured.

use super::{Gaps, Severity};
use crate::probe::trial::WRITABLE;
use crate::probe::{
    CORACLE_OPTIONS, CgroupLayout, KernelFacts, NETWORK_OPTIONS, Need, OLDER_OPTIONS, OptionState,
    Outcome, Presence,
};
use crate::profile::Profile;

pub(super) fn hardware(facts: &KernelFacts, profile: &Profile, gaps: &mut Gaps) {
    use Severity::{Needed, Note, Wanted};
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
    if let Some(watchdog) = &profile.watchdog
        && let Some(short) = facts.watchdogs.iter().find(|seen| {
            watchdog.device.ends_with(seen.name.as_str())
                && seen
                    .max_timeout_seconds
                    .is_some_and(|max| max < watchdog.timeout_seconds.get())
        })
    {
        gaps.ask(
            Presence::Absent,
            Wanted,
            "watchdog timeout",
            &format!(
                "{} counts to {} s at most; the profile asks for {}",
                short.name,
                short.max_timeout_seconds.unwrap_or_default(),
                watchdog.timeout_seconds.get()
            ),
            "set watchdog.timeout_seconds in board.toml to what it can count",
        );
    }
    gaps.ask(
        facts.rtc,
        Note,
        "real-time clock",
        "after a power cut the time is a lower bound until the network tells it; documents are judged by that bound",
        "add a battery-backed clock if apps need the time before the network is up",
    );
    if facts.rtc == Presence::Present {
        gaps.ask(
            facts.rtc_set,
            Note,
            "real-time clock is set",
            "it says a time that cannot be true: it was never set, or its battery is empty",
            "set it once the time is known (`hwclock --systohc`), and look at the battery",
        );
    }
    gaps.ask(
        facts.hardware_noise,
        Note,
        "hardware noise",
        "the first keys of a fresh board wait until the kernel gathered enough noise by itself",
        "enable the board's generator (CONFIG_HW_RANDOM and its driver), or hand a seed over (`random-seed`)",
    );
    gaps.ask_trial(
        Needed,
        WRITABLE,
        "nothing can be kept: no identity, no release, no counter; the supervisor does not start",
        "mount a data partition there that can be written (a root file system may stay read-only), or name another folder as `state_dir` in coracle.toml",
    );
    gaps.ask_trial(
        Wanted,
        "entropy",
        "no key can be made yet: enrolment would wait",
        "wait, or give the kernel a source of noise (CONFIG_HW_RANDOM and the board's driver)",
    );
    gaps.ask_trial(
        Note,
        "disk quota",
        "hard sizes of writable layers and volumes are held by images, which take all of their size at once and never shrink",
        "ext4: `tune2fs -O project,quota -Q prjquota DISK` and mount with `prjquota`; xfs: mount with `prjquota`; CONFIG_QUOTA and CONFIG_QFMT_V2",
    );
    let quota = gaps.trials.outcome("disk quota") == Some(&Outcome::Works);
    gaps.ask_trial(
        if quota { Note } else { Wanted },
        "disk image",
        "where there are no project quotas either, an app can fill the disk, and releases that ask for a size are refused",
        "build the kernel with CONFIG_BLK_DEV_LOOP and CONFIG_EXT4_FS, or load the modules `loop` and `ext4` at boot",
    );
}

/// How the kernel was started, and how control groups were mounted.
pub(super) fn start(facts: &KernelFacts, profile: &Profile, gaps: &mut Gaps) {
    let at = profile.kernel.command_line_file.as_deref();
    let at = at.unwrap_or("the boot loader's settings");
    for word in &profile.kernel.command_line {
        let there = facts
            .command_line
            .split_whitespace()
            .any(|w| w == word.as_str());
        let moot = word
            .strip_prefix("cgroup_enable=")
            .is_some_and(|controller| facts.cgroup.usable(controller));
        gaps.ask(
            Presence::of(there || moot),
            Severity::Wanted,
            &format!("command line {word}"),
            "the board's profile asks for it; without it a part of the kernel stays off",
            &format!("add `{word}` to {at} and restart"),
        );
    }
    let (layout, wanted) = (facts.cgroup.layout, &profile.cgroup.layouts);
    if layout != CgroupLayout::None && !wanted.is_empty() {
        let names: Vec<&str> = wanted.iter().map(|l| l.as_str()).collect();
        gaps.ask(
            Presence::of(wanted.contains(&layout)),
            Severity::Wanted,
            "cgroup layout",
            &format!(
                "control groups are mounted as {}; this kind of board is run with {}",
                layout.as_str(),
                names.join(" or ")
            ),
            "`systemd.unified_cgroup_hierarchy=1` on the kernel's command line gives v2, or mount only cgroup2",
        );
    }
}

pub(super) fn options(facts: &KernelFacts, profile: &Profile, gaps: &mut Gaps) {
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
    for (option, cost) in NETWORK_OPTIONS {
        // What was tried is told under its own name.
        let mut needs = Need::OF_NETWORKS.iter();
        let tried = needs.any(|need| {
            let outcome = gaps.trials.outcome(need.subject());
            need.options().contains(&option)
                && matches!(outcome, Some(Outcome::Works | Outcome::Fails(_)))
        });
        if facts.options.state(option) == OptionState::Off && !tried {
            gaps.ask(
                Presence::Absent,
                Severity::Wanted,
                option,
                cost,
                "set it in the kernel's configuration (the layer's coracle.cfg has all of them)",
            );
        }
    }
    for (option, last) in OLDER_OPTIONS {
        if facts.options.is_left_out(option) {
            gaps.ask(
                Presence::Absent,
                Severity::Wanted,
                option,
                &format!(
                    "kernels up to {last} have it apart: networks with a bridge, or parts of them, cannot be made"
                ),
                "set it in the kernel's configuration (docs/networking.md, Kernel options)",
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

//! Gaps in what this board is expected to have: its hardware, and how its kernel was configured.

use super::{Gaps, Severity};
use crate::probe::{CORACLE_OPTIONS, CgroupLayout, KernelFacts, OptionState, Presence};
use crate::profile::Profile;

pub(super) fn hardware(facts: &KernelFacts, profile: &Profile, gaps: &mut Gaps) {
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

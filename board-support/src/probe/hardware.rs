//! Hardware that a board needs beside its processor: a watchdog, a clock that runs on, noise for keys.

use super::{Presence, names};
use crate::text::{Text, cut, read_text};
use heapless::Vec;
use serde::Serialize;
use std::path::Path;

/// A clock that was set says a time after this: 1 January 2024.
const SET_SINCE: u64 = 1_704_067_200;

/// A watchdog as /sys/class/watchdog shows it (CONFIG_WATCHDOG_SYSFS; without it only the name).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WatchdogFacts {
    /// `watchdog0`.
    pub name: Text,
    /// Who made it, and softdog's when there is no hardware behind it.
    pub identity: Text,
    /// The longest timeout that it takes, in seconds; some drivers count beyond it by themselves
    /// and show 0 or nothing.
    pub max_timeout_seconds: Option<u32>,
    /// Whether it runs already: systemd's RuntimeWatchdogSec, or the boot loader.
    pub active: bool,
}

impl WatchdogFacts {
    /// All of them below `root`.
    pub(super) fn read(root: &Path) -> Vec<Self, 4> {
        let folder = root.join("sys/class/watchdog");
        let describe = |name: Text| {
            let line = |file: &str| {
                let path = folder.join(name.as_str()).join(file);
                cut(read_text(&path, 128).trim())
            };
            Self {
                identity: line("identity"),
                max_timeout_seconds: line("max_timeout").parse().ok().filter(|max| *max > 0),
                active: line("state") == "active",
                name,
            }
        };
        names::<4>(&folder).into_iter().map(describe).collect()
    }
}

/// Whether there is a clock, and whether it says a time that can be true.
pub(super) fn clocks(root: &Path) -> (Presence, Presence) {
    let folder = root.join("sys/class/rtc");
    let clocks = names::<4>(&folder);
    let set = clocks.iter().any(|clock| {
        let text = read_text(&folder.join(clock.as_str()).join("since_epoch"), 32);
        text.trim().parse::<u64>().is_ok_and(|s| s >= SET_SINCE)
    });
    (Presence::of(!clocks.is_empty()), Presence::of(set))
}

/// Whether the kernel has a source of noise in hardware.
pub(super) fn noise(root: &Path) -> Presence {
    let current = read_text(&root.join("sys/class/misc/hw_random/rng_current"), 64);
    Presence::of(!["", "none"].contains(&current.trim()))
}

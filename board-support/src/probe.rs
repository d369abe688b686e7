//! What the kernel can do, as `coracle board check` shows it: [`KernelFacts`] is what was seen,
//! [`gaps`] is what is missing, what that costs, and how to get it.
//!
//! The facts are read from procfs and sysfs, and nothing is changed by that. [`Trials`] use each
//! part once, which needs root, and win over the facts. A launch probes its system calls again for
//! itself, and falls back.

mod cgroup;
mod gap;
mod hardware;
mod modules;
mod options;
mod switches;
mod trial;
mod ways;

pub use cgroup::{CgroupFacts, CgroupLayout, Controller};
pub use gap::{Gap, Severity, gaps};
pub use hardware::WatchdogFacts;
pub use options::{CORACLE_OPTIONS, KernelOptions, NETWORK_OPTIONS, OLDER_OPTIONS, OptionState};
pub use switches::NetworkSwitches;
pub use trial::{Need, Outcome, Trial, Trials, remove_left};
pub use ways::Ways;

use self::modules::Modules;
use crate::smallest::smallest;
use crate::text::{self, Text, cut, read_text};
use heapless::Vec;
use serde::Serialize;
use std::path::Path;

/// Whether something is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Presence {
    /// Seen.
    Present,
    /// Looked for, not there.
    Absent,
    /// The kernel does not show it either way.
    Unknown,
}

impl Presence {
    fn of(seen: bool) -> Self {
        if seen { Self::Present } else { Self::Absent }
    }
}

/// What was seen of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KernelFacts {
    /// `6.6.31-v8+`.
    pub release: Text,
    /// Its first two numbers; (0, 0) when they cannot be read.
    pub version: (u16, u16),
    /// Kinds of namespaces, as /proc/self/ns names them.
    pub namespaces: Vec<Text, 16>,
    /// Control groups.
    pub cgroup: CgroupFacts,
    /// overlayfs, which holds an app's layers together.
    pub overlayfs: Presence,
    /// nf_tables, for NAT and published ports.
    pub nf_tables: Presence,
    /// Bridges.
    pub bridge: Presence,
    /// Pairs of virtual links.
    pub veth: Presence,
    /// Switches of the network, in the namespace that is asked.
    pub switches: NetworkSwitches,
    /// Ways into the world.
    pub ways: Ways,
    /// System call filters.
    pub seccomp: Presence,
    /// clone3 (5.3). By version: a vendor's kernel may have it earlier.
    pub clone3: Presence,
    /// clone3 straight into a cgroup (5.7). By version.
    pub clone_into_cgroup: Presence,
    /// openat2 (5.6), which keeps a path inside a folder. By version.
    pub openat2: Presence,
    /// pidfd_open (5.3). By version.
    pub pidfd: Presence,
    /// Watchdogs.
    pub watchdogs: Vec<WatchdogFacts, 4>,
    /// A clock of its own.
    pub rtc: Presence,
    /// That clock says a time that can be true: it was set, and kept running without power.
    pub rtc_set: Presence,
    /// A source of noise in hardware, for keys.
    pub hardware_noise: Presence,
    /// What the kernel was started with; cut at 2048 bytes.
    pub command_line: heapless::String<2048>,
    /// How the kernel was configured, where it says so in plain text.
    pub options: KernelOptions,
}

impl KernelFacts {
    /// Looks below `root`, which is `/` on a board, at our own options of the kernel's and at those that the profile requires. Reads up to 64 MiB of kernel symbols line by
    /// line: some tenths of a second on a slow core, so not for a start-up path.
    pub fn read(root: &Path, required: &[Text]) -> Self {
        let release = cut(read_text(&root.join("proc/sys/kernel/osrelease"), 256).trim());
        let version = version(&release);
        let since = |major, minor| match version {
            (0, 0) => Presence::Unknown,
            version => Presence::of(version >= (major, minor)),
        };
        let modules = Modules::look(root, &release);
        let (rtc, rtc_set) = hardware::clocks(root);
        let filesystems = read_text(&root.join("proc/filesystems"), 16 * 1024);
        let overlay_loaded = filesystems
            .lines()
            .any(|line| line.split_whitespace().last() == Some("overlay"));
        Self {
            namespaces: names(&root.join("proc/self/ns")),
            cgroup: CgroupFacts::read(root),
            overlayfs: if overlay_loaded {
                Presence::Present
            } else {
                // A module that is not loaded yet is not in /proc/filesystems; mounting loads it.
                Presence::of(modules.overlay == Presence::Present)
            },
            nf_tables: modules.nf_tables,
            bridge: modules.bridge,
            veth: modules.veth,
            switches: NetworkSwitches::read(root),
            ways: Ways::read(root),
            seccomp: Presence::of(
                read_text(&root.join("proc/sys/kernel/seccomp/actions_avail"), 256)
                    .contains("errno"),
            ),
            clone3: since(5, 3),
            clone_into_cgroup: since(5, 7),
            openat2: since(5, 6),
            pidfd: since(5, 3),
            watchdogs: WatchdogFacts::read(root),
            rtc,
            rtc_set,
            hardware_noise: hardware::noise(root),
            command_line: text::cut_to(read_text(&root.join("proc/cmdline"), 4096).trim()),
            options: KernelOptions::read(root, &release, required),
            release,
            version,
        }
    }
}

/// `6.6.31-v8+` → (6, 6); what is no version gives (0, 0).
pub(crate) fn version(release: &str) -> (u16, u16) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse::<u16>());
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => (0, 0),
    }
}

/// The first `N` names of a folder, sorted; none when there is no such folder. One that is no [`Text`] is none of the kernel's.
fn names<const N: usize>(folder: &Path) -> Vec<Text, N> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    smallest(entries.filter_map(|entry| Text::try_from(entry.file_name().to_str()?).ok()))
}

#[cfg(test)]
mod tests;

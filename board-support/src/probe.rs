//! What the kernel can do, as `coracle board check` shows it: [`KernelFacts`] is what was seen,
//! [`gaps`] is what is missing, what that costs, and how to get it.
//!
//! Everything is read from procfs and sysfs; nothing is created and no system call is tried. A
//! launch probes its system calls again for itself, and falls back.

mod cgroup;
mod gap;
mod options;

pub use cgroup::{CgroupFacts, CgroupLayout, Controller};
pub use gap::{Gap, Severity, gaps};
pub use options::{CORACLE_OPTIONS, KernelOptions, OptionState};

use crate::text::{Text, cut, read_text};
use heapless::Vec;
use serde::Serialize;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Symbols of the kernel that are looked through, in bytes; Linux 6.18 with everything has 12 MiB.
const KALLSYMS_BYTES: u64 = 64 << 20;

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
    /// Hardware watchdogs: their names under /sys/class/watchdog.
    pub watchdogs: Vec<Text, 4>,
    /// A clock that runs without power.
    pub rtc: Presence,
    /// How the kernel was configured, where it says so in plain text.
    pub options: KernelOptions,
}

impl KernelFacts {
    /// Looks below `root`, which is `/` on a board. Reads up to 64 MiB of kernel symbols line by
    /// line: some tenths of a second on a slow core, so not for a start-up path.
    pub fn read(root: &Path) -> Self {
        let release = cut(read_text(&root.join("proc/sys/kernel/osrelease"), 256).trim());
        let version = version(&release);
        let since = |major, minor| match version {
            (0, 0) => Presence::Unknown,
            version => Presence::of(version >= (major, minor)),
        };
        let modules = Modules::look(root, &release);
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
            seccomp: Presence::of(
                read_text(&root.join("proc/sys/kernel/seccomp/actions_avail"), 256)
                    .contains("errno"),
            ),
            clone3: since(5, 3),
            clone_into_cgroup: since(5, 7),
            openat2: since(5, 6),
            pidfd: since(5, 3),
            watchdogs: names(&root.join("sys/class/watchdog")),
            rtc: Presence::of(!names::<1>(&root.join("sys/class/rtc")).is_empty()),
            options: KernelOptions::read(root, &release),
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

/// The first `N` names of a folder, sorted; none when there is no such folder.
fn names<const N: usize>(folder: &Path) -> Vec<Text, N> {
    let mut all: std::vec::Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    all.sort();
    all.iter().take(N).map(|name| cut(name)).collect()
}

/// Parts of the kernel that may be built in or be modules.
struct Modules {
    overlay: Presence,
    nf_tables: Presence,
    bridge: Presence,
    veth: Presence,
}

impl Modules {
    /// Three places tell: /sys/module (loaded, or built in with parameters), the lists of
    /// modprobe, and the kernel's symbols. Only when the symbols can be read does "not found"
    /// mean "not there".
    fn look(root: &Path, release: &str) -> Self {
        // A function that each of them cannot be without.
        const SYMBOLS: [(&str, &str); 4] = [
            ("overlay", "ovl_fill_super"),
            ("nf_tables", "nf_tables_newtable"),
            ("bridge", "br_dev_setup"),
            ("veth", "veth_setup"),
        ];
        let lists = ["modules.builtin", "modules.dep"]
            .map(|list| root.join("lib/modules").join(release).join(list))
            .map(|path| read_text(&path, 4 << 20));
        let mut found = SYMBOLS.map(|(module, _)| {
            let file = format!("/{module}.ko");
            let loaded = root.join("sys/module").join(module).is_dir();
            loaded || lists.iter().any(|list| list.contains(&file))
        });
        let mut looked = false;
        if found.contains(&false)
            && let Ok(symbols) = File::open(root.join("proc/kallsyms"))
        {
            // Lines are "address type name [module]"; with kptr_restrict the address is 0.
            for line in BufReader::new(symbols.take(KALLSYMS_BYTES))
                .lines()
                .map_while(Result::ok)
            {
                looked = true;
                let name = line.split(' ').nth(2).unwrap_or("");
                let name = name.split(['\t', '.']).next().unwrap_or("");
                if let Some(at) = SYMBOLS.iter().position(|(_, symbol)| *symbol == name) {
                    found[at] = true;
                }
            }
        }
        let [overlay, nf_tables, bridge, veth] = found.map(|seen| match (seen, looked) {
            (true, _) => Presence::Present,
            (false, true) => Presence::Absent,
            (false, false) => Presence::Unknown,
        });
        Self {
            overlay,
            nf_tables,
            bridge,
            veth,
        }
    }
}

#[cfg(test)]
mod tests;

//! Control groups: which layout is mounted, and which controllers can be used in it.

pub use crate::profile::CgroupLayout;
use crate::text::{Text, cut, read_text};
use heapless::Vec;
use serde::Serialize;
use std::path::Path;

/// A controller that Coracle uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Controller {
    /// As v2 names it: `io` is v1's `blkio`.
    pub name: Text,
    /// Whether it can be used now.
    pub usable: bool,
    /// Compiled in, but turned off on the kernel's command line or not mounted.
    pub disabled: bool,
}

/// What was seen of control groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CgroupFacts {
    /// The layout.
    pub layout: CgroupLayout,
    /// memory, cpu, cpuset, io, pids, devices, freezer, hugetlb: always all of them.
    pub controllers: Vec<Controller, 8>,
}

/// v2 name, v1 name, and whether v2 does it without a controller (cgroup-v2.rst, "cgroup.freeze"
/// and "Device controller": an eBPF program).
const CONTROLLERS: [(&str, &str, bool); 8] = [
    ("memory", "memory", false),
    ("cpu", "cpu", false),
    ("cpuset", "cpuset", false),
    ("io", "blkio", false),
    ("pids", "pids", false),
    ("devices", "devices", true),
    ("freezer", "freezer", true),
    ("hugetlb", "hugetlb", false),
];

impl CgroupFacts {
    /// Looks below `root`.
    pub(super) fn read(root: &Path) -> Self {
        let mounts = read_text(&root.join("proc/self/mountinfo"), 1 << 20);
        let (v1, v2_root) = mounted(&mounts);
        let v1: std::vec::Vec<String> = v1.into_iter().map(|(name, _)| name).collect();
        let v2 = match &v2_root {
            Some(at) => {
                let file = root
                    .join(at.trim_start_matches('/'))
                    .join("cgroup.controllers");
                read_text(&file, 1024)
            }
            None => String::new(),
        };
        let v2: std::vec::Vec<&str> = v2.split_whitespace().collect();
        // The list of v1's controllers: since Linux 6.14 it no longer has those that only v2 holds.
        let compiled = read_text(&root.join("proc/cgroups"), 8 * 1024);
        let command_line = read_text(&root.join("proc/cmdline"), 4096);
        let layout = match (v1.is_empty(), v2_root.is_some()) {
            (true, true) => CgroupLayout::V2,
            (true, false) => CgroupLayout::None,
            (false, true) => CgroupLayout::Hybrid,
            (false, false) => CgroupLayout::V1,
        };
        let controllers = CONTROLLERS
            .iter()
            .map(|&(name, v1_name, built_into_v2)| {
                let usable = v2.contains(&name)
                    || v1.iter().any(|c| c == v1_name)
                    || (built_into_v2 && layout == CgroupLayout::V2);
                let known = compiled
                    .lines()
                    .any(|line| line.split_whitespace().next() == Some(v1_name))
                    || turned_off(&command_line, v1_name);
                Controller {
                    name: cut(name),
                    usable,
                    disabled: known && !usable,
                }
            })
            .collect();
        Self {
            layout,
            controllers,
        }
    }

    /// Whether a controller can be used, by its v2 name.
    pub fn usable(&self, name: &str) -> bool {
        self.controllers
            .iter()
            .any(|c| c.name.as_str() == name && c.usable)
    }
}

/// Whether the command line turns a controller off: `cgroup_disable=memory,io`
/// (kernel-parameters.txt). A later word wins, and `cgroup_enable=` is one too.
fn turned_off(command_line: &str, controller: &str) -> bool {
    let mut off = false;
    for word in command_line.split_whitespace() {
        let Some((verb, list)) = word.split_once('=') else {
            continue;
        };
        if list.split(',').any(|name| name == controller) {
            off = match verb {
                "cgroup_disable" => true,
                "cgroup_enable" => false,
                _ => off,
            };
        }
    }
    off
}

/// The controllers that v1 hierarchies hold with where each is, and where the v2 hierarchy is. proc_pid_mountinfo(5):
/// after ` - ` come type, source and the super block's options; the fifth field is the mount point.
/// A named hierarchy without controllers (`name=systemd`) does not make a board v1.
pub(super) fn mounted(mountinfo: &str) -> (std::vec::Vec<(String, String)>, Option<String>) {
    let (mut v1, mut v2) = (std::vec::Vec::new(), None);
    for line in mountinfo.lines() {
        let Some((mount, filesystem)) = line.split_once(" - ") else {
            continue;
        };
        let Some(point) = mount.split(' ').nth(4) else {
            continue;
        };
        let mut fields = filesystem.split(' ');
        match (fields.next(), fields.nth(1)) {
            (Some("cgroup"), Some(options)) => v1.extend(
                options
                    .split(',')
                    .filter(|option| CONTROLLERS.iter().any(|(_, name, _)| name == option))
                    .map(|option| (option.to_owned(), point.to_owned())),
            ),
            (Some("cgroup2"), _) => v2 = v2.or_else(|| Some(point.to_owned())),
            _ => {}
        }
    }
    (v1, v2)
}

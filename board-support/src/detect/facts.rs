//! What the kernel shows about the board, read below a given root folder so that a test, or an
//! image that is looked at on another machine, can stand in for `/`.

use crate::profile::Architecture;
use crate::storage::Disk;
use crate::text::{Text, cut, read_bytes, read_text};
use heapless::Vec;
use serde::Serialize;
use std::path::Path;

/// Compatible strings of the device tree's root that are looked at; boards have 1 to 4.
const COMPATIBLE_LIMIT: usize = 16;

/// Bytes of `compatible` that are read.
const COMPATIBLE_BYTES: u64 = 4096;

/// What the kernel shows. A fact that it does not show is empty or `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Detected {
    /// What this program was compiled for.
    pub architecture: Architecture,
    /// The device tree's root, the most specific string first.
    pub device_tree_compatible: Vec<Text, COMPATIBLE_LIMIT>,
    /// The device tree's name for people.
    pub model: Text,
    /// DMI `sys_vendor`.
    pub dmi_vendor: Text,
    /// DMI `product_name`.
    pub dmi_product: Text,
    /// `MemTotal` of /proc/meminfo, in bytes: what is there after the kernel and the firmware took theirs.
    pub memory_bytes: Option<u64>,
    /// Cores that are online.
    pub cpus: Option<u32>,
    /// Processes and threads that the kernel allows.
    pub pids: Option<u32>,
    /// The size of the file system of the state folder in bytes. The kernel tells it by statvfs,
    /// which needs a system call that the standard library lacks: whoever has one fills it in.
    pub disk_bytes: Option<u64>,
    /// The whole disk that the state folder lies on (`mmcblk0`). Filled in as the size is.
    pub state_disk: Option<Text>,
}

impl Detected {
    /// Reads below `root`, which is `/` on a board.
    pub fn read(root: &Path) -> Self {
        let at = |path: &str| root.join(path);
        let line = |path: &str| cut(read_text(&at(path), 256).trim_matches(['\n', ' ', '\0']));
        let number = |path: &str| line(path).parse::<u32>().ok();
        let pids = [
            number("proc/sys/kernel/pid_max"),
            number("proc/sys/kernel/threads-max"),
        ];
        Self {
            architecture: Architecture::of_this_program(),
            device_tree_compatible: compatible(&read_bytes(
                &at("proc/device-tree/compatible"),
                COMPATIBLE_BYTES,
            )),
            model: line("proc/device-tree/model"),
            dmi_vendor: line("sys/class/dmi/id/sys_vendor"),
            dmi_product: line("sys/class/dmi/id/product_name"),
            memory_bytes: memory(&read_text(&at("proc/meminfo"), 16 * 1024)),
            cpus: cpus(&line("sys/devices/system/cpu/online")),
            pids: pids.into_iter().flatten().min(),
            disk_bytes: None,
            state_disk: None,
        }
    }

    /// The same with the size of the state folder's file system.
    pub fn with_disk_bytes(mut self, bytes: u64) -> Self {
        self.disk_bytes = Some(bytes);
        self
    }

    /// The same with the disk below the state folder, where that is one.
    pub fn with_state_disk(mut self, disk: Option<Disk>) -> Self {
        self.state_disk = disk.map(|disk| disk.name);
        self
    }
}

/// Splits a `compatible` property: strings, each with a NUL at its end (devicetree specification
/// 0.4, 2.2.4). A string that is no UTF-8, or longer than a [`Text`], can match no profile and is
/// passed over.
pub(super) fn compatible(blob: &[u8]) -> Vec<Text, COMPATIBLE_LIMIT> {
    let mut found = Vec::new();
    for part in blob.split(|&b| b == 0) {
        let Ok(text) = std::str::from_utf8(part) else {
            continue;
        };
        let Ok(text) = Text::try_from(text) else {
            continue;
        };
        if !text.is_empty() && found.push(text).is_err() {
            break;
        }
    }
    found
}

/// `MemTotal:  1000 kB` in bytes (proc.rst: the unit is KiB).
pub(super) fn memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// How many cores a list such as `0-3,6` holds.
pub(super) fn cpus(list: &str) -> Option<u32> {
    let mut count: u32 = 0;
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        let here = last.checked_sub(first)?.checked_add(1)?;
        count = count.checked_add(here)?;
    }
    Some(count)
}

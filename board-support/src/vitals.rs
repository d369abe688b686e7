//! How the board fares at this moment: its memory, load, disks and links, in one small read each.

use crate::text::{Text, read_text};
use std::path::Path;

/// Bytes of `/proc/meminfo` that are read: what is looked for stands in its first lines.
const MEMINFO_BYTES: u64 = 1024;
/// Bytes of `/proc/self/smaps_rollup`.
const ROLLUP_BYTES: u64 = 2048;
/// ARPHRD_ETHER of linux/if_arp.h.
const ETHERNET: &str = "1";

/// The board's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// `MemTotal`.
    pub total: u64,
    /// `MemAvailable`: what is to be had without swapping.
    pub available: u64,
}

/// Reads it below `root`, which is `/` on a board (proc_meminfo(5)).
pub fn memory(root: &Path) -> Option<Memory> {
    let text = read_text(&root.join("proc/meminfo"), MEMINFO_BYTES);
    Some(Memory {
        total: kib(&text, "MemTotal:")?,
        available: kib(&text, "MemAvailable:")?,
    })
}

/// The load average of the last minute, in hundredths (proc_loadavg(5)).
pub fn load(root: &Path) -> Option<u64> {
    hundredths(&read_text(&root.join("proc/loadavg"), 64))
}

/// Seconds since the kernel started (proc_uptime(5)).
pub fn uptime(root: &Path) -> Option<u64> {
    Some(hundredths(&read_text(&root.join("proc/uptime"), 64))? / 100)
}

/// Bytes that this process holds, its share of what is shared included; `None` before Linux 4.14, which has no sum of that.
pub fn own_memory() -> Option<u64> {
    let path = Path::new("/proc/self/smaps_rollup");
    kib(&read_text(path, ROLLUP_BYTES), "Pss:")
}

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Its size, in bytes.
    pub total: u64,
    /// What is free for whoever is not root, in bytes.
    pub free: u64,
}

/// The one that a folder lies on.
pub fn room(folder: &Path) -> Option<Room> {
    let seen = rustix::fs::statvfs(folder).ok()?;
    Some(Room {
        total: seen.f_blocks.saturating_mul(seen.f_frsize),
        free: seen.f_bavail.saturating_mul(seen.f_frsize),
    })
}

/// Whether two folders lie on one file system; those that cannot be looked at do.
pub fn is_same_room(one: &Path, other: &Path) -> bool {
    let device = |path| rustix::fs::stat(path).map(|seen| seen.st_dev);
    match (device(one), device(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => true,
    }
}

/// Kinds of links to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// A cable, and a chip of the board's behind it.
    Ethernet,
    /// Wireless LAN.
    Wifi,
    /// A modem.
    Cellular,
    /// Another one: a bridge, a tunnel.
    Other,
}

/// The link that the default route leaves by, and its kind (sysfs-class-net).
pub fn default_link(root: &Path) -> Option<(Text, Link)> {
    // Addresses for documentation: no board has a route of its own to them.
    let outside = ["192.0.2.1", "2001:db8::1"].into_iter();
    let link = outside
        .filter_map(|to| crate::route::link_to(root, to.parse().ok()?))
        .next()?;
    let kind = link_kind(&root.join("sys/class/net").join(link.as_str()));
    Some((link, kind))
}

fn link_kind(folder: &Path) -> Link {
    let uevent = read_text(&folder.join("uevent"), 512);
    let has = |file| folder.join(file).exists();
    if uevent.contains("DEVTYPE=wlan") || has("phy80211") || has("wireless") {
        return Link::Wifi;
    }
    if uevent.contains("DEVTYPE=wwan") {
        return Link::Cellular;
    }
    match read_text(&folder.join("type"), 16).trim() == ETHERNET && has("device") {
        true => Link::Ethernet,
        false => Link::Other,
    }
}

/// `MemTotal:        1014052 kB`, in bytes.
fn kib(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = value.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// `0.52 0.48 …`, of the first.
fn hundredths(text: &str) -> Option<u64> {
    let (whole, rest) = text.split_whitespace().next()?.split_once('.')?;
    let rest: u64 = rest.get(..2)?.parse().ok()?;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(100)?
        .checked_add(rest)
}

#[cfg(test)]
mod tests;

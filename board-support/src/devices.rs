//! Nodes of the devices that a profile names, as they are at this moment: a pattern may mean none, one or several.

use crate::profile::AppDevice;
use crate::text::{matches, read_text};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Nodes of one device that an app gets; a board has fewer cameras.
pub const NODE_LIMIT: usize = 32;
/// Folders that are watched for one device: /dev has some 20 of its own, and one for each USB bus.
pub const FOLDER_LIMIT: usize = 64;
/// Entries of one folder that are looked at: a PC's /dev has some 200.
const ENTRY_LIMIT: usize = 4096;
/// Nodes of one device that are told apart.
const SEEN_LIMIT: usize = 1024;
/// Entries that are looked at for one device in all folders together: a pattern may have a star in each of its parts. How deep
/// it goes is bounded by its length.
const LOOK_LIMIT: usize = 16 * 1024;
/// Memory (/dev/mem and its kin), tapes, disks by the SCSI generic driver, flash, raw disks, registers of the processors and
/// what they are (Documentation/admin-guide/devices.txt).
const BOARD_MAJORS: [u32; 7] = [1, 9, 21, 90, 162, 202, 203];
/// What has no number of its own: NVMe controllers and name spaces, UBI on flash, the sealed part of an eMMC, what makes block
/// devices, firmware's memory.
const BOARD_NAMES: [&str; 7] = [
    "nvme*",
    "ng?n*",
    "ubi*",
    "*rpmb*",
    "loop-control",
    "btrfs-control",
    "nvram",
];
/// Disks by the block layer's generic driver, and the device mapper's control.
const BOARD_FOLDERS: [&str; 2] = ["bsg", "mapper"];

/// A character device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// `/dev/ttyUSB0`, or a link to such a one: `/dev/serial/by-id/…`.
    pub path: String,
    /// First half of its number.
    pub major: u32,
    /// Second half of its number.
    pub minor: u32,
}

/// The nodes of `device`, in the order of their paths; `root` is `/` on a board. Disks are no devices of apps, nor are memory
/// and the board's consoles.
pub fn nodes(root: &Path, device: &AppDevice) -> Vec<Node> {
    let consoles = consoles(root);
    let mut nodes = matching(root, device);
    nodes.retain(|node| !consoles.contains(&(node.major, node.minor)));
    nodes
}

/// Those that are left out since the kernel's messages and a login are there: an app would read what is typed.
pub fn console_nodes(root: &Path, device: &AppDevice) -> Vec<Node> {
    let consoles = consoles(root);
    let mut nodes = matching(root, device);
    nodes.retain(|node| consoles.contains(&(node.major, node.minor)));
    nodes
}

/// Numbers of what `console=` of the kernel's command line means (Documentation/ABI/testing/sysfs-tty).
fn consoles(root: &Path) -> Vec<(u32, u32)> {
    let active = read_text(&root.join("sys/class/tty/console/active"), 1024);
    let names = active.split_whitespace();
    let nodes = names.map(|name| root.join("dev").join(name));
    nodes.filter_map(|node| character_device(&node)).collect()
}

fn matching(root: &Path, device: &AppDevice) -> Vec<Node> {
    let mut found = BTreeMap::new();
    let mut looks = LOOK_LIMIT;
    for pattern in &device.nodes {
        let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
        collect(
            root.to_owned(),
            String::new(),
            &parts,
            &mut found,
            &mut looks,
        );
    }
    found.into_values().collect()
}

fn collect(
    at: PathBuf,
    shown: String,
    parts: &[&str],
    found: &mut BTreeMap<String, Node>,
    looks: &mut usize,
) {
    let Some((part, rest)) = parts.split_first() else {
        if found.len() < SEEN_LIMIT
            && let Some((major, minor)) = character_device(&at)
            && !is_of_the_board(&at, major)
        {
            let path = shown.clone();
            found.insert(shown, Node { path, major, minor });
        }
        return;
    };
    let names = match is_pattern(part) {
        false => vec![(*part).to_owned()],
        true => names_in(&at, part, looks),
    };
    for name in names {
        collect(
            at.join(&name),
            format!("{shown}/{name}"),
            rest,
            found,
            looks,
        );
    }
}

/// Each entry is taken off `looks`, and none is seen any more once that is used up.
fn names_in(folder: &Path, pattern: &str, looks: &mut usize) -> Vec<String> {
    let most = ENTRY_LIMIT.min(*looks);
    if most == 0 {
        return Vec::new();
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries
        .take(most)
        .inspect(|_| *looks -= 1)
        .filter_map(|entry| entry.file_name().into_string().ok());
    let whole = names.filter(|name| !is_torn(name));
    whole.filter(|name| matches(pattern, name)).collect()
}

/// Whether a list with spaces between could not hold a name. udev makes none of these.
pub(crate) fn is_torn(name: &str) -> bool {
    name.contains(|c: char| c.is_whitespace() || c.is_control())
}

fn is_pattern(part: &str) -> bool {
    part.contains(['*', '?'])
}

/// Its number; a link is followed, as udev makes them.
fn character_device(path: &Path) -> Option<(u32, u32)> {
    let found = std::fs::metadata(path).ok()?;
    let number = found.rdev();
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    found.file_type().is_char_device().then_some((major, minor))
}

/// Memory, processors and disks have character devices too, some of them with numbers that the kernel makes up: those go by
/// their names, however links call them.
fn is_of_the_board(path: &Path, major: u32) -> bool {
    let Ok(path) = path.canonicalize() else {
        return true;
    };
    let name = |path: Option<&Path>| {
        let name = path.and_then(Path::file_name).unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    let (name, folder) = (name(Some(&path)), name(path.parent()));
    BOARD_MAJORS.contains(&major)
        || BOARD_FOLDERS.contains(&folder.as_str())
        || BOARD_NAMES.iter().any(|pattern| matches(pattern, &name))
}

/// The folders below `root` in which nodes of `device` come and go, as far as they are there now; at most
/// [`FOLDER_LIMIT`].
pub fn folders(root: &Path, device: &AppDevice) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut looks = LOOK_LIMIT;
    for pattern in &device.nodes {
        let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
        collect_folders(root, &parts, &mut folders, &mut looks);
    }
    folders
}

fn collect_folders(at: &Path, parts: &[&str], folders: &mut BTreeSet<PathBuf>, looks: &mut usize) {
    // The last part is a node's.
    let Some((part, rest)) = parts.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return;
    };
    let names = match is_pattern(part) {
        false => vec![(*part).to_owned()],
        true => names_in(at, part, looks),
    };
    for name in names {
        let folder = at.join(name);
        if folder.is_dir() && folders.len() < FOLDER_LIMIT {
            folders.insert(folder.clone());
            collect_folders(&folder, rest, folders, looks);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    use std::fs;

    fn device(nodes: &[&str]) -> AppDevice {
        let text = format!("name = \"x\"\nkind = \"tty\"\nnodes = {nodes:?}\n");
        toml::from_str(&text).unwrap()
    }

    fn make(root: &Path, path: &str, kind: FileType, (major, minor): (u32, u32)) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        mknodat(CWD, &path, kind, Mode::RUSR, makedev(major, minor)).unwrap();
    }

    #[test]
    fn patterns_mean_the_character_devices_that_are_there() {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes device nodes: run it as root"
        );
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let character = FileType::CharacterDevice;
        make(root, "dev/ttyUSB1", character, (188, 1));
        make(root, "dev/ttyUSB0", character, (188, 0));
        make(root, "dev/ttyS0", character, (4, 64));
        make(root, "dev/dri/renderD128", character, (226, 128));
        make(root, "dev/ttyUSBmem", character, (1, 1));
        make(root, "dev/ttyUSBdisk", FileType::BlockDevice, (8, 0));
        fs::write(root.join("dev/ttyUSBfile"), "").unwrap();
        fs::create_dir_all(root.join("dev/serial/by-id")).unwrap();
        let link = root.join("dev/serial/by-id/usb-Acme");
        std::os::unix::fs::symlink("../../ttyUSB1", link).unwrap();
        let found = |patterns: &[&str]| -> Vec<(String, u32, u32)> {
            let nodes = nodes(root, &device(patterns)).into_iter();
            nodes.map(|n| (n.path, n.major, n.minor)).collect()
        };
        let usb = |n: u32| (format!("/dev/ttyUSB{n}"), 188, n);
        assert_eq!(found(&["/dev/ttyUSB*"]), [usb(0), usb(1)]);
        assert_eq!(found(&["/dev/ttyUSB0", "/dev/ttyUSB?"]), [usb(0), usb(1)]);
        assert_eq!(
            found(&["/dev/serial/by-id/usb-*"]),
            [("/dev/serial/by-id/usb-Acme".to_owned(), 188, 1)]
        );
        assert_eq!(
            found(&["/dev/*/renderD*"]),
            [("/dev/dri/renderD128".to_owned(), 226, 128)]
        );
        make(root, "dev/ttyUSB 2", character, (188, 2));
        assert_eq!(found(&["/dev/ttyUSB*"]), [usb(0), usb(1)]);
        // A star ends at a folder's border.
        assert_eq!(found(&["/dev/*renderD128"]), []);
        assert_eq!(found(&["/dev/gpiochip*", "/dev/none/x"]), []);
        for n in 0..=SEEN_LIMIT {
            make(root, &format!("dev/many{n}"), character, (200, n as u32));
        }
        assert_eq!(found(&["/dev/many*"]).len(), SEEN_LIMIT);
    }

    #[test]
    fn neither_memory_nor_disks_nor_consoles_are_devices_of_apps() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for (name, number) in [
            ("mem", (1, 1)),
            ("kmsg", (1, 11)),
            ("sg0", (21, 0)),
            ("mtd0", (90, 0)),
            ("mtd0ro", (90, 1)),
            ("nvme0", (240, 0)),
            ("ng0n1", (241, 0)),
            ("ubi0_0", (242, 1)),
            ("ubi_ctrl", (10, 58)),
            ("mmcblk0rpmb", (243, 0)),
            ("bsg/0:0:0:0", (244, 0)),
            ("mapper/control", (10, 236)),
            ("loop-control", (10, 237)),
            ("cpu/0/msr", (202, 0)),
            ("ttyS0", (4, 64)),
            ("ttyS1", (4, 65)),
            ("gpiochip0", (254, 0)),
        ] {
            make(
                root,
                &format!("dev/{name}"),
                FileType::CharacterDevice,
                number,
            );
        }
        for (link, to) in [("harmless", "nvme0"), ("serial0", "ttyS0")] {
            std::os::unix::fs::symlink(to, root.join("dev").join(link)).unwrap();
        }
        fs::create_dir_all(root.join("sys/class/tty/console")).unwrap();
        let active = root.join("sys/class/tty/console/active");
        let all = device(&["/dev/*", "/dev/*/*", "/dev/cpu/*/*"]);
        let paths =
            |nodes: Vec<Node>| -> Vec<String> { nodes.into_iter().map(|node| node.path).collect() };
        assert_eq!(
            paths(nodes(root, &all)),
            ["/dev/gpiochip0", "/dev/serial0", "/dev/ttyS0", "/dev/ttyS1"]
        );
        fs::write(active, "tty0 ttyS0\n").unwrap();
        assert_eq!(paths(nodes(root, &all)), ["/dev/gpiochip0", "/dev/ttyS1"]);
        assert_eq!(
            paths(console_nodes(root, &all)),
            ["/dev/serial0", "/dev/ttyS0"]
        );
    }

    #[test]
    fn folders_are_those_where_nodes_may_come() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for there in [
            "dev/serial",
            "dev/dri/by-path",
            "dev/bus/usb/001",
            "dev/bus/usb/002",
        ] {
            fs::create_dir_all(root.join(there)).unwrap();
        }
        fs::write(root.join("dev/bus/usb/003"), "").unwrap();
        let found = |patterns: &[&str]| -> Vec<String> {
            let all = folders(root, &device(patterns)).into_iter();
            let below = all.map(|f| f.strip_prefix(root).unwrap().to_owned());
            below.map(|f| f.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(
            found(&["/dev/serial/by-id/usb-*", "/dev/ttyUSB*"]),
            ["dev", "dev/serial"]
        );
        // Those that a star in the middle means.
        assert_eq!(
            found(&["/dev/bus/usb/*/*"]),
            [
                "dev",
                "dev/bus",
                "dev/bus/usb",
                "dev/bus/usb/001",
                "dev/bus/usb/002"
            ]
        );
        assert_eq!(
            found(&["/dev/*/renderD*"]),
            ["dev", "dev/bus", "dev/dri", "dev/serial"]
        );
        for n in 0..80 {
            fs::create_dir_all(root.join(format!("dev/many/{n}"))).unwrap();
        }
        assert_eq!(found(&["/dev/many/*/x"]).len(), FOLDER_LIMIT);
    }

    #[test]
    fn a_deep_tree_is_looked_at_so_far_and_no_further() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        // 8 + 8² + 8³ entries.
        for way in 0..512 {
            let way = format!("dev/deep/{}/{}/{}", way / 64, way / 8 % 8, way % 8);
            fs::create_dir_all(root.join(way)).unwrap();
        }
        let last = "dev/deep/7/7/7/ttyX0";
        make(root, last, FileType::CharacterDevice, (188, 0));
        let parts = ["dev", "deep", "*", "*", "*", "*"];
        let walk = |most: usize| {
            let (mut looks, mut found) = (most, BTreeMap::new());
            let at = root.to_owned();
            collect(at, String::new(), &parts, &mut found, &mut looks);
            (most - looks, found.len())
        };
        assert_eq!(walk(LOOK_LIMIT), (8 + 64 + 512 + 1, 1));
        assert_eq!(walk(300).0, 300, "and the walk ends there");
        let mut looks = 5;
        let mut folders = BTreeSet::new();
        collect_folders(root, &parts, &mut folders, &mut looks);
        assert_eq!(looks, 0);
        assert!(folders.len() <= 2 + 5, "{folders:?}");
    }
}

//! Nodes of the devices that a profile names, as they are at this moment: a pattern may mean none, one or several.

use crate::profile::AppDevice;
use crate::text::matches;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Nodes of one device; a board has fewer cameras.
pub const NODE_LIMIT: usize = 32;
/// Folders that are watched for one device: /dev has some 20 of its own, and one for each USB bus.
pub const FOLDER_LIMIT: usize = 64;
/// Entries of one folder that are looked at: a PC's /dev has some 200.
const ENTRY_LIMIT: usize = 4096;
/// The memory of the board, by /dev/mem and its kin, is no device that an app could have
/// (Documentation/admin-guide/devices.txt).
const MEMORY_MAJOR: u32 = 1;

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

/// The nodes of `device`, in the order of their paths; `root` is `/` on a board. Disks are no devices of apps, nor is memory.
pub fn nodes(root: &Path, device: &AppDevice) -> Vec<Node> {
    let mut found = BTreeMap::new();
    for pattern in &device.nodes {
        let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
        collect(root.to_owned(), String::new(), &parts, &mut found);
    }
    found.into_values().take(NODE_LIMIT).collect()
}

fn collect(at: PathBuf, shown: String, parts: &[&str], found: &mut BTreeMap<String, Node>) {
    let Some((part, rest)) = parts.split_first() else {
        if let Some((major, minor)) = character_device(&at) {
            let path = shown.clone();
            found.insert(shown, Node { path, major, minor });
        }
        return;
    };
    let names = match is_pattern(part) {
        false => vec![(*part).to_owned()],
        true => names_in(&at, part),
    };
    for name in names {
        collect(at.join(&name), format!("{shown}/{name}"), rest, found);
    }
}

fn names_in(folder: &Path, pattern: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries
        .take(ENTRY_LIMIT)
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
    (found.file_type().is_char_device() && major != MEMORY_MAJOR).then_some((major, minor))
}

/// The folders below `root` in which nodes of `device` come and go, as far as they are there now; at most
/// [`FOLDER_LIMIT`].
pub fn folders(root: &Path, device: &AppDevice) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    for pattern in &device.nodes {
        let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
        collect_folders(root, &parts, &mut folders);
    }
    folders
}

fn collect_folders(at: &Path, parts: &[&str], folders: &mut BTreeSet<PathBuf>) {
    // The last part is a node's.
    let Some((part, rest)) = parts.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        return;
    };
    let names = match is_pattern(part) {
        false => vec![(*part).to_owned()],
        true => names_in(at, part),
    };
    for name in names {
        let folder = at.join(name);
        if folder.is_dir() && folders.len() < FOLDER_LIMIT {
            folders.insert(folder.clone());
            collect_folders(&folder, rest, folders);
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
        let many = [0; 40].iter().enumerate();
        many.for_each(|(n, _)| make(root, &format!("dev/many{n}"), character, (200, n as u32)));
        assert_eq!(found(&["/dev/many*"]).len(), NODE_LIMIT);
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
}

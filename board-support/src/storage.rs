//! The board's disks, as sysfs lists them, and which of them the profile means.

use crate::profile::{Profile, StorageRole};
use crate::smallest::smallest;
use crate::text::{Text, cut, read_text};
use heapless::Vec;
use serde::Serialize;
use std::path::Path;

/// Disks that are looked at.
pub const DISK_LIMIT: usize = 32;

/// A whole disk; IO limits of cgroups are set on these, not on partitions (cgroup-v2.rst, io.max).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Disk {
    /// `mmcblk0`.
    pub name: Text,
    /// First half of the device number.
    pub major: u32,
    /// Second half of the device number.
    pub minor: u32,
}

/// The disks that play `role` by this profile, in the order of their names; `root` is `/` on a board.
pub fn disks(root: &Path, profile: &Profile, role: StorageRole) -> Vec<Disk, DISK_LIMIT> {
    let folder = root.join("sys/class/block");
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| Text::try_from(entry.file_name().to_str()?).ok());
    let ours = names.filter(|name| profile.storage.plays(role, &format!("/dev/{name}")));
    smallest(ours.filter_map(|name| {
        let node = folder.join(name.as_str());
        let numbers = read_text(&node.join("dev"), 32);
        let (major, minor) = numbers.trim().split_once(':')?;
        let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
        let is_whole = !node.join("partition").exists();
        is_whole.then_some(Disk { name, major, minor })
    }))
}

/// The whole disk that a file or folder lies on; `None` where that is no disk (a tmpfs, NFS, overlayfs).
pub fn under(path: &Path) -> Option<Disk> {
    let device = rustix::fs::stat(path).ok()?.st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let node = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    let whole = match node.join("partition").exists() {
        true => node.parent()?.to_owned(),
        false => node,
    };
    let numbers = read_text(&whole.join("dev"), 32);
    let (major, minor) = numbers.trim().split_once(':')?;
    Some(Disk {
        name: cut(whole.file_name()?.to_str()?),
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Architecture;
    use std::fs;

    #[test]
    fn a_folder_of_the_kernels_lies_on_no_disk() {
        assert_eq!(under(Path::new("/proc/self")), None);
        assert_eq!(under(Path::new("/nowhere")), None);
        if let Some(disk) = under(Path::new(env!("CARGO_MANIFEST_DIR"))) {
            let node = format!("/sys/block/{}/dev", disk.name);
            let numbers = fs::read_to_string(node).unwrap();
            assert_eq!(numbers.trim(), format!("{}:{}", disk.major, disk.minor));
        }
    }

    #[test]
    fn whole_disks_of_the_role_are_found_and_partitions_are_not() {
        let root = tempfile::tempdir().unwrap();
        let block = root.path().join("sys/class/block");
        for (name, dev) in [
            ("mmcblk0", "179:0"),
            ("sda", "8:0"),
            ("loop0", "7:0"),
            ("vda", "broken"),
        ] {
            fs::create_dir_all(block.join(name)).unwrap();
            fs::write(block.join(name).join("dev"), format!("{dev}\n")).unwrap();
        }
        fs::create_dir_all(block.join("mmcblk0p1")).unwrap();
        fs::write(block.join("mmcblk0p1/dev"), "179:1").unwrap();
        fs::write(block.join("mmcblk0p1/partition"), "1").unwrap();
        let profile = Profile::generic(Architecture::Aarch64);
        let state = disks(root.path(), &profile, StorageRole::State);
        let names: std::vec::Vec<&str> = state.iter().map(|d| d.name.as_str()).collect();
        assert!(names.contains(&"mmcblk0"), "{names:?}");
        assert!(
            !names.contains(&"mmcblk0p1") && !names.contains(&"loop0") && !names.contains(&"vda")
        );
        assert_eq!((state[0].major, state[0].minor), (179, 0));
        // Whatever the folder has, the first are found and no more.
        for number in 0..5000 {
            let dev = block.join(format!("nvme0n{number:04}")).join("dev");
            fs::create_dir_all(dev.parent().unwrap()).unwrap();
            fs::write(dev, format!("259:{number}")).unwrap();
        }
        let mut many = profile;
        many.storage.state[0].device = Text::try_from("/dev/nvme*").unwrap();
        let found = disks(root.path(), &many, StorageRole::State);
        assert_eq!(found.len(), DISK_LIMIT);
        for (number, disk) in found.iter().enumerate() {
            let (name, minor) = (disk.name.as_str(), disk.minor as usize);
            assert_eq!(
                (name, minor),
                (format!("nvme0n{number:04}").as_str(), number)
            );
        }
    }
}

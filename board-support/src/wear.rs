//! What was written to the board's disks, and what flash says of its own age.

use crate::storage::Disk;
use crate::text::{Text, cut, read_text};
use std::path::Path;

/// Bytes of a sector in the kernel's statistics, whatever the disk's own are (block/stat.rst).
const SECTOR: u64 = 512;
/// Where "write sectors" stands in `stat` of a disk (block/stat.rst).
const WRITE_SECTORS: usize = 6;
/// A `life_time` beyond what the chip was made for (JESD84-B51, EXT_CSD 268 and 269).
const WORN_OUT: u8 = 0x0b;

/// A disk at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// `mmcblk0`.
    pub disk: Text,
    /// Bytes written to it since the kernel found it.
    pub written_bytes: u64,
    /// At most so many per cent of its life are used, in tens; 110: more than all of it. `None`: it does not say.
    pub worn_percent: Option<u8>,
    /// What is left of the blocks that take the place of bad ones. `None`: it does not say.
    pub reserve: Option<Reserve>,
}

/// `pre_eol_info` of an eMMC (mmc-dev-attrs.rst; JESD84-B51, EXT_CSD 267).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// Enough.
    Normal,
    /// Four fifths are used.
    Low,
    /// Nine tenths are used.
    Urgent,
}

/// Reads a disk below `root`, which is `/` on a board; `None` where the kernel counts nothing for it.
pub fn look(root: &Path, disk: &Disk) -> Option<Reading> {
    let folder = root.join("sys/class/block").join(disk.name.as_str());
    let stat = read_text(&folder.join("stat"), 512);
    let sectors: u64 = stat.split_whitespace().nth(WRITE_SECTORS)?.parse().ok()?;
    Some(Reading {
        disk: disk.name.clone(),
        written_bytes: sectors.saturating_mul(SECTOR),
        worn_percent: worn(&read_text(&folder.join("device/life_time"), 32)),
        reserve: reserve(&read_text(&folder.join("device/pre_eol_info"), 32)),
    })
}

/// Names this boot: the same until the next one. Empty where the kernel does not say.
pub fn boot_id(root: &Path) -> Text {
    let text = read_text(&root.join("proc/sys/kernel/random/boot_id"), 64);
    cut(text.trim())
}

/// Two numbers, of the two kinds of flash in one chip: the worse one counts, and 0 is "not defined".
fn worn(life_time: &str) -> Option<u8> {
    let kinds = life_time.split_whitespace().take(2).filter_map(hex);
    let worst = kinds
        .filter(|tenths| (1..=WORN_OUT).contains(tenths))
        .max()?;
    Some(worst * 10)
}

fn reserve(pre_eol_info: &str) -> Option<Reserve> {
    match hex(pre_eol_info.trim())? {
        1 => Some(Reserve::Normal),
        2 => Some(Reserve::Low),
        3 => Some(Reserve::Urgent),
        _ => None,
    }
}

fn hex(text: &str) -> Option<u8> {
    u8::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn disk(root: &Path, files: &[(&str, &str)]) -> Option<Reading> {
        let folder = root.join("sys/class/block/mmcblk0");
        fs::create_dir_all(folder.join("device")).unwrap();
        for (file, text) in files {
            fs::write(folder.join(file), text).unwrap();
        }
        let disk = Disk {
            name: cut("mmcblk0"),
            major: 179,
            minor: 0,
        };
        look(root, &disk)
    }

    #[test]
    fn a_disk_tells_what_was_written_and_how_worn_it_is() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(disk(root.path(), &[]), None);
        assert_eq!(disk(root.path(), &[("stat", "1 2 3 4 5 6 many")]), None);
        let stat = "    1 2 3 4 5 6 2048 8 9 10 11 12 13 14 15 16 17\n";
        let card = disk(root.path(), &[("stat", stat)]).unwrap();
        assert_eq!(card.written_bytes, 1 << 20);
        assert_eq!((card.worn_percent, card.reserve), (None, None));
        let of = |life: &str, eol: &str| {
            let files = [("device/life_time", life), ("device/pre_eol_info", eol)];
            let chip = disk(root.path(), &files).unwrap();
            (chip.worn_percent, chip.reserve)
        };
        assert_eq!(
            of("0x01 0x02\n", "0x01\n"),
            (Some(20), Some(Reserve::Normal))
        );
        assert_eq!(
            of("0x0b 0x00\n", "0x03\n"),
            (Some(110), Some(Reserve::Urgent))
        );
        assert_eq!(of("0x00 0x00\n", "0x00\n"), (None, None));
        assert_eq!(of("0xff worn\n", "2\n"), (None, None));
    }

    #[test]
    fn a_boot_has_a_name() {
        assert_eq!(boot_id(Path::new("/nowhere")).as_str(), "");
        assert_eq!(boot_id(Path::new("/")), boot_id(Path::new("/")));
    }
}

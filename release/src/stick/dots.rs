//! Repairs the `.` and `..` that fatfs 0.3 writes. It gives them long names, which the format does not
//! have for them (Microsoft's FAT specification, "Directory creation"); other systems' checkers then take
//! the folder for damaged. Here the two short entries move to the folder's start, where they belong.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of a directory entry.
const ENTRY: usize = 32;
const ATTRIBUTES: usize = 11;
const FOLDER: u8 = 0x10;
const LONG_NAME: u8 = 0x0f;
const DELETED: u8 = 0xe5;
const DOT: &[u8; 11] = b".          ";
const DOT_DOT: &[u8; 11] = b"..         ";

/// Where things lie in a FAT16 or FAT32 volume (specification, "BPB").
struct Volume<'a> {
    file: &'a File,
    cluster: usize,
    /// Offset of cluster 2.
    data: u64,
    fat32: bool,
}

/// Repairs the folders at `path`, one inside the other.
pub(super) fn repair(file: &File, path: &[&str]) -> io::Result<()> {
    let mut boot = [0; 512];
    file.read_exact_at(&mut boot, 0)?;
    let half = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
    let word = |at: usize| {
        u64::from(u32::from_le_bytes([
            boot[at],
            boot[at + 1],
            boot[at + 2],
            boot[at + 3],
        ]))
    };
    let (sector, root_entries, short_fat) = (half(11), half(17), half(22));
    let fat32 = short_fat == 0;
    let fat = if fat32 { word(36) } else { short_fat };
    let tables = (half(14) + u64::from(boot[16]) * fat) * sector;
    let root = root_entries * ENTRY as u64;
    let volume = Volume {
        file,
        cluster: usize::from(boot[13]) * sector as usize,
        data: tables + root.next_multiple_of(sector),
        fat32,
    };
    // The root and each folder on the way have few entries: all in the first cluster.
    let (mut at, mut length) = if fat32 {
        (volume.offset(word(44))?, volume.cluster)
    } else {
        (tables, root as usize)
    };
    for (depth, name) in path.iter().enumerate() {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, at)?;
        let cluster = volume.find(&bytes, name)?;
        at = volume.offset(cluster)?;
        length = volume.cluster;
        volume.repair_one(at, depth == 0)?;
    }
    Ok(())
}

impl Volume<'_> {
    fn offset(&self, cluster: u64) -> io::Result<u64> {
        let index = cluster
            .checked_sub(2)
            .ok_or_else(|| unexpected("a folder has no cluster"))?;
        Ok(self.data + index * self.cluster as u64)
    }

    /// First cluster of a folder whose name is also a good short name.
    fn find(&self, entries: &[u8], name: &str) -> io::Result<u64> {
        let short = format!("{:<11}", name.to_ascii_uppercase());
        let entry = entries
            .chunks_exact(ENTRY)
            .find(|e| &e[..11] == short.as_bytes() && e[ATTRIBUTES] & FOLDER != 0)
            .ok_or_else(|| unexpected("a folder is missing"))?;
        let half = |at: usize| u64::from(u16::from_le_bytes([entry[at], entry[at + 1]]));
        let high = if self.fat32 { half(20) } else { 0 };
        Ok(high << 16 | half(26))
    }

    /// `..` of a folder in the root names cluster 0, also where the root has a number of its own.
    fn repair_one(&self, at: u64, in_root: bool) -> io::Result<()> {
        let mut bytes = [0; 4 * ENTRY];
        self.file.read_exact_at(&mut bytes, at)?;
        let entry = |n: usize| &bytes[n * ENTRY..(n + 1) * ENTRY];
        if entry(0)[..11] == *DOT && entry(1)[..11] == *DOT_DOT {
            return Ok(());
        }
        let as_fatfs_writes = entry(0)[ATTRIBUTES] == LONG_NAME
            && entry(1)[..11] == *DOT
            && entry(2)[ATTRIBUTES] == LONG_NAME
            && entry(3)[..11] == *DOT_DOT;
        if !as_fatfs_writes {
            return Err(unexpected("a folder does not begin with `.` and `..`"));
        }
        let mut repaired = [entry(1), entry(3), entry(0), entry(2)].concat();
        if in_root {
            repaired[ENTRY + 20..ENTRY + 22].fill(0);
            repaired[ENTRY + 26..ENTRY + 28].fill(0);
        }
        repaired[2 * ENTRY] = DELETED;
        repaired[3 * ENTRY] = DELETED;
        self.file.write_all_at(&repaired, at)
    }
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the vfat image: {what}"),
    )
}

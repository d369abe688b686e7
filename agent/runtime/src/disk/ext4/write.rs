//! The bytes. What is zero is not written: the file reads as zeros.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{SystemTime, UNIX_EPOCH};

use super::geometry::{BLOCK, GROUP, Geometry, Group, INODE_BYTES, RESERVED_INODES};
use super::head::{Head, MAGIC, at};

const ROOT_INODE: u64 = 2;
const JOURNAL_INODE: u64 = 8;
const LOST_INODE: u64 = RESERVED_INODES + 1;

/// has_journal, ext_attr, dir_index.
const COMPATIBLE: u32 = 0x4 | 0x8 | 0x20;
/// filetype, extents.
const INCOMPATIBLE: u32 = 0x2 | 0x40;
/// sparse_super, large_file, dir_nlink, extra_isize.
const READ_ONLY_COMPATIBLE: u32 = 0x1 | 0x2 | 0x20 | 0x40;

/// A stretch of bytes with little-endian numbers in it.
struct Bytes(Vec<u8>);

impl Bytes {
    fn new(length: u64) -> Bytes {
        Bytes(vec![0; length as usize])
    }
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
    fn put16(&mut self, at: usize, number: u64) {
        self.put(at, &(number as u16).to_le_bytes());
    }
    fn put32(&mut self, at: usize, number: u64) {
        self.put(at, &(number as u32).to_le_bytes());
    }
    fn put32_big(&mut self, at: usize, number: u64) {
        self.put(at, &(number as u32).to_be_bytes());
    }
    /// Bits `from..to`, the lowest of a byte first.
    fn set_bits(&mut self, from: u64, to: u64) {
        for bit in from..to {
            self.0[(bit / 8) as usize] |= 1 << (bit % 8);
        }
    }
}

/// Where the first group has what every file system begins with.
struct First {
    journal: u64,
    root: u64,
    lost: u64,
    end: u64,
}

struct Writer<'a> {
    file: &'a File,
    geometry: &'a Geometry,
    first: First,
    uuid: [u8; 16],
    now: u64,
}

/// Writes an empty file system into a file that reads as zeros and is as long as the geometry says. Nothing is synced.
pub(crate) fn write(file: &File, geometry: &Geometry) -> io::Result<()> {
    let journal = geometry.group(0).data;
    let root = journal + geometry.journal;
    let writer = Writer {
        file,
        geometry,
        first: First {
            journal,
            root,
            lost: root + 1,
            end: root + 2,
        },
        uuid: random_uuid()?,
        now: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
    };
    if writer.first.end > geometry.group(0).end {
        return Err(io::Error::other(
            "the journal does not fit into the first group",
        ));
    }
    writer.bitmaps()?;
    writer.inodes()?;
    writer.folders()?;
    writer.journal()?;
    // Last: before this it is no file system.
    writer.heads()
}

fn random_uuid() -> io::Result<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16)
        .map(u128::to_be_bytes)
        .map_err(io::Error::other)
}

impl Writer<'_> {
    fn groups(&self) -> impl Iterator<Item = (u64, Group)> {
        (0..self.geometry.groups).map(|number| (number, self.geometry.group(number)))
    }

    /// The first block of a group that is free.
    fn free_from(&self, number: u64, group: &Group) -> u64 {
        if number == 0 {
            self.first.end
        } else {
            group.data
        }
    }

    fn used_inodes(number: u64) -> u64 {
        if number == 0 { LOST_INODE } else { 0 }
    }

    fn put(&self, block: u64, bytes: &Bytes) -> io::Result<()> {
        self.file.write_all_at(&bytes.0, block * BLOCK)
    }

    fn bitmaps(&self) -> io::Result<()> {
        for (number, group) in self.groups() {
            let mut blocks = Bytes::new(BLOCK);
            blocks.set_bits(0, self.free_from(number, &group) - group.first);
            // Beyond the end nothing can be taken.
            blocks.set_bits(group.end - group.first, GROUP);
            self.put(group.block_bitmap, &blocks)?;
            let mut inodes = Bytes::new(BLOCK);
            inodes.set_bits(0, Self::used_inodes(number));
            inodes.set_bits(self.geometry.inodes_a_group, GROUP);
            self.put(group.inode_bitmap, &inodes)?;
        }
        Ok(())
    }

    fn inodes(&self) -> io::Result<()> {
        let mut table = Bytes::new(BLOCK);
        let folder = |table: &mut Bytes, number, links, block| {
            self.inode(table, number, 0o40755, links, block, 1);
        };
        folder(&mut table, ROOT_INODE, 3, self.first.root);
        folder(&mut table, LOST_INODE, 2, self.first.lost);
        let length = self.geometry.journal;
        self.inode(
            &mut table,
            JOURNAL_INODE,
            0o100_600,
            1,
            self.first.journal,
            length,
        );
        self.put(self.geometry.group(0).table, &table)
    }

    /// One inode whose contents lie in one piece.
    fn inode(
        &self,
        table: &mut Bytes,
        number: u64,
        mode: u64,
        links: u64,
        block: u64,
        length: u64,
    ) {
        const EXTENTS: u64 = 0x8_0000;
        let at = ((number - 1) * INODE_BYTES) as usize;
        table.put16(at, mode);
        table.put32(at + 4, length * BLOCK);
        for time in [8, 12, 16] {
            table.put32(at + time, self.now);
        }
        table.put16(at + 26, links);
        table.put32(at + 28, length * (BLOCK / 512));
        table.put32(at + 32, EXTENTS);
        for (index, word) in extent_map(block, length).into_iter().enumerate() {
            table.put32(at + 40 + 4 * index, word.into());
        }
        // i_extra_isize
        table.put16(at + 128, 32);
    }

    fn folders(&self) -> io::Result<()> {
        let folder = |entries: &[(u64, &[u8])]| {
            let mut block = Bytes::new(BLOCK);
            let mut at = 0;
            for (index, (inode, name)) in entries.iter().enumerate() {
                // The last entry goes on to the end of the block.
                let length = match index + 1 == entries.len() {
                    true => BLOCK as usize - at,
                    false => (8 + name.len()).next_multiple_of(4),
                };
                block.put32(at, *inode);
                block.put16(at + 4, length as u64);
                const FOLDER: u8 = 2;
                block.put(at + 6, &[name.len() as u8, FOLDER]);
                block.put(at + 8, name);
                at += length;
            }
            block
        };
        let root = folder(&[
            (ROOT_INODE, b"."),
            (ROOT_INODE, b".."),
            (LOST_INODE, b"lost+found"),
        ]);
        self.put(self.first.root, &root)?;
        let lost = folder(&[(LOST_INODE, b"."), (ROOT_INODE, b"..")]);
        self.put(self.first.lost, &lost)
    }

    /// An empty journal (include/linux/jbd2.h, struct journal_superblock_s): big-endian.
    fn journal(&self) -> io::Result<()> {
        let mut head = Bytes::new(BLOCK);
        let fields = [
            (0, 0xc03b_3998),
            // A super block, version 2.
            (4, 4),
            (12, BLOCK),
            (16, self.geometry.journal),
            (20, 1),
            (24, 1),
            // One user.
            (64, 1),
        ];
        for (at, number) in fields {
            head.put32_big(at, number);
        }
        head.put(48, &self.uuid);
        self.put(self.first.journal, &head)
    }

    /// The super block and the group descriptors, copies first.
    fn heads(&self) -> io::Result<()> {
        let descriptors = self.descriptors();
        for (number, group) in self.groups().filter(|(_, group)| group.has_super) {
            if number > 0 {
                self.put(group.first + 1, &descriptors)?;
                let head = self.super_block(number);
                self.file.write_all_at(&head.0, group.first * BLOCK)?;
            }
        }
        self.put(1, &descriptors)?;
        self.file.write_all_at(&self.super_block(0).0, Head::AT)
    }

    fn descriptors(&self) -> Bytes {
        let mut table = Bytes::new(self.geometry.table_of_groups() * BLOCK);
        for (number, group) in self.groups() {
            let at = 32 * number as usize;
            table.put32(at, group.block_bitmap);
            table.put32(at + 4, group.inode_bitmap);
            table.put32(at + 8, group.table);
            table.put16(at + 12, group.end - self.free_from(number, &group));
            table.put16(
                at + 14,
                self.geometry.inodes_a_group - Self::used_inodes(number),
            );
            // Folders: the root and lost+found.
            table.put16(at + 16, if number == 0 { 2 } else { 0 });
        }
        table
    }

    fn super_block(&self, in_group: u64) -> Bytes {
        let geometry = self.geometry;
        let free: u64 = self
            .groups()
            .map(|(number, group)| group.end - self.free_from(number, &group))
            .sum();
        let inodes = geometry.inodes_a_group * geometry.groups;
        let mut head = Bytes::new(Head::BYTES as u64);
        for (at, number) in [
            (at::INODES, inodes),
            (at::BLOCKS, geometry.blocks),
            (at::FREE_BLOCKS, free),
            (at::FREE_INODES, inodes - LOST_INODE),
            // Blocks and clusters of 1024 << 2 bytes.
            (24, 2),
            (28, 2),
            (32, GROUP),
            (36, GROUP),
            (at::INODES_A_GROUP, geometry.inodes_a_group),
            // Written and checked now.
            (48, self.now),
            (64, self.now),
            // Revision 1: the features count.
            (76, 1),
            (84, LOST_INODE),
            (92, COMPATIBLE.into()),
            (96, INCOMPATIBLE.into()),
            (100, READ_ONLY_COMPATIBLE.into()),
            (224, JOURNAL_INODE),
            // user_xattr, acl.
            (256, 0xc),
            (264, self.now),
            // Hashes of names take characters as signed.
            (352, 1),
            (at::OVERHEAD, geometry.overhead() + geometry.journal),
        ] {
            head.put32(at, number);
        }
        for (at, number) in [
            // No check after so many mounts.
            (54, 0xffff),
            (at::MAGIC, MAGIC.into()),
            // Cleanly unmounted; after an error: read-only.
            (58, 1),
            (60, 2),
            (88, INODE_BYTES),
            (90, in_group),
            (348, 32),
            (350, 32),
        ] {
            head.put16(at, number);
        }
        head.put(104, &self.uuid);
        head.put(120, b"coracle");
        // Seed of the names' hash, half MD4; the journal inode's map is kept below.
        head.put(236, &self.uuid);
        head.put(252, &[1, 1]);
        let map = extent_map(self.first.journal, geometry.journal);
        for (index, word) in map.into_iter().enumerate() {
            head.put32(at::JOURNAL_INODES_BACKUP + 4 * index, word.into());
        }
        head.put32(at::JOURNAL_INODES_BACKUP + 16 * 4, geometry.journal * BLOCK);
        head
    }
}

/// The block map of an inode with one extent (Documentation/filesystems/ext4/ifork.rst).
fn extent_map(block: u64, length: u64) -> [u32; 15] {
    const MAGIC: u32 = 0xf30a;
    let mut map = [0; 15];
    map[0] = MAGIC | (1 << 16);
    // Of four that fit.
    map[1] = 4;
    map[4] = length as u32;
    map[5] = block as u32;
    map
}

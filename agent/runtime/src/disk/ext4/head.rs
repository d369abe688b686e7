//! What a file system of ours says of itself: its super block, read from the image.

use super::geometry::{BLOCK, GROUP, Geometry, OWN_BLOCKS, OWN_INODES};
use crate::disk::{DiskLimit, DiskUse};

pub(super) const MAGIC: u16 = 0xef53;

/// Where the fields are in the super block (fs/ext4/ext4.h, struct ext4_super_block).
pub(super) mod at {
    pub(in super::super) const INODES: usize = 0;
    pub(in super::super) const BLOCKS: usize = 4;
    pub(in super::super) const FREE_BLOCKS: usize = 12;
    pub(in super::super) const FREE_INODES: usize = 16;
    pub(in super::super) const INODES_A_GROUP: usize = 40;
    pub(in super::super) const MAGIC: usize = 56;
    pub(in super::super) const JOURNAL_INODES_BACKUP: usize = 268;
    pub(in super::super) const OVERHEAD: usize = 0x248;
}

/// The super block of an image.
pub(crate) struct Head {
    inodes: u64,
    free_blocks: u64,
    free_inodes: u64,
    geometry: Geometry,
}

impl Head {
    /// Where it lies in the image.
    pub(crate) const AT: u64 = 1024;
    pub(crate) const BYTES: usize = 1024;

    /// None when it is no file system of ours.
    pub(crate) fn read(bytes: &[u8; Self::BYTES]) -> Option<Head> {
        let number = |at: usize| {
            let bytes = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            u64::from(u32::from_le_bytes(bytes))
        };
        let (blocks, inodes_a_group) = (number(at::BLOCKS), number(at::INODES_A_GROUP));
        let magic = [bytes[at::MAGIC], bytes[at::MAGIC + 1]];
        // The journal's length stands behind its block map.
        let journal = number(at::JOURNAL_INODES_BACKUP + 16 * 4) / BLOCK;
        if u16::from_le_bytes(magic) != MAGIC || blocks == 0 || inodes_a_group == 0 || journal == 0
        {
            return None;
        }
        Some(Head {
            inodes: number(at::INODES),
            free_blocks: number(at::FREE_BLOCKS),
            free_inodes: number(at::FREE_INODES),
            geometry: Geometry {
                blocks,
                groups: blocks.div_ceil(GROUP),
                inodes_a_group,
                journal,
            },
        })
    }

    pub(crate) fn usage(&self) -> DiskUse {
        let own = self.geometry.overhead() + self.geometry.journal;
        let blocks = self.geometry.blocks.saturating_sub(own);
        usage(blocks, self.free_blocks, self.inodes, self.free_inodes)
    }

    /// Its length in blocks when it is to hold `bytes`; the journal stays, and so do the inodes of a group.
    pub(crate) fn blocks_for(&self, bytes: u64) -> u64 {
        let data = bytes.div_ceil(BLOCK) + OWN_BLOCKS;
        let mut new = self.geometry;
        loop {
            let blocks = data + new.journal + new.overhead();
            if blocks <= new.groups * GROUP {
                // The kernel leaves a last group out that is shorter.
                let least = (new.groups - 1) * GROUP + new.group_overhead(new.groups - 1) + 4;
                return blocks.max(least);
            }
            new.groups += 1;
        }
    }
}

/// From what statvfs(2) says, where blocks are those without the file system's own.
pub(crate) fn usage(blocks: u64, free_blocks: u64, inodes: u64, free_inodes: u64) -> DiskUse {
    let less = |from: u64, what: u64| from.saturating_sub(what);
    DiskUse {
        bytes: less(blocks, free_blocks + OWN_BLOCKS) * BLOCK,
        inodes: less(inodes, free_inodes + OWN_INODES),
        limit: Some(DiskLimit {
            bytes: less(blocks, OWN_BLOCKS) * BLOCK,
            inodes: less(inodes, OWN_INODES),
        }),
    }
}

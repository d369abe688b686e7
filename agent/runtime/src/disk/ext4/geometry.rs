//! Where everything is.

use crate::disk::DiskLimit;

/// Bytes of a block.
pub(crate) const BLOCK: u64 = 4096;
/// Blocks that one block of bitmap can count.
pub(super) const GROUP: u64 = 8 * BLOCK;
pub(super) const INODE_BYTES: u64 = 256;
const INODES_A_BLOCK: u64 = BLOCK / INODE_BYTES;
/// Group descriptors of 32 bytes.
const DESCRIPTORS_A_BLOCK: u64 = BLOCK / 32;
/// Inodes that ext4 keeps for itself; the next one is the first that files get.
pub(super) const RESERVED_INODES: u64 = 10;
/// `/`, which has a reserved inode, `lost+found`, and one or two folders that the caller makes: no part of the limit.
pub(super) const OWN_BLOCKS: u64 = 4;
pub(super) const OWN_INODES: u64 = RESERVED_INODES + 3;
/// Least length of a journal (JBD2_MIN_JOURNAL_BLOCKS).
const LEAST_JOURNAL: u64 = 1024;

/// Sizes, in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(super) blocks: u64,
    pub(super) groups: u64,
    pub(super) inodes_a_group: u64,
    pub(super) journal: u64,
}

/// One group, in blocks of the whole file system.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) first: u64,
    pub(super) end: u64,
    pub(super) has_super: bool,
    pub(super) block_bitmap: u64,
    pub(super) inode_bitmap: u64,
    pub(super) table: u64,
    /// The first block that is not for the group itself.
    pub(super) data: u64,
}

impl Geometry {
    /// What holds a limit.
    pub(crate) fn of(limit: DiskLimit) -> Geometry {
        let data = limit.bytes.div_ceil(BLOCK) + OWN_BLOCKS;
        let mut found = Geometry {
            blocks: 0,
            groups: 1,
            inodes_a_group: 0,
            journal: journal(data),
        };
        loop {
            found.inodes_a_group = (limit.inodes + OWN_INODES)
                .div_ceil(found.groups)
                .next_multiple_of(INODES_A_BLOCK)
                // As many as a bitmap counts.
                .min(GROUP);
            found.blocks = data + found.journal + found.overhead();
            if found.blocks <= found.groups * GROUP {
                break;
            }
            found.groups += 1;
        }
        // The last group must have room for its own tables; what it is longer for that, the journal gets.
        let least = (found.groups - 1) * GROUP + found.group_overhead(found.groups - 1) + 2;
        let longer = least.saturating_sub(found.blocks);
        found.blocks += longer;
        found.journal += longer;
        found
    }

    /// Length in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks * BLOCK
    }

    /// Blocks of the group descriptors.
    pub(super) fn table_of_groups(&self) -> u64 {
        self.groups.div_ceil(DESCRIPTORS_A_BLOCK)
    }

    pub(super) fn inode_table(&self) -> u64 {
        self.inodes_a_group / INODES_A_BLOCK
    }

    /// Blocks of a group that are for the group itself.
    pub(super) fn group_overhead(&self, group: u64) -> u64 {
        let copies = match has_super(group) {
            true => 1 + self.table_of_groups(),
            false => 0,
        };
        copies + 2 + self.inode_table()
    }

    /// All of them, without the journal.
    pub(super) fn overhead(&self) -> u64 {
        (0..self.groups)
            .map(|group| self.group_overhead(group))
            .sum()
    }

    pub(super) fn group(&self, number: u64) -> Group {
        let first = number * GROUP;
        let has_super = has_super(number);
        let block_bitmap = match has_super {
            true => first + 1 + self.table_of_groups(),
            false => first,
        };
        Group {
            first,
            end: (first + GROUP).min(self.blocks),
            has_super,
            block_bitmap,
            inode_bitmap: block_bitmap + 1,
            table: block_bitmap + 2,
            data: block_bitmap + 2 + self.inode_table(),
        }
    }
}

/// As mke2fs chooses it (ext2fs_default_journal_size), with a lower top: 32 MiB.
fn journal(data: u64) -> u64 {
    match data {
        ..0x8000 => LEAST_JOURNAL,
        0x8000..0x4_0000 => 4 * LEAST_JOURNAL,
        _ => 8 * LEAST_JOURNAL,
    }
}

/// Groups with a copy of the super block: 0, 1, and powers of 3, 5 and 7 (sparse_super).
fn has_super(group: u64) -> bool {
    let power_of = |base: u64| {
        let mut power = base;
        while power < group {
            power *= base;
        }
        power == group
    };
    group <= 1 || [3, 5, 7].into_iter().any(power_of)
}

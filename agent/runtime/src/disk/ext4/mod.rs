//! A new ext4, as bytes: what `mkfs.ext4` would write, without a program that a board may lack.
//!
//! Blocks of 4 KiB, a journal, extents, inodes of 256 bytes; no checksums of metadata. Sources: Linux,
//! Documentation/filesystems/ext4, and fs/ext4/ext4.h for the offsets. After an error in its own structures the kernel
//! makes it read-only (`errors=remount-ro`).
//!
//! Its size is the limit and what the file system needs for itself. Nothing is kept back for root; one fiftieth is kept back
//! by the kernel, for the maps of large files (ext4_calculate_resv_clusters).

mod geometry;
mod head;
mod write;

pub(super) use geometry::{BLOCK, Geometry};
pub(super) use head::{Head, usage};
pub(super) use write::write;

#[cfg(test)]
mod tests;

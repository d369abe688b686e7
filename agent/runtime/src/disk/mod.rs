//! A folder that cannot grow past its limit of bytes and inodes, whoever writes in it.
//!
//! Two means last, of which the kernel and the file system decide what there is:
//!
//! - **project quota** (ext4, XFS, f2fs mounted with `prjquota`): the folder stays a folder, and a writer past the limit gets
//!   EDQUOT or ENOSPC;
//! - **image**: a file of fixed size beside the folder, an ext4 in it, mounted on the folder by a loop device. A full one
//!   answers ENOSPC. Its bytes are taken from the disk when it is made, so that nothing that fills up later can make a hole
//!   in it. The file system is written by this module: a board needs no mkfs.
//!
//! A third is for those who ask for it: **memory**, a tmpfs on the folder. It is empty after a power cut, and what is in it
//! counts against the memory of the containers that write it.
//!
//! Which one holds a folder is seen from the folder itself, so that it outlives a change of kernel or mount options.
//! After a power cut an image is whole or not there, and its journal is replayed by the next mount.
//!
//! | file | what is in it |
//! |---|---|
//! | `quota` | projects, their numbers, their limits |
//! | `memory` | a tmpfs |
//! | `image` | an image's file, from its making to its mount |
//! | `ext4` | a new ext4, as bytes |
//! | `loop_device` | a file as a block device |

mod ext4;
mod image;
mod loop_device;
mod memory;
mod quota;

pub(crate) use quota::Loan;

use std::io;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

/// The least limit of bytes.
pub const LEAST_BYTES: u64 = 64 << 10;
/// The greatest limit of bytes.
pub const MOST_BYTES: u64 = 1 << 40;
/// The least limit of inodes.
pub const LEAST_INODES: u64 = 16;

/// What a folder may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskLimit {
    /// Bytes of contents, counted in whole blocks of 4 KiB.
    pub bytes: u64,
    /// Files, folders and links. An image has some more, up to a whole block of its tables.
    pub inodes: u64,
}

impl DiskLimit {
    /// One inode for 16 KiB, as `mkfs.ext4` does it, and never fewer than 256.
    pub fn of_bytes(bytes: u64) -> DiskLimit {
        DiskLimit {
            bytes,
            inodes: (bytes / (16 << 10)).max(256),
        }
    }

    /// Bytes of the disk that an image takes for this: the limit, a journal and tables.
    pub fn image_bytes(self) -> u64 {
        ext4::Geometry::of(self).bytes()
    }
}

/// What a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskUse {
    pub bytes: u64,
    pub inodes: u64,
    /// None: nothing but the disk itself ends its growth.
    pub limit: Option<DiskLimit>,
}

/// How limits are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    Quota,
    Image,
    Memory,
}

impl Means {
    /// `project quota` or `image`.
    pub fn name(self) -> &'static str {
        match self {
            Means::Quota => "project quota",
            Means::Image => "image",
            Means::Memory => "memory",
        }
    }
}

/// What became of trying the means that last, by using them.
#[derive(Debug)]
pub struct Trial {
    pub quota: Result<(), PlaceError>,
    /// None: not tried, since quotas work, or since the disk was full.
    pub image: Option<Result<(), PlaceError>>,
}

impl Trial {
    /// Tries them in a scratch place below `folder`, which is taken away again. Leftovers of a try that was cut are removed
    /// first.
    pub fn run(folder: &Path) -> Trial {
        let quota = attempt(folder, Means::Quota);
        let says_no = |why: &PlaceError| !why.is_no_space();
        let image = quota.as_ref().is_err_and(says_no);
        let image = image.then(|| attempt(folder, Means::Image));
        Trial { quota, image }
    }

    /// The disk was full: what it shows says nothing of another time.
    pub fn met_a_full_disk(&self) -> bool {
        let outcomes = [Some(&self.quota), self.image.as_ref()];
        let mut faults = outcomes
            .into_iter()
            .flatten()
            .filter_map(|o| o.as_ref().err());
        faults.any(PlaceError::is_no_space)
    }

    /// The better of those that work.
    pub fn best(&self) -> Option<Means> {
        match (&self.quota, &self.image) {
            (Ok(()), _) => Some(Means::Quota),
            (_, Some(Ok(()))) => Some(Means::Image),
            _ => None,
        }
    }
}

fn attempt(folder: &Path, means: Means) -> Result<(), PlaceError> {
    let scratch = folder.join(".limit-trial");
    let place = Place::new(scratch.join("folder"), scratch.join("image"));
    let limit = DiskLimit::of_bytes(1 << 20);
    clear_scratch(&place, &scratch)?;
    let outcome = place
        .make(means, limit)
        .and_then(|()| place.open())
        .and_then(|()| match place.usage()?.limit {
            Some(seen) if seen.bytes == limit.bytes => Ok(()),
            _ => Err(io::Error::other("the limit is not what was set")).about("limit", &scratch),
        });
    outcome.and(clear_scratch(&place, &scratch))
}

/// The kernel's numbers have 32 bits on 32-bit ARM.
fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

fn clear_scratch(place: &Place, scratch: &Path) -> Result<(), PlaceError> {
    place.remove()?;
    match std::fs::remove_dir_all(scratch) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.about("remove", scratch),
    }
}

/// A folder, and the file beside it that holds what is in it when the means is an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    folder: PathBuf,
    image: PathBuf,
}

impl Place {
    /// Both in folders that only the caller writes to.
    pub fn new(folder: impl Into<PathBuf>, image: impl Into<PathBuf>) -> Place {
        Place {
            folder: folder.into(),
            image: image.into(),
        }
    }

    /// Where the contents are, once it is open.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What holds its limit; None when nothing does, or when there is no such folder.
    ///
    /// # Errors
    /// When the folder cannot be looked at.
    pub fn means(&self) -> Result<Option<Means>, PlaceError> {
        if self.image.symlink_metadata().is_ok() {
            return Ok(Some(Means::Image));
        }
        if memory::is_on(&self.folder)? {
            return Ok(Some(Means::Memory));
        }
        Ok(quota::project(&self.folder)?.map(|_| Means::Quota))
    }

    /// Makes the folder with its limit. What a try that was cut has left is replaced; a place that is there already stays
    /// as it is.
    ///
    /// # Errors
    /// The step that failed; ENOSPC when an image does not fit on the disk. Nothing of it counts against the disk then.
    pub fn make(&self, means: Means, limit: DiskLimit) -> Result<(), PlaceError> {
        std::fs::create_dir_all(&self.folder).about("make", &self.folder)?;
        match (means, self.means()?) {
            (_, Some(_)) => Ok(()),
            (Means::Quota, None) => quota::begin(&self.folder, limit),
            (Means::Image, None) => image::make(&self.image, limit),
            (Means::Memory, None) => memory::mount(&self.folder, limit),
        }
    }

    /// Makes the contents reachable: mounts the image, unless it is mounted. Of a quota, ends what a launch that was killed has
    /// borrowed.
    ///
    /// # Errors
    /// The step that failed, such as a mount of an image that a bad disk has damaged.
    pub fn open(&self) -> Result<(), PlaceError> {
        std::fs::create_dir_all(&self.folder).about("make", &self.folder)?;
        match self.means()? {
            Some(Means::Image) => image::mount(&self.image, &self.folder),
            Some(Means::Quota) => {
                quota::take_back(&self.folder);
                Ok(())
            }
            Some(Means::Memory) | None => Ok(()),
        }
    }

    /// The reverse of [`Place::open`]; what was in memory is gone. Containers that have it mounted go on.
    ///
    /// # Errors
    /// EBUSY while somebody else uses it in the caller's mount namespace.
    pub fn close(&self) -> Result<(), PlaceError> {
        image::unmount(&self.folder, false)
    }

    /// As [`Place::close`], for what is thrown away: whoever has it open or stands in it keeps it until he has let go of it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn detach(&self) -> Result<(), PlaceError> {
        image::unmount(&self.folder, true)
    }

    /// Makes `to` a copy of what an image holds, with its limit, and closes the image for that. Takes as long as the disk does.
    ///
    /// # Errors
    /// EBUSY as for [`Place::close`]; the step that failed, ENOSPC when the copy does not fit on the disk.
    pub fn copy_image(&self, to: &Place) -> Result<(), PlaceError> {
        self.close()?;
        image::copy(&self.image, &to.image)
    }

    /// Bytes of the disk that are taken for it, or that it may take, whatever is in it.
    ///
    /// # Errors
    /// As for [`Place::usage`].
    pub fn held_bytes(&self) -> Result<u64, PlaceError> {
        match self.means()? {
            Some(Means::Image) => {
                let image = self.image.metadata().about("look at", &self.image)?;
                Ok(image.len())
            }
            Some(Means::Quota) => Ok(self.usage()?.limit.map_or(0, |limit| limit.bytes)),
            Some(Means::Memory) | None => Ok(0),
        }
    }

    /// What it holds. Exact while it is open; of a closed image, as it was when it was closed.
    ///
    /// # Errors
    /// When the kernel does not say. Of a folder without a limit only the limit is known: bytes and inodes are 0.
    pub fn usage(&self) -> Result<DiskUse, PlaceError> {
        match self.means()? {
            Some(Means::Quota) => quota::usage(&self.folder),
            Some(Means::Image) if image::is_mounted(&self.folder)? => {
                let seen = statvfs(&self.folder)
                    .map_err(io::Error::from)
                    .about("ask for the use of", &self.folder)?;
                Ok(ext4::usage(
                    wide(seen.blocks()),
                    wide(seen.blocks_free()),
                    wide(seen.files()),
                    wide(seen.files_free()),
                ))
            }
            Some(Means::Image) => image::usage(&self.image),
            Some(Means::Memory) => memory::usage(&self.folder),
            None => Ok(DiskUse {
                bytes: 0,
                inodes: 0,
                limit: None,
            }),
        }
    }

    /// Changes the limit while containers go on using it; for an image it must be open.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] when an image would have to shrink; the step that failed.
    pub fn resize(&self, limit: DiskLimit) -> Result<(), PlaceError> {
        match self.means()? {
            Some(Means::Quota) => quota::set(&self.folder, limit),
            Some(Means::Image) => image::grow(&self.image, &self.folder, limit),
            Some(Means::Memory) => memory::resize(&self.folder, limit),
            None => Err(io::Error::from(io::ErrorKind::Unsupported))
                .about("limit what was made without a limit:", &self.folder),
        }
    }

    /// Takes away what deleting the folder's tree would not: the mount and the image, or the project's limit. With an image
    /// the contents are gone, with a quota they are still there. Nothing that is missing is an error.
    ///
    /// # Errors
    /// EBUSY as for [`Place::close`].
    pub fn remove(&self) -> Result<(), PlaceError> {
        self.close()?;
        image::remove(&self.image)?;
        quota::end(&self.folder)
    }
}

/// What could not be done, and to what.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", path.display())]
pub struct PlaceError {
    doing: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl PlaceError {
    /// What kind of error it was.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// Whether the disk is full.
    pub fn is_no_space(&self) -> bool {
        matches!(
            self.source.raw_os_error(),
            Some(libc::ENOSPC | libc::EDQUOT)
        )
    }
}

/// Names the path in an I/O error.
trait About<T> {
    fn about(self, doing: &'static str, path: &Path) -> Result<T, PlaceError>;
}

impl<T, E: Into<io::Error>> About<T> for Result<T, E> {
    fn about(self, doing: &'static str, path: &Path) -> Result<T, PlaceError> {
        self.map_err(|source| PlaceError {
            doing,
            path: path.to_owned(),
            source: source.into(),
        })
    }
}

//! An image: a file of fixed size with an ext4 in it, on a loop device.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount as mount_call, umount2};

use super::ext4::{self, Geometry, Head};
use super::loop_device::LoopDevice;
use super::{About, DiskLimit, DiskUse, PlaceError};
use crate::kernel::disk as kernel;

/// Makes an image: under another name first, so that one that has its name is whole.
pub(super) fn make(image: &Path, limit: DiskLimit) -> Result<(), PlaceError> {
    let new = beside(image, ".new");
    remove_file(&new)?;
    let made = fill(&new, &Geometry::of(limit)).and_then(|()| {
        std::fs::rename(&new, image).about("rename to", image)?;
        sync_folder_of(image)
    });
    if made.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    made
}

fn fill(new: &Path, geometry: &Geometry) -> Result<(), PlaceError> {
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(new)
        .about("make", new)?;
    reserve(&file, 0, geometry.bytes()).about("reserve the bytes of", new)?;
    ext4::write(&file, geometry).about("format", new)?;
    file.sync_all().about("sync", new)
}

/// Takes the bytes from the disk now. They read as zeros.
fn reserve(file: &File, from: u64, to: u64) -> io::Result<()> {
    match kernel::allocate(file.as_fd(), from, to - from) {
        // ext3, some network file systems: by hand.
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {}
        other => return Ok(other?),
    }
    let zeros = vec![0; 1 << 20];
    let mut at = from;
    while at < to {
        let count = zeros.len().min((to - at) as usize);
        file.write_all_at(&zeros[..count], at)?;
        at += count as u64;
    }
    Ok(())
}

/// Mounts an image on a folder, unless that has been done.
pub(super) fn mount(image: &Path, on: &Path) -> Result<(), PlaceError> {
    if is_mounted(on)? {
        return Ok(());
    }
    let device = LoopDevice::of(image).about("make a loop device of", image)?;
    // Set-user-ID bits in a container count by the container's own mounts; here nobody is to run anything.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_call(Some(&device.path), on, Some("ext4"), flags, None::<&str>).about("mount", image)
}

/// Another file system begins at this folder.
pub(super) fn is_mounted(folder: &Path) -> Result<bool, PlaceError> {
    let device = |path: &Path| match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => Ok(Some(other.about("look at", path)?.dev())),
    };
    let above = folder.parent().unwrap_or(Path::new("/"));
    Ok(match (device(folder)?, device(above)?) {
        (Some(own), Some(above)) => own != above,
        _ => false,
    })
}

/// `lazily`: also while it is used, and its users keep it.
pub(super) fn unmount(folder: &Path, lazily: bool) -> Result<(), PlaceError> {
    if !is_mounted(folder)? {
        return Ok(());
    }
    let mut flags = MntFlags::UMOUNT_NOFOLLOW;
    flags.set(MntFlags::MNT_DETACH, lazily);
    umount2(folder, flags).about("unmount", folder)
}

/// As the file system's own head says it.
pub(super) fn usage(image: &Path) -> Result<DiskUse, PlaceError> {
    let head = head(image)?;
    Ok(head.usage())
}

fn head(image: &Path) -> Result<Head, PlaceError> {
    let mut bytes = [0; Head::BYTES];
    File::open(image)
        .and_then(|file| file.read_exact_at(&mut bytes, Head::AT))
        .about("read", image)?;
    Head::read(&bytes)
        .ok_or_else(|| io::Error::other("it is no file system of ours"))
        .about("read", image)
}

/// Makes a mounted image longer.
pub(super) fn grow(image: &Path, on: &Path, limit: DiskLimit) -> Result<(), PlaceError> {
    let head = head(image)?;
    let now = head.usage().limit.map_or(0, |limit| limit.bytes);
    if limit.bytes.div_ceil(ext4::BLOCK) * ext4::BLOCK == now {
        return Ok(());
    }
    if limit.bytes < now {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "it has {now} bytes, and an image cannot shrink to {}: back it up, remove it, restore it",
                limit.bytes
            ),
        ))
        .about("shrink", image);
    }
    let blocks = head.blocks_for(limit.bytes);
    let file = File::options()
        .read(true)
        .write(true)
        .open(image)
        .about("open", image)?;
    let length = file.metadata().about("look at", image)?.len();
    let wanted = blocks * ext4::BLOCK;
    if length < wanted {
        reserve(&file, length, wanted).about("reserve more bytes for", image)?;
        file.sync_all().about("sync", image)?;
    }
    let device = LoopDevice::find(image)
        .and_then(|device| device.ok_or_else(|| io::Error::other("it is not mounted")))
        .about("find the loop device of", image)?;
    kernel::refresh_loop_size(device.node.as_fd()).about("tell the loop device of", image)?;
    let folder = File::open(on).about("open", on)?;
    kernel::resize_ext4(folder.as_fd(), blocks).about("grow the file system of", image)?;
    folder.sync_all().about("sync", on)
}

/// So long the kernel may take to let go of a device whose last mount is gone.
const LET_GO: Duration = Duration::from_secs(30);
/// Bytes that are copied at a time.
const CHUNK: u64 = 1 << 20;

/// Copies one that nothing is mounted from any more, with its bytes reserved: sharing them with the file that is copied would
/// make a hole in both reservations.
pub(super) fn copy(image: &Path, to: &Path) -> Result<(), PlaceError> {
    let end = Instant::now() + LET_GO;
    while LoopDevice::find(image)
        .about("find the loop device of", image)?
        .is_some()
    {
        if Instant::now() > end {
            let text = "somebody else still has it mounted";
            return Err(io::Error::other(text)).about("copy", image);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let from = File::open(image).about("open", image)?;
    let length = from.metadata().about("look at", image)?.len();
    let new = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(to)
        .about("make", to)?;
    reserve(&new, 0, length).about("reserve the bytes of", to)?;
    copy_bytes(&from, &new, length).about("copy", image)?;
    new.sync_all().about("sync", to)
}

/// All but zeros, which are there.
fn copy_bytes(from: &File, to: &File, length: u64) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK as usize];
    let mut at = 0;
    while at < length {
        let piece = &mut chunk[..CHUNK.min(length - at) as usize];
        from.read_exact_at(piece, at)?;
        if piece.iter().any(|byte| *byte != 0) {
            to.write_all_at(piece, at)?;
        }
        at += piece.len() as u64;
    }
    Ok(())
}

pub(super) fn remove(image: &Path) -> Result<(), PlaceError> {
    remove_file(&beside(image, ".new"))?;
    if image.exists() {
        // One that was left without a mount goes as it is closed.
        LoopDevice::find(image).about("find the loop device of", image)?;
    }
    remove_file(image)
}

fn remove_file(path: &Path) -> Result<(), PlaceError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).about("remove", path),
        Ok(()) => sync_folder_of(path),
    }
}

fn sync_folder_of(path: &Path) -> Result<(), PlaceError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .about("sync", folder)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where off_t has 32 bits this is beyond it: 5 GiB would become one.
    #[test]
    fn more_than_four_gibibytes_are_asked_of_the_kernel() {
        let file = tempfile::tempfile().unwrap();
        let all = 5 << 30;
        match reserve(&file, all - 4096, all) {
            Ok(()) => assert_eq!(file.metadata().unwrap().len(), all),
            Err(error) => panic!("{error}"),
        }
    }
}

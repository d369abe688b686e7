//! All that is ever written to a stick: one small file beside its `stick.json`, under a name that nothing has there. What is
//! pulled out meanwhile has the whole file, an empty one, or none; no other file is touched.

use super::image::base;
use super::window::Window;
use super::{INDEX, bounded};
use coracle_protocol::Sha256Digest;
use coracle_protocol::stick::BoardResult;
use fatfs::{FileSystem, FsOptions};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why nothing is left on a stick.
#[derive(Debug, thiserror::Error)]
pub enum LeaveError {
    /// The device, or the folder.
    #[error("cannot write to {}: {source}{}", path.display(), hint(source))]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Its file system.
    #[error("its file system: {0}")]
    NotVfat(#[source] io::Error),
    /// Pulled out, and another one is there under the same name.
    #[error("another stick is in its place")]
    OtherStick,
    /// One board, again and again.
    #[error(
        "it holds {} results of this board; take them away",
        BoardResult::OF_ONE_BOARD
    )]
    TooMany,
    /// Full, or pulled out.
    #[error("cannot write {name}: {source}{}", hint(source))]
    Write {
        name: String,
        #[source]
        source: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::BUSY) => "; it is mounted, or used by another program",
        Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => "; it is write-protected",
        _ => "",
    }
}

/// Opens a device to write to it. `EXCL`: a block device that is mounted, or another's, is refused by the kernel, and while
/// this one is open nobody mounts it.
pub fn open(path: &Path) -> Result<File, LeaveError> {
    let failed = |source| LeaveError::Open {
        path: path.to_owned(),
        source,
    };
    let flags = OFlags::EXCL | OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags.bits() as i32)
        .open(path)
        .map_err(failed)?;
    let kind = file.metadata().map_err(failed)?.file_type();
    match kind.is_file() || kind.is_block_device() {
        true => Ok(file),
        false => Err(failed(io::Error::other("neither a device nor an image"))),
    }
}

/// Leaves a result on a vfat image or device, when the `stick.json` there is the one that was applied; under which name.
pub fn on_device(
    device: &File,
    stick: &Sha256Digest,
    (of, json): (&str, &[u8]),
) -> Result<String, LeaveError> {
    let not_vfat = LeaveError::NotVfat;
    let file = device.try_clone().map_err(not_vfat)?;
    let window = Window::of_file_system(file).map_err(not_vfat)?.writable();
    let budget = window.budget();
    let options = FsOptions::new().update_accessed_date(false);
    let files = FileSystem::new(window, options).map_err(not_vfat)?;
    let base = base(&files, &budget).map_err(not_vfat)?;
    let base = base.ok_or(LeaveError::OtherStick)?;
    let root = files.root_dir();
    budget.refill();
    let index = root.open_file(&format!("{base}{INDEX}")).and_then(bounded);
    if Sha256Digest::of(&index.map_err(not_vfat)?) != *stick {
        return Err(LeaveError::OtherStick);
    }
    for name in BoardResult::names(of) {
        let path = format!("{base}{name}");
        budget.refill();
        let failed = |source| LeaveError::Write {
            name: name.clone(),
            source,
        };
        match root.open_file(&path) {
            Ok(_) => continue,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
        }
        budget.refill();
        let written = root.create_file(&path).and_then(|mut file| {
            file.write_all(json)?;
            // Its bytes are there before its length says so.
            device.sync_data()?;
            file.flush()
        });
        if let Err(source) = written {
            budget.refill();
            let _ = root.remove(&path);
            return Err(failed(source));
        }
        drop(root);
        files.unmount().map_err(failed)?;
        device.sync_all().map_err(failed)?;
        return Ok(name);
    }
    Err(LeaveError::TooMany)
}

//! Reading and writing the files of a cgroup.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{CgroupError, REMOVE_PATIENCE};

pub(super) fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    // Not fs::write, which would make a missing file (on a tmpfs by mistake) and truncate.
    let result = std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
    result.map_err(|source| CgroupError::Write {
        path: path.into(),
        value: value.into(),
        source,
    })
}

/// None when the file is missing or says `max`.
pub(super) fn read_number(path: &Path) -> Result<Option<u64>, CgroupError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(source) => {
            return Err(CgroupError::Io {
                path: path.into(),
                source,
            });
        }
    };
    match text.trim() {
        "max" => Ok(None),
        number => number
            .parse()
            .map(Some)
            .map_err(|_| CgroupError::NotANumber {
                path: path.into(),
                text: text.clone(),
            }),
    }
}

/// One `key value` line of a flat keyed file.
pub(super) fn read_keyed(path: &Path, key: &str) -> Result<Option<u64>, CgroupError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())),
        Err(error) if is_gone(&error) => Ok(None),
        Err(source) => Err(CgroupError::Io {
            path: path.into(),
            source,
        }),
    }
}

pub(super) fn make_dir(path: &Path) -> Result<(), CgroupError> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(CgroupError::Io {
            path: path.into(),
            source: error,
        }),
        _ => Ok(()),
    }
}

pub(super) fn remove_dir(path: &Path) -> Result<(), CgroupError> {
    let started = Instant::now();
    loop {
        match std::fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                if started.elapsed() >= REMOVE_PATIENCE {
                    return Err(CgroupError::StillAlive {
                        path: path.into(),
                        waited: REMOVE_PATIENCE,
                    });
                }
                // Containers given a writable tree may have made cgroups of their own.
                remove_children(path);
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(source) => {
                return Err(CgroupError::Io {
                    path: path.into(),
                    source,
                });
            }
        }
    }
}

fn remove_children(path: &Path) {
    let Ok(entries) = std::fs::read_dir(path) else {
        return;
    };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    {
        remove_children(&entry.path());
        let _ = std::fs::remove_dir(entry.path());
    }
}

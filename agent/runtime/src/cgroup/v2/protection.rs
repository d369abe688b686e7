//! Memory that reclaim leaves a cgroup: all of `memory.min`, and `memory.low` as long as others have some to give.
//!
//! Each counts only as far as the folders above have it too (cgroup-v2.rst, `memory.min`). So our folder has what those in
//! it have together, and one that others made above it no less than that.

use std::fs::read_dir;
use std::path::Path;

use super::super::files::{read_number, write};
use super::super::{CgroupError, Limits};

const FILES: [(&str, &str); 2] = [
    ("memory.min", "memory guarantee"),
    ("memory.low", "memory reservation"),
];

pub(super) fn set_protection(folder: &Path, limits: &Limits) -> Result<(), CgroupError> {
    let values = [limits.memory_min_bytes, limits.memory_reservation_bytes];
    for ((file, limit), value) in FILES.into_iter().zip(values) {
        if let Some(value) = value {
            super::set(folder, file, limit, &value.to_string())?;
            share_above(folder, file)?;
        }
    }
    Ok(())
}

/// Whether anything is left to it. Folders above one to which nothing is are nobody's to change.
pub(in super::super) fn is_protected(folder: &Path) -> bool {
    FILES
        .into_iter()
        .any(|(file, _)| read_number(&folder.join(file)).is_ok_and(|n| n.is_some_and(|n| n > 0)))
}

/// What `folder`, which is gone, had is no longer its neighbours'.
pub(in super::super) fn withdraw(folder: &Path) -> Result<(), CgroupError> {
    FILES
        .into_iter()
        .try_for_each(|(file, _)| share_above(folder, file))
}

fn share_above(folder: &Path, file: &str) -> Result<(), CgroupError> {
    let Some(own) = folder.parent() else {
        return Ok(());
    };
    let path = own.join(file);
    // The top has no such file: the whole machine is not protected from anybody. A share without bounds is somebody else's.
    let Some(now) = read_number(&path)? else {
        return Ok(());
    };
    let sum = sum_of(own, file)?;
    if sum == now {
        return Ok(());
    }
    write(&path, &sum.to_string())?;
    for above in own.ancestors().skip(1) {
        let path = above.join(file);
        match read_number(&path)? {
            Some(now) if now < sum => write(&path, &sum.to_string())?,
            Some(_) => {}
            None => break,
        }
    }
    Ok(())
}

fn sum_of(folder: &Path, file: &str) -> Result<u64, CgroupError> {
    let entries = read_dir(folder).map_err(|source| CgroupError::Io {
        path: folder.into(),
        source,
    })?;
    let mut sum: u64 = 0;
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let one = read_number(&entry.path().join(file))?;
            sum = sum.saturating_add(one.unwrap_or(0));
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Folders as cgroups are: `above` has 5 of its own, and the top has no file.
    #[test]
    fn folders_above_have_what_those_below_have_together() {
        let top = tempfile::tempdir().unwrap();
        let own = top.path().join("above/own");
        for (folder, min) in [
            ("above", "5"),
            ("above/own", "0"),
            ("above/own/a", "0"),
            ("above/own/b", "12"),
        ] {
            let folder = top.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("memory.min"), min).unwrap();
            fs::write(folder.join("memory.low"), "0").unwrap();
        }
        let read = |folder: &Path| fs::read_to_string(folder.join("memory.min")).unwrap();
        assert!(!is_protected(&own.join("a")) && is_protected(&own.join("b")));
        assert!(!is_protected(&own.join("c")));
        let limits = Limits {
            memory_min_bytes: Some(30),
            ..Limits::default()
        };
        set_protection(&own.join("a"), &limits).unwrap();
        let above = top.path().join("above");
        assert_eq!(
            (read(&own.join("a")), read(&own), read(&above)),
            ("30".into(), "42".into(), "42".into())
        );

        fs::remove_dir_all(own.join("a")).unwrap();
        withdraw(&own.join("a")).unwrap();
        assert_eq!(
            (read(&own), read(&above)),
            ("12".into(), "42".into()),
            "what others made is not lowered"
        );
        assert!(!top.path().join("memory.min").exists());
    }
}

//! Layers that no set needs any more, and other trees that are to go.
//!
//! A tree is renamed to `staging/trash-…` first, which is instant and survives a cut, and deleted by a
//! child: unlinking some ten thousand files on flash would hold the supervisor's one thread up.

use crate::disk::{self, About, DiskError};
use crate::ended;
use coracle_board_support::config::Config;
use coracle_digest::Sha256Digest;
use coracle_runtime::{Child, Failure, reap, spawn_plain};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) const TRASH: &str = "trash-";

/// Renames a tree, or a file, that lies in a folder beside `staging/` or in it.
pub fn throw_away(path: &Path) -> Result<(), DiskError> {
    // Unique within this run; what an earlier run left has been swept or bears another name.
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let staging = staging_of(path);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let to = staging.join(format!("{TRASH}{number}"));
        if to.symlink_metadata().is_err() {
            return std::fs::rename(path, &to).about("throw away", path);
        }
    }
}

/// `<state>/layers/x` and `<state>/staging/x` → `<state>/staging`; `<state>/containers/<app>/upper` too.
fn staging_of(path: &Path) -> PathBuf {
    path.ancestors()
        .skip(1)
        .map(|folder| folder.join("staging"))
        .chain(
            path.parent()
                .filter(|folder| folder.ends_with("staging"))
                .map(Into::into),
        )
        .find(|folder| folder.is_dir())
        .unwrap_or_else(|| path.parent().unwrap_or(Path::new("/")).to_owned())
}

/// Throws away every layer that is not in `needed`; their number.
pub fn collect(config: &Config, needed: &BTreeSet<Sha256Digest>) -> Result<usize, DiskError> {
    let layers = config.layers_dir();
    let unneeded: Vec<Sha256Digest> = crate::stage::on_board(&layers)
        .difference(needed)
        .copied()
        .collect();
    for diff_id in &unneeded {
        let place = crate::stage::layer_dir(config, *diff_id);
        throw_away(&place)?;
        disk::remove(&place.with_extension("json"))?;
        disk::remove(&crate::check::record_of(&place))?;
    }
    remove_left_over(&layers)?;
    Ok(unneeded.len())
}

/// What is kept beside a layer goes after it: a cut in between leaves it alone.
fn remove_left_over(layers: &Path) -> Result<(), DiskError> {
    for name in names(layers) {
        let beside = layers.join(name);
        let is_kept = |extension: &OsStr| extension == "json" || extension == "record";
        if beside.extension().is_some_and(is_kept) && !beside.with_extension("").is_dir() {
            disk::remove(&beside)?;
        }
    }
    Ok(())
}

/// At start: what was being unpacked when the power went is of no use.
pub fn clear_staging(config: &Config) -> Result<(), DiskError> {
    let staging = config.staging_dir();
    for name in names(&staging) {
        if !name.to_string_lossy().starts_with(TRASH) {
            throw_away(&staging.join(name))?;
        }
    }
    Ok(())
}

/// Deletes the trash, and waits for that, but not longer than so.
pub fn sweep_now(config: &Config, most: Duration) {
    let Ok(Some(child)) = sweep(config) else {
        return;
    };
    if ended::within(&child.pidfd, most) == Ok(true) {
        let _ = reap::wait(child.pid);
    }
}

/// Deletes the trash in a child; `None` when there is none.
pub fn sweep(config: &Config) -> Result<Option<Child>, Failure> {
    let staging = config.staging_dir();
    let trash: Vec<PathBuf> = names(&staging)
        .into_iter()
        .filter(|name| name.to_string_lossy().starts_with(TRASH))
        .map(|name| staging.join(name))
        .collect();
    if trash.is_empty() {
        return Ok(None);
    }
    spawn_plain(Vec::new(), move |_| {
        let mut code = 0;
        for path in &trash {
            if crate::erase::erase(path).is_err() {
                code = 1;
            }
        }
        code
    })
    .map(Some)
}

fn names(folder: &Path) -> Vec<OsString> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_board_support::config::WrittenConfig;

    #[test]
    fn only_unneeded_layers_go_and_half_unpacked_ones() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::from_written(WrittenConfig::default(), folder.path());
        config.state_dir = folder.path().to_owned();
        let (keep, drop) = (Sha256Digest::of(b"keep"), Sha256Digest::of(b"drop"));
        std::fs::create_dir_all(config.staging_dir().join("half/a")).unwrap();
        for layer in [keep, drop] {
            let place = crate::stage::layer_dir(&config, layer);
            std::fs::create_dir_all(place.join("etc")).unwrap();
            std::fs::write(place.with_extension("json"), b"{}").unwrap();
            std::fs::write(place.with_extension("record"), b"").unwrap();
        }
        let cut = crate::stage::layer_dir(&config, Sha256Digest::of(b"cut"));
        std::fs::write(cut.with_extension("record"), b"").unwrap();
        assert_eq!(collect(&config, &BTreeSet::from([keep])).unwrap(), 1);
        clear_staging(&config).unwrap();
        assert_eq!(
            crate::stage::on_board(&config.layers_dir()),
            BTreeSet::from([keep])
        );
        assert_eq!(names(&config.layers_dir()).len(), 3);
        let trash = names(&config.staging_dir());
        assert_eq!(trash.len(), 2, "{trash:?}");
        assert!(
            trash
                .iter()
                .all(|name| name.to_string_lossy().starts_with(TRASH))
        );
    }
}

//! A layer that was made: it gets its name, or takes the place of a broken one.

use super::{StageError, layer_dir};
use crate::check::record_of;
use crate::disk::{self, About, DiskError};
use coracle_board_support::config::Config;
use coracle_digest::Sha256Digest;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::path::{Path, PathBuf};

/// A tree that is the layer that was signed, and has no name yet.
#[derive(Debug)]
pub struct Staged {
    pub(super) diff_id: Sha256Digest,
    pub(super) folder: PathBuf,
    /// What is written down of it.
    pub(super) facts: Vec<u8>,
}

impl Staged {
    /// The layer's diff_id.
    pub fn diff_id(&self) -> Sha256Digest {
        self.diff_id
    }

    /// Gives the tree its name.
    pub fn keep(self, config: &Config) -> Result<(), StageError> {
        let place = layer_dir(config, self.diff_id);
        let kept = self
            .put_beside(&place)
            .and_then(|()| disk::rename(&self.folder, &place));
        if kept.is_err() {
            clear_all(&self.folder);
        }
        Ok(kept?)
    }

    /// Takes the place of the tree that has the name now, in one step; what is there may not be in use by anybody.
    pub fn replace(self, config: &Config) -> Result<(), StageError> {
        let place = layer_dir(config, self.diff_id);
        if place.symlink_metadata().is_err() {
            return self.keep(config);
        }
        // The same stream makes the same record, so that these fit either of the two.
        let replaced = self.put_beside(&place).and_then(|()| {
            renameat_with(CWD, &self.folder, CWD, &place, RenameFlags::EXCHANGE)
                .about("exchange with a new one", &place)?;
            disk::sync_parent(&place)?;
            disk::sync_parent(&self.folder)
        });
        // The old one, or the new one that got no place.
        clear_all(&self.folder);
        Ok(replaced?)
    }

    fn put_beside(&self, place: &Path) -> Result<(), DiskError> {
        let record = record_of(&self.folder);
        match record.exists() {
            true => disk::rename(&record, &record_of(place))?,
            false => disk::remove(&record_of(place))?,
        }
        disk::write_whole(&place.with_extension("json"), &self.facts, 0o600)
    }

    /// It is not wanted any more.
    pub fn drop_it(self) {
        clear_all(&self.folder);
    }
}

/// Takes a tree that was not kept away, and its record.
pub(super) fn clear_all(folder: &Path) {
    let cleared = clear(folder).and_then(|()| disk::remove(&record_of(folder)));
    if let Err(error) = cleared {
        tracing::warn!(%error, "a tree that was not kept stays in staging");
    }
}

/// Takes away what an earlier attempt left, without waiting for it to be deleted: see [`crate::gc`].
pub(super) fn clear(folder: &Path) -> Result<(), DiskError> {
    if folder.symlink_metadata().is_ok() {
        crate::gc::throw_away(folder)?;
    }
    Ok(())
}

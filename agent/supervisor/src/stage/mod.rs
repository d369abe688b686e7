//! One layer, from a blob in the daemon's store to a tree in `layers/`.
//!
//! The daemon owns the store and may change a blob while it is read: nothing is believed but the diff_id
//! that a jailed child computes over the very bytes that it unpacks, compared here with the signed
//! release before the tree gets its name. The child has the blob, an empty folder, a base tree to read
//! and a place for its report; no other file, no network.

mod child;
mod store;

use crate::check::record_of;
use crate::disk::{self, About, DiskError};
use child::Report;
use coracle_board_support::config::Config;
use coracle_digest::Sha256Digest;
use coracle_images::Limits;
use coracle_images::layout::LayerType;
use coracle_images::unpack;
use coracle_protocol::release::Layer;
use coracle_runtime::{Child, Exit};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::Serialize;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
pub(crate) use store::open_folder;
pub use store::{blobs, blobs_dir, open_blob, read_config};

/// Bytes of the child's report: it may name up to 4096 opaque folders.
const REPORT_BYTES: u64 = 32 << 20;

/// Why a layer was not staged. The codes are those of [`coracle_protocol::local::Request::Stage`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct StageError {
    /// `diff-id-mismatch`, `bad-delta`, `bad-layer`, `no-blob` or `no-space`; `jail` when the child
    /// could not be made.
    pub code: String,
    /// In words.
    pub reason: String,
}

fn fault(code: &str, reason: impl ToString) -> StageError {
    StageError {
        code: code.to_owned(),
        reason: reason.to_string(),
    }
}

impl From<DiskError> for StageError {
    fn from(error: DiskError) -> Self {
        let code = if error.is_no_space() {
            "no-space"
        } else {
            "bad-layer"
        };
        fault(code, error)
    }
}

/// A layer that is being unpacked.
#[derive(Debug)]
pub struct Staging {
    layer: Layer,
    from_delta: bool,
    folder: PathBuf,
    report: File,
    child: Child,
}

/// The layers that are on the board.
pub fn on_board(layers_dir: &Path) -> BTreeSet<Sha256Digest> {
    let entries = std::fs::read_dir(layers_dir).into_iter().flatten();
    let digest = |name: &OsStr| Sha256Digest::from_hex(name.to_str()?).ok();
    let mut found = BTreeSet::new();
    found.extend(entries.filter_map(|entry| digest(&entry.ok()?.file_name())));
    found
}

/// Where a layer's tree is.
pub fn layer_dir(config: &Config, diff_id: Sha256Digest) -> PathBuf {
    config.layers_dir().join(diff_id.hex())
}

/// Starts unpacking. `delta`: the blob of a delta and the diff_id of its base.
pub fn start(
    config: &Config,
    empty_root: &Path,
    layer: &Layer,
    delta: Option<(Sha256Digest, Sha256Digest)>,
) -> Result<Staging, StageError> {
    let blob_digest = delta.map_or(layer.digest, |(blob, _)| blob);
    let blob = open_blob(&config.store_dir(), blob_digest)
        .map_err(|errno| fault("no-blob", format!("blob {blob_digest}: {errno}")))?;
    if delta.is_none() {
        let size = blob.metadata().about("look at", &config.store_dir())?.len();
        if size != layer.size {
            let reason = format!(
                "blob {blob_digest} has {size} bytes; the release says {}",
                layer.size
            );
            return Err(fault("bad-layer", reason));
        }
    }
    let layer_type = LayerType::from_media_type(&layer.media_type)
        .ok_or_else(|| fault("bad-layer", format!("type `{}`", layer.media_type)))?;
    let base = match delta {
        Some((_, base)) => Some(
            open_folder(&layer_dir(config, base))
                .map_err(|errno| fault("bad-delta", format!("base layer {base}: {errno}")))?,
        ),
        None => None,
    };
    let folder = config.staging_dir().join(layer.diff_id.hex());
    clear(&folder)?;
    disk::make_folder(&folder, 0o755)?;
    let dest = open_folder(&folder)
        .map_err(io::Error::from)
        .about("open", &folder)?;
    let record = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(record_of(&folder))
        .about("make", &folder)?;
    let report = rustix::fs::memfd_create("layer", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|errno| fault("jail", errno))?;
    let report_of_child = report.try_clone().map_err(|error| fault("jail", error))?;

    let from_delta = delta.is_some();
    let child = child::Unpacking {
        blob,
        layer_type,
        base,
        dest,
        record,
        report: report_of_child,
        limits: Limits {
            unpacked_bytes: layer.unpacked_size,
            ..Limits::default()
        },
    }
    .spawn(empty_root)?;
    Ok(Staging {
        layer: layer.clone(),
        from_delta,
        folder,
        report: File::from(report),
        child,
    })
}

impl Staging {
    /// The child's process id.
    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// The layer's diff_id.
    pub fn diff_id(&self) -> Sha256Digest {
        self.layer.diff_id
    }

    /// The child has ended: checks what it says. The tree has no name yet.
    pub fn finish(mut self, exit: Exit) -> Result<Staged, StageError> {
        let outcome = self.judge(exit).and_then(|report| self.hold(&report));
        if outcome.is_err() {
            clear_all(&self.folder);
        }
        outcome.map(|facts| Staged {
            diff_id: self.layer.diff_id,
            folder: self.folder,
            facts,
        })
    }

    fn judge(&mut self, exit: Exit) -> Result<Report, StageError> {
        let mut json = Vec::new();
        self.report
            .rewind()
            .and_then(|()| (&mut self.report).take(REPORT_BYTES).read_to_end(&mut json))
            .map_err(|error| fault("jail", error))?;
        match serde_json::from_slice(&json) {
            Ok(report) if exit.success() => Ok(report),
            _ => {
                let code = if self.from_delta {
                    "bad-delta"
                } else {
                    "bad-layer"
                };
                Err(fault(code, format!("the unpacking child died: {exit:?}")))
            }
        }
    }

    /// The tree is the one that was signed, whole; what is written down of it.
    fn hold(&self, report: &Report) -> Result<Vec<u8>, StageError> {
        let (diff_id, tar_bytes, entries, recorded, opaque) = match report {
            Report::Failed { code, reason } => return Err(fault(code, reason)),
            Report::Applied {
                diff_id,
                tar_bytes,
                entries,
                recorded,
                opaque,
            } => (*diff_id, tar_bytes, entries, *recorded, opaque),
        };
        if diff_id != self.layer.diff_id {
            let reason = format!(
                "the bytes are {diff_id}; the release says {}",
                self.layer.diff_id
            );
            return Err(fault("diff-id-mismatch", reason));
        }
        if !opaque.is_empty() {
            let tree = open_folder(&self.folder).map_err(|errno| fault("bad-layer", errno))?;
            unpack::mark_opaque(tree.as_fd(), opaque, &Limits::default())
                .map_err(|error| fault("bad-layer", error))?;
            rustix::fs::syncfs(&tree).map_err(|errno| fault("bad-layer", errno))?;
        }
        if !recorded {
            tracing::info!(%diff_id, "cannot be checked later on: its tar is too large or too odd to be written down");
            disk::remove(&record_of(&self.folder))?;
        }
        #[derive(Serialize)]
        struct Facts<'a> {
            diff_id: Sha256Digest,
            tar_bytes: &'a u64,
            entries: &'a u64,
        }
        let facts = Facts {
            diff_id,
            tar_bytes,
            entries,
        };
        Ok(serde_json::to_vec(&facts).unwrap_or_default())
    }
}

/// A tree that is the layer that was signed, and has no name yet.
#[derive(Debug)]
pub struct Staged {
    diff_id: Sha256Digest,
    folder: PathBuf,
    facts: Vec<u8>,
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
fn clear_all(folder: &Path) {
    let cleared = clear(folder).and_then(|()| disk::remove(&record_of(folder)));
    if let Err(error) = cleared {
        tracing::warn!(%error, "a tree that was not kept stays in staging");
    }
}

/// Takes away what an earlier attempt left, without waiting for it to be deleted: see [`crate::gc`].
fn clear(folder: &Path) -> Result<(), DiskError> {
    if folder.symlink_metadata().is_ok() {
        crate::gc::throw_away(folder)?;
    }
    Ok(())
}

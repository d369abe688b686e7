//! One layer, from a blob in the daemon's store to a tree in `layers/`.
//!
//! The daemon owns the store and may change a blob while it is read: nothing is believed but the diff_id
//! that a jailed child computes over the very bytes that it unpacks, compared here with the signed
//! release before the tree gets its name. The child has the blob, an empty folder, a base tree to read
//! and a place for its report; no other file, no network. What did not change since the old layer is
//! linked to it by a second child ([`link`]).

mod child;
mod link;
mod staged;
mod store;

use crate::check::record_of;
use crate::disk::{self, About, DiskError};
use crate::offer::Refused;
use child::Report;
use coracle_board_support::config::Config;
use coracle_digest::Sha256Digest;
use coracle_images::Limits;
use coracle_images::layout::LayerType;
use coracle_images::unpack;
use coracle_protocol::release::Layer;
use coracle_runtime::{Child, Exit};
use serde::Serialize;
use staged::{clear, clear_all};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub use staged::Staged;
pub(crate) use store::open_folder;
pub use store::{blobs, blobs_dir, open_blob, read_config};

/// Bytes of the child's report: it may name opaque folders, with 256 KiB of paths, each of whose bytes is a number there.
const REPORT_BYTES: u64 = 2 << 20;

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

impl From<Refused> for StageError {
    fn from(why: Refused) -> Self {
        fault(why.code, why.reason)
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
    /// The layer that unchanged files are taken from.
    old: Option<OwnedFd>,
    report: File,
    child: Child,
    /// What the first child said, while the second one links.
    applied: Option<Report>,
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

/// What the release says of a layer, within what the board bears.
fn limits_of(layer: &Layer) -> Limits {
    let most = Limits::default();
    Limits {
        unpacked_bytes: layer.unpacked_size,
        members: layer.entries.unwrap_or(most.members),
        ..most
    }
}

/// Starts unpacking. `delta`: the blob of a delta and the diff_id of its base; `old`: a layer that may have files of it.
pub fn start(
    config: &Config,
    empty_root: &Path,
    layer: &Layer,
    delta: Option<(Sha256Digest, Sha256Digest)>,
    old: Option<Sha256Digest>,
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
    // Whatever keeps it from being read: everything is written then.
    let old = delta.map(|(_, base)| base).or(old);
    let old = old.filter(|_| config.share_files);
    let old = old.and_then(|old| open_folder(&layer_dir(config, old)).ok());
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
        old: old.as_ref().and_then(|old| old.try_clone().ok()),
        dest,
        record,
        report: report_of_child,
        limits: limits_of(layer),
    }
    .spawn(empty_root)?;
    Ok(Staging {
        layer: layer.clone(),
        from_delta,
        folder,
        old,
        report: File::from(report),
        child,
        applied: None,
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

    /// A child has ended: checks what it says, or has the second child link what waits for that. The tree has no name yet.
    pub fn finish(mut self, exit: Exit, empty_root: &Path) -> Result<Ended, StageError> {
        let outcome = self.judge(exit).and_then(|said| match said {
            Report::Failed { code, reason } => Err(fault(&code, reason)),
            Report::Applied { diff_id, .. } if diff_id != self.layer.diff_id => {
                let wanted = self.layer.diff_id;
                let reason = format!("the bytes are {diff_id}; the release says {wanted}");
                Err(fault("diff-id-mismatch", reason))
            }
            Report::Applied { links: 1.., .. } => self.link(said, empty_root).map(|()| None),
            said => self.hold(&said).map(Some),
        });
        if outcome.is_err() {
            clear_all(&self.folder);
        }
        Ok(match outcome? {
            None => Ended::Links(self),
            Some(facts) => Ended::Whole(Staged {
                diff_id: self.layer.diff_id,
                folder: self.folder,
                facts,
            }),
        })
    }

    /// Has the second child begin.
    fn link(&mut self, applied: Report, empty_root: &Path) -> Result<(), StageError> {
        let failed = |error: io::Error| fault("jail", error);
        let old = self.old.take();
        self.report
            .set_len(0)
            .and_then(|()| self.report.rewind())
            .map_err(failed)?;
        let report = self.report.try_clone().map_err(failed)?;
        self.child = link::Linking {
            old: old.ok_or_else(|| fault("jail", "it shares files with no layer"))?,
            tree: open_folder(&self.folder).map_err(|errno| fault("jail", errno))?,
            report: report.into(),
            unpacked_size: self.layer.unpacked_size,
            from_delta: self.from_delta,
        }
        .spawn(empty_root)?;
        self.applied = Some(applied);
        Ok(())
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
    fn hold(&self, said: &Report) -> Result<Vec<u8>, StageError> {
        let (links, copies, applied) = match (said, &self.applied) {
            (Report::Linked { links, copies }, Some(applied)) => (*links, *copies, applied),
            (said, _) => (0, 0, said),
        };
        let Report::Applied {
            diff_id,
            tar_bytes,
            entries,
            recorded,
            opaque,
            spared,
            ..
        } = applied
        else {
            return Err(fault("jail", "it reports what it was not asked for"));
        };
        let diff_id = *diff_id;
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
        tracing::info!(%diff_id, tar_bytes, spared, links, copies, "a layer is unpacked");
        Ok(serde_json::to_vec(&facts).unwrap_or_default())
    }
}

/// What the end of a child leaves.
#[derive(Debug)]
pub enum Ended {
    /// The second child links.
    Links(Staging),
    /// The layer.
    Whole(Staged),
}

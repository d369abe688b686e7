//! A USB stick for boards without a network: what goes on it (this file), a folder with it
//! ([`folder`]), a vfat image of that folder ([`vfat`]).

mod dots;
pub mod folder;
pub mod vfat;

use crate::files::FileError;
use crate::image::{self, ImageError, limits};
use crate::progress;
use crate::push::repository;
use crate::release::{ReleaseEnvelope, ReleaseError, Signer};
use coracle_images::decompress::tar_stream;
use coracle_images::delta::{self, MEDIA_TYPE, MakeError};
use coracle_images::layout::{LayerType, Layout, Platform};
use coracle_images::store::StoreError;
use coracle_protocol::Sha256Digest;
use coracle_protocol::deploy::{AssignmentRole, DEPLOY_TYPE, Delta, Deploy, Target};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::names::AppName;
use coracle_protocol::release::{Blob, Layer};
use coracle_protocol::secret::Sealed;
use coracle_protocol::site::{self, Settings};
use coracle_protocol::verify::{Refusal, VerifiedDeploy};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;

/// Why a stick can't be made.
#[derive(Debug, thiserror::Error)]
pub enum StickError {
    /// The images.
    #[error("{0}")]
    Image(#[from] ImageError),
    /// A blob.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The documents.
    #[error("{0}")]
    Document(#[from] ReleaseError),
    /// Boards would refuse the assignment.
    #[error("boards would refuse the assignment")]
    Refused(#[source] Refusal),
    /// A setting that the release does not allow, or a secret that it needs and that nobody gave.
    #[error(
        "{boards}: {fault}; --site sets what the release names in site_settable, --secret APP/NAME=FILE brings a secret"
    )]
    Site {
        /// For whom.
        boards: String,
        /// What does not fit.
        fault: String,
    },
    /// For nobody.
    #[error("the stick is for no board; name boards by --board, or a class of them by --hardware")]
    NoBoard,
    /// More than a board reads.
    #[error("boards would refuse the stick: {0}; make several sticks, of fewer boards each")]
    Stick(#[from] coracle_protocol::stick::StickError),
    /// A file.
    #[error("{0}")]
    File(#[from] FileError),
    /// The folder or image.
    #[error("writing `{path}`")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A delta.
    #[error("making a delta to layer {to}")]
    Delta {
        /// diff_id of the target.
        to: Sha256Digest,
        /// Why.
        #[source]
        source: MakeError,
    },
    /// What the release says and what lies in the layout do not agree.
    #[error("blob {digest} of `{image}` has {found} bytes in the layout, {wanted} in the release")]
    Size {
        /// Tag.
        image: String,
        /// The blob.
        digest: Sha256Digest,
        /// In the release.
        wanted: u64,
        /// In the layout.
        found: u64,
    },
}

/// A layer that boards may have already.
struct Base {
    layout: usize,
    /// Repository, and place among the layers of its image.
    place: (String, usize),
    digest: Sha256Digest,
    layer_type: LayerType,
    diff_id: Sha256Digest,
}

/// Makes `delta`s from the layers of `bases` to those of the release, into `output`'s blobs: one for
/// each older layer at the same place of an image of the same repository, kept when it is smaller
/// than the full layer.
pub fn deltas(
    file: &ReleaseEnvelope,
    images: &Layout,
    bases: &[Layout],
    platform: &Platform,
    output: &Layout,
) -> Result<Vec<Delta>, StickError> {
    let known = base_layers(bases, platform)?;
    let ours: BTreeSet<Sha256Digest> = file.release.layers().map(|layer| layer.diff_id).collect();
    let mut made: BTreeMap<(Sha256Digest, Sha256Digest), Delta> = BTreeMap::new();
    for image in file.release.images() {
        let name = repository(&image.name).0;
        for (index, target) in image.layers.iter().enumerate() {
            for base in &known {
                let pair = (base.diff_id, target.diff_id);
                if base.place != (name.to_owned(), index)
                    || ours.contains(&base.diff_id)
                    || made.contains_key(&pair)
                    || made.len() == LIMITS.deltas
                {
                    continue;
                }
                let from = (&bases[base.layout], base);
                if let Some(delta) = make(from, images, target, &image.name, output)? {
                    made.insert(pair, delta);
                }
            }
        }
    }
    Ok(made.into_values().collect())
}

fn base_layers(bases: &[Layout], platform: &Platform) -> Result<Vec<Base>, StickError> {
    let mut known = Vec::new();
    for (number, layout) in bases.iter().enumerate() {
        let failed = image::at(layout.dir());
        for entry in layout.index().map_err(&failed)?.manifests {
            let Some(tag) = entry
                .annotations
                .get(coracle_images::layout::REF_NAME)
                .cloned()
            else {
                continue;
            };
            let image = layout.image(Some(&tag), platform).map_err(&failed)?;
            for (index, (descriptor, layer_type, diff_id)) in
                image::layers(&tag, &image)?.enumerate()
            {
                known.push(Base {
                    layout: number,
                    place: (repository(&tag).0.to_owned(), index),
                    digest: descriptor.digest,
                    layer_type,
                    diff_id,
                });
            }
        }
    }
    Ok(known)
}

fn make(
    (layout, base): (&Layout, &Base),
    images: &Layout,
    target: &Layer,
    image: &str,
    output: &Layout,
) -> Result<Option<Delta>, StickError> {
    let target_type =
        LayerType::from_media_type(&target.media_type).ok_or_else(|| ImageError::MediaType {
            image: image.to_owned(),
            digest: target.digest,
            media_type: target.media_type.clone(),
        })?;
    let limits = limits();
    let bar = progress::work(&format!("making a delta for {image}"));
    let from = tar_stream(
        layout.store().open_blob(&base.digest)?,
        base.layer_type,
        &limits,
    );
    let to = tar_stream(
        images.store().open_blob(&target.digest)?,
        target_type,
        &limits,
    );
    let mut blob = output.store().incoming()?;
    let made = delta::make(from, to, &mut blob).map_err(|source| StickError::Delta {
        to: target.diff_id,
        source,
    })?;
    bar.finish_and_clear();
    // The layouts are files: what they hold may not be what their names say.
    let honest = made.header.base == base.diff_id && made.header.target == target.diff_id;
    if !honest {
        return Err(ImageError::Damaged {
            image: image.to_owned(),
            digest: target.digest,
            what: "diff_id",
        }
        .into());
    }
    if made.size >= target.size {
        return Ok(None);
    }
    let (digest, size) = output.store().accept(blob)?;
    Ok(Some(Delta {
        from: base.diff_id,
        to: target.diff_id,
        media_type: MEDIA_TYPE.to_owned(),
        digest,
        size,
    }))
}

/// For whom, and how long.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// For whom.
    pub target: Target,
    /// Goes up with each stick for a board.
    pub seq: u64,
    /// Unix seconds.
    pub issued_at: u64,
    /// Unix seconds.
    pub expires: u64,
    /// What is set there, within what the release allows.
    pub site: BTreeMap<AppName, Settings>,
    /// Sealed to the one board that it is for.
    pub secrets: Vec<Sealed>,
    /// Boards leave on the stick what became of it.
    pub result: bool,
}

/// Signs the assignment of a stick, and opens it as a board would.
pub fn sign(
    file: &ReleaseEnvelope,
    assignment: Assignment,
    deltas: Vec<Delta>,
    signer: &Signer,
) -> Result<Envelope, StickError> {
    let deploy = Deploy {
        spec_version: 1,
        critical: Vec::new(),
        role: AssignmentRole::OfflineDeploy,
        target: assignment.target,
        release: Blob {
            digest: file.digest,
            size: file.size,
        },
        epoch: signer.epoch(),
        seq: assignment.seq,
        issued_at: assignment.issued_at,
        expires: assignment.expires,
        deltas,
        site: assignment.site,
        secrets: assignment.secrets,
        result: assignment.result,
    };
    site::applied(&file.release, &deploy).map_err(|fault| StickError::Site {
        boards: named(&deploy.target),
        fault,
    })?;
    let payload = serde_json::to_vec(&deploy).map_err(|e| ReleaseError::Malformed {
        path: "the assignment".into(),
        fault: e.to_string(),
    })?;
    deploy.check().map_err(|fault| ReleaseError::Malformed {
        path: "the assignment".into(),
        fault,
    })?;
    let envelope = signer.sign(DEPLOY_TYPE, &payload)?;
    if let Some(root) = signer.root() {
        VerifiedDeploy::open(&envelope, root).map_err(StickError::Refused)?;
    }
    Ok(envelope)
}

/// For whom, in words.
fn named(target: &Target) -> String {
    let names: Vec<&str> = match target {
        Target::Boards(boards) => boards.iter().map(|board| board.as_str()).collect(),
        Target::Hardware(classes) => classes.iter().map(|class| class.as_str()).collect(),
    };
    names.join(", ")
}

/// What a stick holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Deltas among them.
    pub deltas: u64,
    /// The deltas' bytes.
    pub delta_bytes: u64,
}

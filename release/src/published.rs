//! Deltas beside an image in a registry: made from another image's layers, sent as artifacts that refer to it, found and brought
//! again. Boards look nothing up, as the signed assignment names what they may take; this is for registries that others use.

use crate::image::{ImageError, layers, limits};
use crate::progress;
use crate::registry::{Attached, Registry, RegistryError};
use coracle_images::decompress::tar_stream;
use coracle_images::delta::artifact::{ARTIFACT_TYPE, Artifact, NO_CONFIG};
use coracle_images::delta::{self, DeltaHeader, MEDIA_TYPE, MakeError, READABLE};
use coracle_images::layout::{
    Descriptor, EMPTY, Image, LayerType, Layout, LayoutError, MANIFEST, Manifest, Platform,
};
use coracle_images::store::StoreError;
use coracle_protocol::Sha256Digest;
use std::collections::BTreeSet;

/// Why deltas were not published or found.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The registry.
    #[error("{0}")]
    Registry(#[from] RegistryError),
    /// The images.
    #[error("{0}")]
    Image(#[from] ImageError),
    /// A document of the layout.
    #[error("{0}")]
    Layout(#[from] LayoutError),
    /// A blob of the layout.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The registry has another image there, or none.
    #[error(
        "{image} is not the image {digest} that `{tag}` names in the layout; send that first: coracle-release image push {image} \
         --images DIR --tag {tag}"
    )]
    OtherImage {
        /// In the registry.
        image: String,
        /// In the layout.
        tag: String,
        /// In the layout.
        digest: Sha256Digest,
    },
    /// Making one.
    #[error("making a delta to layer {to}")]
    Make {
        /// diff_id of the target.
        to: Sha256Digest,
        /// Why.
        #[source]
        source: MakeError,
    },
    /// The delta that came is not the one that its artifact describes.
    #[error("the delta {delta} of the artifact {artifact} {fault}; it was not kept")]
    NotAsSaid {
        /// Its blob.
        delta: Sha256Digest,
        /// The artifact.
        artifact: Sha256Digest,
        /// What differs.
        fault: String,
    },
}

/// A delta that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Manifest of the artifact.
    pub artifact: Descriptor,
    /// What it says.
    pub about: Artifact,
}

/// A delta that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// What it is.
    pub delta: Published,
    /// Bytes that were not there before.
    pub bytes: u64,
    /// How it is found there.
    pub attached: Attached,
}

/// An image of a layout, by its tag.
pub struct Tagged<'a> {
    /// Where it is.
    pub layout: &'a Layout,
    /// Its name there.
    pub tag: &'a str,
    /// It.
    pub image: &'a Image,
}

/// Sends a delta for each layer of `target` that `base` has not, where one is smaller than the layer. They stay in `target`'s
/// layout, so that another registry gets the same ones.
pub fn push(
    registry: &Registry,
    target: &Tagged<'_>,
    base: &Tagged<'_>,
    machine: &Platform,
) -> Result<Vec<Sent>, PublishError> {
    if registry.digest(machine)? != target.image.descriptor.digest {
        return Err(PublishError::OtherImage {
            image: registry.reference().to_string(),
            tag: target.tag.to_owned(),
            digest: target.image.descriptor.digest,
        });
    }
    let mut sent = Vec::new();
    for delta in deltas(target, base)? {
        let (bytes, attached) = registry.attach(target.layout, &delta.artifact)?;
        sent.push(Sent {
            delta,
            bytes,
            attached,
        });
    }
    Ok(sent)
}

/// Deltas for the image that the registry's reference names, of an image for several machines for that of `machine`.
pub fn list(registry: &Registry, machine: &Platform) -> Result<Vec<Published>, PublishError> {
    let image = registry.digest(machine)?;
    let mut found = Vec::new();
    for entry in registry.referrers(&image, ARTIFACT_TYPE)? {
        let bytes = match registry.manifest_bytes(&entry.digest) {
            Ok(bytes) => bytes,
            // The index under a tag names it, and somebody deleted it.
            Err(RegistryError::Refused { status: 404, .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let manifest = serde_json::from_slice::<Manifest>(&bytes);
        let about = manifest.ok().and_then(|manifest| Artifact::read(&manifest));
        // What another image is the subject of was put into this one's list by somebody else.
        let about = about.filter(|about| about.image.digest == image);
        found.extend(about.map(|about| Published {
            artifact: Descriptor::new(MANIFEST, entry.digest, bytes.len() as u64),
            about,
        }));
    }
    Ok(found)
}

/// Brings the deltas for an image that a board can apply into a layout, where `blobs/sha256/<hex>` is what boards fetch.
pub fn pull(
    registry: &Registry,
    layout: &Layout,
    machine: &Platform,
) -> Result<Vec<Published>, PublishError> {
    let mut brought = Vec::new();
    for published in list(registry, machine)? {
        let about = &published.about;
        if !READABLE.contains(&&about.delta.media_type[..]) {
            continue;
        }
        let bytes = registry.manifest_bytes(&published.artifact.digest)?;
        let manifest: Manifest =
            serde_json::from_slice(&bytes).map_err(|source| LayoutError::Json {
                what: published.artifact.digest.to_string(),
                source,
            })?;
        // What was there before may be another's: a layer of an image.
        let had = layout.store().open_blob(&about.delta.digest).is_ok();
        for blob in manifest.blobs() {
            registry.fetch(layout, blob)?;
        }
        if let Some(fault) = differs(layout, about)? {
            if !had {
                layout.store().remove(&about.delta.digest)?;
            }
            return Err(PublishError::NotAsSaid {
                delta: about.delta.digest,
                artifact: published.artifact.digest,
                fault,
            });
        }
        layout.add(entry_of(layout.put(MANIFEST, &bytes)?))?;
        brought.push(published);
    }
    Ok(brought)
}

fn differs(layout: &Layout, about: &Artifact) -> Result<Option<String>, PublishError> {
    let file = layout.store().open_blob(&about.delta.digest)?;
    Ok(match DeltaHeader::read(file) {
        Err(error) => Some(format!("can't be read ({error})")),
        Ok(header) if (header.base, header.target) != (about.from, about.to) => Some(format!(
            "is from {} to {}, not from {} to {}",
            header.base, header.target, about.from, about.to
        )),
        Ok(_) => None,
    })
}

fn entry_of(mut artifact: Descriptor) -> Descriptor {
    artifact.artifact_type = Some(ARTIFACT_TYPE.to_owned());
    artifact
}

/// A layer of an image.
struct Layer {
    blob: Descriptor,
    kind: LayerType,
    diff_id: Sha256Digest,
}

fn layers_of(tagged: &Tagged<'_>) -> Result<Vec<Layer>, PublishError> {
    let layers = layers(tagged.tag, tagged.image)?;
    let layers = layers.map(|(blob, kind, diff_id)| Layer {
        blob: blob.clone(),
        kind,
        diff_id,
    });
    Ok(layers.collect())
}

/// Makes those that are not in the layout yet.
fn deltas(target: &Tagged<'_>, base: &Tagged<'_>) -> Result<Vec<Published>, PublishError> {
    let (wanted, held) = (layers_of(target)?, layers_of(base)?);
    let ids: BTreeSet<_> = held.iter().map(|layer| layer.diff_id).collect();
    let known = known(target)?;
    let mut found = Vec::new();
    for (place, to) in wanted.iter().enumerate() {
        if ids.contains(&to.diff_id) {
            continue;
        }
        // At the same place from the bottom, or else the one nearest in size: as the console chooses.
        let near = || {
            held.iter()
                .min_by_key(|from| from.blob.size.abs_diff(to.blob.size))
        };
        let Some(from) = held.get(place).or_else(near) else {
            continue;
        };
        let is_it = |known: &&Published| {
            (known.about.from, known.about.to) == (from.diff_id, to.diff_id)
                && known.about.delta.media_type == MEDIA_TYPE
        };
        if let Some(known) = known.iter().find(is_it) {
            found.push(known.clone());
        } else if let Some(blob) = make((target, to), (base, from))? {
            let about = Artifact {
                image: plain(&target.image.descriptor),
                config: plain(&target.image.manifest.config),
                delta: blob,
                layer: to.blob.digest,
                source: [
                    base.image.descriptor.digest,
                    base.image.manifest.config.digest,
                ],
                from: from.diff_id,
                to: to.diff_id,
            };
            target.layout.put(EMPTY, NO_CONFIG)?;
            let artifact = target.layout.put(MANIFEST, &about.manifest())?;
            target.layout.add(entry_of(artifact.clone()))?;
            found.push(Published { artifact, about });
        }
    }
    Ok(found)
}

/// Artifacts of the layout about the image.
fn known(target: &Tagged<'_>) -> Result<Vec<Published>, PublishError> {
    let mut known = Vec::new();
    for artifact in target.layout.index()?.manifests {
        if artifact.artifact_type.as_deref() != Some(ARTIFACT_TYPE) {
            continue;
        }
        let manifest: Manifest = target.layout.document(&artifact)?;
        let about = Artifact::read(&manifest);
        let about = about.filter(|about| about.image.digest == target.image.descriptor.digest);
        known.extend(about.map(|about| Published { artifact, about }));
    }
    Ok(known)
}

/// `None` when the delta is no smaller than the layer.
fn make(
    (target, to): (&Tagged<'_>, &Layer),
    (base, from): (&Tagged<'_>, &Layer),
) -> Result<Option<Descriptor>, PublishError> {
    let limits = limits();
    let bar = progress::work(&format!("making a delta for {}", target.tag));
    let open = |tagged: &Tagged<'_>, layer: &Layer| {
        let file = tagged.layout.store().open_blob(&layer.blob.digest)?;
        Ok::<_, StoreError>(tar_stream(file, layer.kind, &limits))
    };
    let mut blob = target.layout.store().incoming()?;
    let made = delta::make(open(base, from)?, open(target, to)?, &mut blob).map_err(|source| {
        PublishError::Make {
            to: to.diff_id,
            source,
        }
    })?;
    bar.finish_and_clear();
    // The layouts are files: what they hold may not be what their names say.
    for (tagged, layer, found) in [
        (base, from, made.header.base),
        (target, to, made.header.target),
    ] {
        if found != layer.diff_id {
            return Err(PublishError::Image(ImageError::Damaged {
                image: tagged.tag.to_owned(),
                digest: layer.blob.digest,
                what: "diff_id",
            }));
        }
    }
    if made.size >= to.blob.size {
        return Ok(None);
    }
    let (digest, size) = target.layout.store().accept(blob)?;
    Ok(Some(Descriptor::new(MEDIA_TYPE, digest, size)))
}

fn plain(blob: &Descriptor) -> Descriptor {
    Descriptor::new(&blob.media_type, blob.digest, blob.size)
}

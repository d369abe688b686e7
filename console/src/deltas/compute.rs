//! One delta, from two layer blobs of the registry; and its artifact manifest, by which other
//! registries' tools find it. Blocks: on a busy machine up to
//! 100 seconds for layers of 9 to 62 MiB (docs/benchmarks-deltas.md).

use super::choose::Pair;
use crate::blobs::Blobs;
use crate::registry::{Manifests, Reference, Repository};
use coracle_digest::Sha256Digest;
use coracle_images::Limits;
use coracle_images::decompress::{Measured, tar_stream};
use coracle_images::delta::artifact::{Artifact, NO_CONFIG};
use coracle_images::delta::{MEDIA_TYPE, make};
use coracle_images::layout::{CONFIG, Descriptor, LayerType, MANIFEST};
use coracle_protocol::deploy::Delta;
use coracle_protocol::release::{Blob, Layer};
use std::fs::File;
use std::io::{BufWriter, Write};

/// Largest unpacked layer that is compared, in bytes: both are held in memory.
const UNPACKED_BYTES: u64 = 1 << 30;

/// Why there is no delta.
#[derive(Debug)]
pub enum DeltaFault {
    /// Nothing would change that: noted, and not tried again.
    Useless(String),
    /// It may work another time.
    Broken(String),
}

/// Makes the delta and stores it as a blob.
pub fn compute(blobs: &Blobs, from: &Layer, to: &Layer) -> Result<Delta, DeltaFault> {
    let broken =
        |what: &str, error: &dyn std::fmt::Display| DeltaFault::Broken(format!("{what}: {error}"));
    for layer in [from, to] {
        if layer.unpacked_size > UNPACKED_BYTES {
            return Err(DeltaFault::Useless(format!(
                "a layer unpacks to {} bytes; at most {UNPACKED_BYTES} are compared",
                layer.unpacked_size
            )));
        }
    }
    let limits = Limits::default();
    let open = |layer: &Layer| {
        let kind = LayerType::from_media_type(&layer.media_type)
            .ok_or_else(|| DeltaFault::Useless(format!("`{}` is no layer", layer.media_type)))?;
        let file = File::open(blobs.path(&layer.digest)).map_err(|e| broken("layer", &e))?;
        // A compression bomb ends here, and not in memory.
        Ok(Measured::new(
            tar_stream(file, kind, &limits),
            layer.unpacked_size,
        ))
    };
    let (base, target) = (open(from)?, open(to)?);
    let file = tempfile::NamedTempFile::new_in(blobs.scratch()).map_err(|e| broken("file", &e))?;
    let mut writer = BufWriter::new(file.as_file());
    let made = make(base, target, &mut writer).map_err(|e| broken("delta", &e))?;
    writer.flush().map_err(|e| broken("delta", &e))?;
    drop(writer);
    if made.header.base != from.diff_id || made.header.target != to.diff_id {
        return Err(DeltaFault::Useless(
            "a layer does not unpack to the diff_id that its release names".into(),
        ));
    }
    if made.size >= to.size {
        return Err(DeltaFault::Useless(format!(
            "the delta has {} bytes, the full layer {}",
            made.size, to.size
        )));
    }
    let (digest, size) = crate::blobs::hash_file(file.path()).map_err(|e| broken("delta", &e))?;
    blobs
        .take(&file.into_temp_path(), &digest)
        .map_err(|e| broken("delta", &e))?;
    Ok(Delta {
        from: from.diff_id,
        to: to.diff_id,
        media_type: MEDIA_TYPE.to_owned(),
        digest,
        size,
    })
}

/// Adds an artifact manifest that refers to the image (distribution-spec, "referrers"). Boards do not need it: a failure is
/// logged and that is all.
pub fn publish(blobs: &Blobs, manifests: &Manifests, pair: &Pair, delta: &Delta) {
    let name = pair
        .image
        .rsplit_once(':')
        .map_or(pair.image.as_str(), |(name, _)| name);
    let Some(repository) = Repository::new(name) else {
        return;
    };
    let image = Reference::Digest(pair.manifest.digest);
    let Some(subject) = manifests.get(&repository, &image) else {
        return;
    };
    let named = |media_type: &str, blob: &Blob| Descriptor::new(media_type, blob.digest, blob.size);
    let artifact = Artifact {
        image: named(&subject.media_type, &pair.manifest),
        config: named(CONFIG, &pair.config),
        delta: Descriptor::new(MEDIA_TYPE, delta.digest, delta.size),
        layer: pair.to.digest,
        source: pair.source.map(|blob| blob.digest),
        from: delta.from,
        to: delta.to,
    };
    let manifest = artifact.manifest();
    let reference = Reference::Digest(Sha256Digest::of(&manifest));
    let stored = (blobs.put(NO_CONFIG).map_err(|e| e.to_string())).and_then(|_| {
        manifests
            .put(&repository, &reference, MANIFEST, &manifest)
            .map_err(|e| e.to_string())
    });
    if let Err(error) = stored {
        tracing::warn!(error, %repository, "a delta's manifest was not stored");
    }
}

//! A delta in a registry: an artifact after containers/oci-delta (its README, "Delta manifest"), found by the referrers of the
//! image whose layer it makes. Each delta is an artifact of its own, as it is made by itself.

use std::collections::BTreeMap;

use coracle_digest::Sha256Digest;
use serde_json::json;

use crate::layout::{Descriptor, EMPTY, MANIFEST, Manifest};

/// The artifact's type.
pub const ARTIFACT_TYPE: &str = "application/vnd.io.github.containers.oci-delta.v1";

/// The artifact's configuration: there is none ([`EMPTY`]).
pub const NO_CONFIG: &[u8] = b"{}";

const NOTE: &str = "io.github.containers.delta";
const FROM: &str = "dev.coracle.delta.from";
const TO: &str = "dev.coracle.delta.to";

/// What an artifact says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Manifest of the image whose layer the delta makes.
    pub image: Descriptor,
    /// Its configuration.
    pub config: Descriptor,
    /// The delta.
    pub delta: Descriptor,
    /// The layer that it makes, as it is packed in the image.
    pub layer: Sha256Digest,
    /// Manifest and configuration of the image that has the base layer.
    pub source: [Sha256Digest; 2],
    /// diff_id of the base layer.
    pub from: Sha256Digest,
    /// diff_id of the layer that is made.
    pub to: Sha256Digest,
}

impl Artifact {
    /// Its manifest, the same bytes each time.
    #[must_use]
    pub fn manifest(&self) -> Vec<u8> {
        let content = |what: &str| json!({format!("{NOTE}.content"): what});
        let blob = |blob: &Descriptor, notes| json!({"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size, "annotations": notes});
        let mut of_layer = content("image-layer");
        of_layer[format!("{NOTE}.to")] = json!(self.layer);
        let [source, source_config] = self.source;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": ARTIFACT_TYPE,
            "config": {"mediaType": EMPTY, "digest": Sha256Digest::of(NO_CONFIG), "size": NO_CONFIG.len()},
            "layers": [
                blob(&self.image, content("image-manifest")),
                blob(&self.config, content("image-config")),
                blob(&self.delta, of_layer),
            ],
            "subject": {"mediaType": self.image.media_type, "digest": self.image.digest, "size": self.image.size},
            "annotations": {
                format!("{NOTE}.target"): self.image.digest,
                format!("{NOTE}.source"): source,
                format!("{NOTE}.source-config"): source_config,
                FROM: self.from,
                TO: self.to,
            },
        });
        manifest.to_string().into_bytes()
    }

    /// From the manifest of an artifact; `None` when it is another kind of artifact, or of another program that says less.
    #[must_use]
    pub fn read(manifest: &Manifest) -> Option<Self> {
        if manifest.artifact_type.as_deref() != Some(ARTIFACT_TYPE) {
            return None;
        }
        let what = |name: &str| {
            let key = format!("{NOTE}.content");
            let mut layers = manifest.layers.iter();
            layers.find(|layer| layer.annotations.get(&key).is_some_and(|is| is == name))
        };
        let digest = |notes: &BTreeMap<String, String>, key: &str| notes.get(key)?.parse().ok();
        let note = |name: &str| digest(&manifest.annotations, name);
        let plain = |blob: &Descriptor| Descriptor::new(&blob.media_type, blob.digest, blob.size);
        let delta = what("image-layer")?;
        Some(Self {
            image: plain(manifest.subject.as_ref()?),
            config: plain(what("image-config")?),
            delta: plain(delta),
            layer: digest(&delta.annotations, &format!("{NOTE}.to"))?,
            source: [
                note(&format!("{NOTE}.source"))?,
                note(&format!("{NOTE}.source-config"))?,
            ],
            from: note(FROM)?,
            to: note(TO)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(name: &str) -> Descriptor {
        Descriptor::new(&format!("application/{name}"), id(name), 7)
    }

    fn id(name: &str) -> Sha256Digest {
        Sha256Digest::of(name.as_bytes())
    }

    #[test]
    fn what_is_written_is_read() {
        let artifact = Artifact {
            image: descriptor("image"),
            config: descriptor("config"),
            delta: descriptor("delta"),
            layer: id("layer"),
            source: [id("source"), id("source config")],
            from: id("from"),
            to: id("to"),
        };
        let bytes = artifact.manifest();
        let manifest: Manifest = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(Artifact::read(&manifest), Some(artifact));
        let blobs: Vec<_> = manifest.blobs().map(|blob| blob.digest).collect();
        assert_eq!(
            blobs,
            [
                Sha256Digest::of(NO_CONFIG),
                id("image"),
                id("config"),
                id("delta")
            ]
        );
        let text = String::from_utf8(bytes).unwrap();
        for (from, to) in [
            (ARTIFACT_TYPE, "application/other"),
            (TO, "other"),
            ("\"subject\"", "\"other\""),
            ("image-layer", "other"),
        ] {
            let other: Manifest = serde_json::from_str(&text.replace(from, to)).unwrap();
            assert_eq!(Artifact::read(&other), None, "without {from}");
        }
    }
}

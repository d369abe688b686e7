//! Manifests, tags and referrers on disk, below `STATE/registry/repositories/<name>/`:
//! `_manifests/<hex>` holds the media type (the bytes are a blob), `_tags/<tag>` the digest,
//! `_referrers/<subject hex>/<hex>` a descriptor. A name's components never begin with `_`.

use super::{MANIFEST_BYTES, Reference, RegistryError, Repository};
use crate::blobs::Blobs;
use crate::files::{self, Mode};
use coracle_digest::Sha256Digest;
use coracle_images::layout::{DOCKER_LIST, DOCKER_MANIFEST, Descriptor, INDEX, MANIFEST};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What of a manifest this registry looks at (image-spec `manifest.md`, `image-index.md`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Named>,
    #[serde(default)]
    layers: Vec<Named>,
    #[serde(default)]
    manifests: Vec<Named>,
    subject: Option<Named>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    media_type: String,
    digest: Sha256Digest,
    #[serde(default)]
    urls: Vec<String>,
}

/// What a stored manifest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Of its bytes.
    pub digest: Sha256Digest,
    /// As it was pushed.
    pub media_type: String,
    /// Another manifest that it refers to.
    pub subject: Option<Sha256Digest>,
}

/// The repositories.
#[derive(Debug, Clone)]
pub struct Manifests {
    blobs: Blobs,
    folder: PathBuf,
}

impl Manifests {
    /// Repositories below the registry's folder, whose bytes are in `blobs`.
    pub fn new(registry: &std::path::Path, blobs: Blobs) -> Self {
        Self {
            blobs,
            folder: registry.join("repositories"),
        }
    }

    /// Stores a manifest: everything that it names must be here. Blocks.
    pub fn put(
        &self,
        repository: &Repository,
        reference: &Reference,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Stored, RegistryError> {
        if bytes.len() > MANIFEST_BYTES {
            return Err(RegistryError::TooLarge);
        }
        let invalid = |text: String| RegistryError::ManifestInvalid(text);
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|e| invalid(format!("not a manifest: {e}")))?;
        if manifest.schema_version != 2 {
            return Err(invalid("schemaVersion is not 2".into()));
        }
        if !matches!(media_type, MANIFEST | INDEX | DOCKER_MANIFEST | DOCKER_LIST) {
            return Err(invalid(format!("media type `{media_type}` is not served")));
        }
        if manifest
            .media_type
            .as_deref()
            .is_some_and(|m| m != media_type)
        {
            return Err(invalid("mediaType differs from the Content-Type".into()));
        }
        let digest = Sha256Digest::of(bytes);
        if let Reference::Digest(want) = reference
            && *want != digest
        {
            return Err(RegistryError::DigestInvalid(format!(
                "the bytes hash to {digest}, not to {want}"
            )));
        }
        for named in manifest.config.iter().chain(&manifest.layers) {
            if named.urls.is_empty() && self.blobs.size(&named.digest).is_none() {
                return Err(RegistryError::ManifestBlobUnknown(named.digest.to_string()));
            }
        }
        for named in &manifest.manifests {
            if self.blobs.size(&named.digest).is_none() {
                return Err(RegistryError::ManifestBlobUnknown(named.digest.to_string()));
            }
        }
        self.blobs.put(bytes)?;
        let at = self.repository(repository);
        self.write(at.join("_manifests"), &digest.hex(), media_type.as_bytes())?;
        let subject = manifest.subject.as_ref().map(|s| s.digest);
        if let Some(subject) = subject {
            let artifact_type = manifest
                .artifact_type
                .filter(|kind| !kind.is_empty())
                .or_else(|| manifest.config.map(|c| c.media_type));
            let descriptor = Descriptor {
                media_type: media_type.to_owned(),
                digest,
                size: bytes.len() as u64,
                artifact_type,
                platform: None,
                annotations: manifest.annotations,
            };
            let json = serde_json::to_vec(&descriptor).unwrap_or_default();
            self.write(
                at.join("_referrers").join(subject.hex()),
                &digest.hex(),
                &json,
            )?;
        }
        self.tag(repository, reference, &digest)?;
        Ok(Stored {
            digest,
            media_type: media_type.to_owned(),
            subject,
        })
    }

    /// Gives a manifest that is here the name `reference`; it, unless that is a digest. Blocks.
    pub fn tag(
        &self,
        repository: &Repository,
        reference: &Reference,
        digest: &Sha256Digest,
    ) -> Result<Option<String>, RegistryError> {
        let Reference::Tag(tag) = reference else {
            return Ok(None);
        };
        let folder = self.repository(repository).join("_tags");
        self.write(folder, tag, digest.to_string().as_bytes())?;
        Ok(Some(tag.clone()))
    }

    /// Finds a manifest by tag or digest. Blocks.
    pub fn get(&self, repository: &Repository, reference: &Reference) -> Option<Stored> {
        let at = self.repository(repository);
        let digest = match reference {
            Reference::Digest(digest) => *digest,
            Reference::Tag(tag) => {
                let text = std::fs::read_to_string(at.join("_tags").join(tag)).ok()?;
                text.parse().ok()?
            }
        };
        let media_type = std::fs::read_to_string(at.join("_manifests").join(digest.hex())).ok()?;
        Some(Stored {
            digest,
            media_type,
            subject: None,
        })
    }

    /// The tags of a repository, sorted; `None` when there is no such repository. Blocks.
    pub fn tags(&self, repository: &Repository) -> Option<Vec<String>> {
        let at = self.repository(repository);
        if !at.join("_manifests").is_dir() {
            return None;
        }
        let mut tags = names_in(&at.join("_tags"));
        tags.sort();
        Some(tags)
    }

    /// Descriptors of the manifests whose subject is `subject`. Blocks.
    pub fn referrers(&self, repository: &Repository, subject: &Sha256Digest) -> Vec<Descriptor> {
        let folder = self
            .repository(repository)
            .join("_referrers")
            .join(subject.hex());
        let mut found: Vec<Descriptor> = names_in(&folder)
            .iter()
            .filter_map(|name| std::fs::read(folder.join(name)).ok())
            .filter_map(|bytes| serde_json::from_slice(&bytes).ok())
            .collect();
        found.sort_by_key(|d| d.digest);
        found
    }

    fn repository(&self, repository: &Repository) -> PathBuf {
        self.folder.join(repository.as_str())
    }

    fn write(&self, folder: PathBuf, name: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        files::make_dir(&folder, 0o700)?;
        files::write(&folder.join(name), bytes, Mode::Private)?;
        Ok(())
    }
}

fn names_in(folder: &std::path::Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect()
}

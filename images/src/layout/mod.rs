//! OCI image layouts: what the registry, the board's store and the USB stick are made of
//! (image-spec `image-layout.md`).

mod error;
mod files;
mod media;
mod types;

use std::io::Read;
use std::path::{Path, PathBuf};

use coracle_digest::Sha256Digest;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::Limits;
use crate::store::BlobStore;

use files::{hold, json, parse, read_file, write_file};

pub use error::LayoutError;
pub use media::{
    CONFIG, DOCKER_CONFIG, DOCKER_LIST, DOCKER_MANIFEST, EMPTY, INDEX, LayerType, MANIFEST,
    is_index, is_manifest, is_schema_1,
};
pub use types::{
    Descriptor, Empty, Healthcheck, History, ImageConfig, Index, Manifest, Platform, REF_NAME,
    RootFs, RunConfig,
};

const LAYOUT_FILE: &str = "oci-layout";
const LAYOUT_TEXT: &str = "{\"imageLayoutVersion\":\"1.0.0\"}";
const INDEX_FILE: &str = "index.json";

/// Indexes inside indexes that are followed.
const INDEX_DEPTH: usize = 4;

/// An image, read and checked.
#[derive(Debug, Clone)]
pub struct Image {
    /// Names the manifest.
    pub descriptor: Descriptor,
    /// The manifest.
    pub manifest: Manifest,
    /// The configuration; it has a DiffID for each of the manifest's layers.
    pub config: ImageConfig,
}

/// A folder with an OCI image layout.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
    store: BlobStore,
    limits: Limits,
}

impl Layout {
    /// Opens a layout that is there.
    pub fn open(dir: impl Into<PathBuf>, limits: &Limits) -> Result<Self, LayoutError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Marker {
            image_layout_version: String,
        }
        let dir = dir.into();
        let not_a_layout = || LayoutError::NotALayout(dir.clone());
        let bytes = read_file(&dir.join(LAYOUT_FILE), limits).map_err(|_| not_a_layout())?;
        let marker: Marker = serde_json::from_slice(&bytes).map_err(|_| not_a_layout())?;
        if !marker.image_layout_version.starts_with("1.") {
            return Err(not_a_layout());
        }
        Ok(Self {
            store: BlobStore::open(&dir)?,
            dir,
            limits: *limits,
        })
    }

    /// Opens a layout, or makes an empty one where there is none.
    pub fn create(dir: impl Into<PathBuf>, limits: &Limits) -> Result<Self, LayoutError> {
        let dir = dir.into();
        let store = BlobStore::open(&dir)?;
        let held = hold(&dir)?;
        if !dir.join(INDEX_FILE).exists() {
            let index = empty_index();
            write_file(&dir, INDEX_FILE, &json(&index)?)?;
        }
        if !dir.join(LAYOUT_FILE).exists() {
            write_file(&dir, LAYOUT_FILE, LAYOUT_TEXT.as_bytes())?;
        }
        drop((store, held));
        Self::open(dir, limits)
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its blobs.
    #[must_use]
    pub fn store(&self) -> &BlobStore {
        &self.store
    }

    /// `index.json`.
    pub fn index(&self) -> Result<Index, LayoutError> {
        let bytes = read_file(&self.dir.join(INDEX_FILE), &self.limits)?;
        parse(&bytes, || INDEX_FILE.to_owned())
    }

    /// The entry with this tag, or the only one.
    pub fn find(&self, tag: Option<&str>) -> Result<Descriptor, LayoutError> {
        let mut manifests = self.index()?.manifests;
        match tag {
            Some(tag) => {
                let tagged =
                    |entry: &Descriptor| entry.annotations.get(REF_NAME).is_some_and(|t| t == tag);
                let found = manifests.into_iter().find(tagged);
                found.ok_or_else(|| LayoutError::NoTag(tag.to_owned()))
            }
            None if manifests.len() == 1 => Ok(manifests.remove(0)),
            None => Err(LayoutError::Ambiguous(manifests.len())),
        }
    }

    /// Follows indexes to the manifest that fits the machine best.
    pub fn resolve(
        &self,
        entry: Descriptor,
        machine: &Platform,
    ) -> Result<Descriptor, LayoutError> {
        let mut current = entry;
        for _ in 0..INDEX_DEPTH {
            if is_manifest(&current.media_type) {
                return Ok(current);
            }
            if !is_index(&current.media_type) {
                return Err(LayoutError::no_image(current.media_type));
            }
            let index: Index = self.document(&current)?;
            current = choose(index, machine)?;
        }
        Err(LayoutError::NotAnImage(current.media_type))
    }

    /// Reads the manifest and the config of an image, checking digests, sizes and the number of DiffIDs.
    pub fn image(&self, tag: Option<&str>, machine: &Platform) -> Result<Image, LayoutError> {
        let descriptor = self.resolve(self.find(tag)?, machine)?;
        self.image_of(descriptor)
    }

    /// As [`image`](Self::image), from a manifest's descriptor.
    pub fn image_of(&self, descriptor: Descriptor) -> Result<Image, LayoutError> {
        let manifest: Manifest = self.document(&descriptor)?;
        let config: ImageConfig = self.document(&manifest.config)?;
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(LayoutError::LayerCount { layers, diff_ids });
        }
        Ok(Image {
            descriptor,
            manifest,
            config,
        })
    }

    /// Reads and parses a small document, checking size and digest first.
    pub fn document<T: DeserializeOwned>(&self, descriptor: &Descriptor) -> Result<T, LayoutError> {
        let bytes = self.document_bytes(descriptor)?;
        parse(&bytes, || descriptor.digest.to_string())
    }

    /// The checked bytes of a small document.
    pub fn document_bytes(&self, descriptor: &Descriptor) -> Result<Vec<u8>, LayoutError> {
        let (size, limit) = (descriptor.size, self.limits.document_bytes);
        if size > limit {
            let what = descriptor.digest.to_string();
            return Err(LayoutError::TooLarge { what, size, limit });
        }
        let mut bytes = Vec::new();
        let blob = self.store.open_blob(&descriptor.digest)?;
        let read = blob.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|source| LayoutError::Io {
            path: self.store.path(&descriptor.digest),
            source,
        })?;
        if bytes.len() as u64 != size || Sha256Digest::of(&bytes) != descriptor.digest {
            return Err(LayoutError::Damaged(descriptor.digest));
        }
        Ok(bytes)
    }

    /// Stores bytes as a blob.
    pub fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor, LayoutError> {
        let digest = self.store.put(bytes)?;
        Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
    }

    /// Stores a document as a blob of compact JSON.
    pub fn put_json(
        &self,
        media_type: &str,
        document: &impl Serialize,
    ) -> Result<Descriptor, LayoutError> {
        self.put(media_type, &json(document)?)
    }

    /// Gives an entry of the index a tag; another entry with it is replaced.
    pub fn tag(&self, mut entry: Descriptor, tag: &str) -> Result<(), LayoutError> {
        let _held = hold(&self.dir)?;
        let mut index = self.index()?;
        entry
            .annotations
            .insert(REF_NAME.to_owned(), tag.to_owned());
        index
            .manifests
            .retain(|old| old.annotations.get(REF_NAME).is_none_or(|old| old != tag));
        index.manifests.push(entry);
        self.write_index(&index)
    }

    /// Puts an entry without a tag into the index, once: artifacts, so that they are not garbage.
    pub fn add(&self, entry: Descriptor) -> Result<(), LayoutError> {
        let _held = hold(&self.dir)?;
        let mut index = self.index()?;
        if !index.manifests.iter().any(|old| old.digest == entry.digest) {
            index.manifests.push(entry);
            self.write_index(&index)?;
        }
        Ok(())
    }

    /// Replaces `index.json` in one step.
    pub fn write_index(&self, index: &Index) -> Result<(), LayoutError> {
        write_file(&self.dir, INDEX_FILE, &json(index)?)
    }
}

/// The entry of an index that fits the machine best; the first of equals.
pub fn choose(index: Index, machine: &Platform) -> Result<Descriptor, LayoutError> {
    let mut best: Option<(u32, Descriptor)> = None;
    for entry in index.manifests {
        let fits = match &entry.platform {
            Some(platform) => platform.fits(machine),
            None => None,
        };
        if let Some(score) = fits
            && best.as_ref().is_none_or(|(other, _)| score > *other)
        {
            best = Some((score, entry));
        }
    }
    best.map(|(_, entry)| entry)
        .ok_or_else(|| LayoutError::NoPlatform {
            os: machine.os.clone(),
            architecture: machine.architecture.clone(),
        })
}

fn empty_index() -> Index {
    Index {
        schema_version: 2,
        media_type: Some(INDEX.to_owned()),
        manifests: Vec::new(),
        annotations: Default::default(),
    }
}

#[cfg(test)]
mod tests;

//! Images and blobs from a registry into a layout (distribution-spec, "Pull").

use super::{Registry, RegistryError};
use crate::image::limits;
use crate::progress;
use coracle_images::Sha256Digest;
use coracle_images::layout::{
    DOCKER_LIST, DOCKER_MANIFEST, Descriptor, INDEX, Image, Index, Layout, LayoutError, MANIFEST,
    Manifest, Platform, choose, is_index, is_manifest, is_schema_1,
};
use std::io::{self, Read};
use ureq::http::HeaderMap;

/// A manifest or an index, as it came.
pub(super) struct Document {
    pub(super) media_type: String,
    pub(super) bytes: Vec<u8>,
    /// What it is held against when it is to be replaced (RFC 9110, 8.8.3), where the registry says so.
    pub(super) etag: Option<String>,
}

impl Registry {
    /// Brings the image for `machine` into `layout` and calls it `tag`. Layers that are there already do not come again, and
    /// one that was cut off goes on.
    pub fn pull(
        &self,
        layout: &Layout,
        tag: &str,
        machine: &Platform,
    ) -> Result<Image, RegistryError> {
        let before = layout.store().list()?;
        let mut entry = self.manifest(layout, &self.reference.version)?;
        if is_index(&entry.media_type) {
            let index = entry.digest;
            entry = layout.resolve(entry, machine)?;
            self.manifest(layout, &entry.digest.to_string())?;
            if before.binary_search(&index).is_err() {
                layout.store().remove(&index)?;
            }
        }
        let manifest: Manifest = layout.document(&entry)?;
        for blob in manifest.blobs() {
            self.fetch(layout, blob)?;
        }
        let image = layout.image_of(entry.clone())?;
        layout.tag(entry, tag)?;
        Ok(image)
    }

    /// Digest of the manifest that the reference names; of an image for several machines that for `machine`.
    pub fn digest(&self, machine: &Platform) -> Result<Sha256Digest, RegistryError> {
        let mut version = self.reference.version.clone();
        loop {
            let document = self.document(&version)?;
            if is_manifest(&document.media_type) {
                return Ok(Sha256Digest::of(&document.bytes));
            }
            let index = serde_json::from_slice::<Index>(&document.bytes);
            let index = index.map_err(|error| RegistryError::Answer {
                url: self.url(&format!("manifests/{version}")),
                what: error.to_string(),
            })?;
            version = choose(index, machine)?.digest.to_string();
        }
    }

    /// A manifest's bytes.
    pub fn manifest_bytes(&self, digest: &Sha256Digest) -> Result<Vec<u8>, RegistryError> {
        Ok(self.document(&digest.to_string())?.bytes)
    }

    /// Fetches a manifest or an index into the store.
    pub(super) fn manifest(
        &self,
        layout: &Layout,
        version: &str,
    ) -> Result<Descriptor, RegistryError> {
        let document = self.document(version)?;
        Ok(layout.put(&document.media_type, &document.bytes)?)
    }

    /// Fetches a manifest or an index; one that is asked for by its digest has it.
    pub(super) fn document(&self, version: &str) -> Result<Document, RegistryError> {
        let url = self.url(&format!("manifests/{version}"));
        let accept = [MANIFEST, DOCKER_MANIFEST, INDEX, DOCKER_LIST].join(", ");
        let mut answer = self.ask("GET", &url, |request| {
            self.agent.run(request.header("accept", &accept).body(())?)
        })?;
        let wrong = |what: String| RegistryError::Answer {
            url: url.clone(),
            what,
        };
        let bytes = answer
            .body_mut()
            .with_config()
            .limit(limits().document_bytes)
            .read_to_vec()
            .map_err(|error| wrong(error.to_string()))?;
        let media_type = media_type(answer.headers());
        // Its digest is that of the text without the signature inside, so that this comes first.
        if is_schema_1(&media_type) {
            return Err(LayoutError::Schema1(media_type).into());
        }
        let found = Sha256Digest::of(&bytes);
        if let Ok(wanted) = version.parse::<Sha256Digest>()
            && wanted != found
        {
            return Err(RegistryError::WrongDigest { url, wanted, found });
        }
        if !is_manifest(&media_type) && !is_index(&media_type) {
            return Err(wrong(format!(
                "it is `{}`, neither a manifest nor an index",
                crate::console::visible(&media_type)
            )));
        }
        let etag = answer.headers().get("etag");
        let etag = etag.and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        Ok(Document {
            media_type,
            bytes,
            etag,
        })
    }

    /// Fetches a blob that is not there; one that was cut off goes on.
    pub fn fetch(&self, layout: &Layout, blob: &Descriptor) -> Result<(), RegistryError> {
        if layout.store().has(&blob.digest) {
            return Ok(());
        }
        let mut part = layout.store().download(blob.digest, blob.size)?;
        let url = self.url(&format!("blobs/{}", blob.digest));
        if part.length() < blob.size {
            let from = part.length();
            let mut answer = self.ask("GET", &url, |request| {
                let request = match from {
                    0 => request,
                    from => request.header("range", format!("bytes={from}-")),
                };
                self.agent.run(request.body(())?)
            })?;
            if answer.status().as_u16() != 206 {
                part.restart()?;
            }
            let bar = progress::bytes(&format!("pulling {}", self.reference), blob.size);
            bar.set_position(part.length());
            // One byte more tells that it is too long.
            let most = (blob.size - part.length()).saturating_add(1);
            let body = answer.body_mut().with_config().limit(most).reader();
            let mut body = progress::reading(&bar, body.take(most));
            io::copy(&mut body, &mut part).map_err(|source| RegistryError::Stream {
                url: url.clone(),
                source,
            })?;
            bar.finish_and_clear();
        }
        part.finish()?;
        Ok(())
    }
}

/// Without parameters.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let kind = headers.get("content-type");
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    kind.trim().to_owned()
}

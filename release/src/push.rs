//! Images into the console's registry (distribution-spec v1.1, "Push"), then the release.

use crate::console::{Console, ConsoleError};
use crate::files::FileError;
use crate::image::{ImageError, at};
use crate::progress;
use crate::release::{ReleaseEnvelope, ReleaseError};
use coracle_images::layout::{Descriptor, Layout, Manifest};
use coracle_images::store::StoreError;
use coracle_protocol::Sha256Digest;
use coracle_protocol::release::{Blob, Image};
use serde_json::Value;
use std::collections::BTreeSet;
use ureq::SendBody;

/// Why it was not pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The console.
    #[error("{0}")]
    Console(#[from] ConsoleError),
    /// The release.
    #[error("{0}")]
    Release(#[from] ReleaseError),
    /// The layout.
    #[error("{0}")]
    Image(#[from] ImageError),
    /// A blob of the layout.
    #[error("`{image}` in the layout")]
    Blob {
        /// Tag.
        image: String,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A blob is not as long as the release says.
    #[error("`{image}`: {digest} has {found} bytes in the layout, {wanted} in the release")]
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
    /// A file.
    #[error("{0}")]
    File(#[from] FileError),
}

/// What a push did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Bytes that went over the wire.
    pub sent: u64,
    /// Bytes that the registry had already.
    pub there: u64,
}

/// Pushes each image of a release, then the release; returns the console's answer to that.
pub fn push(
    console: &Console,
    layout: &Layout,
    file: &ReleaseEnvelope,
) -> Result<(Pushed, Value), PushError> {
    let mut pushed = Pushed::default();
    for image in file.release.images() {
        push_image(console, layout, image, &mut pushed)?;
    }
    let answer = console.post("/api/v1/releases", &file.envelope.to_json())?;
    Ok((pushed, answer))
}

/// `shop/web:1.4` → `shop/web`, `1.4`.
pub fn repository(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "latest"),
    }
}

fn push_image(
    console: &Console,
    layout: &Layout,
    image: &Image,
    pushed: &mut Pushed,
) -> Result<(), PushError> {
    let (repository, tag) = repository(&image.name);
    let layers = image.layers.iter().map(|layer| Blob {
        digest: layer.digest,
        size: layer.size,
    });
    let blobs: BTreeSet<Blob> = layers.chain([image.config]).collect();
    for blob in blobs {
        push_blob(console, layout, &image.name, repository, blob, pushed)?;
    }
    let failed = at(layout.dir());
    // Its media type is not in the release; the digest makes sure of the rest.
    let descriptor = Descriptor::new("", image.manifest.digest, image.manifest.size);
    let bytes = layout.document_bytes(&descriptor).map_err(&failed)?;
    let manifest: Manifest = layout.document(&descriptor).map_err(&failed)?;
    let media_type = manifest
        .media_type
        .unwrap_or_else(|| coracle_images::layout::MANIFEST.to_owned());
    let path = format!("/v2/{repository}/manifests/{tag}");
    let body = SendBody::from_owned_reader(std::io::Cursor::new(bytes));
    console.registry_put(&path, &media_type, image.manifest.size, body)?;
    pushed.sent += image.manifest.size;
    Ok(())
}

fn push_blob(
    console: &Console,
    layout: &Layout,
    image: &str,
    repository: &str,
    blob: Blob,
    pushed: &mut Pushed,
) -> Result<(), PushError> {
    let digest = blob.digest;
    if console.registry_has(&format!("/v2/{repository}/blobs/{digest}"))? {
        pushed.there += blob.size;
        return Ok(());
    }
    let in_layout = |source| PushError::Blob {
        image: image.to_owned(),
        source,
    };
    let found = layout.store().size(&digest).map_err(in_layout)?;
    if found != blob.size {
        return Err(PushError::Size {
            image: image.to_owned(),
            digest,
            wanted: blob.size,
            found,
        });
    }
    let file = layout.store().open_blob(&digest).map_err(in_layout)?;
    let place = console.registry_begin(&format!("/v2/{repository}/blobs/uploads/"))?;
    let joint = if place.contains('?') { '&' } else { '?' };
    let bar = progress::bytes(&format!("pushing {image}"), blob.size);
    let mut source = progress::reading(&bar, file);
    console.registry_put(
        &format!("{place}{joint}digest={digest}"),
        "application/octet-stream",
        blob.size,
        SendBody::from_reader(&mut source),
    )?;
    bar.finish_and_clear();
    pushed.sent += blob.size;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::repository;

    #[test]
    fn names() {
        assert_eq!(repository("shop/web:1.4"), ("shop/web", "1.4"));
        assert_eq!(repository("shop/web"), ("shop/web", "latest"));
        assert_eq!(repository("host:5000/web"), ("host:5000/web", "latest"));
    }
}

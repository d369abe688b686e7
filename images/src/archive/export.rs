//! From a layout into an archive.

use std::io::{self, Read, Write};

use coracle_digest::Sha256Digest;
use tar::{Builder, EntryType, Header};

use super::{ArchiveError, BLOBS, CONTAINERD_NAME, DOCKER_FILE, INDEX_FILE, LAYOUT_FILE};
use crate::decompress::{Measured, tar_stream};
use crate::layout::{
    Descriptor, INDEX, Image, Index, LayerType, Layout, LayoutError, Platform, REF_NAME,
};
use crate::limits::Limits;

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An OCI layout: skopeo's and podman's `oci-archive`, Docker from 25 on. Blobs as they are.
    Oci,
    /// What `docker load` of any age reads: layers not packed.
    Docker,
}

/// Writes one image of `layout`, that of `machine` where there are several, as a tar. What turns out to be damaged on the way is an
/// error, and the archive has no end then.
pub fn export(
    layout: &Layout,
    name: &str,
    machine: &Platform,
    format: Format,
    limits: &Limits,
    out: impl Write,
) -> Result<(), ArchiveError> {
    let image = layout.image(Some(name), machine)?;
    let mut archive = Archive {
        layout,
        limits,
        tar: Builder::new(out),
    };
    match format {
        Format::Oci => archive.oci(&image, name)?,
        Format::Docker => archive.docker(&image, name)?,
    }
    archive.tar.into_inner().map_err(ArchiveError::Write)?;
    Ok(())
}

struct Archive<'a, W: Write> {
    layout: &'a Layout,
    limits: &'a Limits,
    tar: Builder<W>,
}

impl<W: Write> Archive<'_, W> {
    fn oci(&mut self, image: &Image, name: &str) -> Result<(), ArchiveError> {
        self.document(LAYOUT_FILE, b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
        let mut entry = image.descriptor.clone();
        let note = |key: &str| (key.to_owned(), name.to_owned());
        entry
            .annotations
            .extend([note(REF_NAME), note(CONTAINERD_NAME)]);
        let index = Index {
            schema_version: 2,
            media_type: Some(INDEX.to_owned()),
            manifests: vec![entry],
            annotations: Default::default(),
        };
        let mut written = Vec::new();
        let blobs = std::iter::once(&image.descriptor).chain(image.manifest.blobs());
        for blob in blobs {
            if !written.contains(&blob.digest) {
                written.push(blob.digest);
                self.blob(blob)?;
            }
        }
        self.json(INDEX_FILE, &index)
    }

    /// A blob as it is, hashed on the way.
    fn blob(&mut self, blob: &Descriptor) -> Result<(), ArchiveError> {
        let store = self.layout.store();
        if store.size(&blob.digest)? != blob.size {
            return Err(LayoutError::Damaged(blob.digest).into());
        }
        let mut bytes = Measured::new(store.open_blob(&blob.digest)?, blob.size);
        let name = format!("{BLOBS}{}", blob.digest.hex());
        self.file(&name, blob.size, &mut bytes)?;
        match bytes.finish() {
            (digest, size) if (digest, size) == (blob.digest, blob.size) => Ok(()),
            _ => Err(LayoutError::Damaged(blob.digest).into()),
        }
    }

    fn docker(&mut self, image: &Image, name: &str) -> Result<(), ArchiveError> {
        let config = format!("{}.json", image.manifest.config.digest.hex());
        let bytes = self.layout.document_bytes(&image.manifest.config)?;
        self.document(&config, &bytes)?;
        let diff_ids = &image.config.rootfs.diff_ids;
        let mut layers = Vec::new();
        for (layer, diff_id) in image.manifest.layers.iter().zip(diff_ids) {
            let name = format!("{}/layer.tar", diff_id.hex());
            if !layers.contains(&name) {
                self.layer(layer, diff_id, &name)?;
            }
            layers.push(name);
        }
        let list = serde_json::json!([{"Config": config, "RepoTags": [name], "Layers": layers}]);
        self.json(DOCKER_FILE, &list)
    }

    /// A layer's tar stream. It is read twice, as the archive has its length before its bytes, and nothing of a damaged one
    /// is written.
    fn layer(
        &mut self,
        layer: &Descriptor,
        diff_id: &Sha256Digest,
        name: &str,
    ) -> Result<(), ArchiveError> {
        let kind = LayerType::from_media_type(&layer.media_type);
        let kind = kind.ok_or_else(|| ArchiveError::MediaType {
            name: layer.digest.to_string(),
            media_type: layer.media_type.clone(),
        })?;
        let (layout, limits) = (self.layout, self.limits);
        let open = || -> Result<_, ArchiveError> {
            let blob = layout.store().open_blob(&layer.digest)?;
            Ok(Measured::new(
                tar_stream(blob, kind, limits),
                limits.unpacked_bytes,
            ))
        };
        let mut tar = open()?;
        io::copy(&mut tar, &mut io::sink()).map_err(ArchiveError::Read)?;
        let (found, size) = tar.finish();
        if found != *diff_id {
            return Err(ArchiveError::Damaged {
                name: layer.digest.to_string(),
                wanted: *diff_id,
                found,
            });
        }
        self.file(name, size, &mut open()?)
    }

    fn json(&mut self, name: &str, document: &impl serde::Serialize) -> Result<(), ArchiveError> {
        let bytes = serde_json::to_vec(document).map_err(|source| ArchiveError::Json {
            name: name.to_owned(),
            source,
        })?;
        self.document(name, &bytes)
    }

    fn document(&mut self, name: &str, mut bytes: &[u8]) -> Result<(), ArchiveError> {
        self.file(name, bytes.len() as u64, &mut bytes)
    }

    /// No owner and no time: the same image is the same archive.
    fn file(&mut self, name: &str, size: u64, bytes: &mut impl Read) -> Result<(), ArchiveError> {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        let appended = self.tar.append_data(&mut header, name, bytes.take(size));
        appended.map_err(ArchiveError::Write)
    }
}

//! From an archive into a layout, in one pass over the archive: it may come from a pipe.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read};

use coracle_digest::Sha256Digest;
use serde::Deserialize;

use super::files::{Files, name_of};
use super::{ArchiveError, CONTAINERD_NAME, DOCKER_FILE, INDEX_FILE, LAYOUT_FILE};
use crate::build::Compression;
use crate::build::pack::Packer;
use crate::decompress::tar_stream;
use crate::layout::{
    CONFIG, Descriptor, ImageConfig, Index, LayerType, Layout, LayoutError, MANIFEST, Manifest,
    Platform, REF_NAME, is_index, is_manifest,
};
use crate::limits::Limits;

/// Indexes inside indexes that are followed.
const DEPTH: usize = 4;

/// What to do with an archive.
#[derive(Debug, Clone)]
pub struct Import {
    /// How its only image is to be called; without it as the archive says.
    pub tag: Option<String>,
    /// How layers of `docker save` are packed, which are not packed there. Those of an OCI layout stay as they are.
    pub compression: Compression,
    /// What documents and layers are held to.
    pub limits: Limits,
}

/// An image that has a name in the layout now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The name.
    pub tag: String,
    /// Manifest or index.
    pub entry: Descriptor,
    /// What had the name before, when that was another image.
    pub replaced: Option<Sha256Digest>,
}

/// One image of `manifest.json` in what `docker save` writes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// Takes the images of an archive, packed by gzip or zstd or not at all, into `layout`. Blobs that no image needs, and after
/// an error all that came, are removed.
pub fn import(
    archive: impl Read,
    layout: &Layout,
    wanted: &Import,
) -> Result<Vec<Imported>, ArchiveError> {
    let before: BTreeSet<Sha256Digest> = layout.store().list()?.into_iter().collect();
    let mut blobs = Blobs::default();
    let imported = take(archive, layout, wanted, &mut blobs);
    if imported.is_err() {
        blobs.needed.clear();
    }
    // What others put there meanwhile stays.
    for digest in &blobs.came {
        if !before.contains(digest) && !blobs.needed.contains(digest) {
            layout.store().remove(digest)?;
        }
    }
    imported
}

/// What an import did to the store.
#[derive(Default)]
struct Blobs {
    /// Put there.
    came: BTreeSet<Sha256Digest>,
    /// Parts of its images.
    needed: BTreeSet<Sha256Digest>,
}

fn take(
    archive: impl Read,
    layout: &Layout,
    wanted: &Import,
    blobs: &mut Blobs,
) -> Result<Vec<Imported>, ArchiveError> {
    let files = Files::read(archive, layout, wanted.limits, &mut blobs.came)?;
    // Docker from 25 on writes both; its layers are packed only where the registry's were.
    let images = if files.has(DOCKER_FILE) {
        files.docker(wanted.compression, blobs)?
    } else if files.has(LAYOUT_FILE) && files.has(INDEX_FILE) {
        files.oci(&mut blobs.needed)?
    } else {
        return Err(ArchiveError::NotAnImage(
            match files.has("etc/passwd") || files.has("bin/sh") {
                true => "; of a root file system, `image build --rootfs` makes one",
                false => "",
            },
        ));
    };
    let mut named = Vec::new();
    match (&wanted.tag, images.len()) {
        (_, 0) => {
            return Err(ArchiveError::NotAnImage(
                ", and its list of images is empty",
            ));
        }
        (Some(tag), 1) => named.extend(images.into_iter().map(|(entry, _)| (tag.clone(), entry))),
        (Some(_), several) => return Err(ArchiveError::Several(several)),
        (None, _) => {
            for (entry, names) in images {
                if names.is_empty() {
                    return Err(ArchiveError::NoName);
                }
                named.extend(names.into_iter().map(|name| (name, entry.clone())));
            }
        }
    }
    let mut imported = Vec::new();
    for (tag, entry) in named {
        let before = match layout.find(Some(&tag)) {
            Ok(before) => Some(before.digest),
            Err(LayoutError::NoTag(_)) => None,
            Err(error) => return Err(error.into()),
        };
        layout.tag(entry.clone(), &tag)?;
        let replaced = before.filter(|digest| *digest != entry.digest);
        imported.push(Imported {
            tag,
            entry,
            replaced,
        });
    }
    Ok(imported)
}

/// Images with the names that the archive has for them.
type Found = Vec<(Descriptor, Vec<String>)>;

impl Files<'_> {
    /// The images of an OCI layout.
    fn oci(&self, needed: &mut BTreeSet<Sha256Digest>) -> Result<Found, ArchiveError> {
        let index: Index = self.document(INDEX_FILE, "the archive")?;
        let mut found: Found = Vec::new();
        for mut entry in index.manifests {
            // Artifacts about images: of no use without what they are about.
            if entry.artifact_type.is_some() {
                continue;
            }
            self.reach(&entry, INDEX_FILE, DEPTH, needed)?;
            let name = entry.annotations.remove(CONTAINERD_NAME);
            let name = name.or_else(|| entry.annotations.remove(REF_NAME));
            let names: Vec<String> = name.iter().map(|name| short(name)).collect();
            entry.annotations.remove(REF_NAME);
            match found.iter_mut().find(|(old, _)| old.digest == entry.digest) {
                Some((_, more)) => more.extend(names),
                None => found.push((entry, names)),
            }
        }
        Ok(found)
    }

    /// Checks what an entry needs. Of an index, archives may have some platforms only.
    fn reach(
        &self,
        entry: &Descriptor,
        by: &str,
        depth: usize,
        needed: &mut BTreeSet<Sha256Digest>,
    ) -> Result<(), ArchiveError> {
        let name = self.there(entry, by)?;
        needed.insert(entry.digest);
        if is_manifest(&entry.media_type) {
            let manifest: Manifest = self.layout.document(entry)?;
            for layer in &manifest.layers {
                if LayerType::from_media_type(&layer.media_type).is_none() {
                    return Err(ArchiveError::MediaType {
                        name: layer.digest.to_string(),
                        media_type: layer.media_type.clone(),
                    });
                }
            }
            for blob in manifest.blobs() {
                self.there(blob, &name)?;
                needed.insert(blob.digest);
            }
            self.layout.image_of(entry.clone())?;
            return Ok(());
        }
        if !is_index(&entry.media_type) || depth == 0 {
            return Err(LayoutError::no_image(entry.media_type.clone()).into());
        }
        let index: Index = self.layout.document(entry)?;
        let mut reached = 0;
        for below in &index.manifests {
            if self.has(&name_of(&below.digest)) {
                self.reach(below, &name, depth - 1, needed)?;
                reached += 1;
            }
        }
        match (reached, index.manifests.first()) {
            (0, Some(first)) => Err(ArchiveError::Missing {
                name: name_of(&first.digest),
                by: format!("`{name}`"),
            }),
            _ => Ok(()),
        }
    }

    /// The images of what `docker save` writes: each configuration stays what it is, to the byte, and with it Docker's
    /// image id; layers are packed.
    fn docker(&self, compression: Compression, blobs: &mut Blobs) -> Result<Found, ArchiveError> {
        let images: Vec<DockerImage> = self.document(DOCKER_FILE, "the archive")?;
        let mut found = Vec::new();
        for image in images {
            let config: ImageConfig = self.document(&image.config, DOCKER_FILE)?;
            let (digest, size) = self.find(&image.config, DOCKER_FILE)?;
            let diff_ids = &config.rootfs.diff_ids;
            if diff_ids.len() != image.layers.len() {
                return Err(ArchiveError::LayerCount {
                    config: image.config,
                    diff_ids: diff_ids.len(),
                    layers: image.layers.len(),
                });
            }
            let mut layers = Vec::new();
            for (name, diff_id) in image.layers.iter().zip(diff_ids) {
                layers.push(self.pack(name, *diff_id, compression, &mut blobs.came)?);
            }
            let manifest = Manifest {
                schema_version: 2,
                media_type: Some(MANIFEST.to_owned()),
                artifact_type: None,
                config: Descriptor::new(CONFIG, digest, size),
                layers,
                subject: None,
                annotations: BTreeMap::new(),
            };
            let mut entry = self.layout.put_json(MANIFEST, &manifest)?;
            entry.platform = Some(Platform {
                architecture: config.architecture,
                os: config.os,
                variant: config.variant,
            });
            blobs.came.insert(entry.digest);
            blobs.needed.insert(entry.digest);
            blobs
                .needed
                .extend(manifest.blobs().map(|blob| blob.digest));
            let names = image.repo_tags.unwrap_or_default();
            found.push((entry, names.iter().map(|name| short(name)).collect()));
        }
        Ok(found)
    }

    /// A layer of `docker save`, checked against its DiffID and packed.
    fn pack(
        &self,
        name: &str,
        diff_id: Sha256Digest,
        compression: Compression,
        came: &mut BTreeSet<Sha256Digest>,
    ) -> Result<Descriptor, ArchiveError> {
        let (digest, _) = self.find(name, DOCKER_FILE)?;
        let mut blob = BufReader::new(self.layout.store().open_blob(&digest)?);
        let kind = match blob.fill_buf().map_err(ArchiveError::Read)? {
            [0x1f, 0x8b, ..] => LayerType::TarGzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => LayerType::TarZstd,
            _ => LayerType::Tar,
        };
        let mut tar = tar_stream(blob, kind, &self.limits).take(self.limits.unpacked_bytes + 1);
        let mut packer = Packer::new(self.layout, compression)?;
        io::copy(&mut tar, &mut packer).map_err(ArchiveError::Read)?;
        let packed = packer.finish(self.layout)?;
        came.insert(packed.digest);
        if packed.tar_bytes > self.limits.unpacked_bytes {
            return Err(ArchiveError::TooLarge {
                name: name.to_owned(),
                size: packed.tar_bytes,
                limit: self.limits.unpacked_bytes,
            });
        }
        if packed.diff_id != diff_id {
            return Err(ArchiveError::Damaged {
                name: name.to_owned(),
                wanted: diff_id,
                found: packed.diff_id,
            });
        }
        let media_type = compression.layer_type().media_type();
        Ok(Descriptor::new(media_type, packed.digest, packed.size))
    }
}

/// `web:1` of `docker.io/library/web:1`, as Docker shows names.
fn short(name: &str) -> String {
    let hub = name.strip_prefix("docker.io/").unwrap_or(name);
    hub.strip_prefix("library/").unwrap_or(hub).to_owned()
}

#[cfg(test)]
mod tests;

//! An image from folders, into an OCI layout; and what a release needs to know of one.

use crate::image_file::ImageFileError;
use crate::progress;
use coracle_images::Limits;
use coracle_images::build::{Build, BuildError, Built};
use coracle_images::decompress::{Measured, tar_stream};
use coracle_images::layout::{
    Descriptor, Healthcheck, Image as LayoutImage, LayerType, Layout, LayoutError, Platform,
};
use coracle_images::store::StoreError;
use coracle_images::unpack::{TarError, TarStream};
use coracle_protocol::Sha256Digest;
use coracle_protocol::release::{AGENT_FILE, Blob, Image, Layer};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Largest layer, uncompressed, that is packed or measured: as large as the protocol allows, where
/// boards have their own, smaller limit.
pub fn limits() -> Limits {
    Limits {
        unpacked_bytes: coracle_protocol::limits::LIMITS.blob_bytes,
        document_bytes: 4 << 20,
        ..Limits::default()
    }
}

/// Why an image can't be made or used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The layout.
    #[error("images in `{layout}`")]
    Layout {
        /// Its folder.
        layout: String,
        /// Why.
        #[source]
        source: LayoutError,
    },
    /// A blob.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// Building.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// An image.toml.
    #[error(transparent)]
    ImageFile(#[from] ImageFileError),
    /// No layer of an image.
    #[error("layer {digest} of `{image}` is `{media_type}`, which is no layer that boards read")]
    MediaType {
        /// Tag.
        image: String,
        /// The blob.
        digest: Sha256Digest,
        /// What the manifest says.
        media_type: String,
    },
    /// A layer that can't be unpacked here, so not on a board either.
    #[error("reading layer {digest} of `{image}`")]
    Layer {
        /// Tag.
        image: String,
        /// The blob.
        digest: Sha256Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An image that carries no program of the board's own, or one that boards would not execute.
    #[error("`{image}` carries no agent: {fault}")]
    NoAgent {
        /// Tag.
        image: String,
        /// What is missing.
        fault: String,
    },
    /// Manifest and bytes, or config and tar, do not agree.
    #[error("layer {digest} of `{image}` is damaged: its {what} is not what the image says")]
    Damaged {
        /// Tag.
        image: String,
        /// The blob.
        digest: Sha256Digest,
        /// What is wrong.
        what: &'static str,
    },
}

/// Opens a layout.
pub fn open(dir: &Path) -> Result<Layout, ImageError> {
    Layout::open(dir, &limits()).map_err(at(dir))
}

/// Adds the layout's folder to an error.
pub fn at(dir: &Path) -> impl Fn(LayoutError) -> ImageError {
    let layout = dir.display().to_string();
    move |source| ImageError::Layout {
        layout: layout.clone(),
        source,
    }
}

/// Builds an image and names it.
pub fn build(build: &Build, output: &Path, tag: &str) -> Result<Built, ImageError> {
    let layout = Layout::create(output, &limits()).map_err(at(output))?;
    let bar = progress::work(&format!("packing {tag}"));
    let built = coracle_images::build::build(build, &layout)?;
    layout
        .tag(built.manifest.clone(), tag)
        .map_err(at(output))?;
    bar.finish_and_clear();
    Ok(built)
}

/// `0:0`.
pub fn owner(text: &str) -> Result<(u32, u32), String> {
    let pair = text
        .split_once(':')
        .and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    pair.ok_or_else(|| format!("`{text}` is no owner; write `0:0`"))
}

/// `linux/arm64`, `linux/arm/v7` or `arm64`.
pub fn platform(text: &str) -> Result<Platform, String> {
    let parts: Vec<&str> = text
        .strip_prefix("linux/")
        .unwrap_or(text)
        .split('/')
        .collect();
    match parts[..] {
        [architecture] if !architecture.is_empty() => Ok(Platform::linux(architecture, None)),
        [architecture, variant] if !architecture.is_empty() && !variant.is_empty() => {
            Ok(Platform::linux(architecture, Some(variant)))
        }
        _ => Err(format!(
            "`{text}` is no platform; write `linux/arm64` or `linux/arm/v7`"
        )),
    }
}

/// The platform of this machine, in Go's names.
pub fn host_platform() -> Platform {
    match std::env::consts::ARCH {
        "x86_64" => Platform::linux("amd64", None),
        "aarch64" => Platform::linux("arm64", None),
        "arm" => Platform::linux("arm", Some("v7")),
        "riscv64" => Platform::linux("riscv64", None),
        other => Platform::linux(other, None),
    }
}

/// Images of a layout as a release names them: every layer is read once, unpacked in passing, and
/// held against its digest and diff_id, so that no board finds the damage first.
pub struct Measurer<'a> {
    layout: &'a Layout,
    platform: Platform,
    /// Uncompressed sizes and members of the layers seen so far.
    seen: BTreeMap<Sha256Digest, (u64, u64)>,
    /// Whether images say how many members their layers have.
    with_entries: bool,
}

/// An image whose layers are what it says.
#[derive(Debug)]
pub struct MeasuredImage {
    /// As a release names it.
    pub image: Image,
    /// Docker's health check in its configuration.
    pub healthcheck: Option<Healthcheck>,
}

impl<'a> Measurer<'a> {
    /// Measures images of `layout`; from an index, the manifest for `platform`.
    pub fn new(layout: &'a Layout, platform: Platform) -> Self {
        Self {
            layout,
            platform,
            seen: BTreeMap::new(),
            with_entries: true,
        }
    }

    /// Images that say nothing of how many members their layers have, for boards that refuse a release that does.
    pub fn without_entries(&mut self) {
        self.with_entries = false;
    }

    /// The image with this tag.
    pub fn image(&mut self, name: &str) -> Result<Image, ImageError> {
        Ok(self.measured(name)?.image)
    }

    /// The same, with what it says of its health.
    pub fn measured(&mut self, name: &str) -> Result<MeasuredImage, ImageError> {
        let found = self
            .layout
            .image(Some(name), &self.platform)
            .map_err(at(self.layout.dir()))?;
        let layers = layers(name, &found)?
            .map(|(descriptor, layer_type, diff_id)| {
                let (unpacked_size, entries) =
                    self.unpacked(name, descriptor, layer_type, diff_id)?;
                Ok(Layer {
                    media_type: descriptor.media_type.clone(),
                    digest: descriptor.digest,
                    size: descriptor.size,
                    diff_id,
                    unpacked_size,
                    entries: self.with_entries.then_some(entries),
                })
            })
            .collect::<Result<_, ImageError>>()?;
        let image = Image {
            name: name.to_owned(),
            manifest: blob(&found.descriptor),
            config: blob(&found.manifest.config),
            layers,
        };
        Ok(MeasuredImage {
            image,
            healthcheck: found.config.config.healthcheck,
        })
    }

    /// The program in an image that carries a board's own, held against what a board asks of it before it is executed.
    pub fn agent(&self, image: &Image) -> Result<Blob, ImageError> {
        let no_agent = |fault: String| ImageError::NoAgent {
            image: image.name.clone(),
            fault,
        };
        let [layer] = &image.layers[..] else {
            let count = image.layers.len();
            return Err(no_agent(format!("it has {count} layers, and needs one")));
        };
        let media_type = &layer.media_type;
        let layer_type = LayerType::from_media_type(media_type)
            .ok_or_else(|| no_agent(format!("its layer is `{media_type}`")))?;
        let blob = self.layout.store().open_blob(&layer.digest)?;
        let found = agent_in(tar_stream(blob, layer_type, &limits()));
        found.map_err(|error| no_agent(error.to_string()))
    }

    /// Bytes and members of a layer's tar.
    fn unpacked(
        &mut self,
        image: &str,
        descriptor: &Descriptor,
        layer_type: LayerType,
        diff_id: Sha256Digest,
    ) -> Result<(u64, u64), ImageError> {
        if let Some(seen) = self.seen.get(&descriptor.digest) {
            return Ok(*seen);
        }
        let digest = descriptor.digest;
        let unreadable = |source| ImageError::Layer {
            image: image.to_owned(),
            digest,
            source,
        };
        let damaged = |what| ImageError::Damaged {
            image: image.to_owned(),
            digest,
            what,
        };
        if self.layout.store().size(&digest)? != descriptor.size {
            return Err(damaged("size"));
        }
        let bar = progress::bytes(&format!("checking {image}"), descriptor.size);
        let blob = self.layout.store().open_blob(&digest)?;
        let mut compressed = Measured::new(progress::reading(&bar, blob), u64::MAX);
        let limits = limits();
        let mut tar = Measured::new(
            tar_stream(&mut compressed, layer_type, &limits),
            limits.unpacked_bytes,
        );
        // Damage that the digests show is told as that, whatever it makes of the tar.
        let entries = members(&mut tar, &limits);
        io::copy(&mut tar, &mut io::sink()).map_err(unreadable)?;
        let (found, unpacked) = tar.finish();
        // What a decompressor leaves unread belongs to the blob too.
        io::copy(&mut compressed, &mut io::sink()).map_err(unreadable)?;
        bar.finish_and_clear();
        if compressed.finish().0 != digest {
            return Err(damaged("digest"));
        }
        if found != diff_id {
            return Err(damaged("diff_id"));
        }
        let entries = entries.map_err(|error| unreadable(io::Error::other(error)))?;
        self.seen.insert(digest, (unpacked, entries));
        Ok((unpacked, entries))
    }
}

/// As boards count them.
fn members(tar: impl io::Read, limits: &Limits) -> Result<u64, TarError> {
    let mut stream = TarStream::new(tar, limits);
    while stream.next_member()?.is_some() {}
    Ok(stream.entries())
}

fn agent_in(layer: impl io::Read) -> io::Result<Blob> {
    let mut tar = tar::Archive::new(layer);
    for member in tar.entries()? {
        let mut member = member?;
        let path = member.path()?;
        if path.strip_prefix(".").unwrap_or(&path) != Path::new(AGENT_FILE) {
            continue;
        }
        let header = member.header();
        let (mode, owner) = (header.mode()?, header.uid()?);
        if !header.entry_type().is_file() || mode & 0o6122 != 0o100 || owner != 0 {
            return Err(io::Error::other(format!(
                "`{AGENT_FILE}` is no file of root's that root alone can write and execute: owner {owner}, mode {mode:o} \
                 (chmod 755, and `image build --owner 0:0`)"
            )));
        }
        let mut program = Measured::new(&mut member, u64::MAX);
        let mut begin = [0; 4];
        io::Read::read_exact(&mut program, &mut begin)?;
        if begin != *b"\x7fELF" {
            return Err(io::Error::other(format!(
                "`{AGENT_FILE}` is no ELF program"
            )));
        }
        io::copy(&mut program, &mut io::sink())?;
        let (digest, size) = program.finish();
        return Ok(Blob { digest, size });
    }
    Err(io::Error::other(format!(
        "there is no `{AGENT_FILE}` in it"
    )))
}

/// The layers of an image with their types and diff_ids, the lowest first.
pub fn layers<'i>(
    name: &str,
    image: &'i LayoutImage,
) -> Result<impl Iterator<Item = (&'i Descriptor, LayerType, Sha256Digest)> + use<'i>, ImageError> {
    let mut out = Vec::new();
    for (descriptor, diff_id) in image
        .manifest
        .layers
        .iter()
        .zip(&image.config.rootfs.diff_ids)
    {
        let layer_type = LayerType::from_media_type(&descriptor.media_type).ok_or_else(|| {
            ImageError::MediaType {
                image: name.to_owned(),
                digest: descriptor.digest,
                media_type: descriptor.media_type.clone(),
            }
        })?;
        out.push((descriptor, layer_type, *diff_id));
    }
    Ok(out.into_iter())
}

fn blob(descriptor: &Descriptor) -> Blob {
    Blob {
        digest: descriptor.digest,
        size: descriptor.size,
    }
}

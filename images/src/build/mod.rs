//! Making an image from folders: the same input gives the same bytes.
//!
//! Members are sorted by their bytes, times can be clamped, user names and the rest of the builder's machine stay
//! outside, compression runs on one thread. So two builds of one source have one digest, and a delta between two
//! versions holds what changed and nothing else.

pub(crate) mod pack;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use coracle_digest::Sha256Digest;

use crate::layout::{
    CONFIG, Descriptor, History, Image, ImageConfig, LayerType, Layout, LayoutError, MANIFEST,
    Manifest, Platform, RootFs, RunConfig,
};
use crate::store::StoreError;

use crate::tree::write_tree_with;
pub use crate::tree::{Folder, Owner, TreeError, write_tree};

/// Why an image can't be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file of the root file system.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Compressing.
    #[error("compressing a layer")]
    Compress(#[source] io::Error),
    /// The layout.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The layout's blobs.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How layers are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, level 0 to 9.
    Gzip(u32),
    /// zstd, level 1 to 19, window of 8 MiB at most, so that every board can read it.
    Zstd(i32),
}

impl Compression {
    pub(crate) fn layer_type(self) -> LayerType {
        match self {
            Self::None => LayerType::Tar,
            Self::Gzip(_) => LayerType::TarGzip,
            Self::Zstd(_) => LayerType::TarZstd,
        }
    }
}

/// What to build.
#[derive(Debug, Clone)]
pub struct Build {
    /// Root file systems, one layer each, the lowest first.
    pub layers: Vec<PathBuf>,
    /// How to run it.
    pub config: RunConfig,
    /// For which machine.
    pub platform: Platform,
    /// Latest time in seconds since 1970 that a file and the image may have; `SOURCE_DATE_EPOCH`. Without it
    /// the files' own times are kept and the image has none.
    pub clamp_mtime: Option<i64>,
    /// How layers are packed.
    pub compression: Compression,
    /// Who owns the files.
    pub owner: Owner,
    /// Folders of the layers, by their paths below the root, that are not as the disk has them: what a lower layer says of
    /// them stays in force.
    pub folders: BTreeMap<PathBuf, Folder>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

impl Build {
    /// An image of one folder for Linux on `architecture`, zstd, times kept.
    #[must_use]
    pub fn new(rootfs: impl Into<PathBuf>, config: RunConfig, platform: Platform) -> Self {
        Self {
            layers: vec![rootfs.into()],
            config,
            platform,
            clamp_mtime: None,
            compression: Compression::Zstd(19),
            owner: Owner::Kept,
            folders: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }
}

/// A layer that was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltLayer {
    /// Names its blob.
    pub descriptor: Descriptor,
    /// Digest of its uncompressed tar stream.
    pub diff_id: Sha256Digest,
    /// Bytes of that stream.
    pub tar_bytes: u64,
    /// Bytes of its files' contents: about what it takes on a board.
    pub unpacked_bytes: u64,
    /// Members.
    pub entries: u64,
}

/// An image that was built. The layout has its blobs; [`Layout::tag`] gives it a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// Names the manifest.
    pub manifest: Descriptor,
    /// Names the config.
    pub config: Descriptor,
    /// The layers, the lowest first.
    pub layers: Vec<BuiltLayer>,
}

/// Builds an image into a layout.
pub fn build(build: &Build, layout: &Layout) -> Result<Built, BuildError> {
    make(None, build, layout)
}

/// Builds an image on top of another one of the same layout: its layers below, and its configuration where `build` says nothing.
pub fn build_on(base: &Image, build: &Build, layout: &Layout) -> Result<Built, BuildError> {
    make(Some(base), build, layout)
}

fn make(base: Option<&Image>, build: &Build, layout: &Layout) -> Result<Built, BuildError> {
    let layers: Result<Vec<_>, _> = build
        .layers
        .iter()
        .map(|dir| layer(build, dir, layout))
        .collect();
    let layers = layers?;
    let created = build.clamp_mtime.map(rfc3339);
    let step = |_: &BuiltLayer| History {
        created: created.clone(),
        created_by: Some("coracle-release build".to_owned()),
        ..History::default()
    };
    let below = base.map(Below::of).unwrap_or_default();
    let mut history = below.history;
    history.extend(layers.iter().map(step));
    let config = ImageConfig {
        created: created.clone(),
        architecture: build.platform.architecture.clone(),
        os: build.platform.os.clone(),
        variant: build.platform.variant.clone(),
        config: merged(below.config, build.config.clone()),
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: below
                .diff_ids
                .into_iter()
                .chain(layers.iter().map(|layer| layer.diff_id))
                .collect(),
        },
        history,
    };
    let config = layout.put_json(CONFIG, &config)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(MANIFEST.to_owned()),
        artifact_type: None,
        config: config.clone(),
        layers: below
            .layers
            .into_iter()
            .chain(layers.iter().map(|layer| layer.descriptor.clone()))
            .collect(),
        subject: None,
        annotations: build.annotations.clone(),
    };
    let mut manifest = layout.put_json(MANIFEST, &manifest)?;
    manifest.platform = Some(build.platform.clone());
    Ok(Built {
        manifest,
        config,
        layers,
    })
}

/// What a base brings.
#[derive(Default)]
struct Below {
    layers: Vec<Descriptor>,
    diff_ids: Vec<Sha256Digest>,
    history: Vec<History>,
    config: RunConfig,
}

impl Below {
    fn of(base: &Image) -> Self {
        let (layers, told) = (&base.manifest.layers, &base.config.history);
        // A history that does not tell of each layer is of no use to whoever reads it by their number.
        let history = match told.iter().filter(|step| !step.empty_layer).count() {
            steps if steps == layers.len() => told.clone(),
            _ => vec![History::default(); layers.len()],
        };
        Self {
            layers: layers.clone(),
            diff_ids: base.config.rootfs.diff_ids.clone(),
            history,
            config: base.config.config.clone(),
        }
    }
}

/// The base's settings where there are no new ones. A new entrypoint takes the base's arguments away, as with Docker.
fn merged(mut base: RunConfig, new: RunConfig) -> RunConfig {
    if !new.entrypoint.is_empty() {
        (base.entrypoint, base.cmd) = (new.entrypoint, Vec::new());
    }
    if !new.cmd.is_empty() {
        base.cmd = new.cmd;
    }
    let name = |text: &str| text.split('=').next().unwrap_or_default().to_owned();
    for variable in new.env {
        match base.env.iter_mut().find(|old| name(old) == name(&variable)) {
            Some(old) => *old = variable,
            None => base.env.push(variable),
        }
    }
    for (old, new) in [
        (&mut base.user, new.user),
        (&mut base.working_dir, new.working_dir),
    ] {
        if !new.is_empty() {
            *old = new;
        }
    }
    base.exposed_ports.extend(new.exposed_ports);
    base.volumes.extend(new.volumes);
    base.labels.extend(new.labels);
    base.stop_signal = new.stop_signal.or(base.stop_signal);
    base.healthcheck = new.healthcheck.or(base.healthcheck);
    base
}

fn layer(build: &Build, dir: &Path, layout: &Layout) -> Result<BuiltLayer, BuildError> {
    let mut packer = pack::Packer::new(layout, build.compression)?;
    let folders = |path: &Path| build.folders.get(path).copied();
    let written = write_tree_with(dir, build.owner, build.clamp_mtime, &folders, &mut packer)?;
    let packed = packer.finish(layout)?;
    let media_type = build.compression.layer_type().media_type();
    Ok(BuiltLayer {
        descriptor: Descriptor::new(media_type, packed.digest, packed.size),
        diff_id: packed.diff_id,
        tar_bytes: packed.tar_bytes,
        unpacked_bytes: written.bytes,
        entries: written.entries,
    })
}

/// `YYYY-MM-DDThh:mm:ssZ`. What is outside the years 1970 to 9999 becomes their end.
fn rfc3339(seconds: i64) -> String {
    let seconds = seconds.clamp(0, 253_402_300_799).unsigned_abs();
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(rfc3339(951_868_800), "2000-03-01T00:00:00Z");
        assert_eq!(rfc3339(1_700_000_000), "2023-11-14T22:13:20Z");
    }
}

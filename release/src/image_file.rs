//! `image.toml`: an image from another one, files and settings. Paths begin at the file's folder; unknown keys are refused.

mod lay_out;
mod lower;

use crate::image::{self, ImageError};
use crate::toml_file::{self, TomlFileError};
use coracle_images::build::{self, Build, Built, Compression, Owner};
use coracle_images::layout::{Empty, Layout, Platform, RunConfig};
use lay_out::LaidOut;
use lower::Lower;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// An image.toml, in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// Why an image file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ImageFileError {
    /// The file.
    #[error("{0}")]
    File(#[from] TomlFileError),
    /// Without sense.
    #[error("`{path}`: {field}: {what}")]
    Field {
        /// The file.
        path: PathBuf,
        /// Its field.
        field: String,
        /// What is wrong, and what is right.
        what: String,
    },
    /// Neither a file nor a link nor a folder.
    #[error("`{0}` is neither a file nor a link nor a folder: [[files]] takes nothing else")]
    Kind(PathBuf),
    /// A file that cannot be taken.
    #[error("`{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> ImageFileError {
    let path = path.to_owned();
    move |source| ImageFileError::Io { path, source }
}

/// What its author wrote.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageFile {
    /// The image below, by its name in the layout.
    pub base: Option<String>,
    /// The lowest layer, where there is no base.
    pub rootfs: Option<PathBuf>,
    /// `linux/arm64`.
    pub platform: Option<String>,
    /// `uid:gid` of every file; `0:0`.
    pub owner: Option<String>,
    /// One more layer, of these.
    #[serde(default)]
    pub files: Vec<FileEntry>,
    /// How it is run; what is not said is as in the base.
    #[serde(default)]
    pub config: ConfigTable,
}

/// `[[files]]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// A file, a link or a folder with all that is in it.
    pub from: PathBuf,
    /// Where it goes: an absolute path, or a folder when it ends with a slash.
    pub to: String,
    /// Octal digits; as it is when left out.
    pub mode: Option<String>,
}

/// `[config]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigTable {
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    env: BTreeMap<String, String>,
    workdir: String,
    user: String,
    expose: Vec<String>,
    volumes: Vec<String>,
    labels: BTreeMap<String, String>,
    stop_signal: Option<String>,
}

impl ImageFile {
    /// Reads it.
    pub fn read(path: &Path) -> Result<Self, ImageFileError> {
        let file: Self = toml_file::read(path, FILE_BYTES)?;
        let field = |field: &str, what: &str| ImageFileError::Field {
            path: path.to_owned(),
            field: field.to_owned(),
            what: what.to_owned(),
        };
        match (&file.base, &file.rootfs) {
            (Some(_), Some(_)) => Err(field(
                "rootfs",
                "an image with a base has its root from there; use [[files]]",
            )),
            (None, None) if file.files.is_empty() => Err(field(
                "base",
                "there is nothing to build from: a base, a rootfs or [[files]]",
            )),
            _ => Ok(file),
        }
    }

    /// Its `[config]`, in OCI's words.
    pub fn run_config(&self) -> RunConfig {
        let config = &self.config;
        let set = |names: &[String]| names.iter().map(|name| (name.clone(), Empty {})).collect();
        RunConfig {
            user: config.user.clone(),
            exposed_ports: set(&config.expose),
            env: config
                .env
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect(),
            entrypoint: config.entrypoint.clone(),
            cmd: config.cmd.clone(),
            volumes: set(&config.volumes),
            working_dir: config.workdir.clone(),
            labels: config.labels.clone(),
            stop_signal: config.stop_signal.clone(),
            healthcheck: None,
        }
    }
}

/// Builds what an image.toml says and names it.
pub fn build(
    path: &Path,
    compression: Compression,
    clamp_mtime: Option<i64>,
    output: &Path,
    tag: &str,
) -> Result<Built, ImageError> {
    let file = ImageFile::read(path)?;
    let field = |field: &str, what: String| ImageFileError::Field {
        path: path.to_owned(),
        field: field.to_owned(),
        what,
    };
    let machine = match &file.platform {
        Some(text) => image::platform(text).map_err(|what| field("platform", what))?,
        None => image::host_platform(),
    };
    let owner = file.owner.as_deref().unwrap_or("0:0");
    let owner = image::owner(owner).map_err(|what| field("owner", what))?;
    let layout = Layout::create(output, &image::limits()).map_err(image::at(output))?;
    let base = file
        .base
        .as_deref()
        .map(|name| layout.image(Some(name), &machine));
    let base = base.transpose().map_err(image::at(output))?;
    let rootfs = file.rootfs.as_ref();
    let rootfs = rootfs.map(|rootfs| path.parent().unwrap_or(Path::new("")).join(rootfs));
    let leads = lay_out::leads(&file);
    let lower = match (&base, &rootfs) {
        // Nothing is asked of layers, which are read for it, when nothing lies in their folders.
        _ if leads.is_empty() => Lower::default(),
        (Some(base), _) => {
            let name = file.base.as_deref().unwrap_or_default();
            Lower::of_image(name, base, &layout, &leads)?
        }
        (None, Some(rootfs)) => Lower::of_folder(rootfs, owner, &leads)?,
        (None, None) => Lower::default(),
    };
    let laid = LaidOut::of(&file, path, &lower)?;
    let files = (!file.files.is_empty()).then(|| laid.root().to_owned());
    let build = Build {
        layers: rootfs.into_iter().chain(files).collect(),
        config: file.run_config(),
        platform: base.as_ref().map_or(machine, |base| Platform {
            architecture: base.config.architecture.clone(),
            os: base.config.os.clone(),
            variant: base.config.variant.clone(),
        }),
        clamp_mtime,
        compression,
        owner: Owner::All(owner.0, owner.1),
        folders: laid.as_below().clone(),
        annotations: BTreeMap::new(),
    };
    let built = match &base {
        Some(base) => build::build_on(base, &build, &layout)?,
        None => build::build(&build, &layout)?,
    };
    let named = layout.tag(built.manifest.clone(), tag);
    named.map_err(image::at(output))?;
    Ok(built)
}

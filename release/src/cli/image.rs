//! `image`: images from folders, archives and registries, and to them.

use super::registry::{ImagePull, ImagePush};
use super::say;
use crate::failure::Failure;
use crate::{archive, human, image, image_file};
use clap::{Args, Subcommand, ValueEnum};
use coracle_images::archive::{Format, Import};
use coracle_images::build::{Build, Built, Compression, Owner};
use coracle_images::layout::{Empty, Platform, RunConfig};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum ImageCommand {
    /// Pack folders as an image, into an OCI layout (made when it is not there), or do what an image.toml says
    ///
    /// The same folders give the same bytes: members are sorted, and with SOURCE_DATE_EPOCH their
    /// times are held. Example:
    ///   coracle-release image build --rootfs ./rootfs --entrypoint /bin/web --env PORT=8080 \
    ///       --user 1000:1000 --expose 8080/tcp --output images --tag shop/web:1.4
    /// An image.toml puts files and settings on top of another image of the layout (docs/registry.md):
    ///   coracle-release image build image.toml --output images --tag shop/web:1.4
    #[command(verbatim_doc_comment)]
    Build(Box<ImageBuild>),
    /// Take images from an archive, or from another OCI layout, into an OCI layout (made when it is not there)
    ///
    /// Archives are what `docker save` and `podman save` write, and OCI layouts in a tar; packed by gzip or zstd as well. Each
    /// blob is held against its digest and each layer against its DiffID before the image gets its name. Examples:
    ///   docker save shop/web:1.4 | coracle-release image import - --output images
    ///   coracle-release image import web.tar --output images --tag shop/web:1.4
    #[command(verbatim_doc_comment)]
    Import(ImageImport),
    /// Write an image into an archive, for `docker load`, `podman load` or skopeo
    ///
    /// The same image gives the same archive. Examples:
    ///   coracle-release image export --images images --tag shop/web:1.4 - | docker load
    ///   coracle-release image export --images images --tag shop/web:1.4 --format oci web.oci.tar
    #[command(verbatim_doc_comment)]
    Export(ImageExport),
    /// Bring an image from any registry into an OCI layout (made when it is not there)
    ///
    /// Of an image for several machines the one for --platform comes. Example:
    ///   coracle-release image pull registry.example/shop/web:1.4 --user ci --password-file token \
    ///       --platform linux/arm64 --output images
    #[command(verbatim_doc_comment)]
    Pull(Box<ImagePull>),
    /// Send an image of an OCI layout to any registry
    Push(Box<ImagePush>),
}

#[derive(Debug, Args)]
pub(super) struct ImageImport {
    /// The archive, or the folder of an OCI layout; `-` reads it from stdin
    #[arg(value_name = "FILE")]
    source: PathBuf,
    /// The OCI layout
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// The image's name; without it, the one that it has in the archive
    #[arg(long, value_name = "NAME:TAG")]
    tag: Option<String>,
    /// How layers of `docker save` are packed: zstd, gzip or none
    #[arg(long, value_name = "KIND", default_value = "zstd")]
    compression: CompressionName,
}

#[derive(Debug, Args)]
pub(super) struct ImageExport {
    /// The archive; `-` writes it to stdout
    #[arg(value_name = "FILE")]
    output: PathBuf,
    /// The OCI layout
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// The image's name
    #[arg(long, value_name = "NAME:TAG")]
    tag: String,
    /// docker (layers not packed, read by every Docker) or oci
    #[arg(long, value_name = "KIND", default_value = "docker")]
    format: FormatName,
    /// Which one, of an image for several machines
    #[arg(long, value_name = "linux/ARCH", value_parser = image::platform)]
    platform: Option<Platform>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum FormatName {
    Docker,
    Oci,
}

#[derive(Debug, Args)]
pub(super) struct ImageBuild {
    /// An image.toml, which says the rest
    #[arg(value_name = "FILE", conflicts_with_all = ["rootfs", "layer", "entrypoint", "cmd", "env", "workdir", "user", "expose", "platform", "owner"])]
    file: Option<PathBuf>,
    /// The lowest layer
    #[arg(long, value_name = "DIR", required_unless_present_any = ["layer", "file"])]
    rootfs: Option<PathBuf>,
    /// A further layer on top of it; once for each, upwards
    #[arg(long, value_name = "DIR")]
    layer: Vec<PathBuf>,
    /// The program and its first arguments; once for each word
    #[arg(
        long,
        value_name = "WORD",
        required_unless_present = "file",
        allow_hyphen_values = true
    )]
    entrypoint: Vec<String>,
    /// Further arguments that a release may replace; once for each word
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    cmd: Vec<String>,
    /// A variable; once for each
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Working folder
    #[arg(long, value_name = "PATH", default_value = "")]
    workdir: String,
    /// Who runs it: uid, uid:gid or a name from the image's /etc/passwd
    #[arg(long, value_name = "USER", default_value = "")]
    user: String,
    /// A port that it listens on, like 8080/tcp; for people, nothing is opened
    #[arg(long, value_name = "PORT")]
    expose: Vec<String>,
    /// For which machine
    #[arg(long, value_name = "linux/ARCH", value_parser = image::platform)]
    platform: Option<Platform>,
    /// zstd, gzip or none
    #[arg(long, value_name = "KIND", default_value = "zstd")]
    compression: CompressionName,
    /// Owner of every file, like 0:0; the folder's own owners when left out
    #[arg(long, value_name = "UID:GID", value_parser = image::owner)]
    owner: Option<(u32, u32)>,
    /// The OCI layout
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// The image's name
    #[arg(long, value_name = "NAME:TAG")]
    tag: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum CompressionName {
    Zstd,
    Gzip,
    None,
}

impl CompressionName {
    fn compression(self) -> Compression {
        match self {
            Self::Zstd => Compression::Zstd(19),
            Self::Gzip => Compression::Gzip(9),
            Self::None => Compression::None,
        }
    }
}

impl ImageCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Build(args) => build(*args),
            Self::Import(args) => import(args),
            Self::Export(args) => export(&args),
            Self::Pull(args) => args.run(),
            Self::Push(args) => args.run(),
        }
    }
}

fn import(args: ImageImport) -> Result<(), Failure> {
    let wanted = Import {
        tag: args.tag,
        compression: args.compression.compression(),
        limits: image::limits(),
    };
    for image in archive::import(&args.source, &args.output, &wanted)? {
        let replaced = image.replaced.map(|digest| format!(" (replaced {digest})"));
        let replaced = replaced.unwrap_or_default();
        say(&format!("{} {}{replaced}", image.tag, image.entry.digest));
    }
    Ok(())
}

fn export(args: &ImageExport) -> Result<(), Failure> {
    let machine = args.platform.clone().unwrap_or_else(image::host_platform);
    let format = match args.format {
        FormatName::Docker => Format::Docker,
        FormatName::Oci => Format::Oci,
    };
    archive::export(&args.images, &args.tag, &machine, format, &args.output)?;
    if args.output != std::path::Path::new("-") {
        say(&format!("{} is in `{}`", args.tag, args.output.display()));
    }
    Ok(())
}

fn clamp_mtime() -> Result<Option<i64>, Failure> {
    let clamp = std::env::var("SOURCE_DATE_EPOCH").ok();
    let number = clamp.map(|text| {
        let wrong = || Failure::usage(format!("SOURCE_DATE_EPOCH `{text}` is no number"));
        text.parse().map_err(|_| wrong())
    });
    number.transpose()
}

fn build(args: ImageBuild) -> Result<(), Failure> {
    if let Some(file) = &args.file {
        let (packing, clamp) = (args.compression.compression(), clamp_mtime()?);
        let built = image_file::build(file, packing, clamp, &args.output, &args.tag)?;
        say_built(&args.tag, &built);
        return Ok(());
    }
    let bad_env = |text: &&String| text.split_once('=').is_none_or(|(name, _)| name.is_empty());
    if let Some(text) = args.env.iter().find(bad_env) {
        return Err(Failure::usage(format!("--env `{text}` is not NAME=VALUE")));
    }
    let layers: Vec<PathBuf> = args.rootfs.into_iter().chain(args.layer).collect();
    if let Some(dir) = layers.iter().find(|dir| !dir.is_dir()) {
        return Err(Failure::usage(format!(
            "layer `{}` is no folder",
            dir.display()
        )));
    }
    let clamp_mtime = clamp_mtime()?;
    let build = Build {
        layers,
        config: RunConfig {
            user: args.user,
            exposed_ports: args
                .expose
                .into_iter()
                .map(|port| (port, Empty {}))
                .collect(),
            env: args.env,
            entrypoint: args.entrypoint,
            cmd: args.cmd,
            working_dir: args.workdir,
            ..RunConfig::default()
        },
        platform: args.platform.unwrap_or_else(image::host_platform),
        clamp_mtime,
        compression: args.compression.compression(),
        owner: args
            .owner
            .map_or(Owner::Kept, |(uid, gid)| Owner::All(uid, gid)),
        folders: Default::default(),
        annotations: Default::default(),
    };
    let built = image::build(&build, &args.output, &args.tag)?;
    say_built(&args.tag, &built);
    Ok(())
}

fn say_built(tag: &str, built: &Built) {
    say(&format!("{tag} {}", built.manifest.digest));
    for layer in &built.layers {
        say(&format!(
            "  layer {} {} ({} unpacked, {} members)",
            layer.diff_id,
            human::bytes(layer.descriptor.size),
            human::bytes(layer.unpacked_bytes),
            layer.entries
        ));
    }
}

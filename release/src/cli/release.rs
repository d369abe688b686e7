//! `release`: releases made, signed and shown.

use super::{json, say};
use crate::envelope_file;
use crate::failure::Failure;
use crate::image::{self, Measurer};
use crate::keys::{Key, KeyRef};
use crate::release::{self, Signer};
use crate::release_file::ReleaseFile;
use crate::{human, root};
use clap::{Args, Subcommand};
use coracle_images::layout::Platform;
use coracle_protocol::root::Role;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(super) enum ReleaseCommand {
    /// Make and sign a release from FILE (docs/release-file.md)
    ///
    /// Every layer is unpacked in passing and held against its digests; what boards would refuse is
    /// refused here. Example:
    ///   coracle-release release create release.toml --images images --key release.pk8 \
    ///       --root root.json --output release.json
    #[command(verbatim_doc_comment)]
    Create(Box<ReleaseCreate>),
    /// Add a second key's signature, where the root asks for several
    Sign {
        /// A private release key: its file, or a `pkcs11:` URI
        #[arg(long, value_name = "KEY")]
        key: KeyRef,
        /// The release; it is changed
        file: PathBuf,
    },
    /// Say what a release holds
    Show {
        /// The release
        file: PathBuf,
        /// Check the signatures against this root; exit code 3 when boards would refuse it
        #[arg(long, value_name = "FILE")]
        root: Option<PathBuf>,
        /// The document itself, as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct ReleaseCreate {
    /// release.toml
    file: PathBuf,
    /// The OCI layout with the images
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// A private release key: its file, or a `pkcs11:` URI
    #[arg(long, value_name = "KEY")]
    key: KeyRef,
    /// Check under this root, and take the epoch from it
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Epoch of role `release`, when no --root says it
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "root")]
    epoch: u64,
    /// From images for several machines, the one for this
    #[arg(long, value_name = "linux/ARCH", value_parser = image::platform)]
    platform: Option<Platform>,
    /// Where the signed release goes
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

impl ReleaseCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Create(args) => create(*args),
            Self::Sign { key, file } => sign(&key, &file),
            Self::Show { file, root, json } => show(&file, root.as_deref(), json),
        }
    }
}

fn create(args: ReleaseCreate) -> Result<(), Failure> {
    let file = ReleaseFile::read(&args.file)?;
    let root = args.root.as_deref().map(root::read_trusted).transpose()?;
    let signer = Signer::new(Key::open(&args.key)?, Role::Release, root, args.epoch)?;
    let layout = image::open(&args.images)?;
    let mut images = Measurer::new(&layout, args.platform.unwrap_or_else(image::host_platform));
    let described = file.release(&args.file, human::now(), signer.epoch(), &mut images)?;
    let envelope = release::sign(&described.release, &signer, &args.output)?;
    envelope_file::write(&args.output, &envelope)?;
    // What was written is what is shown: it is read from the disk.
    let written = release::read(&args.output, signer.root().filter(|_| args.root.is_some()))?;
    say(&release::describe(&written));
    for app in &described.health_of_image {
        say(&format!(
            "app {app}: its health check is its image's HEALTHCHECK; `health = \"none\"` leaves it out"
        ));
    }
    if signer.root().is_none() {
        say("more release keys must sign it: `coracle-release release sign --key KEY FILE`");
    }
    Ok(())
}

fn sign(key: &KeyRef, file: &Path) -> Result<(), Failure> {
    let mut release = release::read(file, None)?;
    Key::open(key)?.sign(&mut release.envelope)?;
    envelope_file::write(file, &release.envelope)?;
    say(&format!(
        "{}: {} signatures",
        file.display(),
        release.envelope.signatures.len()
    ));
    Ok(())
}

fn show(file: &Path, root: Option<&Path>, as_json: bool) -> Result<(), Failure> {
    let root = root.map(root::read_trusted).transpose()?;
    let release = release::read(file, root.as_ref())?;
    if as_json {
        return json(&release.release);
    }
    say(&release::describe(&release));
    say(match root {
        Some(_) => "signatures good under this root",
        None => "signatures not checked; --root FILE checks them",
    });
    Ok(())
}

//! `usb`: sticks for boards without a network.

mod assignments;

use super::say;
use super::secret::KeysArgs;
use crate::failure::Failure;
use crate::human::{self, Expiry};
use crate::image;
use crate::keys::{Key, KeyRef};
use crate::release::{self, Signer};
use crate::root::{self, chain};
use crate::stick::{folder, vfat};
use assignments::{Common, ForSecret, ForSite, for_boards, for_hardware};
use clap::Args;
use coracle_images::layout::Platform;
use coracle_protocol::names::{BoardId, HardwareClass};
use coracle_protocol::root::Role;
use std::path::{Path, PathBuf};

/// A USB stick: a folder to copy to one, or a vfat image to write to one.
///
/// Example: coracle-release usb --release release.json --images images --base-images old-images \
///     --key offline.pk8 --hardware raspberrypi4 --seq 7 --image stick.img
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Usb {
    /// The signed release
    #[arg(long, value_name = "FILE")]
    release: PathBuf,
    /// The OCI layout with its images
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// A layout with images that boards may have: deltas from them go on the stick; once for each
    #[arg(long, value_name = "DIR")]
    base_images: Vec<PathBuf>,
    /// A private offline-deploy key: its file, or a `pkcs11:` URI
    #[arg(long, value_name = "KEY")]
    key: KeyRef,
    /// Check under this root, and take the epoch from it
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// A root document that boards may lack, after those before it; once for each
    #[arg(long, value_name = "FILE")]
    with_root: Vec<PathBuf>,
    /// Epoch of role `offline-deploy`, when no --root says it
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "root")]
    epoch: u64,
    /// For exactly these boards; once for each
    #[arg(
        long,
        value_name = "ID",
        conflicts_with = "hardware",
        required_unless_present = "hardware"
    )]
    board: Vec<BoardId>,
    /// For every board of these hardware classes; once for each
    #[arg(long, value_name = "CLASS")]
    hardware: Vec<HardwareClass>,
    /// What is set there, as for `deploy --site`; once for all boards, or with `BOARD=` before it for one
    #[arg(long, value_name = "[BOARD=]FILE")]
    site: Vec<ForSite>,
    /// A secret and the file with its value, for all boards, or with `BOARD:` before it for one. It is sealed to the key
    /// that is known of the board (`secret pin`, `secret set`)
    #[arg(
        long,
        value_name = "[BOARD:]APP/NAME=FILE",
        conflicts_with = "hardware"
    )]
    secret: Vec<ForSecret>,
    #[command(flatten)]
    keys: KeysArgs,
    /// The stick's number: higher than that of every stick before it
    #[arg(long, value_name = "N")]
    seq: u64,
    /// Until when; as long as the release when left out
    #[arg(long, value_name = "TIME")]
    expires: Option<Expiry>,
    /// Each board that takes it, or refuses it, leaves a small file there that says so (`coracle/result-BOARD.json`);
    /// `usb-results` shows them. Boards whose agent knows no results refuse the stick
    #[arg(long)]
    result: bool,
    /// From images for several machines, the one for this
    #[arg(long, value_name = "linux/ARCH", value_parser = image::platform)]
    platform: Option<Platform>,
    /// The folder: a mounted stick, or one to copy to it
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "image",
        conflicts_with = "image"
    )]
    output: Option<PathBuf>,
    /// A vfat image
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
}

pub(super) fn run(args: Usb) -> Result<(), Failure> {
    let root = args.root.as_deref().map(root::read_trusted).transpose()?;
    let file = release::read(&args.release, root.as_ref())?;
    let key = Key::open(&args.key)?;
    let signer = Signer::new(key, Role::OfflineDeploy, root, args.epoch)?;
    if signer.root().is_none() {
        return Err(Failure::usage(
            "the root asks for several offline-deploy keys; a stick is signed by one",
        ));
    }
    let images = image::open(&args.images)?;
    let bases = args
        .base_images
        .iter()
        .map(|dir| image::open(dir))
        .collect::<Result<Vec<_>, _>>()?;
    let issued_at = human::now();
    let expires = args
        .expires
        .map_or(file.release.expires, |time| time.from(issued_at));
    let common = Common {
        seq: args.seq,
        issued_at,
        expires,
        result: args.result,
    };
    let assignments = match args.hardware.is_empty() {
        true => for_boards(&args, common)?,
        false => vec![for_hardware(&args, common)?],
    };
    let input = folder::Input {
        file: &file,
        images: &images,
        bases: &bases,
        platform: &args.platform.unwrap_or_else(image::host_platform),
        roots: &chain::stick(&args.with_root)?,
        signer: &signer,
    };
    let (place, summary) = match (args.output, args.image) {
        (Some(dir), _) => {
            let summary = folder::write(&input, assignments, &dir)?;
            (dir, summary)
        }
        (None, Some(image)) => {
            // Beside the image: there is room for one, so there may be room for two.
            let beside = image.parent().filter(|dir| !dir.as_os_str().is_empty());
            let scratch = tempfile::tempdir_in(beside.unwrap_or(Path::new(".")))?;
            let summary = folder::write(&input, assignments, scratch.path())?;
            vfat::write(scratch.path(), &image)?;
            (image, summary)
        }
        (None, None) => return Err(Failure::usage("name --output DIR or --image FILE")),
    };
    say(&format!(
        "{}: {} {}, stick {}\n{} blobs with {}, of which {} deltas with {}",
        place.display(),
        file.release.product,
        file.release.version,
        args.seq,
        summary.blobs,
        human::bytes(summary.bytes),
        summary.deltas,
        human::bytes(summary.delta_bytes)
    ));
    Ok(())
}

//! The command line. Each subcommand is a struct with its flags, and a function of that name below
//! [`commands`] that calls the room where the work is done and says what came of it.

mod commands;

use crate::failure::Failure;
use crate::human::Expiry;
use crate::image;
use clap::{Args, Parser, Subcommand, ValueEnum};
use coracle_images::layout::Platform;
use coracle_protocol::names::{BoardId, HardwareClass};
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples, from keys to a running app:
  coracle-release keys new --role root --output root-a.pk8        (three of these, kept apart)
  coracle-release keys new --role release --output release.pk8    (and deploy, offline-deploy)
  coracle-release root create --output root.json --root-key root-?.pk8.pub --root-threshold 2 \\
      --release-key release.pk8.pub --deploy-key deploy.pk8.pub --offline-deploy-key offline.pk8.pub
  coracle-release root sign --key root-a.pk8 root.json            (and with a second root key)
  coracle-release image build --rootfs ./rootfs --entrypoint /web --output images --tag shop/web:1
  coracle-release release create release.toml --images images --key release.pk8 --output release.json
  coracle-release push --console https://console:8080 --token-file token --images images release.json
  coracle-release deploy --console https://console:8080 --token-file token --board acme.b-1 --wait release.json

Exit codes: 0 done · 1 failed or rolled back · 2 usage · 3 refused (trust, budget) · 4 no console there";

/// Keys, images, releases, pushes and USB sticks for Coracle.
#[derive(Debug, Parser)]
#[command(name = "coracle-release", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Key files
    #[command(subcommand)]
    Keys(Keys),
    /// The root document: which keys may sign what
    #[command(subcommand)]
    Root(RootCommand),
    /// Images from folders
    #[command(subcommand)]
    Image(ImageCommand),
    /// Signed releases
    #[command(subcommand)]
    Release(ReleaseCommand),
    /// Deltas by hand
    #[command(subcommand)]
    Delta(DeltaCommand),
    /// Send a release and its images to the console
    Push(Push),
    /// Have boards run a release
    Deploy(Deploy),
    /// What boards run, and what they said last
    Status(Status),
    /// A file that makes one board known, once
    EnrolFile(EnrolFile),
    /// A USB stick for boards without a network
    Usb(Box<Usb>),
}

/// Roles as they are typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleName {
    Root,
    Release,
    Deploy,
    OfflineDeploy,
}

#[derive(Debug, Subcommand)]
enum Keys {
    /// Make a key: FILE (private, readable by you alone) and FILE.pub
    ///
    /// Example: coracle-release keys new --role release --output release.pk8
    New {
        /// What it is for; only said, the root document decides
        #[arg(long)]
        role: RoleName,
        /// The private key's file
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
enum RootCommand {
    /// Make an unsigned root document
    Create(Box<RootCreate>),
    /// Add a root key's signature to FILE
    ///
    /// Example: coracle-release root sign --key root-a.pk8 root.json
    Sign {
        /// A private root key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The root document before this one: its root keys sign the new one too
        #[arg(long, value_name = "FILE")]
        previous: Option<PathBuf>,
        /// The root document; it is changed
        file: PathBuf,
    },
    /// Say what a root document holds, and whether enough keys have signed
    Show {
        /// The root document
        file: PathBuf,
        /// The document itself, as JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct RootCreate {
    /// Where it goes
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// Public root keys; keep their private halves offline, with different people
    #[arg(long, value_name = "FILE.pub", num_args = 1.., required = true)]
    root_key: Vec<PathBuf>,
    /// How many of them must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    root_threshold: usize,
    /// Public release keys: the developers', offline
    #[arg(long, value_name = "FILE.pub", num_args = 1.., required = true)]
    release_key: Vec<PathBuf>,
    /// How many of them must sign
    #[arg(long, value_name = "N", default_value_t = 1)]
    release_threshold: usize,
    /// Public deploy keys: the console's, online
    #[arg(long, value_name = "FILE.pub", num_args = 1.., required = true)]
    deploy_key: Vec<PathBuf>,
    /// Public keys for USB sticks
    #[arg(long, value_name = "FILE.pub", num_args = 1..)]
    offline_deploy_key: Vec<PathBuf>,
    /// Counts up by one with each root
    #[arg(long, value_name = "N", default_value_t = 1)]
    version: u64,
    /// Epoch of the release keys; raise it after one was stolen
    #[arg(long, value_name = "N", default_value_t = 1)]
    release_epoch: u64,
    /// Epoch of the deploy keys
    #[arg(long, value_name = "N", default_value_t = 1)]
    deploy_epoch: u64,
    /// Epoch of the stick keys
    #[arg(long, value_name = "N", default_value_t = 1)]
    offline_deploy_epoch: u64,
    /// Until when: "10y", or a date
    #[arg(long, value_name = "TIME", default_value = "10y")]
    expires: Expiry,
}

#[derive(Debug, Subcommand)]
enum ImageCommand {
    /// Pack folders as an image, into an OCI layout (made when it is not there)
    ///
    /// The same folders give the same bytes: members are sorted, and with SOURCE_DATE_EPOCH their
    /// times are held. Example:
    ///   coracle-release image build --rootfs ./rootfs --entrypoint /bin/web --env PORT=8080 \
    ///       --user 1000:1000 --expose 8080/tcp --output images --tag shop/web:1.4
    #[command(verbatim_doc_comment)]
    Build(Box<ImageBuild>),
}

#[derive(Debug, Args)]
struct ImageBuild {
    /// The lowest layer
    #[arg(long, value_name = "DIR", required_unless_present = "layer")]
    rootfs: Option<PathBuf>,
    /// A further layer on top of it; once for each, upwards
    #[arg(long, value_name = "DIR")]
    layer: Vec<PathBuf>,
    /// The program and its first arguments; once for each word
    #[arg(long, value_name = "WORD", required = true, allow_hyphen_values = true)]
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
    #[arg(long, value_name = "UID:GID", value_parser = owner)]
    owner: Option<(u32, u32)>,
    /// The OCI layout
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// The image's name
    #[arg(long, value_name = "NAME:TAG")]
    tag: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CompressionName {
    Zstd,
    Gzip,
    None,
}

fn owner(text: &str) -> Result<(u32, u32), String> {
    let pair = text
        .split_once(':')
        .and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    pair.ok_or_else(|| format!("`{text}` is no owner; write `0:0`"))
}

#[derive(Debug, Subcommand)]
enum ReleaseCommand {
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
        /// A private release key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
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
struct ReleaseCreate {
    /// release.toml
    file: PathBuf,
    /// The OCI layout with the images
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// A private release key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
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

#[derive(Debug, Subcommand)]
enum DeltaCommand {
    /// Make the delta from one layer file to another
    Make {
        /// The older layer: tar, tar.gz or tar.zst
        #[arg(long, value_name = "FILE")]
        base: PathBuf,
        /// The newer layer
        #[arg(long, value_name = "FILE")]
        target: PathBuf,
        /// The delta
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Make the newer layer's tar from the older layer and a delta
    Apply {
        /// The older layer: a file, or the folder that it was unpacked to
        #[arg(long, value_name = "PATH")]
        base: PathBuf,
        /// The delta
        #[arg(long, value_name = "FILE")]
        delta: PathBuf,
        /// The newer layer, uncompressed
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Say what a delta is from and to
    Info {
        /// The delta
        file: PathBuf,
    },
}

/// How to reach the console.
#[derive(Debug, Args)]
struct ConsoleArgs {
    /// Address of the console's operator port
    #[arg(long, value_name = "URL", env = "CORACLE_CONSOLE")]
    console: String,
    /// File with an API token
    #[arg(long, value_name = "FILE", env = "CORACLE_TOKEN_FILE")]
    token_file: PathBuf,
    /// Authorities for https, in PEM; the system's when left out
    #[arg(long, value_name = "FILE", env = "CORACLE_CA")]
    ca: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Push {
    #[command(flatten)]
    console: ConsoleArgs,
    /// The OCI layout with the images
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// The signed release
    release: PathBuf,
}

#[derive(Debug, Args)]
struct Deploy {
    #[command(flatten)]
    console: ConsoleArgs,
    /// The release: its file, or its digest (`sha256:…`)
    #[arg(value_name = "RELEASE", required_unless_present = "release")]
    positional: Option<String>,
    /// The same
    #[arg(long, value_name = "RELEASE", conflicts_with = "positional")]
    release: Option<String>,
    /// The boards
    #[arg(long, value_name = "ID", required = true, num_args = 1)]
    board: Vec<BoardId>,
    /// How long boards may take up the assignment, like "30d"
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    expires: Option<Duration>,
    /// Follow it to its end, and say each phase
    #[arg(long)]
    wait: bool,
    /// How long to follow it, like "10m"; without it, until the end
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

#[derive(Debug, Args)]
struct Status {
    #[command(flatten)]
    console: ConsoleArgs,
    /// One board; all when left out
    board: Option<BoardId>,
    /// As the console says it
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct EnrolFile {
    #[command(flatten)]
    console: ConsoleArgs,
    /// Whom it makes of the board: `tenant.name`
    #[arg(long, value_name = "ID")]
    board: BoardId,
    /// The file, readable by you alone: it holds a one-time token
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// A USB stick: a folder to copy to one, or a vfat image to write to one.
///
/// Example: coracle-release usb --release release.json --images images --base-images old-images \
///     --key offline.pk8 --hardware raspberrypi4 --seq 7 --image stick.img
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
struct Usb {
    /// The signed release
    #[arg(long, value_name = "FILE")]
    release: PathBuf,
    /// The OCI layout with its images
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// A layout with images that boards may have: deltas from them go on the stick; once for each
    #[arg(long, value_name = "DIR")]
    base_images: Vec<PathBuf>,
    /// A private offline-deploy key
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Check under this root, and take the epoch from it
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
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
    /// The stick's number: higher than that of every stick before it
    #[arg(long, value_name = "N")]
    seq: u64,
    /// Until when; as long as the release when left out
    #[arg(long, value_name = "TIME")]
    expires: Option<Expiry>,
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

impl Cli {
    /// Does what was asked.
    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Keys(Keys::New { role, output }) => commands::keys_new(role, &output),
            Command::Root(RootCommand::Create(args)) => commands::root_create(*args),
            Command::Root(RootCommand::Sign {
                key,
                previous,
                file,
            }) => commands::root_sign(&key, previous.as_deref(), &file),
            Command::Root(RootCommand::Show { file, json }) => commands::root_show(&file, json),
            Command::Image(ImageCommand::Build(args)) => commands::image_build(*args),
            Command::Release(ReleaseCommand::Create(args)) => commands::release_create(*args),
            Command::Release(ReleaseCommand::Sign { key, file }) => {
                commands::release_sign(&key, &file)
            }
            Command::Release(ReleaseCommand::Show { file, root, json }) => {
                commands::release_show(&file, root.as_deref(), json)
            }
            Command::Delta(args) => commands::delta(args),
            Command::Push(args) => commands::push(&args),
            Command::Deploy(args) => commands::deploy(&args),
            Command::Status(args) => commands::status(&args),
            Command::EnrolFile(args) => commands::enrol_file(&args),
            Command::Usb(args) => commands::usb(*args),
        }
    }
}

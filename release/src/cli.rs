//! The command line: a file for each subcommand, with its flags and a function that calls the room where
//! the work is done and says what came of it. Results go to stdout, progress and failures to stderr.

mod command;
mod delta;
mod deployment;
mod fleet;
mod image;
mod keys;
mod published;
mod registry;
mod release;
mod results;
mod secret;
mod trust;
mod usb;

use crate::failure::Failure;
use clap::{Parser, Subcommand};
use std::io::Write;

const EXAMPLES: &str = "\
Examples, from keys to a running app:
  coracle-release keys new --role root --output root-a.pk8        (three of these, kept apart)
  coracle-release keys new --role release --output release.pk8    (and deploy, offline-deploy)
  coracle-release trust create --output root.json --root-key root-?.pk8.pub --root-threshold 2 \\
      --release-key release.pk8.pub --deploy-key deploy.pk8.pub --offline-deploy-key offline.pk8.pub
  coracle-release trust sign --key root-a.pk8 root.json           (and with a second root key)
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
    Keys(keys::KeysCommand),
    /// The root document: which keys may sign what
    #[command(subcommand, alias = "root")]
    Trust(Box<trust::TrustCommand>),
    /// Images from folders, archives and registries
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Signed releases
    #[command(subcommand)]
    Release(release::ReleaseCommand),
    /// Deltas by hand, and in registries
    #[command(subcommand)]
    Delta(delta::DeltaCommand),
    /// Send a release and its images to the console
    Push(fleet::Push),
    /// Have boards run a release
    Deploy(fleet::Deploy),
    /// Hold a deployment that was ordered, or take it back
    #[command(subcommand)]
    Deployment(deployment::DeploymentCommand),
    /// What boards run, and what they said last
    Status(fleet::Status),
    /// Have a board restart an app, or send the last lines of its log
    #[command(subcommand, name = "command")]
    Board(command::BoardCommand),
    /// Secrets of apps, sealed to their boards
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// A file that makes one board known, once
    EnrolFile(fleet::EnrolFile),
    /// A file that tells boards with a manufacturing certificate where their console is
    FleetFile(fleet::FleetFileArgs),
    /// A USB stick for boards without a network
    Usb(Box<usb::Usb>),
    /// What boards left on sticks
    UsbResults(results::Results),
}

impl Cli {
    /// Does what was asked.
    pub fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Keys(command) => command.run(),
            Command::Trust(command) => command.run(),
            Command::Image(command) => command.run(),
            Command::Release(command) => command.run(),
            Command::Delta(command) => command.run(),
            Command::Push(args) => fleet::push(&args),
            Command::Deploy(args) => fleet::deploy(&args),
            Command::Deployment(command) => command.run(),
            Command::Status(args) => fleet::status(&args),
            Command::Board(command) => command.run(),
            Command::Secret(command) => command.run(),
            Command::EnrolFile(args) => fleet::enrol_file(&args),
            Command::FleetFile(args) => fleet::fleet_file(&args),
            Command::Usb(args) => usb::run(*args),
            Command::UsbResults(args) => results::run(&args),
        }
    }
}

/// A line for stdout; a closed pipe (`| head`) is no failure.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{}", text.trim_end_matches('\n'));
}

fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    say(&serde_json::to_string_pretty(value)?);
    Ok(())
}

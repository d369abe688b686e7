//! `root`: the document that says which keys may sign what.

use super::{json, say};
use crate::envelope_file;
use crate::failure::Failure;
use crate::human::{self, Expiry};
use crate::root::{self, RoleInput, RootInput};
use clap::{Args, Subcommand};
use coracle_protocol::root::Role;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(super) enum RootCommand {
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
pub(super) struct RootCreate {
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

impl RootCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Create(args) => create(*args),
            Self::Sign {
                key,
                previous,
                file,
            } => sign(&key, previous.as_deref(), &file),
            Self::Show { file, json } => show(&file, json),
        }
    }
}

fn create(args: RootCreate) -> Result<(), Failure> {
    let issued_at = human::now();
    let input = RootInput {
        version: args.version,
        issued_at,
        expires: args.expires.from(issued_at),
    };
    let role = |role, keys: &[PathBuf], threshold, epoch| RoleInput {
        role,
        keys: keys.to_vec(),
        threshold,
        epoch,
    };
    let roles = [
        role(Role::Root, &args.root_key, args.root_threshold, 1),
        role(
            Role::Release,
            &args.release_key,
            args.release_threshold,
            args.release_epoch,
        ),
        role(Role::Deploy, &args.deploy_key, 1, args.deploy_epoch),
        role(
            Role::OfflineDeploy,
            &args.offline_deploy_key,
            1,
            args.offline_deploy_epoch,
        ),
    ];
    let envelope = root::create(input, &roles)?;
    // Whatever boards would refuse but for the missing signatures is refused now.
    root::state(&args.output, &envelope)?;
    envelope_file::write(&args.output, &envelope)?;
    say(&format!(
        "{}: not signed yet; {} of {} root keys sign it with `coracle-release root sign --key KEY {}`",
        args.output.display(),
        args.root_threshold,
        args.root_key.len(),
        args.output.display()
    ));
    Ok(())
}

fn sign(key: &Path, previous: Option<&Path>, file: &Path) -> Result<(), Failure> {
    let envelope = root::sign(file, key, previous)?;
    let complete = root::state(file, &envelope)?.is_some();
    say(&format!(
        "{}: {} signatures, {}",
        file.display(),
        envelope.signatures.len(),
        if complete {
            "complete"
        } else {
            "more are needed"
        }
    ));
    Ok(())
}

fn show(file: &Path, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return json(&root::document(file, &envelope_file::read(file)?)?);
    }
    say(&root::show(file)?);
    Ok(())
}

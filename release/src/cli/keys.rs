//! `keys`: private and public key files.

use super::say;
use crate::failure::Failure;
use crate::keys;
use clap::{Subcommand, ValueEnum};
use std::path::{Path, PathBuf};

/// Roles as they are typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RoleName {
    Root,
    Release,
    Deploy,
    OfflineDeploy,
}

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
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
        /// Under a passphrase, asked for at the terminal or read from the file that
        /// CORACLE_PASSPHRASE_FILE names
        #[arg(long)]
        passphrase: bool,
    },
}

impl KeysCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::New {
                role,
                output,
                passphrase,
            } => new(role, &output, passphrase),
        }
    }
}

fn new(role: RoleName, output: &Path, passphrase: bool) -> Result<(), Failure> {
    let passphrase = match passphrase {
        true => Some(keys::passphrase::ask_new(output)?),
        false => None,
    };
    let (public, path) = keys::new(output, passphrase.as_deref())?;
    let (role, where_kept) = match role {
        RoleName::Root => ("root", "keep it offline, each root key with another person"),
        RoleName::Release => ("release", "keep it offline, with the developers"),
        RoleName::Deploy => ("deploy", "it goes to the console: --deploy-key"),
        RoleName::OfflineDeploy => ("offline-deploy", "it signs USB sticks; keep it offline"),
    };
    say(&format!(
        "{role} key {}\n  private {} ({where_kept})\n  public  {}",
        public.key_id(),
        output.display(),
        path.display()
    ));
    Ok(())
}

//! `keys`: private and public key files.

use super::say;
use crate::failure::Failure;
use crate::keys::token::TokenKey;
use crate::keys::uri::Pkcs11Uri;
use crate::keys::{self, Key, KeyRef};
use clap::{Subcommand, ValueEnum};
use std::path::{Path, PathBuf};

/// Roles as they are typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RoleName {
    Root,
    Release,
    Deploy,
    OfflineDeploy,
    Command,
    Reset,
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
        /// The private key's file; or a `pkcs11:` URI with object=LABEL: the key is made in that token
        #[arg(long, value_name = "KEY")]
        output: KeyRef,
        /// Where the public half of a key in a token goes
        #[arg(long, value_name = "FILE")]
        public: Option<PathBuf>,
        /// Under a passphrase, asked for at the terminal or read from the file that
        /// CORACLE_PASSPHRASE_FILE names
        #[arg(long)]
        passphrase: bool,
    },
    /// Write the public half of a private key to a file, as `trust create` takes it
    ///
    /// Example: coracle-release keys public 'pkcs11:token=build;object=release' --output release.pub
    #[command(verbatim_doc_comment)]
    Public {
        /// The private key: its file, or a `pkcs11:` URI
        key: KeyRef,
        /// The public half's file
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
}

impl KeysCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::New {
                role,
                output: KeyRef::File(output),
                passphrase,
                public: None,
            } => new(role, &output, passphrase),
            Self::New {
                role,
                output: KeyRef::Token(uri),
                passphrase: false,
                public: Some(public),
            } => in_token(role, &uri, &public),
            Self::New {
                output: KeyRef::Token(_),
                ..
            } => Err(Failure::usage(
                "a key in a token needs --public FILE for its public half, and has the token's PIN, no --passphrase",
            )),
            Self::New { .. } => Err(Failure::usage(
                "the public half of a key file goes beside it; --public is for keys in tokens",
            )),
            Self::Public { key, output } => public(&key, &output),
        }
    }
}

fn advice(role: RoleName) -> (&'static str, &'static str) {
    match role {
        RoleName::Root => ("root", "keep it offline, each root key with another person"),
        RoleName::Release => ("release", "keep it offline, with the developers"),
        RoleName::Deploy => ("deploy", "it goes to the console: --deploy-key"),
        RoleName::OfflineDeploy => ("offline-deploy", "it signs USB sticks; keep it offline"),
        RoleName::Command => ("command", "it goes to the console: --deploy-key"),
        RoleName::Reset => ("reset", "it takes boards out of the fleet; keep it offline"),
    }
}

fn in_token(role: RoleName, uri: &Pkcs11Uri, public: &Path) -> Result<(), Failure> {
    let key = TokenKey::generate(uri)?;
    keys::write_public(key.public(), public)?;
    say(&format!(
        "{} key {}\n  private in {}, and it does not leave it\n  public  {}",
        advice(role).0,
        key.public().key_id(),
        key.token(),
        public.display()
    ));
    Ok(())
}

fn public(key: &KeyRef, output: &Path) -> Result<(), Failure> {
    let public = Key::open(key)?.public();
    keys::write_public(public, output)?;
    say(&format!(
        "key {}\n  public  {}",
        public.key_id(),
        output.display()
    ));
    Ok(())
}

fn new(role: RoleName, output: &Path, passphrase: bool) -> Result<(), Failure> {
    let passphrase = match passphrase {
        true => Some(keys::passphrase::ask_new(output)?),
        false => None,
    };
    let (public, path) = keys::new(output, passphrase.as_deref())?;
    let (role, where_kept) = advice(role);
    say(&format!(
        "{role} key {}\n  private {} ({where_kept})\n  public  {}",
        public.key_id(),
        output.display(),
        path.display()
    ));
    Ok(())
}

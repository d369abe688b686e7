//! `trust`: the root document, which says which keys may sign what, from its first version to the next.

use super::fleet::ConsoleArgs;
use super::{json, say};
use crate::console::Console;
use crate::envelope_file;
use crate::failure::Failure;
use crate::human::{self, Expiry};
use crate::keys::KeyRef;
use crate::root::rotate::{self, Changes};
use crate::root::{self, RoleInput, RootInput, chain, parts};
use clap::{Args, Subcommand};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::names::BoardId;
use coracle_protocol::report::Current;
use coracle_protocol::root::Role;
use coracle_protocol::trust_state::TrustState;
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(super) enum TrustCommand {
    /// Make the first root document, unsigned
    Create(Box<RootCreate>),
    /// Make the next root document, unsigned: keys come and go, a stolen one is revoked
    ///
    /// Example, after a release key was stolen:
    ///   coracle-release trust rotate --from root.json --output root-2.json --remove release=KEYID \
    ///       --add release=new.pk8.pub --raise-epoch release
    #[command(verbatim_doc_comment)]
    Rotate(Box<Rotate>),
    /// Add a root key's signature to FILE, or write it to a file of its own to be merged
    ///
    /// Example: coracle-release trust sign --key root-a.pk8 --output root.a.json root.json
    Sign {
        /// A private root key: its file, or a `pkcs11:` URI
        #[arg(long, value_name = "KEY")]
        key: KeyRef,
        /// The root document before this one: its root keys sign the new one too
        #[arg(long, value_name = "FILE")]
        previous: Option<PathBuf>,
        /// Leave FILE as it is and write the signed document here
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// The root document; it is changed unless --output is given
        file: PathBuf,
    },
    /// Put signatures together that several people made
    ///
    /// Example: coracle-release trust merge --output root.json root.a.json root.b.json
    Merge {
        /// Where the whole goes
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        /// The parts: the same document, signed by different keys
        #[arg(required = true)]
        parts: Vec<PathBuf>,
    },
    /// Say what a root document holds, and whether enough keys have signed
    #[command(alias = "show")]
    Inspect {
        /// The root document
        file: PathBuf,
        /// The document itself, as JSON
        #[arg(long)]
        json: bool,
    },
    /// Follow root documents as a board does, and see whether a board has arrived at the last one
    ///
    /// Example: coracle-release trust verify root.json root-2.json --board acme.b-1 \
    ///     --console https://console:8080 --token-file token
    #[command(verbatim_doc_comment)]
    Verify(Box<Verify>),
    /// Hand the next root document to the console, which tells every board
    Push {
        #[command(flatten)]
        console: ConsoleArgs,
        /// The root document, signed by enough old and new keys
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(super) struct Rotate {
    /// The root document in force
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Where the next one goes
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// A public key that joins a role; once for each
    #[arg(long, value_name = "ROLE=FILE.pub", value_parser = role_and::<PathBuf>)]
    add: Vec<(Role, PathBuf)>,
    /// A key, by its hint, that leaves a role; once for each
    #[arg(long, value_name = "ROLE=KEYID", value_parser = role_and::<String>)]
    remove: Vec<(Role, String)>,
    /// How many keys of a role must sign; once for each
    #[arg(long, value_name = "ROLE=N", value_parser = role_and::<usize>)]
    threshold: Vec<(Role, usize)>,
    /// Start a role's counters anew, after a stolen key ran them up; once for each
    #[arg(long, value_name = "ROLE", value_parser = role)]
    raise_epoch: Vec<Role>,
    /// Until when: "10y", or a date
    #[arg(long, value_name = "TIME", default_value = "10y")]
    expires: Expiry,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The root documents, the oldest first
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// A board that should trust the last of them
    #[arg(long, value_name = "ID", requires = "console")]
    board: Option<BoardId>,
    /// Address of the console's operator port
    #[arg(
        long,
        value_name = "URL",
        env = "CORACLE_CONSOLE",
        requires = "token_file"
    )]
    console: Option<String>,
    /// File with an API token
    #[arg(long, value_name = "FILE", env = "CORACLE_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Authorities for https, in PEM; the system's when left out
    #[arg(long, value_name = "FILE", env = "CORACLE_CA")]
    ca: Option<PathBuf>,
}

fn role(text: &str) -> Result<Role, String> {
    serde_json::from_value(text.into())
        .map_err(|_| "a role is root, release, deploy, offline-deploy, command or reset".to_owned())
}

fn role_and<T: std::str::FromStr>(text: &str) -> Result<(Role, T), String>
where
    T::Err: std::fmt::Display,
{
    let (name, rest) = text
        .split_once('=')
        .ok_or("write ROLE=VALUE, like release=new.pk8.pub")?;
    Ok((
        role(name)?,
        rest.parse().map_err(|e: T::Err| e.to_string())?,
    ))
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
    /// Public keys that may command boards (restart an app, send its log): the console's own, online. May be the deploy key
    #[arg(long, value_name = "FILE.pub", num_args = 1..)]
    command_key: Vec<PathBuf>,
    /// Public keys that may reset and decommission boards: offline, and no console's
    #[arg(long, value_name = "FILE.pub", num_args = 1..)]
    reset_key: Vec<PathBuf>,
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
    /// Epoch of the command keys
    #[arg(long, value_name = "N", default_value_t = 1)]
    command_epoch: u64,
    /// Epoch of the reset keys
    #[arg(long, value_name = "N", default_value_t = 1)]
    reset_epoch: u64,
    /// Until when: "10y", or a date
    #[arg(long, value_name = "TIME", default_value = "10y")]
    expires: Expiry,
}

impl TrustCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Create(args) => create(*args),
            Self::Rotate(args) => rotate(*args),
            Self::Sign {
                key,
                previous,
                output,
                file,
            } => sign(&key, previous.as_deref(), output.as_deref(), &file),
            Self::Merge { output, parts } => merge(&output, &parts),
            Self::Inspect { file, json } => inspect(&file, json),
            Self::Verify(args) => verify(&args),
            Self::Push { console, file } => push(&console, &file),
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
        role(Role::Command, &args.command_key, 1, args.command_epoch),
        role(Role::Reset, &args.reset_key, 1, args.reset_epoch),
    ];
    let envelope = root::create(input, &roles)?;
    // Whatever boards would refuse but for the missing signatures is refused now.
    root::state(&args.output, &envelope)?;
    envelope_file::write(&args.output, &envelope)?;
    say(&format!(
        "{}: not signed yet; {} of {} root keys sign it with `coracle-release trust sign --key KEY {}`",
        args.output.display(),
        args.root_threshold,
        args.root_key.len(),
        args.output.display()
    ));
    Ok(())
}

fn rotate(args: Rotate) -> Result<(), Failure> {
    let now = human::now();
    let changes = Changes {
        add: args.add,
        remove: args.remove,
        thresholds: args.threshold,
        raise: args.raise_epoch,
    };
    let envelope = rotate::rotate(&args.from, &changes, now, args.expires.from(now))?;
    root::state(&args.output, &envelope)?;
    envelope_file::write(&args.output, &envelope)?;
    say(&format!(
        "{0}: not signed yet; enough root keys of `{1}` and of the new document sign it with\n  \
         coracle-release trust sign --previous {1} --key KEY {0}",
        args.output.display(),
        args.from.display(),
    ));
    Ok(())
}

fn signatures(file: &Path, envelope: &Envelope) -> Result<(), Failure> {
    let complete = root::state(file, envelope)?.is_some();
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

fn sign(
    key: &KeyRef,
    previous: Option<&Path>,
    output: Option<&Path>,
    file: &Path,
) -> Result<(), Failure> {
    let output = output.unwrap_or(file);
    signatures(output, &root::sign(file, key, previous, output)?)
}

fn merge(output: &Path, files: &[PathBuf]) -> Result<(), Failure> {
    let envelope = parts::merge(files)?;
    root::state(output, &envelope)?;
    envelope_file::write(output, &envelope)?;
    signatures(output, &envelope)
}

fn inspect(file: &Path, as_json: bool) -> Result<(), Failure> {
    if as_json {
        return json(&root::document(file, &envelope_file::read(file)?)?);
    }
    say(&root::show(file)?);
    Ok(())
}

fn verify(args: &Verify) -> Result<(), Failure> {
    let (first, rest) = args
        .files
        .split_first()
        .ok_or_else(|| Failure::usage("name a root document"))?;
    let newest = chain::follow(first, rest)?;
    let document = newest.document();
    say(&format!(
        "root version {} holds, {}, expires {}",
        document.version,
        newest.digest(),
        human::date(document.expires)
    ));
    let (Some(board), Some(url), Some(token)) = (&args.board, &args.console, &args.token_file)
    else {
        return Ok(());
    };
    let console = Console::new(url, token, args.ca.as_deref())?;
    let seen: Seen = console.get(&format!("/api/v1/boards/{board}"))?;
    let state = seen.current.and_then(|current| current.trust);
    let state =
        state.ok_or_else(|| NotThere(format!("{board} has not said yet what it trusts")))?;
    say(&describe(board, &state));
    let differs = |what: String| Err(NotThere(what).into());
    if state.root_version != document.version {
        return differs(format!(
            "{board} trusts root version {}; the last file has version {}",
            state.root_version, document.version
        ));
    }
    if state.root != newest.digest() {
        return differs(format!(
            "{board} trusts another document with version {}: {}",
            state.root_version, state.root
        ));
    }
    match state.damage {
        Some(damage) => differs(format!("{board} takes nothing new: {damage}")),
        None => Ok(()),
    }
}

/// What the console shows of a board, as far as it is looked at here.
#[derive(serde::Deserialize)]
struct Seen {
    current: Option<Current>,
}

/// A board that is not where it should be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotThere(String);

fn describe(board: &BoardId, state: &TrustState) -> String {
    let mut text = format!(
        "{board}: root version {}, counters deploy {}, offline-deploy {}; it is at least {}",
        state.root_version,
        state.deploy,
        state.offline_deploy,
        human::date(state.time)
    );
    for (product, counter) in &state.releases {
        text.push_str(&format!("\n  {product} {counter}"));
    }
    text
}

fn push(console: &ConsoleArgs, file: &Path) -> Result<(), Failure> {
    let envelope = envelope_file::read(file)?;
    let root = root::read_trusted(file)?;
    let _: serde_json::Value = console.open()?.post("/api/v1/roots", &envelope.to_json())?;
    say(&format!(
        "root version {} is with the console; boards take it when they are online",
        root.document().version
    ));
    Ok(())
}

//! `secret`: values that the console keeps and cannot read.

use super::fleet::ConsoleArgs;
use super::say;
use crate::board_keys::{BoardKeyError, BoardKeys};
use crate::failure::Failure;
use crate::files;
use clap::{Args, Subcommand};
use coracle_protocol::limits::LIMITS;
use coracle_protocol::names::{AppName, BoardId, SecretName};
use coracle_protocol::report::Current;
use coracle_protocol::secret::SealingKey;
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum SecretCommand {
    /// Seal a value for an app on boards; the next deployment brings it
    ///
    /// The app reads it as /run/secrets/NAME. Example:
    ///   coracle-release secret set --board acme.b-1 --app web --name db --value-file db.txt
    #[command(verbatim_doc_comment)]
    Set(Box<Set>),
    /// Keep the key of a board that somebody has read from it, for sticks and for later
    ///
    /// Example, with what `coracle status --json` on the board has in trust.secret_key:
    ///   coracle-release secret pin --board acme.b-1 --key '7Zk2…='
    #[command(verbatim_doc_comment)]
    Pin(Pin),
}

#[derive(Debug, Args)]
pub(super) struct Pin {
    /// The board
    #[arg(long, value_name = "ID")]
    board: BoardId,
    /// Its whole key, in base64
    #[arg(long, value_name = "KEY")]
    key: String,
    #[command(flatten)]
    keys: KeysArgs,
}

/// Where boards' keys are kept.
#[derive(Debug, Args)]
pub(super) struct KeysArgs {
    /// File with the keys of boards that were seen [default: coracle/board-keys.json in your configuration]
    #[arg(long, value_name = "FILE", env = "CORACLE_BOARD_KEYS")]
    board_keys: Option<PathBuf>,
}

impl KeysArgs {
    pub(super) fn open(&self) -> Result<BoardKeys, BoardKeyError> {
        BoardKeys::open(self.board_keys.as_deref())
    }
}

#[derive(Debug, Args)]
pub(super) struct Set {
    #[command(flatten)]
    console: ConsoleArgs,
    /// The boards; once for each
    #[arg(long, value_name = "ID", required = true)]
    board: Vec<BoardId>,
    /// The app
    #[arg(long, value_name = "APP")]
    app: AppName,
    /// The secret's name, as the release lists it
    #[arg(long, value_name = "NAME")]
    name: SecretName,
    /// File with the value, taken byte by byte
    #[arg(long, value_name = "FILE")]
    value_file: PathBuf,
    /// Refuse another key than this: as `coracle status` on the board shows it. For one board. It is kept: later ones
    /// are held against it
    #[arg(long, value_name = "KEYID")]
    key: Option<String>,
    #[command(flatten)]
    keys: KeysArgs,
}

/// A board that can't be sealed to.
#[derive(Debug, thiserror::Error)]
enum SealError {
    #[error("{0} has not said yet which key its secrets are sealed to; it does once it is online")]
    NoKey(BoardId),
    #[error(transparent)]
    Secret(#[from] coracle_protocol::secret::SecretError),
}

/// What the console shows of a board, as far as it is looked at here.
#[derive(serde::Deserialize)]
struct Seen {
    current: Option<Current>,
}

impl SecretCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Set(args) => set(&args),
            Self::Pin(args) => pin(&args),
        }
    }
}

fn pin(args: &Pin) -> Result<(), Failure> {
    let key = SealingKey::try_from(args.key.clone()).map_err(SealError::from)?;
    let mut keys = args.keys.open()?;
    keys.pin(&args.board, &key)?;
    say(&format!(
        "{}: key {} is kept in {}",
        args.board,
        key.hint(),
        keys.path().display()
    ));
    Ok(())
}

fn set(args: &Set) -> Result<(), Failure> {
    let value = files::read(&args.value_file, LIMITS.secret_bytes as u64)?;
    if args.key.is_some() && args.board.len() != 1 {
        return Err(Failure::usage("--key is the key of one board; name one"));
    }
    let console = args.console.open()?;
    let mut keys = args.keys.open()?;
    for board in &args.board {
        let seen: Seen = console.get(&format!("/api/v1/boards/{board}"))?;
        let trust = seen.current.and_then(|current| current.trust);
        let key = trust
            .and_then(|trust| trust.secret_key)
            .ok_or_else(|| SealError::NoKey(board.clone()))?;
        if keys.accept(board, &key, args.key.as_deref())? {
            eprintln!(
                "coracle-release: {board}: key {} is taken as the console gives it, and kept in {}; whoever has the \
                 console could have given another: compare it with `coracle status` on the board",
                key.hint(),
                keys.path().display()
            );
        }
        let sealed = key
            .seal(board, &args.app, &args.name, &value)
            .map_err(SealError::from)?;
        let body = serde_json::to_vec(&sealed)?;
        let _: serde_json::Value =
            console.post(&format!("/api/v1/boards/{board}/secrets"), &body)?;
        say(&format!(
            "{board}: secret {} of app {} is sealed to key {}; the next deployment brings it",
            args.name,
            args.app,
            key.hint()
        ));
    }
    Ok(())
}

//! `push`, `deploy`, `status`, `enrol-file` and `fleet-file`: what is asked of a console.

use super::{json, say};
use crate::console::{Console, ConsoleError};
use crate::failure::Failure;
use crate::files::{self, Access};
use crate::{deploy, human, image, push, release};
use clap::Args;
use coracle_protocol::Sha256Digest;
use coracle_protocol::enrol::{EnrolmentFile, FleetFile};
use coracle_protocol::names::BoardId;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How to reach the console.
#[derive(Debug, Args)]
pub(super) struct ConsoleArgs {
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
pub(super) struct Push {
    #[command(flatten)]
    console: ConsoleArgs,
    /// The OCI layout with the images
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// The signed release
    release: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Deploy {
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
    /// What is set for these boards: TOML, a table for each app, with what the release names in site_settable
    #[arg(long, value_name = "FILE")]
    site: Option<PathBuf>,
    /// Follow it to its end, and say each phase
    #[arg(long)]
    wait: bool,
    /// How long to follow it, like "10m"; without it, until the end
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

#[derive(Debug, Args)]
pub(super) struct Status {
    #[command(flatten)]
    console: ConsoleArgs,
    /// One board; all when left out
    board: Option<BoardId>,
    /// As the console says it
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct EnrolFile {
    #[command(flatten)]
    console: ConsoleArgs,
    /// Whom it makes of the board: `tenant.name`
    #[arg(long, value_name = "ID")]
    board: BoardId,
    /// The file, readable by you alone: it holds a one-time token
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct FleetFileArgs {
    #[command(flatten)]
    console: ConsoleArgs,
    /// The file; nothing in it is secret
    #[arg(long, value_name = "FILE", default_value = "fleet.json")]
    output: PathBuf,
}

impl ConsoleArgs {
    /// The console; nothing is asked yet.
    pub(super) fn open(&self) -> Result<Console, ConsoleError> {
        Console::new(&self.console, &self.token_file, self.ca.as_deref())
    }
}

fn console(args: &ConsoleArgs) -> Result<Console, ConsoleError> {
    args.open()
}

pub(super) fn push(args: &Push) -> Result<(), Failure> {
    let file = release::read(&args.release, None)?;
    let layout = image::open(&args.images)?;
    let (pushed, _) = push::push(&console(&args.console)?, &layout, &file)?;
    say(&format!(
        "{} {}: pushed {}, {} were there\n{}",
        file.release.product,
        file.release.version,
        human::bytes(pushed.sent),
        human::bytes(pushed.there),
        file.digest
    ));
    Ok(())
}

pub(super) fn deploy(args: &Deploy) -> Result<(), Failure> {
    let text = args.positional.as_ref().or(args.release.as_ref());
    let text = text.ok_or_else(|| Failure::usage("name a release"))?;
    let release: Sha256Digest = match text.parse() {
        Ok(digest) => digest,
        Err(_) => release::read(Path::new(text), None)?.digest,
    };
    let console = console(&args.console)?;
    let expires = args.expires.map(|time| time.as_secs());
    let site = args.site.as_deref().map(deploy::site).transpose()?;
    let ordered = deploy::order(&console, release, &args.board, expires, site.as_ref())?;
    say(&deploy::describe(&ordered));
    if args.wait {
        deploy::wait(&console, &ordered.id, args.timeout, say)?;
    }
    Ok(())
}

pub(super) fn status(args: &Status) -> Result<(), Failure> {
    let console = console(&args.console)?;
    let boards: serde_json::Value = match &args.board {
        Some(board) => console.get(&format!("/api/v1/boards/{board}"))?,
        None => console.get("/api/v1/boards")?,
    };
    if args.json {
        return json(&boards);
    }
    match boards.as_array() {
        Some(boards) if boards.is_empty() => say("no board is known yet"),
        Some(boards) => boards
            .iter()
            .for_each(|board| say(&deploy::describe_board(board))),
        None => say(&deploy::describe_board(&boards)),
    }
    Ok(())
}

pub(super) fn enrol_file(args: &EnrolFile) -> Result<(), Failure> {
    if args.output.exists() {
        return Err(files::FileError::Exists(args.output.clone()).into());
    }
    let body = serde_json::to_vec(&serde_json::json!({ "board": args.board }))?;
    let file: EnrolmentFile = console(&args.console)?.post("/api/v1/enrolments", &body)?;
    files::write(
        &args.output,
        &serde_json::to_vec_pretty(&file)?,
        Access::Secret,
    )?;
    say(&format!(
        "{}: good once, for {}; on the board: `coracle enrol FILE`",
        args.output.display(),
        file.board
    ));
    Ok(())
}

pub(super) fn fleet_file(args: &FleetFileArgs) -> Result<(), Failure> {
    if args.output.exists() {
        return Err(files::FileError::Exists(args.output.clone()).into());
    }
    let file: FleetFile = console(&args.console)?.get("/api/v1/fleet")?;
    files::write(
        &args.output,
        &serde_json::to_vec_pretty(&file)?,
        Access::Public,
    )?;
    say(&format!(
        "{}: for every board with a manufacturing certificate that {} takes; it lies beside coracle.toml",
        args.output.display(),
        file.console_url
    ));
    Ok(())
}

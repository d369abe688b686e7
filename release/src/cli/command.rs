//! `command`: what a board shall do once, now. The console signs it, the board verifies it and answers.

use super::fleet::ConsoleArgs;
use super::say;
use crate::console::{Console, visible};
use crate::failure::Failure;
use crate::keys::{Key, KeyRef};
use crate::release::Signer;
use crate::root;
use clap::{Args, Subcommand};
use coracle_protocol::command::{Action, Command, RESET_TYPE};
use coracle_protocol::limits::LIMITS;
use coracle_protocol::names::{ActionName, AppName, BoardId};
use coracle_protocol::root::Role;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A board that is there answers within so long.
const ANSWER: Duration = Duration::from_secs(30);

/// An order is good for so long, in seconds.
const GOOD_FOR: u64 = 120;

/// Between two looks for the answer.
const LOOK: Duration = Duration::from_millis(300);

#[derive(Debug, Subcommand)]
pub(super) enum BoardCommand {
    /// Stop an app on a board and start it again
    ///
    /// Example: coracle-release command restart --board acme.b-1 --app web
    Restart(About),
    /// The last lines that an app on a board wrote
    ///
    /// Example: coracle-release command logs --board acme.b-1 --app web --tail 100
    Logs {
        #[command(flatten)]
        about: About,
        /// At most so many lines, and 64 KiB of them
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        tail: u32,
    },
    /// Have an app do what its release names under `[[apps.actions]]`, and show what that wrote
    ///
    /// Example: coracle-release command action --board acme.b-1 --app web reindex
    Action {
        #[command(flatten)]
        about: About,
        /// The action's name
        #[arg(value_name = "NAME")]
        name: ActionName,
    },
    /// Remove a board's apps, releases, logs and what it fetched; it stays in the fleet, and takes nothing from before
    ///
    /// Example: coracle-release command factory-reset --board acme.b-1 --key reset.pk8 --root root.json
    FactoryReset {
        #[command(flatten)]
        order: Order,
        /// Its volumes too: what the apps kept is lost
        #[arg(long)]
        volumes: bool,
    },
    /// Take a board out of the fleet: all that factory-reset does, volumes too, and its key and certificate are gone
    ///
    /// Example: coracle-release command decommission --board acme.b-1 --key reset.pk8 --root root.json
    Decommission(Order),
}

/// What no console may sign.
#[derive(Debug, Args)]
pub(super) struct Order {
    #[command(flatten)]
    console: ConsoleArgs,
    /// The board; it must be online
    #[arg(long, value_name = "ID")]
    board: BoardId,
    /// A private key of role `reset`: its file, or a `pkcs11:` URI
    #[arg(long, value_name = "KEY")]
    key: KeyRef,
    /// The root document in force, which says the role's epoch
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// How long to wait for its answer
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct About {
    #[command(flatten)]
    console: ConsoleArgs,
    /// The board; it must be online
    #[arg(long, value_name = "ID")]
    board: BoardId,
    /// An app that it runs
    #[arg(long, value_name = "APP")]
    app: AppName,
    /// How long to wait for its answer; 30s when left out, of an action 5m 30s
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

/// What the console says of a command, as far as it is looked at here.
#[derive(Deserialize)]
struct Sent {
    id: String,
    state: State,
    code: Option<String>,
    text: Option<String>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum State {
    Waiting,
    Done,
    Failed,
    Unanswered,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
enum Undone {
    #[error("the root asks for several keys of role `reset`; an order is signed by one")]
    Threshold,
    #[error("{board} did not do it ({code}): {reason}")]
    Board {
        board: BoardId,
        code: String,
        reason: String,
    },
    #[error(
        "{board} has not answered; whether it was done `coracle-release status {board}` may tell, and the console under commands/{id}"
    )]
    NoAnswer { board: BoardId, id: String },
}

impl BoardCommand {
    pub(super) fn run(self) -> Result<(), Failure> {
        let (about, action) = match self {
            Self::FactoryReset { order, volumes } => {
                return order.send(Action::FactoryReset { volumes });
            }
            Self::Decommission(order) => return order.send(Action::Decommission {}),
            Self::Restart(about) => {
                let app = about.app.clone();
                (about, Action::Restart { app })
            }
            Self::Logs { about, tail } => {
                let app = about.app.clone();
                (about, Action::Logs { app, tail })
            }
            Self::Action { about, name } => {
                let app = about.app.clone();
                (about, Action::Run { app, name })
            }
        };
        send(&about, &action)
    }
}

fn send(about: &About, action: &Action) -> Result<(), Failure> {
    let longest = match action {
        Action::Run { .. } => ANSWER + Duration::from_secs(LIMITS.action_seconds.into()),
        _ => ANSWER,
    };
    let console = about.console.open()?;
    let body = serde_json::to_vec(action)?;
    let timeout = about.timeout.unwrap_or(longest);
    answer(&console, &about.board, &body, timeout)
}

impl Order {
    /// Signed here: the console only carries it.
    fn send(&self, action: Action) -> Result<(), Failure> {
        let root = root::read_trusted(&self.root)?;
        let signer = Signer::new(Key::open(&self.key)?, Role::Reset, Some(root), 1)?;
        if signer.root().is_none() {
            return Err(Undone::Threshold.into());
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since.unwrap_or_default();
        let command = Command {
            spec_version: 1,
            critical: Vec::new(),
            board: self.board.clone(),
            epoch: signer.epoch(),
            // Above every one before it, as long as this machine's clock is.
            seq: now.as_millis() as u64,
            issued_at: now.as_secs(),
            expires: now.as_secs() + GOOD_FOR,
            action,
        };
        let envelope = signer.sign(RESET_TYPE, &serde_json::to_vec(&command)?)?;
        let console = self.console.open()?;
        answer(&console, &self.board, &envelope.to_json(), self.timeout)
    }
}

/// Sends it, waits for the board's answer and shows it.
fn answer(
    console: &Console,
    board: &BoardId,
    body: &[u8],
    timeout: Duration,
) -> Result<(), Failure> {
    let end = Instant::now() + timeout;
    let path = format!("/api/v1/boards/{board}/commands");
    let mut sent: Sent = console.post(&path, body)?;
    while sent.state == State::Waiting && Instant::now() < end {
        std::thread::sleep(LOOK);
        sent = console.get(&format!("{path}/{}", visible(&sent.id)))?;
    }
    let text = sent.text.unwrap_or_default();
    let board = board.clone();
    match sent.state {
        State::Done => {
            say(&shown(&text));
            Ok(())
        }
        State::Failed => {
            // Of an action that failed the last line says why; what it wrote comes before.
            let (output, reason) = text.rsplit_once('\n').unwrap_or(("", &text));
            if !output.is_empty() {
                say(&shown(output));
            }
            Err(Undone::Board {
                board,
                code: visible(&sent.code.unwrap_or_default()),
                reason: visible(reason),
            }
            .into())
        }
        State::Waiting | State::Unanswered => Err(Undone::NoAnswer {
            board,
            id: visible(&sent.id),
        }
        .into()),
    }
}

/// What an app wrote, fit for a terminal: lines and tabs, and nothing that steers it.
fn shown(text: &str) -> String {
    let fit = |c: &char| matches!(c, '\n' | '\t') || !c.is_control();
    text.chars().filter(fit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_does_not_steer_the_terminal() {
        assert_eq!(shown("a\tb\u{1b}[2J\r\nc\u{9b}d\n"), "a\tb[2J\ncd\n");
    }
}

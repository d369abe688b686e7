//! `command`: what a board shall do once, now. The console signs it, the board verifies it and answers.

use super::fleet::ConsoleArgs;
use super::say;
use crate::console::visible;
use crate::failure::Failure;
use clap::{Args, Subcommand};
use coracle_protocol::command::Action;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::names::{ActionName, AppName, BoardId};
use serde::Deserialize;
use std::time::{Duration, Instant};

/// A board that is there answers within so long.
const ANSWER: Duration = Duration::from_secs(30);

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
    let end = Instant::now() + about.timeout.unwrap_or(longest);
    let console = about.console.open()?;
    let path = format!("/api/v1/boards/{}/commands", about.board);
    let mut sent: Sent = console.post(&path, &serde_json::to_vec(action)?)?;
    while sent.state == State::Waiting && Instant::now() < end {
        std::thread::sleep(LOOK);
        sent = console.get(&format!("{path}/{}", visible(&sent.id)))?;
    }
    let text = sent.text.unwrap_or_default();
    let board = about.board.clone();
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

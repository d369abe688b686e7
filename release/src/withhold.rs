//! A deployment that is held, or taken back: what the console is asked, and what it says became of it on each board.

use crate::console::{Console, ConsoleError, visible};
use coracle_protocol::names::BoardId;
use coracle_protocol::report::Phase;
use serde::Deserialize;
use std::fmt::Write as _;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Take it back.
    Cancel,
    /// Hold it.
    Pause,
    /// Hold it no more.
    Resume,
}

impl Change {
    fn word(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

/// A deployment, as far as it is looked at here.
#[derive(Debug, Deserialize)]
pub struct Changed {
    id: String,
    state: String,
    boards: Vec<Board>,
}

#[derive(Debug, Deserialize)]
struct Board {
    board: BoardId,
    phase: Option<Phase>,
    standing: Option<String>,
    standing_reason: Option<String>,
}

/// Boards that have it, or go on with it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotAll(String);

/// Asks for it. A name that no deployment has is the console's to refuse.
pub fn change(console: &Console, id: &str, change: Change) -> Result<Changed, ConsoleError> {
    let id: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
    let path = format!("/api/v1/deployments/{id}/{}", change.word());
    console.post(&path, b"{}")
}

impl Changed {
    /// `deployment 0f3a: cancelled`, and a line for each board.
    pub fn describe(&self) -> String {
        let mut out = format!(
            "deployment {}: {}\n",
            visible(&self.id),
            visible(&self.state)
        );
        for board in &self.boards {
            let phase = board.phase.map(|phase| phase.to_string());
            let phase = phase.unwrap_or_else(|| "waiting for the board".into());
            let _ = match &board.standing {
                Some(standing) => write!(out, "{}: {} ({phase})", board.board, visible(standing)),
                None => write!(out, "{}: {phase}", board.board),
            };
            if let Some(reason) = &board.standing_reason {
                let _ = write!(out, ": {}", visible(reason));
            }
            out.push('\n');
        }
        out
    }

    /// Whether it was taken back wherever that was asked.
    pub fn end(&self) -> Result<(), NotAll> {
        let named = |word: &str| -> Vec<&str> {
            let boards = self.boards.iter();
            let found = boards.filter(|board| board.standing.as_deref() == Some(word));
            found.map(|board| board.board.as_str()).collect()
        };
        let mut left = Vec::new();
        for (word, text) in [
            ("too-late", "too late on"),
            ("goes-on", "not to be taken back on"),
            ("not-taken", "refused by"),
            ("not-signed", "not signed yet for"),
        ] {
            let boards = named(word);
            if !boards.is_empty() {
                left.push(format!(
                    "{text} {}: {}",
                    count(boards.len()),
                    boards.join(", ")
                ));
            }
        }
        match left.is_empty() {
            true => Ok(()),
            false => Err(NotAll(left.join("; "))),
        }
    }
}

fn count(boards: usize) -> String {
    match boards {
        1 => "1 board".into(),
        more => format!("{more} boards"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn boards_that_keep_it_are_named_and_counted() {
        let changed: Changed = serde_json::from_value(json!({"id": "d1", "state": "cancelled", "boards": [
            {"board": "a.b", "phase": "committed", "standing": "too-late", "standing_reason": null},
            {"board": "a.c", "phase": "trial", "standing": "too-late", "standing_reason": null},
            {"board": "a.d", "phase": "waiting", "standing": "cancelling", "standing_reason": null},
            {"board": "a.e", "phase": null, "standing": "goes-on", "standing_reason": "a stick \u{1b}[31mbrought it"},
        ]})).unwrap();
        let text = changed.describe();
        assert!(text.contains("a.d: cancelling (waiting)\n"), "{text}");
        assert!(
            text.contains("goes-on (waiting for the board): a stick [31mbrought it"),
            "{text}"
        );
        assert_eq!(
            changed.end().unwrap_err().to_string(),
            "too late on 2 boards: a.b, a.c; not to be taken back on 1 board: a.e"
        );
    }
}

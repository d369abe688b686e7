//! A command: what one board shall do once, now. Signed by the console (role `command`), or, what cannot be undone, by a key that no
//! console has (role `reset`). It names one of a few things that the board's program knows how to do, and the app of the running set
//! that it is about; it can name no image and carry no code.

use crate::document::{ends_after_it_begins, understood, within};
use crate::limits::LIMITS;
use crate::names::{ActionName, AppName, BoardId};
use crate::root::Role;
use coracle_digest::Sha256Digest;
use serde::{Deserialize, Serialize};

/// The payload type of a command.
pub const COMMAND_TYPE: &str = "application/vnd.coracle.command.v1+json";

/// The payload type of a command that only role `reset` may sign.
pub const RESET_TYPE: &str = "application/vnd.coracle.reset.v1+json";

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Always 1 in this version of the format.
    pub spec_version: u32,
    /// Extensions that a reader must know; none exist yet.
    #[serde(default)]
    pub critical: Vec<String>,
    /// The one board that it is for.
    pub board: BoardId,
    /// Epoch of the role.
    pub epoch: u64,
    /// Goes up with each command to a board.
    pub seq: u64,
    /// Unix seconds.
    pub issued_at: u64,
    /// Unix seconds; soon, see `LIMITS.command_seconds`.
    pub expires: u64,
    /// What to do.
    pub action: Action,
}

/// What a command asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// Stop an app and start it again.
    Restart {
        /// Which app of the running set.
        app: AppName,
    },
    /// The last lines that an app wrote.
    Logs {
        /// Which app of the running set.
        app: AppName,
        /// At most so many.
        tail: u32,
    },
    /// Run a program that the app's release names.
    #[serde(rename = "action")]
    Run {
        /// Which app of the running set.
        app: AppName,
        /// Which of its actions.
        name: ActionName,
    },
    /// Remove apps, releases, logs and what was fetched. The board stays in its fleet. Signed by role `reset`.
    FactoryReset {
        /// Volumes too.
        volumes: bool,
    },
    /// Remove all that a factory reset does, volumes too, and the board's key, certificate and name: it connects no more until somebody
    /// enrols it. Signed by role `reset`.
    Decommission {},
}

impl Action {
    /// Whose keys may ask for it.
    pub fn role(&self) -> Role {
        match self {
            Self::Restart { .. } | Self::Logs { .. } | Self::Run { .. } => Role::Command,
            Self::FactoryReset { .. } | Self::Decommission {} => Role::Reset,
        }
    }

    /// The payload type under which such a role signs.
    pub fn payload_type(role: Role) -> &'static str {
        match role {
            Role::Reset => RESET_TYPE,
            _ => COMMAND_TYPE,
        }
    }

    /// The app that it is about, if it is about one.
    pub fn app(&self) -> Option<&AppName> {
        match self {
            Self::Restart { app } | Self::Logs { app, .. } | Self::Run { app, .. } => Some(app),
            Self::FactoryReset { .. } | Self::Decommission {} => None,
        }
    }

    /// A word for it, in logs and lists.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Restart { .. } => "restart",
            Self::Logs { .. } => "logs",
            Self::Run { .. } => "action",
            Self::FactoryReset { .. } => "factory-reset",
            Self::Decommission {} => "decommission",
        }
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Restart { app } | Self::Logs { app, .. } => {
                write!(f, "{} of app {app}", self.word())
            }
            Self::Run { app, name } => write!(f, "action {name} of app {app}"),
            Self::FactoryReset { volumes: true } => f.write_str("factory-reset with volumes"),
            Self::FactoryReset { volumes: false } | Self::Decommission {} => {
                f.write_str(self.word())
            }
        }
    }
}

impl Command {
    /// Checks each limit; the first fault, named by its field.
    pub fn check(&self) -> Result<(), String> {
        understood(self.spec_version, &self.critical)?;
        for (field, value) in [
            ("epoch", self.epoch),
            ("seq", self.seq),
            ("issued_at", self.issued_at),
            ("expires", self.expires),
        ] {
            within(field, value, LIMITS.integer)?;
        }
        ends_after_it_begins(self.issued_at, self.expires)?;
        within(
            "expires - issued_at",
            self.expires - self.issued_at,
            LIMITS.command_seconds,
        )?;
        if let Action::Logs { tail, .. } = &self.action {
            within("action.logs.tail", (*tail).into(), LIMITS.log_lines.into())?;
        }
        Ok(())
    }
}

/// What became of a command: the message on `command-result`. A long text comes in several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandResult {
    /// SHA-256 of the command's payload.
    pub command: Sha256Digest,
    /// Number of this message, from 0.
    pub part: u32,
    /// How many there are.
    pub parts: u32,
    /// A stable word when it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why it was not done, or what was asked for.
    pub text: String,
}

/// Bytes of a message for all but its text: a digest, the names of the fields, a code.
const FRAME: usize = 512;

/// Longest code in bytes, so that [`FRAME`] holds.
const CODE: usize = 64;

impl CommandResult {
    /// The most messages of one result.
    pub const MOST_PARTS: usize = LIMITS
        .command_text_bytes
        .div_ceil(LIMITS.mqtt_message_bytes - FRAME - 6)
        + 1;

    /// The messages that tell a result, each within `LIMITS.mqtt_message_bytes`. Of a text that is longer than
    /// `LIMITS.command_text_bytes` in JSON the end is kept: the last lines count.
    pub fn messages(command: Sha256Digest, code: Option<&str>, text: &str) -> Vec<Self> {
        let code = code.map(|code| code.chars().take(CODE / 4).collect::<String>());
        let pieces = pieces(end_of(text));
        let parts = pieces.len() as u32;
        let message = |(part, text): (u32, &str)| Self {
            command,
            part,
            parts,
            code: code.clone(),
            text: text.to_owned(),
        };
        (0..).zip(pieces).map(message).collect()
    }
}

/// Bytes that a character takes in JSON.
fn in_json(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    }
}

fn end_of(text: &str) -> &str {
    let mut room = LIMITS.command_text_bytes;
    for (at, c) in text.char_indices().rev() {
        match room.checked_sub(in_json(c)) {
            Some(left) => room = left,
            None => return &text[at + c.len_utf8()..],
        }
    }
    text
}

/// At least one, be it empty.
fn pieces(text: &str) -> Vec<&str> {
    let most = LIMITS.mqtt_message_bytes - FRAME;
    let (mut pieces, mut begin, mut bytes) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        if bytes + in_json(c) > most {
            pieces.push(&text[begin..at]);
            (begin, bytes) = (at, 0);
        }
        bytes += in_json(c);
    }
    pieces.push(&text[begin..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(text: &str) -> String {
        let messages = CommandResult::messages(Sha256Digest::of(b"c"), None, text);
        assert!(messages.len() <= CommandResult::MOST_PARTS);
        let mut told = String::new();
        for (at, message) in messages.iter().enumerate() {
            assert_eq!(
                (message.part, message.parts),
                (at as u32, messages.len() as u32)
            );
            let json = serde_json::to_vec(message).unwrap();
            assert!(json.len() <= LIMITS.mqtt_message_bytes, "{}", json.len());
            told.push_str(&message.text);
        }
        told
    }

    proptest! {
        #[test]
        fn a_text_comes_whole_or_its_end_does(text in "(\\PC|[\u{0}-\u{7f}]){0,300}", times in 1usize..400) {
            let text = text.repeat(times);
            let told = told(&text);
            prop_assert!(text.ends_with(&told));
            let bytes = |text: &str| text.chars().map(in_json).sum::<usize>();
            prop_assert!(bytes(&told) <= LIMITS.command_text_bytes);
            prop_assert!(told == text || bytes(&told) + 6 > LIMITS.command_text_bytes);
        }
    }

    #[test]
    fn an_empty_text_is_a_message_too_and_no_code_is_too_long() {
        assert_eq!(told(""), "");
        let long = "\u{1f980}".repeat(5000);
        for message in CommandResult::messages(Sha256Digest::of(b"c"), Some(&long), &long) {
            let json = serde_json::to_vec(&message).unwrap();
            assert!(json.len() <= LIMITS.mqtt_message_bytes, "{}", json.len());
        }
    }
}

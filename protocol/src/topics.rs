//! MQTT topics: `coracle/v1/<board>/…`, where `<board>` is `<tenant>.<name>`, or `<tenant>:<name>` ([`Separator`]).

use crate::names::BoardId;
use serde::{Deserialize, Serialize};

/// What every topic starts with.
pub const PREFIX: &str = "coracle/v1";

/// Retained, QoS 1, console → every board: [`crate::desired::RootNotice`]. No board has this name: it
/// holds no dot.
pub const ROOT_NOTICE: &str = "coracle/v1/fleet/root";

/// What stands between tenant and name in a topic; one for the whole fleet. Certificate, MQTT user name and client
/// identifier have the dot in any case.
///
/// NATS refuses topics with a dot, and RabbitMQ makes a level's end of it. A name holds neither character, so that no two
/// boards share a topic whichever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Separator {
    /// `.`: what Mosquitto's `%u` and the like of other brokers stand for.
    #[default]
    Dot,
    /// `:`
    Colon,
}

impl Separator {
    /// The character.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dot => ".",
            Self::Colon => ":",
        }
    }
    /// Whether it is the one that needs no mention.
    pub fn is_dot(&self) -> bool {
        *self == Self::Dot
    }
    /// The level that stands for a board.
    pub fn level_of(self, board: &BoardId) -> String {
        [board.tenant(), self.as_str(), board.name()].concat()
    }
    /// The board that a level stands for.
    fn board_of(self, level: &str) -> Option<BoardId> {
        let (tenant, name) = level.split_once(self.as_str())?;
        BoardId::new(&[tenant, ".", name].concat()).ok()
    }
}

impl std::str::FromStr for Separator {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "." => Ok(Self::Dot),
            ":" => Ok(Self::Colon),
            _ => Err("what separates tenant and name in topics is `.` or `:`"),
        }
    }
}

impl TryFrom<String> for Separator {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Separator> for String {
    fn from(separator: Separator) -> Self {
        separator.as_str().to_owned()
    }
}

/// The last level of a board's topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// Retained, QoS 1, console → board: [`crate::desired::Desired`].
    Desired,
    /// Retained, QoS 1, board → console: [`crate::report::Current`].
    Current,
    /// QoS 1, board → console: [`crate::report::Feedback`].
    Feedback,
    /// Retained, QoS 1, board → console, birth and will: [`crate::report::Presence`].
    Presence,
    /// QoS 0, board → console: [`crate::report::Telemetry`].
    Telemetry,
    /// Console → board, never retained: the envelope of a [`crate::command::Command`]. A board subscribes with QoS 0, so that
    /// none waits at the broker for one that is away.
    Command,
    /// QoS 1, board → console: [`crate::command::CommandResult`].
    CommandResult,
}

impl Topic {
    /// What a board reads, and must not write.
    pub const TO_BOARDS: [Topic; 2] = [Topic::Desired, Topic::Command];
    /// What a board writes.
    pub const BY_BOARDS: [Topic; 5] = [
        Topic::Current,
        Topic::Feedback,
        Topic::Presence,
        Topic::Telemetry,
        Topic::CommandResult,
    ];
    const ALL: [(Topic, &'static str); 7] = [
        (Topic::Desired, "desired"),
        (Topic::Current, "current"),
        (Topic::Feedback, "feedback"),
        (Topic::Presence, "presence"),
        (Topic::Telemetry, "telemetry"),
        (Topic::Command, "command"),
        (Topic::CommandResult, "command-result"),
    ];
    /// The topic level.
    pub fn level(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(t, _)| *t == self)
            .map_or("", |(_, level)| level)
    }
    /// `coracle/v1/<board>/<level>`.
    pub fn of(self, board: &BoardId, separator: Separator) -> String {
        let board = separator.level_of(board);
        [PREFIX, "/", &board, "/", self.level()].concat()
    }
    /// `coracle/v1/+/<level>`: what a console subscribes to.
    pub fn of_all_boards(self) -> String {
        format!("{PREFIX}/+/{}", self.level())
    }
    /// Reads a topic back.
    pub fn parse(topic: &str, separator: Separator) -> Option<(BoardId, Topic)> {
        let (board, level) = topic
            .strip_prefix(PREFIX)?
            .strip_prefix('/')?
            .split_once('/')?;
        let topic = Self::ALL.iter().find(|(_, l)| *l == level)?.0;
        Some((separator.board_of(board)?, topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_of_either_kind_leads_back_to_its_board_and_to_no_other() {
        let board = BoardId::new("acme.b-1").unwrap();
        for (separator, text) in [
            (Separator::Dot, "coracle/v1/acme.b-1/desired"),
            (Separator::Colon, "coracle/v1/acme:b-1/desired"),
        ] {
            assert_eq!(Topic::Desired.of(&board, separator), text);
            let parse = |text| Topic::parse(text, separator);
            assert_eq!(parse(text), Some((board.clone(), Topic::Desired)));
            let json = serde_json::to_string(&separator).unwrap();
            assert_eq!(serde_json::from_str::<Separator>(&json).unwrap(), separator);
        }
        for (text, separator) in [
            ("coracle/v1/acme:b-1/desired", Separator::Dot),
            ("coracle/v1/acme.b-1/desired", Separator::Colon),
            ("coracle/v1/acme:b.1/desired", Separator::Colon),
            ("coracle/v1/acme:b:1/desired", Separator::Colon),
            ("coracle/v1/acme/desired", Separator::Colon),
            ("coracle/v1/fleet/root", Separator::Colon),
        ] {
            assert_eq!(Topic::parse(text, separator), None, "{text}");
        }
        assert!(serde_json::from_str::<Separator>("\"/\"").is_err());
    }
}

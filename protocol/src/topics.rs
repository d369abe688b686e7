//! MQTT topics: `coracle/v1/<board>/…`.

use crate::names::BoardId;

/// What every topic starts with.
pub const PREFIX: &str = "coracle/v1";

/// Retained, QoS 1, console → every board: [`crate::desired::RootNotice`]. No board has this name: it
/// holds no dot.
pub const ROOT_NOTICE: &str = "coracle/v1/fleet/root";

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
    pub fn of(self, board: &BoardId) -> String {
        format!("{PREFIX}/{board}/{}", self.level())
    }
    /// `coracle/v1/+/<level>`: what a console subscribes to.
    pub fn of_all_boards(self) -> String {
        format!("{PREFIX}/+/{}", self.level())
    }
    /// Reads a topic back.
    pub fn parse(topic: &str) -> Option<(BoardId, Topic)> {
        let (board, level) = topic
            .strip_prefix(PREFIX)?
            .strip_prefix('/')?
            .split_once('/')?;
        let topic = Self::ALL.iter().find(|(_, l)| *l == level)?.0;
        Some((BoardId::new(board).ok()?, topic))
    }
}

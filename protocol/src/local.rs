//! Daemon ↔ supervisor, over `supervisor.sock` (a stream socket).
//!
//! A frame is a 4-byte big-endian length (at most `LIMITS.local_frame_bytes`) and that much JSON.
//! The daemon sends [`Call`]s; the supervisor answers each with one [`Reply`] of the same `id`, in
//! any order, and sends [`Event`]s to a connection that asked to [`Request::Watch`].
//!
//! Each kind of request, answer and event is the name of its only member: what follows a name is read as it comes, where a name
//! among the values of one object would have all of it kept until it is found.

mod answer;
mod exec;
mod request;
mod status;
mod store;
mod volumes;

pub use answer::{Answer, DID_NOT_STAY, LayerNeed, Needs, Trusted};
pub use exec::{Exec, HEAD, Stream};
pub use request::{AppAction, LayerSource, Request, StickWord};
pub use status::{SWITCHING, Status, Waiting};
pub use store::{FileFault, StoreAction, StoreCheck, StoreFault, StoreKind, StoreState};
pub use volumes::{Verdict, VolumeAction, VolumeStatus};

use crate::names::AppName;
use crate::report::Phase;
use serde::{Deserialize, Serialize};

/// A request and its number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// Chosen by the caller.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// What the supervisor sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(clippy::large_enum_variant)]
pub enum Message {
    /// The answer to a [`Call`].
    Reply(Reply),
    /// Something happened.
    Event(Event),
}

/// An answer and the number of its call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Of the call.
    pub id: u64,
    /// The answer.
    pub answer: Answer,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A deployment went on.
    Deployment {
        /// Which.
        activity: String,
        /// Where it is.
        phase: Phase,
        /// A stable word.
        code: Option<String>,
        /// In words.
        reason: Option<String>,
    },
    /// The root document changed; ask for the status.
    Root {
        /// Its version.
        version: u64,
    },
    /// An app changed state; ask for the status.
    AppChanged {
        /// Which.
        app: AppName,
        /// In words: "started", "exited with 1", "unhealthy: …".
        what: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a name with what it is for, and never as a name among other values: the board would read each value twice, with
    /// code for both, a fiftieth of the program that ships.
    #[test]
    fn a_kind_is_the_name_of_the_only_member() {
        let call = Call {
            id: 7,
            request: Request::Status,
        };
        let reply = Message::Reply(Reply {
            id: 7,
            answer: Answer::Failed {
                code: "no-space".to_owned(),
                reason: "full".to_owned(),
            },
        });
        let event = Message::Event(Event::Root { version: 3 });
        let call = serde_json::to_string(&call).unwrap();
        assert_eq!(call, r#"{"id":7,"request":"status"}"#);
        let event = serde_json::to_string(&event).unwrap();
        assert_eq!(event, r#"{"event":{"root":{"version":3}}}"#);
        let json = serde_json::to_string(&reply).unwrap();
        assert_eq!(
            json,
            r#"{"reply":{"id":7,"answer":{"failed":{"code":"no-space","reason":"full"}}}}"#
        );
        assert_eq!(serde_json::from_str::<Message>(&json).unwrap(), reply);
    }
}

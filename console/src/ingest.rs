//! What boards say, into the database. The broker lets a board write only below its own name, so
//! that the topic says who spoke; the content is untrusted all the same.

use crate::boards::{self, BoardsError};
use crate::clock::now;
use crate::link::{Inbox, Message};
use crate::live::{Change, Live, Odd};
use crate::mosquitto::MESSAGE_BYTES;
use crate::republish::Republish;
use crate::revocation::Revocations;
use crate::store::{Heard, Store, StoreError};
use coracle_protocol::command::CommandResult;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::names::BoardId;
use coracle_protocol::report::{BoardUse, Current, Feedback, Presence, Telemetry};
use coracle_protocol::topics::Topic;
use serde::de::DeserializeOwned;

/// Longest activity name that is kept, in bytes; the console's own have 32.
const ACTIVITY_BYTES: usize = 128;

/// Why a message was dropped.
#[derive(Debug, thiserror::Error)]
enum IngestError {
    #[error("{0} bytes; the limit is {MESSAGE_BYTES}")]
    TooLarge(usize),
    #[error("not a message of this topic: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("the activity's name has {0} bytes; the limit is {ACTIVITY_BYTES}")]
    Activity(usize),
    #[error(
        "the result of a command is in more than {} parts of {} bytes",
        CommandResult::MOST_PARTS,
        LIMITS.mqtt_message_bytes
    )]
    Result,
    #[error("the board is revoked")]
    Revoked,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl IngestError {
    /// What is wrong with the message, when it is the message.
    fn odd(&self) -> Option<Odd> {
        match self {
            Self::TooLarge(_) => Some(Odd::TooLong),
            Self::Malformed(_) | Self::Activity(_) | Self::Result => Some(Odd::Malformed),
            Self::Revoked | Self::Store(_) => None,
        }
    }
}

/// Takes messages until the link ends.
pub async fn run(
    mut inbox: Inbox,
    store: Store,
    live: Live,
    republish: Republish,
    revocations: Revocations,
) {
    while let Some(message) = inbox.recv().await {
        let Message {
            board,
            kind,
            payload,
        } = message;
        // An empty message deletes a retained one: it says nothing.
        if payload.is_empty() {
            continue;
        }
        match take(&store, &live, &revocations, &board, kind, &payload).await {
            Ok(Heard::News) => live.tell(Change::Board(board)),
            Ok(Heard::Wanted) => {
                republish.ask(board.clone());
                live.tell(Change::Board(board));
            }
            // Nobody is told: QoS 1 may bring what it likes twice.
            Ok(Heard::Nothing) => {
                live.is_first(&board, Odd::Repeated);
            }
            Err(IngestError::Revoked) => revocations.still_speaks(&board),
            Err(error) => {
                let odd = error.odd();
                if odd.is_none_or(|odd| live.is_first(&board, odd)) {
                    tracing::warn!(%board, topic = kind.level(), %error, "message dropped; the next of this kind from there are counted");
                }
            }
        }
    }
}

/// A board's last word: its key is gone, so that whoever shows its certificate from now on is not it.
async fn leave(store: &Store, board: &BoardId) -> Result<(), IngestError> {
    tracing::info!(%board, "it was decommissioned and says so; its certificates are revoked");
    match boards::revoke(store, board.as_str(), board, "decommissioned").await {
        Ok(_) => Ok(()),
        Err(BoardsError::Store(error)) => Err(error.into()),
        Err(error) => {
            tracing::error!(%board, %error, "it is not revoked");
            Ok(())
        }
    }
}

async fn take(
    store: &Store,
    live: &Live,
    revocations: &Revocations,
    board: &BoardId,
    kind: Topic,
    payload: &[u8],
) -> Result<Heard, IngestError> {
    if payload.len() > MESSAGE_BYTES {
        return Err(IngestError::TooLarge(payload.len()));
    }
    let now = now();
    if store.is_revoked(board).await? {
        // That it is gone is worth knowing: its will, which the broker says for it.
        let gone = match kind {
            Topic::Presence => parse::<Presence>(payload).is_ok_and(|p| !p.online),
            _ => false,
        };
        if !gone {
            return Err(IngestError::Revoked);
        }
    }
    let news = match kind {
        Topic::Current => {
            let current: Current = parse(payload)?;
            let news = store.set_current(board, &current, now).await?;
            if current.decommissioned && news {
                leave(store, board).await?;
                revocations.changed();
            }
            news
        }
        Topic::Feedback => {
            let feedback: Feedback = parse(payload)?;
            if feedback.activity.len() > ACTIVITY_BYTES {
                return Err(IngestError::Activity(feedback.activity.len()));
            }
            let heard = store.add_feedback(board, &feedback, now).await?;
            if heard != Heard::Nothing {
                tracing::info!(
                    %board, activity = feedback.activity, phase = ?feedback.phase,
                    percent = feedback.percent, code = feedback.code, reason = feedback.reason,
                    "feedback"
                );
            }
            return Ok(heard);
        }
        Topic::Presence => {
            let presence: Presence = parse(payload)?;
            store
                .set_presence(board, presence.online, presence.session, now)
                .await?
        }
        Topic::Telemetry => {
            let mut telemetry: Telemetry = parse(payload)?;
            telemetry.board = telemetry.board.map(BoardUse::in_sense);
            let used = telemetry.board.clone();
            let known = store.board(board).await?;
            let is_known = known.is_some();
            if let Some(known) = known {
                let is_due = live.set_telemetry(known.id, known.used, telemetry, now);
                if let Some(used) = used.filter(|_| is_due) {
                    store.set_used(board, &used, now).await?;
                }
            }
            is_known
        }
        Topic::CommandResult => {
            let result: CommandResult = parse(payload)?;
            if payload.len() > LIMITS.mqtt_message_bytes
                || result.parts as usize > CommandResult::MOST_PARTS
                || result.part >= result.parts
            {
                return Err(IngestError::Result);
            }
            let news = store.add_command_result(board, &result).await?;
            if news && result.part == 0 {
                tracing::info!(%board, command = %result.command, code = result.code, "a command was answered");
            }
            news
        }
        Topic::Desired | Topic::Command => false,
    };
    Ok(match news {
        true => Heard::News,
        false => Heard::Nothing,
    })
}

fn parse<T: DeserializeOwned>(payload: &[u8]) -> Result<T, IngestError> {
    Ok(serde_json::from_slice(payload)?)
}

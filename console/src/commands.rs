//! Signed commands to one board: restart an app, send the last lines of its log. Signed by the console's key, when the root
//! document names it for role `command`; kept; published once, for a board that is there.

use crate::clock::now;
use crate::deploy::{DeployError, Signer};
use crate::link::{Link, LinkError};
use crate::store::{CommandRow, Store, StoreError};
use coracle_protocol::command::{Action, COMMAND_TYPE, Command};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::names::BoardId;
use coracle_protocol::root::Role;
use coracle_protocol::topics::Topic;
use coracle_protocol::verify::{Refusal, VerifiedCommand};
use std::time::{SystemTime, UNIX_EPOCH};

/// A command is good for so long, in seconds: it is for now.
const GOOD_FOR: u64 = 120;

/// Why nothing was commanded.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A board that was never given an enrolment.
    #[error("board {0} is not known")]
    UnknownBoard(BoardId),
    /// A board whose certificates were taken back.
    #[error("board {0} is revoked")]
    Revoked(BoardId),
    /// Nobody would hear it.
    #[error("board {0} is not online; a command is for now and waits for nobody")]
    Offline(BoardId),
    /// Nobody would carry it.
    #[error("the console has no link to the broker")]
    NoBroker,
    /// Past a limit.
    #[error("{0}")]
    Malformed(String),
    /// The root lets this console command nothing.
    #[error("the root document does not name the console's key for role `command`")]
    NotACommandKey,
    /// The root does not serve.
    #[error("the root document asks for {0} signatures of role `command`; a console has one key")]
    Threshold(usize),
    /// A document that the board would refuse.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The key.
    #[error(transparent)]
    Sign(#[from] DeployError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A document that is no JSON: cannot happen with the types that are signed.
    #[error("a document cannot be written: {0}")]
    Json(#[from] serde_json::Error),
}

/// What commands are made with.
#[derive(Clone)]
pub struct Commander {
    /// The truth.
    pub store: Store,
    /// Signs.
    pub signer: Signer,
    /// Publishes.
    pub link: Link,
}

impl Commander {
    /// Keeps and publishes one that was signed elsewhere, by whoever may: the console only looks whether the board would take it.
    pub async fn carry(
        &self,
        board: &BoardId,
        envelope: &Envelope,
        actor: &str,
    ) -> Result<CommandRow, CommandError> {
        self.is_there(board).await?;
        let verified = VerifiedCommand::open(envelope, &self.signer.root())?;
        let command = verified.document();
        if command.board != *board {
            let text = format!(
                "this command is for board {}, not for {board}",
                command.board
            );
            return Err(CommandError::Malformed(text));
        }
        if now() > command.expires {
            let text = "this command is over; sign it again".to_owned();
            return Err(CommandError::Malformed(text));
        }
        let row = CommandRow {
            id: verified.digest(),
            board: board.clone(),
            seq: command.seq,
            action: command.action.clone(),
            created_at: now(),
            created_by: actor.to_owned(),
            expires: command.expires,
        };
        if self.store.command(board, &row.id).await?.is_some() {
            let text = "this command was sent before; sign a new one".to_owned();
            return Err(CommandError::Malformed(text));
        }
        self.publish(row, envelope).await
    }

    /// A board that would hear it.
    async fn is_there(&self, board: &BoardId) -> Result<(), CommandError> {
        let unknown = || CommandError::UnknownBoard(board.clone());
        let known = self.store.board(board).await?.ok_or_else(unknown)?;
        if known.revoked_at.is_some() {
            return Err(CommandError::Revoked(board.clone()));
        }
        if !self.link.is_up() {
            return Err(CommandError::NoBroker);
        }
        if !known.presence.online {
            return Err(CommandError::Offline(board.clone()));
        }
        Ok(())
    }

    async fn publish(
        &self,
        row: CommandRow,
        envelope: &Envelope,
    ) -> Result<CommandRow, CommandError> {
        self.store.add_command(&row).await?;
        let topic = self.link.topic(Topic::Command, &row.board);
        self.link.publish(&topic, envelope.to_json()).await?;
        Ok(row)
    }

    /// Signs, keeps and publishes one command.
    pub async fn send(
        &self,
        board: &BoardId,
        action: Action,
        actor: &str,
    ) -> Result<CommandRow, CommandError> {
        let epoch = epoch(&self.signer)?;
        self.is_there(board).await?;
        let unknown = || CommandError::UnknownBoard(board.clone());
        let seq = self.store.next_command_seq(board, now_ms()).await?;
        let (seq, assigned_at) = seq.ok_or_else(unknown)?;
        // The board's time is at least that of its assignments, whatever this console's clock has done since.
        let issued_at = now().max(assigned_at);
        let command = Command {
            spec_version: 1,
            critical: Vec::new(),
            board: board.clone(),
            epoch,
            seq,
            issued_at,
            expires: issued_at + GOOD_FOR,
            action,
        };
        command.check().map_err(CommandError::Malformed)?;
        let unsigned = Envelope::unsigned(COMMAND_TYPE, &serde_json::to_vec(&command)?);
        let envelope = self.signer.sign_envelope(unsigned).await?;
        // What the board would refuse is found here, not there.
        let verified = VerifiedCommand::open(&envelope, &self.signer.root())?;
        let row = CommandRow {
            id: verified.digest(),
            board: board.clone(),
            seq,
            action: command.action,
            created_at: now(),
            created_by: actor.to_owned(),
            expires: command.expires,
        };
        self.publish(row, &envelope).await
    }
}

/// The epoch of the role, as long as the console's key is in it.
pub fn epoch(signer: &Signer) -> Result<u64, CommandError> {
    let root = signer.root();
    let role = root.role(Role::Command);
    let (keys, threshold, epoch) = role.ok_or(CommandError::NotACommandKey)?;
    if !keys.contains(&signer.public()) {
        return Err(CommandError::NotACommandKey);
    }
    match threshold {
        1 => Ok(epoch),
        more => Err(CommandError::Threshold(more)),
    }
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

//! From an envelope to a command that this board may obey now.

use super::Refusal;
use super::documents::{self, RootTimes};
use crate::command::{Action, Command, RESET_TYPE};
use crate::counters::{Counter, Seen};
use crate::dsse::Envelope;
use crate::names::BoardId;
use crate::root::{Role, TrustedRoot};
use crate::time::TimeBound;
use coracle_digest::Sha256Digest;

const WHAT: &str = "command";

/// A command that enough keys of its role signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCommand {
    command: Command,
    root: RootTimes,
    digest: Sha256Digest,
}

impl VerifiedCommand {
    /// Counts signatures of the role that its type is of, `command` or `reset`, then reads the same bytes. What one of the roles
    /// may ask for the other may not.
    pub fn open(envelope: &Envelope, root: &TrustedRoot) -> Result<Self, Refusal> {
        let role = match envelope.payload_type == RESET_TYPE {
            true => Role::Reset,
            false => Role::Command,
        };
        let kind = Action::payload_type(role);
        let (bytes, epoch) = documents::open(envelope, WHAT, kind, role, root)?;
        let malformed = |fault| Refusal::Malformed {
            document: WHAT,
            fault,
        };
        let command: Command =
            serde_json::from_slice(&bytes).map_err(|e| malformed(e.to_string()))?;
        command.check().map_err(malformed)?;
        if command.action.role() != role {
            let word = command.action.word();
            return Err(malformed(format!(
                "role `{role}` signed it, and `{word}` is role `{}`'s",
                command.action.role()
            )));
        }
        if command.epoch != epoch {
            return Err(Refusal::Epoch {
                document: WHAT,
                role,
                got: command.epoch,
                want: epoch,
            });
        }
        Ok(Self {
            command,
            root: RootTimes::of(root),
            digest: Sha256Digest::of(&bytes),
        })
    }

    /// SHA-256 of the payload: what its result is called by.
    pub fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// The document: signed, and held against no board.
    pub fn document(&self) -> &Command {
        &self.command
    }
}

/// A command for this board, not seen before and not surely over. What it does *not* say: that the app is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedCommand {
    command: Command,
    digest: Sha256Digest,
    seen: Seen,
}

impl AcceptedCommand {
    /// Held against the board. `now`: the time is at least this; what the board has seen counts besides. A command moves its
    /// own counter and nothing else: an online key that could move time would make documents expire.
    pub fn accept(
        verified: VerifiedCommand,
        board: &BoardId,
        seen: &Seen,
        now: TimeBound,
    ) -> Result<Self, Refusal> {
        let VerifiedCommand {
            command,
            root,
            digest,
        } = verified;
        if command.board != *board {
            return Err(Refusal::OtherBoardsCommand {
                target: command.board,
                board: board.clone(),
            });
        }
        let counter = Counter {
            epoch: command.epoch,
            value: command.seq,
        };
        let role = command.action.role();
        let had = match role {
            Role::Reset => seen.reset,
            _ => seen.command,
        };
        if counter <= had {
            return Err(Refusal::OldCommand {
                got: counter,
                seen: had,
            });
        }
        let now = now.max(seen.time).raised_to(root.issued_at);
        for (document, expires) in [("root document", root.expires), (WHAT, command.expires)] {
            if now.is_past(expires) {
                return Err(Refusal::Expired {
                    document,
                    expires,
                    now: now.unix_seconds(),
                });
            }
        }
        let mut seen = seen.clone();
        match role {
            Role::Reset => seen.reset = counter,
            _ => seen.command = counter,
        }
        Ok(Self {
            command,
            digest,
            seen,
        })
    }

    /// The document.
    pub fn document(&self) -> &Command {
        &self.command
    }

    /// SHA-256 of the payload: what its result is called by.
    pub fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// What the board has seen once it takes this: to be persisted *before* anything is done.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }
}

//! Signed commands, as a console's: made, sent, and what became of them.

use super::{BOARD, Board, now, wait_for};
use coracle_protocol::command::{Action, Command};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::local::{Answer, Request};
use coracle_protocol::names::BoardId;
use std::borrow::Borrow;
use std::time::Duration;

/// For a board that does what it was told before.
const WAIT: Duration = Duration::from_secs(90);

/// For the board of a test, good for two minutes.
pub fn order(seq: u64, action: Action) -> Command {
    Command {
        spec_version: 1,
        critical: vec![],
        board: BoardId::new(BOARD).unwrap(),
        epoch: 1,
        seq,
        issued_at: now(),
        expires: now() + 120,
        action,
    }
}

/// What became of it, once the board takes the next one.
pub fn send(board: &Board, command: impl Borrow<Envelope>) -> Answer {
    wait_for("the board to take a command", WAIT, || {
        let command = command.borrow().clone();
        match board.ask(Request::Command { command }) {
            Answer::Failed { code, .. } if code == "busy" => None,
            answer => Some(answer),
        }
    })
}

/// The stable word of an answer that is no success.
pub fn code(answer: Answer) -> String {
    match answer {
        Answer::Refused { code, .. } | Answer::Failed { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

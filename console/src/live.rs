//! Who is told that something changed: web pages that show it. Slow listeners miss some and fetch
//! the whole anyway.

use crate::marks::{self, Mark};
use crate::store::Board;
use coracle_protocol::names::BoardId;
use coracle_protocol::report::{BoardUse, Telemetry};
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast;

/// Something that a page may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A board said something, or was assigned something.
    Board(BoardId),
    /// A release or a deployment came.
    Fleet,
}

/// The board's newest use of memory and CPU, and when it came.
pub type Latest = (Telemetry, u64);

/// What a board itself uses goes into the database at most so often, in seconds, when it is marked otherwise than what is there …
const KEEP_CHANGED: u64 = 60;
/// … and otherwise so often: a write each minute and board would wear the console's disk for figures of one minute.
const KEEP: u64 = 600;

/// What is known of a board's telemetry.
#[derive(Debug)]
struct Heard {
    latest: Latest,
    /// When the board's own figures were last to be kept, and what they were marked with.
    kept: Option<(u64, Vec<Mark>)>,
}

/// Boards whose odd messages are counted: whoever has a certificate of the fleet has one name.
const COUNTED: usize = 100_000;

/// What was wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Odd {
    /// More bytes than a message may have.
    TooLong,
    /// It cannot be read, or says more than it may.
    Malformed,
    /// It is known already, or a newer one is.
    Repeated,
}

/// Messages of a board that changed nothing, since the console started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Dropped {
    /// [`Odd::TooLong`].
    pub too_long: u64,
    /// [`Odd::Malformed`].
    pub malformed: u64,
    /// [`Odd::Repeated`].
    pub repeated: u64,
}

/// Sender and memory of what is not worth a database row.
#[derive(Debug, Clone)]
pub struct Live {
    changes: broadcast::Sender<Change>,
    telemetry: Arc<Mutex<HashMap<BoardId, Heard>>>,
    dropped: Arc<Mutex<HashMap<BoardId, Dropped>>>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            changes: broadcast::channel(256).0,
            telemetry: Arc::default(),
            dropped: Arc::default(),
        }
    }
}

impl Live {
    /// Tells whoever listens.
    pub fn tell(&self, change: Change) {
        // An error says that nobody listens.
        let _ = self.changes.send(change);
    }
    /// Listens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
    /// Notes what a board and its apps use, and whether its own figures are to be kept now; `before` is what was kept of them.
    /// Boards that the database does not know are not to be noted.
    pub fn set_telemetry(
        &self,
        board: BoardId,
        before: Option<(BoardUse, u64)>,
        telemetry: Telemetry,
        now: u64,
    ) -> bool {
        let mut all = self
            .telemetry
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let marks = telemetry.board.as_ref().map(marks::of);
        // A console that has just started keeps no row of every board at once.
        let mut kept = match all.remove(&board) {
            Some(heard) => heard.kept,
            None => before.map(|(used, at)| (at, marks::of(&used))),
        };
        let is_due = marks.is_some_and(|marks| {
            let is_due = kept.as_ref().is_none_or(|(at, before)| {
                let pause = match *before == marks {
                    true => KEEP,
                    false => KEEP_CHANGED,
                };
                now.saturating_sub(*at) >= pause
            });
            if is_due {
                kept = Some((now, marks));
            }
            is_due
        });
        let latest = (telemetry, now);
        all.insert(board, Heard { latest, kept });
        is_due
    }
    /// Counts an odd message of a board. Whether it is the first of its kind from there, which is to be told: a board can send
    /// as many as it likes.
    pub fn is_first(&self, board: &BoardId, odd: Odd) -> bool {
        let mut all = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= COUNTED && !all.contains_key(board) {
            return false;
        }
        let dropped = all.entry(board.clone()).or_default();
        let count = match odd {
            Odd::TooLong => &mut dropped.too_long,
            Odd::Malformed => &mut dropped.malformed,
            Odd::Repeated => &mut dropped.repeated,
        };
        *count += 1;
        *count == 1
    }
    /// How many there were.
    pub fn dropped(&self, board: &BoardId) -> Dropped {
        let all = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(board).copied().unwrap_or_default()
    }
    /// What a board last said that it itself uses, and when that came; of a board that said nothing since the console started,
    /// what was kept.
    pub fn used(&self, board: &Board) -> Option<(BoardUse, u64)> {
        match self.telemetry(&board.id) {
            // An agent that went back to one without these figures says no more of them.
            Some((telemetry, at)) => Some((telemetry.board?, at)),
            None => board.used.clone(),
        }
    }
    /// What a board last said that it uses.
    pub fn telemetry(&self, board: &BoardId) -> Option<Latest> {
        let all = self
            .telemetry
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.get(board).map(|heard| heard.latest.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boards_own_figures_are_kept_now_and_then_and_when_something_is_wrong() {
        let mut live = Live::default();
        let id = BoardId::new("acme.b1").unwrap();
        let used = |at| BoardUse {
            millidegrees: Some(at),
            ..BoardUse::default()
        };
        let hear_of = |live: &Live, now: u64, millidegrees: Option<i32>, before| {
            let board = millidegrees.map(used);
            let telemetry = Telemetry {
                at: 1,
                apps: vec![],
                storage: vec![],
                board,
            };
            live.set_telemetry(id.clone(), before, telemetry, now)
        };
        let hear = |now, millidegrees| hear_of(&live, now, millidegrees, None);
        assert!(!hear(1000, None), "an older board has none");
        assert!(hear(1000, Some(50_000)));
        assert!(!hear(1060, Some(51_000)));
        assert!(!hear(1599, Some(52_000)));
        assert!(hear(1600, Some(52_000)));
        // However often it changes, and whatever the clock does.
        assert!(!hear(1630, Some(99_000)));
        assert!(hear(1660, Some(99_000)));
        assert!(!hear(1661, Some(50_000)));
        assert!(!hear(5, Some(50_000)));
        assert!(hear(1720, Some(50_000)));
        assert_eq!(live.telemetry(&id).unwrap().1, 1720);
        // A console that starts anew goes on from what was kept.
        live = Live::default();
        let kept = || Some((used(50_000), 1720));
        assert!(!hear_of(&live, 1800, Some(51_000), kept()));
        assert!(hear_of(&live, 2320, Some(51_000), kept()));
    }
}

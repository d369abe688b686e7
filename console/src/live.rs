//! Who is told that something changed: web pages that show it. Slow listeners miss some and fetch
//! the whole anyway.

use coracle_protocol::names::BoardId;
use coracle_protocol::report::Telemetry;
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
    telemetry: Arc<Mutex<HashMap<BoardId, Latest>>>,
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
    /// Notes what a board uses. Boards that the database does not know are not to be noted.
    pub fn set_telemetry(&self, board: BoardId, telemetry: Telemetry, now: u64) {
        let mut all = self
            .telemetry
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.insert(board, (telemetry, now));
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
    /// What a board last said that it uses.
    pub fn telemetry(&self, board: &BoardId) -> Option<Latest> {
        let all = self
            .telemetry
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.get(board).cloned()
    }
}

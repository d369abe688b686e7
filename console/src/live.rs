//! Who is told that something changed: web pages that show it. Slow listeners miss some and fetch
//! the whole anyway.

use coracle_protocol::names::BoardId;
use coracle_protocol::report::Telemetry;
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

/// Sender and memory of what is not worth a database row.
#[derive(Debug, Clone)]
pub struct Live {
    changes: broadcast::Sender<Change>,
    telemetry: Arc<Mutex<HashMap<BoardId, Latest>>>,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            changes: broadcast::channel(256).0,
            telemetry: Arc::default(),
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
    /// What a board last said that it uses.
    pub fn telemetry(&self, board: &BoardId) -> Option<Latest> {
        let all = self
            .telemetry
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.get(board).cloned()
    }
}

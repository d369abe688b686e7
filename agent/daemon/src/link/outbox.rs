//! What waits to be published, in order of importance: feedback, then what runs, results of commands, telemetry.
//! Feedback is on disk; of what runs only the newest counts; results and telemetry are bounded and may be lost.

use super::spool::{Spool, Ticket};
use crate::disk::DiskError;
use coracle_protocol::command::CommandResult;
use coracle_protocol::report::{Current, Feedback, Telemetry};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Telemetry messages that wait while there is no link: half an hour at one a minute.
const TELEMETRY: usize = 30;

/// Messages of results that wait: four of the longest.
const RESULTS: usize = 4 * CommandResult::MOST_PARTS;

/// The outbox.
#[derive(Debug)]
pub struct Outbox {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug)]
struct Inner {
    spool: Spool,
    current: Option<Current>,
    current_is_out: bool,
    /// The broker has the word that the board is no more.
    last_word_is_out: bool,
    published: u64,
    results: VecDeque<Vec<u8>>,
    telemetry: VecDeque<Vec<u8>>,
}

/// A message to publish.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A feedback.
    Feedback(Ticket),
    /// What runs.
    Current(Box<Current>),
    /// A part of a command's result, as JSON.
    Result(Vec<u8>),
    /// Telemetry, as JSON.
    Telemetry(Vec<u8>),
}

impl Outbox {
    /// Opens the spool in `folder`.
    pub fn open(folder: &Path) -> Result<Self, DiskError> {
        Ok(Self {
            inner: Mutex::new(Inner {
                spool: Spool::open(folder)?,
                current: None,
                current_is_out: true,
                last_word_is_out: false,
                published: 0,
                results: VecDeque::new(),
                telemetry: VecDeque::new(),
            }),
            changed: Notify::new(),
        })
    }

    /// Stores a feedback; it is on disk when this returns.
    pub fn feedback(&self, feedback: Feedback) {
        if let Err(e) = self.lock().spool.push(feedback) {
            tracing::error!(error = %e, "feedback is lost");
        }
        self.changed.notify_one();
    }

    /// What runs now. Its `version` is set when it goes out.
    pub fn current(&self, current: Current) {
        let mut inner = self.lock();
        inner.current = Some(current);
        inner.current_is_out = false;
        drop(inner);
        self.changed.notify_one();
    }

    /// What the apps use; the oldest goes when too many wait.
    pub fn telemetry(&self, telemetry: &Telemetry) {
        let mut inner = self.lock();
        if inner.telemetry.len() >= TELEMETRY {
            inner.telemetry.pop_front();
        }
        let json = serde_json::to_vec(telemetry).unwrap_or_default();
        inner.telemetry.push_back(json);
        drop(inner);
        self.changed.notify_one();
    }

    /// What became of a command. When too many wait the oldest go: whoever asked has given up.
    pub fn result(&self, messages: &[CommandResult]) {
        let mut inner = self.lock();
        for message in messages {
            if inner.results.len() >= RESULTS {
                inner.results.pop_front();
            }
            let json = serde_json::to_vec(message).unwrap_or_default();
            inner.results.push_back(json);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Feedback that waits.
    pub fn waiting(&self) -> usize {
        self.lock().spool.len()
    }

    /// A new connection: what runs is told again.
    pub(super) fn connected(&self) {
        self.lock().current_is_out = false;
    }

    /// What goes out next in `session`.
    pub(super) fn next(&self, session: u64) -> Option<Item> {
        let mut inner = self.lock();
        if let Some(ticket) = inner.spool.head() {
            return Some(Item::Feedback(ticket));
        }
        if !inner.current_is_out
            && let Some(mut current) = inner.current.clone()
        {
            inner.current_is_out = true;
            inner.published += 1;
            // Sessions count up over restarts, so versions do, without a file of their own; 2^20
            // messages in one session and 2^33 sessions stay below 2^53.
            current.version = (session << 20) + (inner.published & 0xf_ffff);
            return Some(Item::Current(Box::new(current)));
        }
        if let Some(json) = inner.results.front() {
            return Some(Item::Result(json.clone()));
        }
        inner.telemetry.pop_front().map(Item::Telemetry)
    }

    /// The broker has it.
    pub(super) fn sent(&self, item: &Item) {
        let mut inner = self.lock();
        match item {
            Item::Feedback(ticket) => inner.spool.sent(ticket),
            Item::Result(json) if inner.results.front() == Some(json) => {
                inner.results.pop_front();
            }
            Item::Current(current) => inner.last_word_is_out = current.decommissioned,
            _ => {}
        }
    }

    /// Whether the broker has been told that this board was decommissioned.
    pub fn last_word_is_out(&self) -> bool {
        self.lock().last_word_is_out
    }

    /// Nothing waits any more: what is enrolled next is another board.
    pub fn forget(&self) {
        let mut inner = self.lock();
        inner.spool.clear();
        inner.results.clear();
        inner.telemetry.clear();
        inner.current = None;
        inner.last_word_is_out = false;
    }

    /// The broker does not have it.
    pub(super) fn not_sent(&self, item: &Item) {
        if matches!(item, Item::Current(_)) {
            self.lock().current_is_out = false;
        }
    }

    /// Waits until something was added.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The database is the truth; what the broker retains is a copy. At each connection the broker
//! shows what it has, and what it lost or has wrong is published again; so is a `desired` message
//! that somebody deletes or overwrites later. What it has right is left alone, so that boards are
//! not told twice. A broker that shows nothing to the console's patterns is asked topic by topic, for some boards at a time,
//! while what is new goes out between.

use crate::link::Link;
use crate::store::{Store, StoreError};
use coracle_digest::Sha256Digest;
use coracle_protocol::names::BoardId;
use coracle_protocol::topics::Topic;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A broker sends what it retains right after the subscription; afterwards it counts as lost.
const SHOW: Duration = Duration::from_millis(1500);
/// Two consoles with different databases on one broker would overwrite each other without end;
/// this keeps them slow. It also gathers what a deployment for many boards asks for.
const PAUSE: Duration = Duration::from_millis(20);
/// Topics that a broker is asked for at a time: their names take 9 KiB at most, and RabbitMQ some tenths of a second.
const AT_ONCE: usize = 64;

#[derive(Debug, Default)]
struct Inner {
    seen: HashMap<BoardId, Sha256Digest>,
    asked: BTreeSet<BoardId>,
    connected: Option<Connected>,
}

/// A new connection.
#[derive(Debug, Clone, Copy)]
struct Connected {
    /// Whether the broker has kept for the console what boards said meanwhile.
    kept: bool,
}

/// What the broker was seen to hold, and for which boards that must be looked at.
#[derive(Debug, Clone, Default)]
pub struct Republish {
    inner: Arc<Mutex<Inner>>,
    wake: Arc<Notify>,
}

impl Republish {
    /// A new connection: nothing is known of what the broker holds. `kept`: the console's session was there.
    pub fn connected(&self, kept: bool) {
        self.change(|inner| {
            inner.seen.clear();
            inner.connected = Some(Connected { kept });
        });
    }
    /// A message on a board's `desired` topic.
    pub fn seen(&self, board: BoardId, payload: &[u8]) {
        let digest = Sha256Digest::of(payload);
        self.change(|inner| {
            if inner.seen.insert(board.clone(), digest) != Some(digest) {
                inner.asked.insert(board);
            }
        });
    }
    /// A board has a new assignment.
    pub fn ask(&self, board: BoardId) {
        self.change(|inner| {
            inner.asked.insert(board);
        });
    }

    fn change(&self, work: impl FnOnce(&mut Inner)) {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner));
        self.wake.notify_one();
    }

    fn take(&self) -> (Option<Connected>, BTreeSet<BoardId>) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let connected = std::mem::take(&mut inner.connected);
        (connected, std::mem::take(&mut inner.asked))
    }

    fn has(&self, board: &BoardId, digest: Sha256Digest) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.seen.get(board) == Some(&digest)
    }

    fn holds_nothing(&self, board: &BoardId) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        !inner.seen.contains_key(board)
    }

    /// Publishes until `stop`.
    pub async fn run(self, store: Store, mut link: Link, stop: CancellationToken) {
        let work = async {
            let mut unseen = Unseen::default();
            loop {
                if unseen.boards.is_empty() {
                    self.wake.notified().await;
                    tokio::time::sleep(PAUSE).await;
                }
                if link.wait_up().await.is_err() {
                    return;
                }
                let (connected, mut boards) = self.take();
                if let Some(connected) = connected {
                    let (shows, ()) =
                        tokio::join!(link.shows_to_patterns(SHOW), tokio::time::sleep(SHOW));
                    let Ok(shows) = shows else { return };
                    // What was left to ask the connection before for is of no use.
                    unseen = Unseen::default();
                    match Unseen::read(&store, connected).await {
                        Ok(all) if shows => boards.extend(all.assigned),
                        Ok(all) => unseen = all,
                        Err(error) => tracing::error!(%error, "cannot compare with the broker"),
                    }
                    if !shows {
                        let boards = unseen.boards.len();
                        tracing::info!(
                            boards,
                            "the broker shows what it retains to no pattern: it is asked for each board"
                        );
                    }
                }
                boards.extend(unseen.show(&link).await);
                for board in boards {
                    if let Err(error) = self.compare(&store, &link, &board).await {
                        tracing::error!(%error, %board, "cannot publish desired");
                    }
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    async fn compare(&self, store: &Store, link: &Link, board: &BoardId) -> Result<(), StoreError> {
        // For a revoked board nothing is kept at the broker: an empty retained message takes away what is there.
        // Nor of what is held or was taken back.
        let is_revoked = store.is_revoked(board).await?;
        let desired = match is_revoked {
            true => None,
            false => store.desired(board).await?,
        };
        if desired.is_none() && !is_revoked && self.holds_nothing(board) {
            return Ok(());
        }
        let desired = desired.unwrap_or_default();
        let digest = Sha256Digest::of(desired.as_bytes());
        if self.has(board, digest) {
            return Ok(());
        }
        let topic = link.topic(Topic::Desired, board);
        if link
            .publish_retained(&topic, desired.into_bytes())
            .await
            .is_ok()
        {
            tracing::info!(%board, "desired published");
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.seen.insert(board.clone(), digest);
        }
        Ok(())
    }
}

/// Boards of which nobody has seen yet what the broker retains for them.
#[derive(Default)]
struct Unseen {
    boards: Vec<BoardId>,
    /// For these the broker should have something.
    assigned: BTreeSet<BoardId>,
    /// What boards said is to be asked for too.
    said: bool,
}

impl Unseen {
    async fn read(store: &Store, connected: Connected) -> Result<Self, StoreError> {
        let assigned: BTreeSet<_> = store.assigned_boards().await?.into_iter().collect();
        let said = !connected.kept;
        let boards = match said {
            true => store.names().await?.into_iter().map(|(id, _)| id).collect(),
            false => assigned.iter().cloned().collect(),
        };
        Ok(Self {
            boards,
            assigned,
            said,
        })
    }

    /// Has the broker show what it retains for the next of them; those that are to be compared then.
    async fn show(&mut self, link: &Link) -> Vec<BoardId> {
        let boards = if self.said { AT_ONCE / 3 } else { AT_ONCE };
        let rest = self.boards.len().saturating_sub(boards);
        let next = self.boards.split_off(rest);
        let mut topics = Vec::new();
        for board in &next {
            let mut ask = |kind| topics.push(link.topic(kind, board));
            if self.assigned.contains(board) {
                ask(Topic::Desired);
            }
            if self.said {
                ask(Topic::Current);
                ask(Topic::Presence);
            }
        }
        if !topics.is_empty() && link.show(&topics).await.is_err() {
            self.boards.clear();
        }
        let assigned = next.into_iter().filter(|id| self.assigned.contains(id));
        assigned.collect()
    }
}

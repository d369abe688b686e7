//! Boards whose certificates were taken back. The database is the truth; this makes the world follow it: the list
//! for brokers, the own broker's reload, the end of connections that stand, and the end of what is retained for
//! the board. It looks at the database now and then as well, so that `coracle-console boards revoke` works beside
//! a running console, and what a crash cut short is made up for.

use crate::ca::{Ca, CaError};
use crate::clock::now;
use crate::files::{self, FileError, Mode};
use crate::link::{Target, take_place};
use crate::live::{Change, Live};
use crate::mosquitto::Reload;
use crate::republish::Republish;
use crate::store::{RevokedCertificate, Store, StoreError};
use crate::tls;
use coracle_protocol::names::BoardId;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Another process may revoke: so often it is looked for.
const LOOK: Duration = Duration::from_secs(5);
/// A revoked board that still speaks (a broker that has no new list yet) is thrown out at most so often.
const AGAIN: Duration = Duration::from_secs(60);
/// Boards that wait to be thrown out.
const WAITING: usize = 1024;
/// Brokers' clocks differ: a certificate stays on the list for so long after its own end, in seconds.
const LINGER: u64 = 7 * 24 * 3600;

/// Why the list is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The list.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// Its file.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What everybody else has of it.
#[derive(Debug, Clone)]
pub struct Revocations {
    list: watch::Receiver<String>,
    wake: Arc<Notify>,
    speaking: mpsc::Sender<BoardId>,
}

impl Revocations {
    /// The list in force, PEM.
    pub fn list(&self) -> String {
        self.list.borrow().clone()
    }
    /// The database has changed.
    pub fn changed(&self) {
        self.wake.notify_one();
    }
    /// A revoked board was heard.
    pub fn still_speaks(&self, board: &BoardId) {
        // Full: it is heard again.
        let _ = self.speaking.try_send(board.clone());
    }
}

/// The other half, to be run by [`Keeper::run`].
pub struct Keeper {
    store: Store,
    ca: Arc<Ca>,
    file: PathBuf,
    list: watch::Sender<String>,
    wake: Arc<Notify>,
    heard: mpsc::Receiver<BoardId>,
    certificates: Vec<RevokedCertificate>,
    boards: BTreeSet<BoardId>,
    number: u64,
    thrown_out: Mutex<HashMap<BoardId, Instant>>,
}

/// What follows a revocation.
pub struct Followers {
    /// The own broker, when there is one.
    pub broker: Option<Reload>,
    /// Where the broker is.
    pub target: Target,
    /// Its authority.
    pub broker_ca: PathBuf,
    /// What is retained.
    pub republish: Republish,
    /// Told of it.
    pub live: Live,
}

impl Keeper {
    /// Writes the list to `file`.
    pub async fn open(
        store: Store,
        ca: Arc<Ca>,
        file: PathBuf,
    ) -> Result<(Self, Revocations), RevocationError> {
        let (list, receiver) = watch::channel(String::new());
        let (speaking, heard) = mpsc::channel(WAITING);
        let wake = Arc::new(Notify::new());
        let mut keeper = Self {
            store,
            ca,
            file,
            list,
            wake: wake.clone(),
            heard,
            certificates: Vec::new(),
            boards: BTreeSet::new(),
            number: 0,
            thrown_out: Mutex::default(),
        };
        keeper.certificates = keeper.revoked().await?;
        // The own broker starts with this list, and nobody is in yet.
        keeper.boards = keeper.store.revoked_boards().await?;
        keeper.write()?;
        let revocations = Revocations {
            list: receiver,
            wake,
            speaking,
        };
        Ok((keeper, revocations))
    }

    async fn revoked(&self) -> Result<Vec<RevokedCertificate>, StoreError> {
        let from = now().saturating_sub(LINGER);
        self.store.revoked_certificates(from).await
    }

    fn write(&mut self) -> Result<(), RevocationError> {
        // By the clock, so that it goes up over restarts too.
        self.number = now().max(self.number + 1);
        let list = self.ca.revocation_list(&self.certificates, self.number)?;
        files::write(&self.file, list.as_bytes(), Mode::Public)?;
        self.list.send_replace(list);
        Ok(())
    }

    /// Follows the database until `stop`.
    pub async fn run(mut self, followers: Followers, stop: CancellationToken) {
        loop {
            if let Err(error) = self.follow(&followers).await {
                tracing::error!(%error, "revocations are not all in force; tried again");
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
                Some(board) = self.heard.recv() => self.throw_out(&followers, &board).await,
                () = stop.cancelled() => return,
            }
        }
    }

    async fn follow(&mut self, followers: &Followers) -> Result<(), RevocationError> {
        let certificates = self.revoked().await?;
        let boards = self.store.revoked_boards().await?;
        if certificates == self.certificates && boards == self.boards {
            return Ok(());
        }
        // First nobody comes in any more, then whoever is in goes.
        self.certificates = certificates;
        self.write()?;
        if let Some(broker) = &followers.broker {
            broker.revocations(&self.list.borrow())?;
        }
        let new: Vec<BoardId> = boards.difference(&self.boards).cloned().collect();
        let back: Vec<BoardId> = self.boards.difference(&boards).cloned().collect();
        self.boards = boards;
        for board in new.into_iter().chain(back) {
            followers.republish.ask(board.clone());
            if self.boards.contains(&board) {
                self.throw_out(followers, &board).await;
            }
            followers.live.tell(Change::Board(board));
        }
        Ok(())
    }

    async fn throw_out(&self, followers: &Followers, board: &BoardId) {
        {
            let mut thrown = self
                .thrown_out
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            thrown.retain(|_, at| at.elapsed() < AGAIN);
            if thrown.insert(board.clone(), Instant::now()).is_some() {
                return;
            }
        }
        // Somebody may have taken it in again meanwhile.
        if !self.store.is_revoked(board).await.unwrap_or(false) {
            return;
        }
        let tls =
            self.ca
                .stand_in(board)
                .map_err(|e| e.to_string())
                .and_then(|(certificate, key)| {
                    tls::client_of(&certificate, &key, &followers.broker_ca)
                        .map_err(|e| e.to_string())
                });
        let done = match tls {
            Ok(tls) => take_place(&followers.target, board.as_str(), tls)
                .await
                .map_err(|e| e.to_string()),
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => tracing::info!(%board, "revoked: its connection to the broker is ended"),
            Err(error) => {
                tracing::warn!(%board, error, "revoked, and its connection to the broker may stand");
            }
        }
    }
}

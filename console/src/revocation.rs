//! Boards whose certificates were taken back. The database is the truth; this makes the world follow it: the list
//! for brokers, the own broker's reload, the end of connections that stand, and the end of what is retained for
//! the board. It looks at the database now and then as well, so that `coracle-console boards revoke` works beside
//! a running console, and what a crash cut short is made up for. A database from an old backup follows the list in
//! its turn, once, at the start: what was taken back stays so.

mod expulsion;

use crate::audit;
use crate::ca::{Ca, CaError};
use crate::clock::now;
use crate::files::{self, FileError, Mode};
use crate::link::Target;
use crate::live::{Change, Live};
use crate::mosquitto::Reload;
use crate::republish::Republish;
use crate::store::{RevokedCertificate, Store, StoreError};
use coracle_protocol::names::BoardId;
use expulsion::{Expulsion, Way};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Another process may revoke: so often it is looked for.
const LOOK: Duration = Duration::from_secs(5);
/// Boards that were heard and wait to be thrown out.
const WAITING: usize = 1024;

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
    /// A fault of ours, or of the token's library.
    #[error("signing the list of revoked certificates was broken off")]
    SigningPanicked,
}

/// The list in force.
#[derive(Debug, Default)]
struct List {
    pem: String,
    serials: BTreeSet<String>,
}

/// What everybody else has of it.
#[derive(Debug, Clone)]
pub struct Revocations {
    list: watch::Receiver<List>,
    wake: Arc<Notify>,
    speaking: mpsc::Sender<BoardId>,
}

impl Revocations {
    /// The list in force, PEM.
    pub fn list(&self) -> String {
        self.list.borrow().pem.clone()
    }
    /// Whether it holds a serial number, which the database may not know.
    pub fn holds(&self, serial: &str) -> bool {
        self.list.borrow().serials.contains(serial)
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
    list: watch::Sender<List>,
    wake: Arc<Notify>,
    heard: mpsc::Receiver<BoardId>,
    /// Of an earlier list; the database does not know them.
    foreign: Vec<RevokedCertificate>,
    /// What is on the list everywhere.
    certificates: Vec<RevokedCertificate>,
    boards: BTreeSet<BoardId>,
    /// Thrown out before a list with them was in force.
    unlisted: BTreeSet<BoardId>,
    number: u64,
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
    /// Writes the list to `file`, with what is on it already.
    pub async fn open(
        store: Store,
        ca: Arc<Ca>,
        file: PathBuf,
    ) -> Result<(Self, Revocations), RevocationError> {
        let (list, receiver) = watch::channel(List::default());
        let (speaking, heard) = mpsc::channel(WAITING);
        let wake = Arc::new(Notify::new());
        let mut keeper = Self {
            store,
            ca,
            file,
            list,
            wake: wake.clone(),
            heard,
            foreign: Vec::new(),
            certificates: Vec::new(),
            boards: BTreeSet::new(),
            unlisted: BTreeSet::new(),
            number: 0,
        };
        keeper.follow_list().await?;
        keeper.certificates = keeper.store.revoked_certificates().await?;
        // The own broker starts with this list, and nobody is in yet.
        keeper.boards = keeper.store.revoked_boards().await?;
        if let Err(error) = keeper.write(&keeper.certificates.clone()).await {
            keeper.go_on_with_the_last(error)?;
        }
        let revocations = Revocations {
            list: receiver,
            wake,
            speaking,
        };
        Ok((keeper, revocations))
    }

    /// The database may come from an old backup, in which boards are in force that were revoked since.
    async fn follow_list(&mut self) -> Result<(), RevocationError> {
        if !self.file.exists() {
            return Ok(());
        }
        let bytes = std::fs::read(&self.file).map_err(files::at(&self.file))?;
        let listed = match self.ca.read_revocation_list(&bytes) {
            Ok(listed) => listed,
            Err(error) => {
                let aside = self.file.with_extension("crl.unreadable");
                tracing::error!(%error, aside = %aside.display(), "the list of revoked certificates is set aside");
                std::fs::rename(&self.file, &aside).map_err(files::at(&aside))?;
                return Ok(());
            }
        };
        let found = self.store.take_back_listed(&listed).await?;
        for board in found.boards {
            tracing::warn!(%board, "revoked by the list, and not in the database: it is older than the list");
            let detail = "a certificate of it is on the list of revoked certificates";
            let name = board.as_str();
            audit::note(&self.store, "coracle-console", "board.revoke", name, detail).await;
        }
        self.foreign = found.foreign;
        Ok(())
    }

    /// The list that there is stays in force while the CA's token is away, as long as there is one.
    fn go_on_with_the_last(&mut self, error: RevocationError) -> Result<(), RevocationError> {
        if !matches!(error, RevocationError::Ca(CaError::Token(_))) || !self.file.exists() {
            return Err(error);
        }
        let pem = files::read_text(&self.file)?;
        let listed = self.ca.read_revocation_list(pem.as_bytes())?;
        tracing::error!(%error, "the list of revoked certificates is the last one; a new one is tried for");
        let serials = listed.into_iter().map(|one| one.serial).collect();
        self.list.send_replace(List { pem, serials });
        // What the database has besides comes with the next one.
        self.certificates.clear();
        Ok(())
    }

    async fn write(&mut self, certificates: &[RevokedCertificate]) -> Result<(), RevocationError> {
        // By the clock, so that it goes up over restarts too.
        self.number = now().max(self.number + 1);
        let all: Vec<RevokedCertificate> =
            certificates.iter().chain(&self.foreign).cloned().collect();
        // A token takes its time: not on this thread.
        let (ca, number) = (self.ca.clone(), self.number);
        let signed = tokio::task::spawn_blocking(move || {
            let pem = ca.revocation_list(&all, number)?;
            Ok::<_, CaError>((pem, all))
        });
        let signed = signed.await.map_err(|_| RevocationError::SigningPanicked)?;
        let (pem, all) = signed?;
        files::write(&self.file, pem.as_bytes(), Mode::Public)?;
        let serials = all.into_iter().map(|one| one.serial).collect();
        self.list.send_replace(List { pem, serials });
        Ok(())
    }

    /// Follows the database until `stop`.
    pub async fn run(mut self, followers: Followers, stop: CancellationToken) {
        let mut expulsion = Expulsion::new(Way {
            store: self.store.clone(),
            ca: self.ca.clone(),
            target: followers.target.clone(),
            broker_ca: followers.broker_ca.clone(),
        });
        if followers.broker.is_none() {
            // Another's broker did not stop with the console: whoever was revoked meanwhile may be in.
            for board in &self.boards {
                expulsion.add(board.clone());
            }
        }
        let mut told = String::new();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.wake.notified() => {}
                _ = look.tick() => {}
                Some(board) = self.heard.recv() => {
                    expulsion.heard(board);
                    continue;
                }
                () = expulsion.progress() => continue,
                () = stop.cancelled() => return,
            }
            match self.follow(&followers, &mut expulsion).await {
                Ok(()) => told.clear(),
                // Said once, and again when it is another.
                Err(error) if told != error.to_string() => {
                    tracing::error!(%error, "revocations are not all in force; tried again");
                    told = error.to_string();
                }
                Err(_) => {}
            }
        }
    }

    async fn follow(
        &mut self,
        followers: &Followers,
        expulsion: &mut Expulsion,
    ) -> Result<(), RevocationError> {
        // Boards first: what is revoked in between is on the list and is thrown out at the next look.
        let boards = self.store.revoked_boards().await?;
        let certificates = self.store.revoked_certificates().await?;
        // First nobody comes in any more, then whoever is in goes; in spite of a list that cannot be written.
        let listed = match certificates == self.certificates {
            true => Ok(()),
            false => self.put_in_force(certificates, followers).await,
        };
        if listed.is_ok() {
            // They may have come in again while the list was not in force.
            for board in std::mem::take(&mut self.unlisted) {
                expulsion.add(board);
            }
        }
        let changed: Vec<BoardId> = boards.symmetric_difference(&self.boards).cloned().collect();
        self.boards = boards;
        for board in changed {
            followers.republish.ask(board.clone());
            if self.boards.contains(&board) {
                if listed.is_err() {
                    self.unlisted.insert(board.clone());
                }
                expulsion.add(board.clone());
            }
            followers.live.tell(Change::Board(board));
        }
        listed
    }

    async fn put_in_force(
        &mut self,
        certificates: Vec<RevokedCertificate>,
        followers: &Followers,
    ) -> Result<(), RevocationError> {
        self.write(&certificates).await?;
        if let Some(broker) = &followers.broker {
            broker.revocations(&self.list.borrow().pem)?;
        }
        // Not before: what failed is tried again.
        self.certificates = certificates;
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! The fleet's root documents: which one is in force, how the next one comes, and how boards hear of it.
//! The console can make none; it keeps what the holders of the root keys signed, and hands it on.

use crate::clock::now;
use crate::deploy::Signer;
use crate::link::Link;
use crate::store::{Store, StoreError};
use coracle_protocol::desired::RootNotice;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::root::{RootError, TrustedRoot};
use coracle_protocol::topics::ROOT_NOTICE;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Why a root was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// Boards would refuse it.
    #[error("{0}")]
    Refused(#[from] RootError),
    /// The file that the console was started with has skipped versions.
    #[error(
        "the root document of --root has version {file}; this console has seen version {newest}: start it with version {newest} or older, and bring the others one by one with `coracle-release trust push`"
    )]
    Gap {
        /// Of the file.
        file: u64,
        /// In the database.
        newest: u64,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes root documents and tells boards of the newest.
#[derive(Clone)]
pub struct Roots {
    store: Store,
    signer: Signer,
    changed: Arc<Notify>,
}

impl Roots {
    /// Brings the file that the console was started with and the database together: the newer one is in
    /// force.
    pub async fn open(store: Store, signer: Signer, file: &Envelope) -> Result<Self, RootsError> {
        let roots = Self {
            store,
            signer,
            changed: Arc::default(),
        };
        let root = roots.signer.root();
        let version = root.document().version;
        match roots.store.newest_root().await? {
            None => drop(roots.store.add_root(version, file, now()).await?),
            Some((newest, envelope)) => {
                let known = TrustedRoot::from_image(&envelope)?;
                if version > newest + 1 {
                    return Err(RootsError::Gap {
                        file: version,
                        newest,
                    });
                }
                if version == newest + 1 {
                    known.next(file)?;
                    roots.store.add_root(version, file, now()).await?;
                } else {
                    roots.signer.replace_root(known);
                }
            }
        }
        Ok(roots)
    }

    /// Takes the next root. The same one again changes nothing.
    pub async fn add(&self, envelope: &Envelope) -> Result<u64, RootsError> {
        let root = self.signer.root();
        let version = TrustedRoot::version_unverified(envelope)?;
        if version == root.document().version
            && self.root(version).await?.as_ref() == Some(envelope)
        {
            return Ok(version);
        }
        let next = root.next(envelope)?;
        self.store.add_root(version, envelope, now()).await?;
        self.signer.replace_root(next);
        self.changed.notify_one();
        tracing::info!(version, "a new root document is in force");
        Ok(version)
    }

    /// One of them.
    pub async fn root(&self, version: u64) -> Result<Option<Envelope>, StoreError> {
        self.store.root(version).await
    }

    /// Tells boards of the newest, at each connection to the broker and whenever it changes.
    pub async fn announce(self, mut link: Link, stop: CancellationToken) {
        let work = async {
            while link.wait_up().await.is_ok() {
                match self.notice().await {
                    Ok(Some(notice)) => {
                        if link.publish_retained(ROOT_NOTICE, notice).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => {}
                    Err(error) => tracing::error!(%error, "boards cannot be told of the root"),
                }
                tokio::select! {
                    () = self.changed.notified() => {}
                    gone = link.wait_down() => if gone.is_err() { return },
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = stop.cancelled() => {}
        }
    }

    async fn notice(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let Some((version, root)) = self.store.newest_root().await? else {
            return Ok(None);
        };
        let mut notice = RootNotice {
            version,
            root: Some(root),
        };
        let mut bytes = serde_json::to_vec(&notice).unwrap_or_default();
        if bytes.len() > LIMITS.mqtt_message_bytes {
            notice.root = None;
            bytes = serde_json::to_vec(&notice).unwrap_or_default();
        }
        Ok(Some(bytes))
    }
}

//! Deltas between the layers that boards hold and those of a release: chosen by `choose`, computed
//! by `compute` in the background, one at a time, each pair once and for all boards.
//!
//! They are only an offer: a board checks what comes out against the signed release, and takes the
//! full layer when a delta does not serve.

mod choose;
mod compute;
mod progress;

use crate::blobs::Blobs;
use crate::clock::now;
use crate::live::{Change, Live};
use crate::registry::Manifests;
use crate::store::{Board, DeltaRow, Store, StoreError};
use coracle_digest::Sha256Digest;
use coracle_protocol::deploy::Delta;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::release::SignedRelease;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use choose::Pair;
pub use progress::Progress;

/// Earlier releases of a product whose layers are looked at.
const RELEASES: u32 = 5;
/// For each delta that is prepared.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

type UnderWay = HashMap<(Sha256Digest, Sha256Digest), watch::Receiver<()>>;

/// Finds and makes deltas; clones share the work.
#[derive(Clone)]
pub struct Deltas {
    store: Store,
    blobs: Blobs,
    manifests: Manifests,
    /// Pairs being computed; the sender goes away when one is done.
    under_way: Arc<Mutex<UnderWay>>,
    /// Computing takes all of a core and some times the layer's size in memory.
    turn: Arc<Semaphore>,
    progress: Arc<progress::Table>,
    live: Live,
    stop: CancellationToken,
}

impl Deltas {
    /// Deltas between blobs of `blobs`; `live` is told how far they are, and nothing new begins after `stop`.
    pub fn new(
        store: Store,
        blobs: Blobs,
        manifests: Manifests,
        live: Live,
        stop: CancellationToken,
    ) -> Self {
        Self {
            store,
            blobs,
            manifests,
            under_way: Arc::default(),
            turn: Arc::new(Semaphore::new(1)),
            progress: Arc::default(),
            live,
            stop,
        }
    }

    /// For each layer of `release` that `board` does not hold, the delta from a layer that it
    /// holds; those that are not ready at `until` are left out, and serve the next deployment.
    pub async fn plan(
        &self,
        board: &Board,
        release: &SignedRelease,
        until: Instant,
    ) -> Result<Vec<DeltaRow>, StoreError> {
        let Some(current) = &board.current else {
            return Ok(Vec::new());
        };
        let held: BTreeSet<Sha256Digest> = current.layers.iter().copied().collect();
        let running = current.set.as_ref().map(|set| set.release);
        let earlier = self.earlier(release, running).await?;
        let pairs = choose::pairs(release, &earlier, |diff_id| held.contains(diff_id));
        let mut ready = Vec::new();
        for pair in pairs.into_iter().take(LIMITS.deltas) {
            if let Some(row) = self.get(&pair, until).await? {
                ready.extend(for_blob(row, pair.to.size));
            }
        }
        Ok(ready)
    }

    /// A new release came: what boards of each version that is reported will need is computed now, so that
    /// the deployment need not wait.
    pub fn prepare(&self, digest: Sha256Digest, release: SignedRelease) {
        let this = self.clone();
        tokio::spawn(async move {
            if let Err(error) = this.prepare_all(digest, &release).await {
                tracing::warn!(%error, "deltas for a new release were not prepared");
            }
        });
    }

    /// How far the preparation for a release is; `None` when this console has not prepared it since it started.
    pub fn progress(&self, release: &Sha256Digest) -> Option<Progress> {
        self.progress.of(release)
    }

    async fn prepare_all(
        &self,
        digest: Sha256Digest,
        release: &SignedRelease,
    ) -> Result<(), StoreError> {
        let boards = self.store.boards().await?;
        let mut pairs: Vec<Pair> = Vec::new();
        for kind in choose::kinds(
            boards
                .iter()
                .filter_map(|board| choose::whose(release, board)),
        ) {
            let earlier = self.earlier(release, kind.running).await?;
            let found = choose::pairs(release, &earlier, |diff_id| kind.held.contains(diff_id));
            for pair in found.into_iter().take(LIMITS.deltas) {
                let same = |p: &Pair| {
                    (p.from.diff_id, p.to.diff_id) == (pair.from.diff_id, pair.to.diff_id)
                };
                if !pairs.iter().any(same) {
                    pairs.push(pair);
                }
            }
        }
        if !self.progress.begin(digest, pairs.len()) {
            return Ok(());
        }
        self.live.tell(Change::Fleet);
        let done = self.make_all(&digest, &pairs).await;
        if done.is_err() {
            self.progress.forget(&digest);
        }
        done
    }

    async fn make_all(&self, digest: &Sha256Digest, pairs: &[Pair]) -> Result<(), StoreError> {
        for pair in pairs {
            if self.stop.is_cancelled() {
                break;
            }
            let row = self.get(pair, Instant::now() + PATIENCE).await?;
            let is_made = row.and_then(|row| for_blob(row, pair.to.size)).is_some();
            self.progress.step(digest, is_made);
            self.live.tell(Change::Fleet);
        }
        Ok(())
    }

    /// Releases whose layers can be bases, the likeliest first: what runs, then the newest.
    async fn earlier(
        &self,
        release: &SignedRelease,
        running: Option<Sha256Digest>,
    ) -> Result<Vec<SignedRelease>, StoreError> {
        let mut rows = Vec::new();
        if let Some(digest) = running {
            rows.extend(self.store.release(&digest).await?);
        }
        rows.extend(
            self.store
                .releases_of(release.product.as_str(), RELEASES)
                .await?,
        );
        // They were verified when they came in.
        Ok(rows
            .iter()
            .filter_map(|row| row.envelope.payload_unverified().ok())
            .filter_map(|payload| serde_json::from_slice(&payload).ok())
            .collect())
    }

    async fn get(&self, pair: &Pair, until: Instant) -> Result<Option<DeltaRow>, StoreError> {
        let (from, to) = (pair.from.diff_id, pair.to.diff_id);
        if let Some(row) = self.known(pair).await? {
            return Ok(Some(row));
        }
        let mut done = self.begin(pair);
        // An error says that the sender is gone: the pair is done.
        let _ =
            tokio::time::timeout_at(until, async { while done.changed().await.is_ok() {} }).await;
        self.store.delta(&from, &to).await
    }

    /// What became of a pair, unless its blob is gone.
    async fn known(&self, pair: &Pair) -> Result<Option<DeltaRow>, StoreError> {
        let row = self.store.delta(&pair.from.diff_id, &pair.to.diff_id);
        Ok(row.await?.filter(|row| {
            let is_here = |delta: &Delta| self.blobs.size(&delta.digest) == Some(delta.size);
            row.outcome.as_ref().map_or(true, is_here)
        }))
    }

    fn begin(&self, pair: &Pair) -> watch::Receiver<()> {
        let key = (pair.from.diff_id, pair.to.diff_id);
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(receiver) = under_way.get(&key) {
            return receiver.clone();
        }
        let (sender, receiver) = watch::channel(());
        under_way.insert(key, receiver.clone());
        let (this, pair) = (self.clone(), pair.clone());
        tokio::spawn(async move {
            tokio::select! {
                // The turn that comes free at the end is not taken.
                biased;
                () = this.stop.cancelled() => {}
                () = this.compute(&pair) => {}
            }
            this.under_way
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&key);
            drop(sender);
        });
        receiver
    }

    async fn compute(&self, pair: &Pair) {
        let Ok(_turn) = self.turn.acquire().await else {
            return;
        };
        // Whoever asked may have looked just before another's was noted.
        match self.known(pair).await {
            Ok(None) => {}
            Ok(Some(_)) => return,
            Err(error) => {
                tracing::error!(%error, "what became of a pair of layers is not known");
                return;
            }
        }
        let (blobs, manifests, work) = (self.blobs.clone(), self.manifests.clone(), pair.clone());
        let computed = tokio::task::spawn_blocking(move || {
            let delta = compute::compute(&blobs, &work.from, &work.to)?;
            compute::publish(&blobs, &manifests, &work, &delta);
            Ok(delta)
        })
        .await;
        let outcome = match computed {
            Ok(Ok(delta)) => {
                tracing::info!(
                    from = %delta.from, to = %delta.to, size = delta.size,
                    full_size = pair.to.size, "delta made"
                );
                Ok(delta)
            }
            Ok(Err(compute::DeltaFault::Useless(why))) => Err(why),
            // A full disk may be emptied: it is tried again the next time.
            Ok(Err(compute::DeltaFault::Broken(error))) => {
                tracing::warn!(error, to = %pair.to.diff_id, "a delta could not be made");
                return;
            }
            Err(error) => {
                tracing::error!(%error, to = %pair.to.diff_id, "computing a delta failed");
                return;
            }
        };
        let row = DeltaRow {
            from: pair.from.diff_id,
            to: pair.to.diff_id,
            full_size: pair.to.size,
            outcome,
        };
        if let Err(error) = self.store.add_delta(&row, now()).await {
            tracing::error!(%error, "a delta was made and not noted");
        }
    }
}

/// A delta as it is offered instead of a blob of `full_size` bytes; none if that is smaller. The same layer, compressed otherwise
/// by another release, may be.
fn for_blob(row: DeltaRow, full_size: u64) -> Option<DeltaRow> {
    let is_smaller = matches!(&row.outcome, Ok(delta) if delta.size < full_size);
    is_smaller.then_some(DeltaRow { full_size, ..row })
}

#[cfg(test)]
mod tests;

//! What a deployment needs on the board: fetched, then staged. The smallest delta first; the full
//! layer when a delta cannot be had or does not make what was signed.

use super::Means;
use super::outcome::{self, Outcome};
use super::voice::Voice;
use super::whose;
use crate::fetch::gate::Hold;
use crate::fetch::{Came, FetchError, Fetcher};
use coracle_protocol::local::{Answer, LayerNeed, LayerSource, Needs, Request};
use coracle_protocol::release::{Blob, SignedRelease};
use coracle_protocol::report::Fetched;
use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Between two reports of progress.
const REPORT: Duration = Duration::from_secs(2);

/// The work on one activity.
pub struct Preparation<'a> {
    pub means: &'a Means,
    pub activity: &'a str,
    /// Whose blobs they are.
    pub release: &'a SignedRelease,
    /// `None` when blobs are PUT on docker.sock.
    pub fetcher: Option<&'a mut Fetcher>,
    pub totals: &'a mut Fetched,
}

/// A layer whose blob is here.
pub struct Layer {
    need: LayerNeed,
    source: LayerSource,
    blob: Blob,
}

impl Preparation<'_> {
    /// Fetches configurations and layers; each layer with what it is to be made from.
    pub async fn fetch(
        &mut self,
        needs: &Needs,
        voice: &mut Voice<'_>,
    ) -> Result<Vec<Layer>, Outcome> {
        let planned = |need: &LayerNeed| need.deltas.first().unwrap_or(&need.full).size;
        let configs: u64 = needs.configs.iter().map(|b| b.size).sum();
        let total = configs + needs.layers.iter().map(planned).sum::<u64>();
        self.room(needs, total)?;
        let full = needs.layers.iter().map(|need| need.full.size).sum();
        // Of a second try, most is here.
        self.totals.full_bytes = self.totals.full_bytes.max(full);
        let mut meter = Meter::new(total);
        voice.progress(0, *self.totals, None);
        for config in &needs.configs {
            meter.whose = whose::config(self.release, config.digest);
            self.blob(*config, false, &mut meter, voice).await?;
        }
        let mut layers = Vec::new();
        for need in &needs.layers {
            layers.push(self.layer(need, &mut meter, voice).await?);
        }
        Ok(layers)
    }

    /// Stages each layer; falls back to the full blob.
    pub async fn stage(&mut self, layers: Vec<Layer>) -> Result<(), Outcome> {
        for layer in layers {
            let result = self.stage_one(&layer.need, layer.source).await;
            self.means.blobs.remove(&layer.blob.digest);
            match (result, layer.source) {
                (Ok(()), _) => {}
                (Err(end), LayerSource::Delta(delta)) if is_about_the_delta(&end) => {
                    tracing::warn!(layer = %layer.need.diff_id, %delta, reason = end.reason.as_deref(), "the delta did not serve; taking the full layer");
                    self.fetch_quietly(layer.need.full).await?;
                    self.stage_one(&layer.need, LayerSource::Full).await?;
                    self.means.blobs.remove(&layer.need.full.digest);
                }
                (Err(end), _) => return Err(end),
            }
        }
        Ok(())
    }

    async fn stage_one(&self, need: &LayerNeed, from: LayerSource) -> Result<(), Outcome> {
        let request = Request::Stage {
            activity: self.activity.to_owned(),
            diff_id: need.diff_id,
            from,
        };
        match self.means.supervisor.ask(request).await? {
            Answer::Done => Ok(()),
            other => Err(outcome::of_answer("done", other)),
        }
    }

    /// One layer: a delta that is here or can be had, else the full blob.
    async fn layer(
        &mut self,
        need: &LayerNeed,
        meter: &mut Meter,
        voice: &mut Voice<'_>,
    ) -> Result<Layer, Outcome> {
        let made = |source, blob| Layer {
            need: need.clone(),
            source,
            blob,
        };
        meter.whose = whose::layer(self.release, need.diff_id);
        for delta in &need.deltas {
            match self.blob(*delta, true, meter, voice).await {
                Ok(()) => return Ok(made(LayerSource::Delta(delta.digest), *delta)),
                Err(end) if end.code.as_deref() == Some("no-space") => return Err(end),
                Err(end) => {
                    tracing::info!(delta = %delta.digest, reason = end.reason.as_deref(), "a delta cannot be had");
                }
            }
        }
        self.blob(need.full, false, meter, voice).await?;
        Ok(made(LayerSource::Full, need.full))
    }

    /// One blob, with progress.
    async fn blob(
        &mut self,
        blob: Blob,
        delta: bool,
        meter: &mut Meter,
        voice: &mut Voice<'_>,
    ) -> Result<(), Outcome> {
        let Some(fetcher) = self.fetcher.as_deref_mut() else {
            return here(self.means, blob);
        };
        let totals = RefCell::new(&mut *self.totals);
        let wire = &self.means.counters.fetched_bytes;
        let voice = RefCell::new(voice);
        let mut waits = |why: &Hold| voice.borrow_mut().waits(&why.to_string());
        let mut progress = |piece: Came| {
            let bytes = piece.bytes;
            let mut totals = totals.borrow_mut();
            totals.wire_bytes += bytes;
            if delta {
                totals.delta_bytes += bytes;
            }
            wire.fetch_add(bytes, Ordering::Relaxed);
            if let Some(percent) = meter.add(bytes) {
                let words = meter.words(delta, blob.size, &piece);
                voice.borrow_mut().progress(percent, **totals, Some(words));
            }
        };
        when_allowed(fetcher, blob, &mut waits, &mut progress).await
    }

    async fn fetch_quietly(&mut self, blob: Blob) -> Result<(), Outcome> {
        let Some(fetcher) = self.fetcher.as_deref_mut() else {
            return here(self.means, blob);
        };
        let totals = &mut *self.totals;
        let mut progress = |piece: Came| totals.wire_bytes += piece.bytes;
        when_allowed(fetcher, blob, &mut |_| {}, &mut progress).await
    }

    /// Whether what is to be fetched fits on the disk; said before the first byte comes.
    fn room(&self, needs: &Needs, total: u64) -> Result<(), Outcome> {
        let here: u64 = needs
            .configs
            .iter()
            .chain(needs.layers.iter().map(|need| &need.full))
            .filter(|blob| self.means.blobs.has(blob))
            .map(|blob| blob.size)
            .sum();
        let path = self.means.blobs.folder();
        let Ok(stat) = nix::sys::statvfs::statvfs(path) else {
            return Ok(());
        };
        // These are 32 bits wide on 32-bit boards.
        #[allow(clippy::unnecessary_cast)]
        let free = (stat.blocks_available() as u64).saturating_mul(stat.fragment_size() as u64);
        let missing = total.saturating_sub(here);
        if self.fetcher.is_some() && missing > free {
            let reason = format!("{missing} bytes are to be fetched; {free} are free");
            return Err(Outcome::failed("no-space", reason));
        }
        Ok(())
    }
}

/// Fetches, and waits as long as it may not.
async fn when_allowed(
    fetcher: &mut Fetcher,
    blob: Blob,
    waits: &mut dyn FnMut(&Hold),
    progress: &mut dyn FnMut(Came),
) -> Result<(), Outcome> {
    loop {
        fetcher.wait(&blob, waits).await;
        match fetcher.fetch(blob, progress).await {
            Err(FetchError::Held(_)) => {}
            result => return result.map_err(|e| failed(blob, &e)),
        }
    }
}

fn here(means: &Means, blob: Blob) -> Result<(), Outcome> {
    if means.blobs.has(&blob) {
        return Ok(());
    }
    let reason = format!("blob {} was not given", blob.digest);
    Err(Outcome::failed("no-blob", reason))
}

fn failed(blob: Blob, error: &FetchError) -> Outcome {
    Outcome::failed(error.code(), format!("blob {}: {error}", blob.digest))
}

/// Whether the full layer may do what the delta did not.
fn is_about_the_delta(end: &Outcome) -> bool {
    matches!(
        end.code.as_deref(),
        Some("diff-id-mismatch" | "bad-delta" | "no-blob" | "bad-layer")
    )
}

/// Tells which progress is worth a report.
struct Meter {
    total: u64,
    done: u64,
    said: u8,
    at: Instant,
    /// What comes now.
    whose: String,
}

impl Meter {
    fn new(total: u64) -> Self {
        Self {
            total,
            done: 0,
            said: 0,
            at: Instant::now(),
            whose: String::new(),
        }
    }

    fn add(&mut self, bytes: u64) -> Option<u8> {
        self.done += bytes;
        // A delta that failed and its full layer may come to more than was planned.
        let percent = (self.done.saturating_mul(100) / self.total.max(1)).min(100) as u8;
        if percent <= self.said || self.at.elapsed() < REPORT {
            return None;
        }
        (self.said, self.at) = (percent, Instant::now());
        Some(percent)
    }
    /// Of the blob that comes.
    fn words(&self, delta: bool, size: u64, piece: &Came) -> String {
        let form = if delta { ", as a delta" } else { "" };
        let (whose, here, from) = (&self.whose, piece.here, &piece.from);
        format!("{whose}{form}: {here} of {size} bytes, from {from}")
    }
}

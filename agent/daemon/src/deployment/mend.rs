//! A layer or blob that the last check found broken, fetched once more. Nobody waits for an hour in which that is allowed: who
//! asked stands before the board, and is told why not.

use super::{Means, Outcome, job, outcome};
use crate::fetch::gate::{Gate, Held};
use crate::fetch::{Came, Fetcher};
use coracle_protocol::Sha256Digest;
use coracle_protocol::local::{
    Answer, LayerNeed, LayerSource, Request, StoreAction, StoreCheck, StoreKind, StoreState,
};
use coracle_protocol::release::Blob;
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// What the last check says.
pub async fn look(means: &Means) -> Result<StoreCheck, Outcome> {
    let action = StoreAction::Look;
    match means.supervisor.ask(Request::Store { action }).await? {
        Answer::Store(said) => Ok(said),
        other => Err(outcome::of_answer("store", other)),
    }
}

/// Brings one thing anew.
pub async fn run(means: &Means, kind: StoreKind, digest: Sha256Digest) -> Result<(), Outcome> {
    let said = look(means).await?;
    let mut found = said.found.into_iter();
    let fault = found.find(|fault| {
        (fault.kind, fault.digest) == (kind, digest) && fault.state != StoreState::Mended
    });
    let Some(fault) = fault else {
        let reason = format!("the last check did not find {digest} broken; check first");
        return Err(Outcome::refused("not-broken", reason));
    };
    match (kind, fault.need) {
        (StoreKind::Blob, need) => {
            means.blobs.remove(&digest);
            match need {
                Some(need) => fetch(means, &mut fetcher(means).await?, need.full).await,
                // Nobody misses it.
                None => Ok(()),
            }
        }
        (StoreKind::Layer, Some(need)) => layer(means, &need).await,
        (StoreKind::Layer, None) if fault.state == StoreState::Unknown => {
            let reason =
                "it could not be looked at, and so nothing says that it is broken; check again";
            Err(Outcome::failed("not-needed", reason))
        }
        (StoreKind::Layer, None) => {
            let reason = "no set that may run has it, and so nobody says what it is made from; it goes with the next deployment";
            Err(Outcome::failed("not-needed", reason))
        }
    }
}

async fn layer(means: &Means, need: &LayerNeed) -> Result<(), Outcome> {
    // What is here may be all that there is to be had.
    let mut fetcher = fetcher(means).await;
    let deltas = need.deltas.iter();
    let deltas = deltas.map(|delta| (LayerSource::Delta(delta.digest), *delta));
    let mut last = Outcome::failed("no-blob", "there is nothing to make it from");
    for (from, blob) in deltas.chain([(LayerSource::Full, need.full)]) {
        // A blob that was here already may be broken as well.
        for was_here in [means.blobs.has(&blob), false] {
            let fetched = match (was_here, &mut fetcher) {
                (true, _) => Ok(()),
                (false, Ok(fetcher)) => fetch(means, fetcher, blob).await,
                (false, Err(end)) => Err(end.clone()),
            };
            last = match fetched {
                Ok(()) => match mend(means, need.diff_id, from).await {
                    Ok(()) => {
                        means.blobs.remove(&blob.digest);
                        return Ok(());
                    }
                    Err(end) => end,
                },
                Err(end) => end,
            };
            if last.code.as_deref() == Some("busy") {
                return Err(last);
            }
            means.blobs.remove(&blob.digest);
            if !was_here {
                break;
            }
        }
    }
    Err(last)
}

async fn mend(means: &Means, diff_id: Sha256Digest, from: LayerSource) -> Result<(), Outcome> {
    let action = StoreAction::Mend { diff_id, from };
    match means.supervisor.ask(Request::Store { action }).await? {
        Answer::Done => Ok(()),
        other => Err(outcome::of_answer("done", other)),
    }
}

async fn fetcher(means: &Means) -> Result<Fetcher, Outcome> {
    let mut fetcher = job::fetcher(means)?;
    let metered = means.supervisor.status().await?.metered;
    let (rules, root) = (means.downloads.clone(), means.hardware_root.clone());
    fetcher.obey(Gate::new(rules, metered, root), Rc::new(Held::default()));
    Ok(fetcher)
}

async fn fetch(means: &Means, fetcher: &mut Fetcher, blob: Blob) -> Result<(), Outcome> {
    let wire = &means.counters.fetched_bytes;
    let mut progress = |piece: Came| {
        wire.fetch_add(piece.bytes, Ordering::Relaxed);
    };
    let fetched = fetcher.fetch(blob, &mut progress).await;
    fetched.map_err(|error| Outcome::failed(error.code(), format!("blob {}: {error}", blob.digest)))
}

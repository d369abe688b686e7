//! One try at one blob from one source: goes on where the last one stopped, no faster than asked, and gives up on
//! whoever is too slow.

use super::gate::{Gate, Hold, Pass};
use super::http::HttpError;
use super::pace::Pace;
use super::response::{self, Verdict};
use super::{Came, FetchError, Patience, Source};
use crate::blobs::{self, BlobError, Blobs};
use coracle_images::store::{Download, StoreError};
use coracle_protocol::release::Blob;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use std::time::Duration;
use tokio::time::Instant;

/// Looks at a blob that another download holds.
const BUSY_TRIES: u32 = 5;

/// One try at one blob.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub blobs: &'a Blobs,
    pub gate: Option<&'a Gate>,
    pub patience: Patience,
    pub blob: Blob,
}

impl Attempt<'_> {
    /// How fast it may go now, or why it may not.
    async fn pass(&self, source: &Source) -> Result<Option<u64>, Hold> {
        match self.gate {
            None => Ok(None),
            Some(gate) => match gate.look(source.hop()).await {
                Pass::Go { bytes_per_second } => Ok(bytes_per_second),
                Pass::Hold(why) => Err(why),
            },
        }
    }

    /// One try, or two: bytes of several that are not right together do not say whose are wrong.
    pub async fn make(
        &self,
        source: &mut Source,
        progress: &mut dyn FnMut(Came),
    ) -> Result<(), FetchError> {
        loop {
            let mut mixed = false;
            match self.once(source, &mut mixed, progress).await {
                Err(error) if mixed && error.is_wrong_digest() => {
                    tracing::info!(blob = %self.blob.digest, %error, "once more from its beginning");
                }
                result => return result,
            }
        }
    }

    /// `mixed`: some bytes are not of this source.
    async fn once(
        &self,
        source: &mut Source,
        mixed: &mut bool,
        progress: &mut dyn FnMut(Came),
    ) -> Result<(), FetchError> {
        let blob = self.blob;
        let rate = self.pass(source).await?;
        let mut part = self.part().await?;
        *mixed = part.length() > 0;
        if part.length() < blob.size || blob.size == 0 {
            let response = source.ask(blob, part.length(), self.patience.head).await?;
            match response::judge(&response, part.length(), blob.size)? {
                Verdict::Continues => {}
                Verdict::FromStart => {
                    part.restart()?;
                    *mixed = false;
                }
                Verdict::Stale => {
                    part.restart()?;
                    return Err(FetchError::Answer("the range is not satisfiable".into()));
                }
            }
            self.receive(source, response, &mut part, (rate, progress))
                .await?;
        }
        blobs::finish(part).await?;
        Ok(())
    }

    /// What is here of the blob. A download that was dropped may hold it for a moment yet.
    async fn part(&self) -> Result<Download, BlobError> {
        let mut tries = 0;
        loop {
            match self.blobs.download(self.blob).await {
                Err(BlobError::Store(StoreError::Busy(_))) if tries < BUSY_TRIES => {
                    tries += 1;
                    tokio::time::sleep(self.patience.backoff.first).await;
                }
                result => return result,
            }
        }
    }

    async fn receive(
        &self,
        source: &Source,
        response: Response<Incoming>,
        part: &mut Download,
        (rate, progress): (Option<u64>, &mut dyn FnMut(Came)),
    ) -> Result<(), FetchError> {
        let mut body = response.into_body();
        let mut pace = Pace::new(rate);
        let pause = self.gate.map_or(Duration::MAX, |gate| gate.pause);
        let mut looked = Instant::now();
        let window = self.patience.window;
        // A pace that was asked for is no fault of the server's.
        let least = |rate: Option<u64>| {
            let half = |rate| window.as_secs_f64() * rate as f64 / 2.0;
            let asked = rate.map_or(u64::MAX, |rate| half(rate) as u64);
            self.patience.bytes_per_window.min(asked)
        };
        let mut bytes_per_window = least(rate);
        let (mut window_end, mut in_window) = (Instant::now() + window, 0);
        loop {
            let frame = match tokio::time::timeout_at(window_end, body.frame()).await {
                Ok(Some(frame)) => frame.map_err(HttpError::from)?,
                Ok(None) => return Ok(()),
                Err(_) if in_window >= bytes_per_window => {
                    (window_end, in_window) = (Instant::now() + window, 0);
                    continue;
                }
                Err(_) => {
                    return Err(FetchError::TooSlow {
                        bytes: bytes_per_window,
                        seconds: window.as_secs_f32(),
                    });
                }
            };
            if let Some(data) = frame.data_ref() {
                part.write(data)?;
                in_window += data.len() as u64;
                progress(Came {
                    bytes: data.len() as u64,
                    here: part.length(),
                    from: source.name(),
                });
                // Time that was spent here on purpose is not the console's.
                window_end += pace.keep(data.len() as u64).await;
            }
            if looked.elapsed() >= pause {
                looked = Instant::now();
                let rate = self.pass(source).await?;
                pace.set(rate);
                bytes_per_window = least(rate);
            }
            if Instant::now() >= window_end && in_window >= bytes_per_window {
                (window_end, in_window) = (Instant::now() + window, 0);
            }
        }
    }
}

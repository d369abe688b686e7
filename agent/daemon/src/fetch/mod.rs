//! Blobs from the console: `GET /blobs/sha256/<hex>` with the board's certificate. A fetch goes on
//! where the last one stopped, checks length and digest, gives up on whoever sends too slowly,
//! waits as long as a busy console asks, and follows no redirect: another host has no business here.
//!
//! Mirrors are asked before it, in their order, and one that failed not again for some minutes. The next one, and at
//! last the console, goes on where one stopped.

mod attempt;
pub mod gate;
pub mod http;
mod pace;
mod response;
mod source;
mod stream;

use crate::blobs::{BlobError, Blobs};
use crate::identity::Endpoint;
use crate::link::backoff::{self, Backoff};
use attempt::Attempt;
use coracle_images::store::StoreError;
use coracle_protocol::release::Blob;
use gate::{Gate, Held, Hold, Pass};
use http::HttpError;
pub use source::Source;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How patient a fetch is.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Failures in a row, each without progress, after which it gives up.
    pub fruitless_tries: u32,
    /// Failures in all.
    pub tries: u32,
    /// Between tries.
    pub backoff: Backoff,
    /// Longest wait that a server may ask for, and how long a mirror that failed is left alone.
    pub longest_retry_after: Duration,
    /// For the head of an answer.
    pub head: Duration,
    /// In each such time ...
    pub window: Duration,
    /// ... so many bytes must come: 1 KiB in 30 s is slower than any modem, so it is an attack or
    /// a dead link.
    pub bytes_per_window: u64,
    /// Of a mirror so many: a slow one would keep the board from the console.
    pub mirror_bytes_per_window: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            fruitless_tries: 6,
            tries: 100,
            backoff: Backoff {
                first: Duration::from_secs(1),
                longest: Duration::from_secs(60),
            },
            longest_retry_after: Duration::from_secs(300),
            head: http::HEAD_TIMEOUT,
            window: Duration::from_secs(30),
            bytes_per_window: 1024,
            mirror_bytes_per_window: 256 * 1024,
        }
    }
}

/// A piece of a blob.
#[derive(Debug, Clone)]
pub struct Came {
    /// What came over the wire just now.
    pub bytes: u64,
    /// How much of the blob is here.
    pub here: u64,
    /// From whom: `the console`, `the mirror cache.lan:8080`.
    pub from: Rc<str>,
}

/// Why a blob did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The disk or the bytes.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// No connection, or it broke.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The console answered with something else.
    #[error("HTTP status {0}")]
    Status(u16),
    /// The console is busy.
    #[error("HTTP status {status}, asked to wait")]
    Busy {
        /// The status.
        status: u16,
        /// For how long.
        wait: Option<Duration>,
    },
    /// The console does not have it.
    #[error("the console does not have it (404)")]
    NotFound,
    /// Elsewhere.
    #[error("the console points elsewhere (HTTP status {0}); redirects are not followed")]
    Redirect(u16),
    /// The answer does not fit the request.
    #[error("the answer does not fit: {0}")]
    Answer(String),
    /// Too slow.
    #[error("fewer than {bytes} bytes came in {seconds} s")]
    TooSlow {
        /// That would have been enough.
        bytes: u64,
        /// Time they had.
        seconds: f32,
    },
    /// Not now.
    #[error(transparent)]
    Held(#[from] Hold),
    /// Gave up.
    #[error("gave up after {tries} tries, the last: {last}")]
    GaveUp {
        /// How many.
        tries: u32,
        /// The last failure.
        last: Box<FetchError>,
    },
}

impl From<StoreError> for FetchError {
    fn from(error: StoreError) -> Self {
        Self::Blob(error.into())
    }
}

impl FetchError {
    /// Whether trying again makes sense.
    fn passes(&self) -> bool {
        match self {
            Self::Blob(error) => error.is_about_bytes(),
            Self::NotFound
            | Self::Redirect(_)
            | Self::Status(_)
            | Self::Held(_)
            | Self::GaveUp { .. } => false,
            Self::Http(HttpError::Name(_)) => false,
            Self::Http(_) | Self::Busy { .. } | Self::Answer(_) | Self::TooSlow { .. } => true,
        }
    }

    fn is_wrong_digest(&self) -> bool {
        matches!(
            self,
            Self::Blob(BlobError::Store(StoreError::WrongDigest { .. }))
        )
    }

    /// A stable word for feedback.
    pub fn code(&self) -> &'static str {
        match self {
            Self::GaveUp { last, .. } => last.code(),
            Self::Blob(error) => error.code(),
            Self::NotFound => "no-blob",
            _ => "fetch-failed",
        }
    }
}

/// Fetches from one console and its mirrors, over one connection to each as long as it lasts.
#[derive(Debug)]
pub struct Fetcher {
    mirrors: Vec<Source>,
    console: Source,
    blobs: Blobs,
    patience: Patience,
    gate: Option<Gate>,
    held: Rc<Held>,
}

impl Fetcher {
    /// From `console` into `blobs`.
    pub fn new(
        console: Endpoint,
        tls: Arc<rustls::ClientConfig>,
        blobs: Blobs,
        patience: Patience,
    ) -> Self {
        Self {
            mirrors: Vec::new(),
            console: Source::console(console, tls),
            blobs,
            patience,
            gate: None,
            held: Rc::default(),
        }
    }

    /// From these, of which the last one is the console.
    pub fn from_sources(mut self, mut sources: Vec<Source>) -> Self {
        if let Some(console) = sources.pop() {
            (self.mirrors, self.console) = (sources, console);
        }
        self
    }

    /// From now on fetches when and as fast as `gate` says; `held` tells when it does not.
    pub fn obey(&mut self, gate: Gate, held: Rc<Held>) {
        self.gate = Some(gate);
        self.held = held;
    }

    /// Waits until `blob` is here or may be fetched; `told` hears why it waits, each reason once.
    pub async fn wait(&self, blob: &Blob, told: &mut dyn FnMut(&Hold)) {
        let Some(gate) = &self.gate else { return };
        let mut said = None;
        while !self.blobs.has(blob)
            && let Some(why) = self.is_held(gate, blob).await
        {
            if said.as_ref() != Some(&why) {
                tracing::info!(blob = %blob.digest, %why, "not now");
                told(&why);
                said = Some(why);
            }
            self.held.ever.set(true);
            self.held.now.set(true);
            tokio::time::sleep(gate.pause).await;
        }
        self.held.now.set(false);
    }

    /// Why the blob may not be fetched now from anywhere.
    async fn is_held(&self, gate: &Gate, blob: &Blob) -> Option<Hold> {
        for mirror in self.mirrors.iter().filter(|mirror| mirror.may_have(blob)) {
            if let Pass::Go { .. } = gate.look(mirror.hop()).await {
                return None;
            }
        }
        match gate.look(self.console.hop()).await {
            Pass::Go { .. } => None,
            Pass::Hold(why) => Some(why),
        }
    }

    /// Fetches `blob` unless it is here. `progress` hears of each piece that came over the wire. Dropping the future stops the fetch; the next one goes on from there, also after [`FetchError::Held`], which
    /// comes when it may not go on now.
    pub async fn fetch(
        &mut self,
        blob: Blob,
        progress: &mut dyn FnMut(Came),
    ) -> Result<(), FetchError> {
        if self.blobs.has(&blob) {
            return Ok(());
        }
        let (blobs, gate, patience) = (&self.blobs, self.gate.as_ref(), self.patience);
        let attempt = Attempt {
            blobs,
            gate,
            patience,
            blob,
        };
        let of_mirror = Attempt {
            patience: Patience {
                bytes_per_window: patience.mirror_bytes_per_window,
                ..patience
            },
            ..attempt
        };
        for mirror in &mut self.mirrors {
            if !mirror.may_have(&blob) {
                continue;
            }
            match of_mirror.make(mirror, progress).await {
                Ok(()) => return Ok(()),
                Err(FetchError::Blob(error)) if !error.is_about_bytes() => return Err(error.into()),
                // Another one's way may be free.
                Err(FetchError::Held(_)) => {}
                // No fault of the mirror's.
                Err(FetchError::Blob(BlobError::Store(StoreError::Busy(_)))) => {}
                Err(error) => mirror.failed(&blob, &error, patience.longest_retry_after),
            }
        }
        let (mut tries, mut fruitless) = (0, 0);
        loop {
            let mut came = 0;
            let mut counted = |piece: Came| {
                came += piece.bytes;
                progress(piece);
            };
            let result = attempt.make(&mut self.console, &mut counted).await;
            let error = match result {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            self.console.disconnect();
            tries += 1;
            // Wrong bytes are no progress, however many they are.
            let wrong = matches!(error, FetchError::Blob(_));
            fruitless = if came > 0 && !wrong { 0 } else { fruitless + 1 };
            if !error.passes() {
                return Err(error);
            }
            if fruitless >= patience.fruitless_tries || tries >= patience.tries {
                let last = Box::new(error);
                return Err(FetchError::GaveUp { tries, last });
            }
            let random = crate::random::u64();
            let own = backoff::delay(patience.backoff, fruitless, random);
            let asked = match error {
                FetchError::Busy {
                    wait: Some(wait), ..
                } => wait.min(patience.longest_retry_after),
                _ => Duration::ZERO,
            };
            let wait = own + asked;
            tracing::info!(blob = %blob.digest, error = %error, wait_ms = wait.as_millis() as u64, "fetch will be tried again");
            tokio::time::sleep(wait).await;
        }
    }
}

//! One server of blobs: the console, or a mirror of coracle.toml's.

use super::FetchError;
use super::http::{self, Connection, HttpError, Way};
use crate::blobs::BlobError;
use crate::identity::{Endpoint, IdentityError};
use bytes::Bytes;
use coracle_board_support::config::Downloads;
use coracle_images::store::StoreError;
use coracle_protocol::Sha256Digest;
use coracle_protocol::release::Blob;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// For so long a mirror that sent other bytes than the blob's is left alone: each try costs the whole blob, and flash.
const REST_OF_LIARS: Duration = Duration::from_secs(24 * 3600);

/// A mirror that asks for no time gets some: where the console's way is not free, it alone is asked again and again.
const LEAST_REST: Duration = Duration::from_secs(10);

/// What has `blobs/sha256/<hex>`. The connection is kept as long as it lasts.
#[derive(Debug)]
pub struct Source {
    way: Way,
    /// What stands before `/blobs`; empty for the console.
    path: String,
    /// In words, after "from".
    name: Rc<str>,
    connection: Option<Connection>,
    /// It failed, and is left alone until then.
    out_until: Option<Instant>,
    /// It said that it does not have this one, and is not asked for it until then.
    lacks_until: Option<(Sha256Digest, Instant)>,
}

impl Source {
    fn new(way: Way, path: &str, name: String) -> Self {
        Self {
            way,
            path: path.to_owned(),
            name: name.into(),
            connection: None,
            out_until: None,
            lacks_until: None,
        }
    }

    /// The console, which has everything.
    pub fn console(console: Endpoint, tls: Arc<rustls::ClientConfig>) -> Self {
        let tls = Some(tls);
        let way = Way {
            to: console,
            tls,
            proxy: None,
        };
        Self::new(way, "", "the console".to_owned())
    }

    /// The console through the proxy of coracle.toml, and before it the mirrors.
    pub fn all(
        downloads: &Downloads,
        console: Endpoint,
        tls: Arc<rustls::ClientConfig>,
    ) -> Vec<Self> {
        let mut sources = Vec::new();
        for url in &downloads.mirrors {
            match Self::mirror(url.as_str(), &tls) {
                Ok(mirror) => sources.push(mirror),
                Err(error) => tracing::error!(%error, "[downloads] mirrors in coracle.toml"),
            }
        }
        let mut console = Self::console(console, tls);
        if let Some(url) = &downloads.proxy {
            match Endpoint::parse(url.address(), 3128) {
                Ok(proxy) => console.way.proxy = Some(proxy),
                Err(error) => tracing::error!(%error, "[downloads] proxy in coracle.toml"),
            }
        }
        sources.push(console);
        sources
    }

    fn mirror(url: &str, tls: &Arc<rustls::ClientConfig>) -> Result<Self, IdentityError> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
        let (host, path) = match rest.split_once('/') {
            Some((host, path)) => (host, format!("/{path}")),
            None => (rest, String::new()),
        };
        let is_plain = scheme == "http";
        let way = Way {
            to: Endpoint::parse(host, if is_plain { 80 } else { 443 })?,
            tls: (!is_plain).then(|| tls.clone()),
            proxy: None,
        };
        let name = format!("the mirror {}", way.to);
        Ok(Self::new(way, &path, name))
    }

    /// What it is called.
    pub fn name(&self) -> Rc<str> {
        self.name.clone()
    }

    /// What its bytes come from first: the server, or the proxy.
    pub fn hop(&self) -> &Endpoint {
        self.way.proxy.as_ref().unwrap_or(&self.way.to)
    }

    /// Whether it is worth asking for this blob now.
    pub fn may_have(&self, blob: &Blob) -> bool {
        let now = Instant::now();
        let is_out = self.out_until.is_some_and(|until| now < until);
        let lacks = |(digest, until)| digest == blob.digest && now < until;
        !is_out && !self.lacks_until.is_some_and(lacks)
    }

    /// It did not bring the blob, and is left alone for `rest`; for less if it says so, and for long if it sent wrong bytes.
    pub fn failed(&mut self, blob: &Blob, error: &FetchError, rest: Duration) {
        self.connection = None;
        let now = Instant::now();
        match error {
            FetchError::NotFound => self.lacks_until = Some((blob.digest, now + rest)),
            FetchError::Busy {
                wait: Some(wait), ..
            } => self.out_until = Some(now + rest.min((*wait).max(LEAST_REST))),
            FetchError::Blob(BlobError::Store(
                StoreError::WrongDigest { .. } | StoreError::TooLong { .. },
            )) => self.out_until = Some(now + REST_OF_LIARS),
            _ => self.out_until = Some(now + rest),
        }
        tracing::info!(mirror = %self.way.to, blob = %blob.digest, %error, "not from this mirror");
    }

    /// The next question needs another connection.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Asks for the bytes from `from` on. The head of the answer has to be there in time.
    pub async fn ask(
        &mut self,
        blob: Blob,
        from: u64,
        most: Duration,
    ) -> Result<Response<Incoming>, FetchError> {
        if let Some(mut kept) = self.connection.take().filter(Connection::is_open) {
            match kept.send_within(self.request(blob, from)?, most).await {
                // Closed since the last blob, as servers do, or forgotten on the way without a word.
                Err(HttpError::Protocol(_) | HttpError::TimedOut(_)) => {}
                other => {
                    self.connection = Some(kept);
                    return Ok(other?);
                }
            }
        }
        let request = self.request(blob, from)?;
        let connection = http::connect(&self.way).await?;
        let connection = self.connection.insert(connection);
        Ok(connection.send_within(request, most).await?)
    }

    fn request(&self, blob: Blob, from: u64) -> Result<Request<Full<Bytes>>, HttpError> {
        let mut request = Request::get(format!("{}/blobs/sha256/{}", self.path, blob.digest.hex()))
            .header("host", self.way.to.to_string());
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        request
            .body(Full::new(Bytes::new()))
            .map_err(|e| HttpError::Protocol(e.to_string()))
    }
}

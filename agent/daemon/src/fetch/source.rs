//! One server of blobs: the console, or a mirror of coracle.toml's.

use super::FetchError;
use super::http::{self, Connection, HttpError, Way};
use crate::identity::{Endpoint, IdentityError};
use bytes::Bytes;
use coracle_board_support::config::Downloads;
use coracle_protocol::Sha256Digest;
use coracle_protocol::release::Blob;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use std::sync::Arc;

/// What has `blobs/sha256/<hex>`. The connection is kept as long as it lasts.
#[derive(Debug)]
pub struct Source {
    way: Way,
    /// What stands before `/blobs`; empty for the console.
    path: String,
    connection: Option<Connection>,
    /// It failed in a way that will not pass within a deployment.
    is_out: bool,
    /// It said that it does not have this one.
    lacks: Option<Sha256Digest>,
}

impl Source {
    fn new(way: Way, path: &str) -> Self {
        Self {
            way,
            path: path.to_owned(),
            connection: None,
            is_out: false,
            lacks: None,
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
        Self::new(way, "")
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
            let address = url.as_str().trim_start_matches("http://");
            match Endpoint::parse(address, 3128) {
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
        Ok(Self::new(way, &path))
    }

    /// What its bytes come from first: the server, or the proxy.
    pub fn hop(&self) -> &Endpoint {
        self.way.proxy.as_ref().unwrap_or(&self.way.to)
    }

    /// Whether it is worth asking for this blob.
    pub fn may_have(&self, blob: &Blob) -> bool {
        !self.is_out && self.lacks != Some(blob.digest)
    }

    /// It did not bring the blob.
    pub fn failed(&mut self, blob: &Blob, error: &FetchError) {
        self.connection = None;
        match error {
            FetchError::NotFound => self.lacks = Some(blob.digest),
            _ => self.is_out = true,
        }
        tracing::info!(mirror = %self.way.to, blob = %blob.digest, %error, "not from this mirror");
    }

    /// The next question needs another connection.
    pub fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Asks for the bytes from `from` on.
    pub async fn ask(&mut self, blob: Blob, from: u64) -> Result<Response<Incoming>, FetchError> {
        if let Some(mut kept) = self.connection.take().filter(Connection::is_open) {
            match kept.send(self.request(blob, from)?).await {
                // Closed since the last blob, as servers do.
                Err(HttpError::Protocol(_)) => {}
                other => {
                    self.connection = Some(kept);
                    return Ok(other?);
                }
            }
        }
        let request = self.request(blob, from)?;
        let connection = http::connect(&self.way).await?;
        Ok(self.connection.insert(connection).send(request).await?)
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

//! HTTP/1.1 to one server, over TLS unless it is a mirror that has none. The only room that knows hyper's client.

use super::stream::Stream;
use crate::identity::Endpoint;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// For the TCP connection and the TLS handshake; a slow core needs seconds for the latter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of a proxy's answer.
const PROXY_HEAD: usize = 4096;
/// For the head of an answer.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    /// No TLS: the wrong CA, an expired certificate, or a refusal of ours.
    #[error("TLS: {0}")]
    Tls(std::io::Error),
    /// The proxy did not let us through.
    #[error("the proxy {proxy} answered `{answer}` ([downloads] proxy in coracle.toml)")]
    Proxy {
        /// The proxy.
        proxy: Endpoint,
        /// The first line of its answer.
        answer: String,
    },
    /// The host is no name and no address.
    #[error("`{0}` is not a host name")]
    Name(String),
    /// HTTP was broken, or the connection was.
    #[error("HTTP: {0}")]
    Protocol(String),
    /// Too late.
    #[error("no answer in {}", Seconds(*.0))]
    TimedOut(Duration),
    /// Too long.
    #[error("the answer has more than {0} bytes")]
    TooLong(usize),
}

/// Seconds for people.
struct Seconds(Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} s", self.0.as_secs_f32())
    }
}

impl From<hyper::Error> for HttpError {
    fn from(error: hyper::Error) -> Self {
        use std::error::Error;
        let cause = error.source().map(|s| format!(": {s}")).unwrap_or_default();
        Self::Protocol(format!("{error}{cause}"))
    }
}

/// An open connection. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// How a server is reached.
#[derive(Debug, Clone)]
pub struct Way {
    /// The server.
    pub to: Endpoint,
    /// None: plain HTTP.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Through which; the server itself is reached when there is none.
    pub proxy: Option<Endpoint>,
}

/// Connects to a console, by itself.
pub async fn connect_to(
    endpoint: &Endpoint,
    tls: Arc<rustls::ClientConfig>,
) -> Result<Connection, HttpError> {
    let way = Way {
        to: endpoint.clone(),
        tls: Some(tls),
        proxy: None,
    };
    connect(&way).await
}

/// Connects.
pub async fn connect(way: &Way) -> Result<Connection, HttpError> {
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, open(way))
        .await
        .map_err(|_| HttpError::TimedOut(CONNECT_TIMEOUT))??;
    // The least that hyper allows: a blob's pieces are written as they come.
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(32 * 1024)
        .handshake(TokioIo::new(stream))
        .await?;
    let driver = tokio::spawn(async move {
        // The error comes to whoever waits for the answer.
        let _ = connection.await;
    });
    Ok(Connection { sender, driver })
}

async fn open(way: &Way) -> Result<Stream, HttpError> {
    let hop = way.proxy.as_ref().unwrap_or(&way.to);
    let mut tcp = TcpStream::connect((hop.host.as_str(), hop.port))
        .await
        .map_err(HttpError::Connect)?;
    tcp.set_nodelay(true).map_err(HttpError::Connect)?;
    if let Some(proxy) = &way.proxy {
        tunnel(&mut tcp, proxy, &way.to).await?;
    }
    let Some(tls) = way.tls.clone() else {
        return Ok(Stream::Plain(tcp));
    };
    let name = ServerName::try_from(way.to.host.clone())
        .map_err(|_| HttpError::Name(way.to.host.clone()))?;
    let tls = tokio_rustls::TlsConnector::from(tls).connect(name, tcp);
    Ok(Stream::Tls(Box::new(tls.await.map_err(HttpError::Tls)?)))
}

/// Asks a proxy for a way to `to` (RFC 9110, 9.3.6).
async fn tunnel(tcp: &mut TcpStream, proxy: &Endpoint, to: &Endpoint) -> Result<(), HttpError> {
    let request = format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n");
    tcp.write_all(request.as_bytes())
        .await
        .map_err(HttpError::Connect)?;
    // Byte by byte: what follows the head is the server's.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < PROXY_HEAD {
        head.push(tcp.read_u8().await.map_err(HttpError::Connect)?);
    }
    let head = String::from_utf8_lossy(&head);
    let line = head.lines().next().unwrap_or_default();
    if line.starts_with("HTTP/1.") && line.split(' ').nth(1) == Some("200") {
        return Ok(());
    }
    Err(HttpError::Proxy {
        proxy: proxy.clone(),
        answer: line.chars().take(120).collect(),
    })
}

impl Connection {
    /// Sends a request and waits for the head of its answer.
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, HttpError> {
        self.send_within(request, HEAD_TIMEOUT).await
    }

    /// The same, for no longer than `most`, however often a byte of it comes.
    pub async fn send_within(
        &mut self,
        request: Request<Full<Bytes>>,
        most: Duration,
    ) -> Result<Response<Incoming>, HttpError> {
        self.sender.ready().await?;
        tokio::time::timeout(most, self.sender.send_request(request))
            .await
            .map_err(|_| HttpError::TimedOut(most))?
            .map_err(HttpError::from)
    }

    /// Whether it can take another request.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}

/// A whole body of at most `limit` bytes.
pub async fn read_all(mut body: Incoming, limit: usize) -> Result<Bytes, HttpError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            if bytes.len() + data.len() > limit {
                return Err(HttpError::TooLong(limit));
            }
            bytes.extend_from_slice(data);
        }
    }
    Ok(bytes.into())
}

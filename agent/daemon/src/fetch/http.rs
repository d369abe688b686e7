//! HTTP/1.1 over TLS to one console. The only room that knows hyper's client.

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
use tokio::net::TcpStream;

/// For the TCP connection and the TLS handshake; a slow core needs seconds for the latter.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// For the head of an answer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// No connection.
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    /// No TLS: the wrong CA, an expired certificate, or a refusal of ours.
    #[error("TLS: {0}")]
    Tls(std::io::Error),
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

/// Connects to `endpoint`.
pub async fn connect(
    endpoint: &Endpoint,
    tls: Arc<rustls::ClientConfig>,
) -> Result<Connection, HttpError> {
    let name = ServerName::try_from(endpoint.host.clone())
        .map_err(|_| HttpError::Name(endpoint.host.clone()))?;
    let open = async {
        let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
            .await
            .map_err(HttpError::Connect)?;
        tcp.set_nodelay(true).map_err(HttpError::Connect)?;
        tokio_rustls::TlsConnector::from(tls)
            .connect(name, tcp)
            .await
            .map_err(HttpError::Tls)
    };
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, open)
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

impl Connection {
    /// Sends a request and waits for the head of its answer.
    pub async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, HttpError> {
        self.sender.ready().await?;
        tokio::time::timeout(HEAD_TIMEOUT, self.sender.send_request(request))
            .await
            .map_err(|_| HttpError::TimedOut(HEAD_TIMEOUT))?
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

//! HTTP/1.1 to coracled over its unix socket; a connection for each request.

use crate::body::Body;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;

/// For an answer that the daemon has at hand.
pub const SOON: Duration = Duration::from_secs(60);
/// For an answer that waits for apps to stop, for a slow disk, or for a console far away.
pub const LATER: Duration = Duration::from_secs(15 * 60);
/// For the answer to a blob, which comes after its last byte: 64 GiB from a slow stick.
pub const UPLOAD: Duration = Duration::from_secs(24 * 3600);
/// Longest answer that is read whole, in bytes: one frame of the supervisor, in Docker's words.
const ANSWER: usize = 4 << 20;
/// Longest line of a stream of JSON, in bytes.
const LINE: usize = 64 * 1024;

/// Who can ask coracled.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens, or one may not ask.
    #[error("cannot reach coracled at {}: {source}{}", socket.display(), hint(source))]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not accepted: by trust or by budget.
    #[error("refused: {message}{}", code.as_ref().map_or(String::new(), |c| format!(" ({c})")))]
    Refused {
        /// A stable word.
        code: Option<String>,
        /// In words.
        message: String,
    },
    /// An error of the daemon.
    #[error("{message}")]
    Answer {
        /// HTTP's.
        status: StatusCode,
        /// In words.
        message: String,
    },
    /// The connection broke.
    #[error("the connection to coracled broke: {0}")]
    Broken(#[from] hyper::Error),
    /// No answer came.
    #[error("coracled did not answer in {} s", .0.as_secs())]
    TimedOut(Duration),
    /// More than is read.
    #[error("coracled's answer cannot be read: {0}")]
    Body(String),
    /// Not what was expected: another version, most likely.
    #[error(
        "coracled's answer is not understood ({0}); is it of another version than this program?"
    )]
    Malformed(#[from] serde_json::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; be root or a member of its group",
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "; does it run? (systemctl status coracled)"
        }
        _ => "",
    }
}

impl Client {
    /// Connects to nothing yet.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// `GET`, and the answer's JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let answer = self
            .send(Method::GET, path, Body::Whole(Bytes::new()), SOON)
            .await?;
        Ok(serde_json::from_slice(&whole(answer).await?)?)
    }

    /// `GET`, and the answer as a stream.
    pub async fn open(&self, path: &str) -> Result<Response<Incoming>, ClientError> {
        self.send(Method::GET, path, Body::Whole(Bytes::new()), SOON)
            .await
    }

    /// `POST` of JSON; the answer is a stream.
    pub async fn post<B: Serialize>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<Response<Incoming>, ClientError> {
        let body = Body::Whole(serde_json::to_vec(body)?.into());
        self.send(Method::POST, path, body, LATER).await
    }

    /// `POST` of nothing.
    pub async fn order(&self, path: &str) -> Result<(), ClientError> {
        self.send(Method::POST, path, Body::Whole(Bytes::new()), LATER)
            .await?;
        Ok(())
    }

    /// Any request. An answer that is no success is an error; `wait` is for its head.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Body,
        wait: Duration,
    ) -> Result<Response<Incoming>, ClientError> {
        let unreachable = |source| ClientError::Unreachable {
            socket: self.socket.clone(),
            source,
        };
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(unreachable)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the exchange; its errors are those of the exchange.
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "coracled")
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|e| ClientError::Body(e.to_string()))?;
        let answer = tokio::time::timeout(wait, sender.send_request(request))
            .await
            .map_err(|_| ClientError::TimedOut(wait))??;
        if answer.status().is_success() {
            return Ok(answer);
        }
        Err(fault(answer).await)
    }
}

/// All of an answer.
pub async fn whole(answer: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = Limited::new(answer.into_body(), ANSWER).collect();
    let body = tokio::time::timeout(SOON, body).await;
    let body = body.map_err(|_| ClientError::TimedOut(SOON))?;
    body.map(|body| body.to_bytes())
        .map_err(|e| ClientError::Body(e.to_string()))
}

async fn fault(answer: Response<Incoming>) -> ClientError {
    #[derive(Deserialize)]
    struct Shape {
        message: String,
        code: Option<String>,
    }
    let status = answer.status();
    let body = whole(answer).await.unwrap_or_default();
    let shape = serde_json::from_slice(&body).unwrap_or_else(|_| Shape {
        message: format!("coracled answered {status}"),
        code: None,
    });
    match status {
        StatusCode::FORBIDDEN => ClientError::Refused {
            code: shape.code,
            message: shape.message,
        },
        _ => ClientError::Answer {
            status,
            message: shape.message,
        },
    }
}

/// A stream of JSON, one value a line.
pub struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
}

impl Lines {
    /// Of an answer.
    pub fn new(answer: Response<Incoming>) -> Self {
        Self {
            body: answer.into_body(),
            buffer: Vec::new(),
        }
    }

    /// The next value, however long it takes; `None` at the end.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Ok(Some(serde_json::from_slice(&line)?));
            }
            if self.buffer.len() > LINE {
                return Err(ClientError::Body(format!(
                    "a line of more than {LINE} bytes"
                )));
            }
            match self.body.frame().await {
                Some(frame) => {
                    if let Some(data) = frame?.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                None => return Ok(None),
            }
        }
    }
}

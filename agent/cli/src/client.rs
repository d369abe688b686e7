//! HTTP/1.1 to coracled over its unix socket, one connection for each request.

use crate::failure::Failure;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// Longest answer that is kept in memory, in bytes; streams have no end.
const ANSWER: usize = 8 << 20;

/// A client.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
}

/// A body whose pieces come from elsewhere.
pub struct Pieces(pub mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|p| p.map(|b| Ok(Frame::data(b))))
    }
}

impl Client {
    /// For the daemon at `socket`.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// GET, JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let response = self.stream(Method::GET, path, Vec::new()).await?;
        let body = self.read(response.into_body()).await?;
        serde_json::from_slice(&body)
            .map_err(|e| self.broken(format!("an answer that cannot be read: {e}")))
    }

    /// POST, the body of the answer.
    pub async fn post(&self, path: &str, body: Vec<u8>) -> Result<Bytes, Failure> {
        let response = self.stream(Method::POST, path, body).await?;
        self.read(response.into_body()).await
    }

    /// Any request; the answer's body is still to be read. A status past 299 is a failure.
    pub async fn stream(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, Failure> {
        let request = self.request(method, path, Full::new(Bytes::from(body)))?;
        self.send(request).await
    }

    /// PUT with a body that comes in pieces.
    pub async fn put(&self, path: &str, pieces: Pieces) -> Result<(), Failure> {
        let request = self.request(Method::PUT, path, pieces)?;
        self.send(request).await.map(drop)
    }

    fn request<B>(&self, method: Method, path: &str, body: B) -> Result<Request<B>, Failure> {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", "coracled")
            .header("content-type", "application/json")
            .body(body)
            .map_err(|e| self.broken(e.to_string()))
    }

    async fn send<B>(&self, request: Request<B>) -> Result<Response<Incoming>, Failure>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|source| Failure::Unreachable {
            socket: self.socket.clone(),
            source,
        })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.broken(e.to_string()))?;
        tokio::spawn(async move {
            // The error comes to whoever reads the answer.
            let _ = connection.await;
        });
        let response = sender
            .send_request(request)
            .await
            .map_err(|e| self.broken(e.to_string()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.read(response.into_body()).await?;
        let value: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |key: &str| value.get(key)?.as_str().map(str::to_owned);
        Err(Failure::Answer {
            status: status.as_u16(),
            code: text("code"),
            message: text("message").unwrap_or_else(|| format!("HTTP status {status}")),
        })
    }

    async fn read(&self, mut body: Incoming) -> Result<Bytes, Failure> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.piece(&mut body).await? {
            if bytes.len() + piece.len() > ANSWER {
                return Err(self.broken(format!("an answer of more than {ANSWER} bytes")));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.into())
    }

    /// The next piece of an answer's body.
    pub async fn piece(&self, body: &mut Incoming) -> Result<Option<Bytes>, Failure> {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| self.broken(e.to_string()))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    fn broken(&self, what: String) -> Failure {
        Failure::Broken {
            socket: self.socket.clone(),
            what,
        }
    }
}

//! One question to the console's port for boards, and its answer.

use super::{Endpoint, FILE_LIMIT};
use crate::fetch::http::{self, HttpError};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;

/// For the whole call.
const DEADLINE: Duration = Duration::from_secs(60);

/// Why there is no answer that is of use.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// No answer.
    #[error("console {console}: {source}")]
    Http {
        /// Which console.
        console: Endpoint,
        /// Why.
        source: HttpError,
    },
    /// The console said no.
    #[error("console {console} refused ({status}): {reason}")]
    Refused {
        /// Which console.
        console: Endpoint,
        /// HTTP status.
        status: u16,
        /// Its words.
        reason: String,
    },
    /// The answer makes no sense.
    #[error("console {console} answered with {what}")]
    Answer {
        /// Which console.
        console: Endpoint,
        /// What is wrong.
        what: String,
    },
}

/// GET.
pub(super) async fn get<T: DeserializeOwned>(
    console: &Endpoint,
    tls: Arc<rustls::ClientConfig>,
    path: &str,
) -> Result<T, ConsoleError> {
    call(console, tls, Request::get(path), Bytes::new()).await
}

/// POST of JSON.
pub(super) async fn post<T: DeserializeOwned>(
    console: &Endpoint,
    tls: Arc<rustls::ClientConfig>,
    path: &str,
    body: &impl Serialize,
) -> Result<T, ConsoleError> {
    let body = serde_json::to_vec(body).unwrap_or_default();
    let request = Request::post(path).header("content-type", "application/json");
    call(console, tls, request, body.into()).await
}

async fn call<T: DeserializeOwned>(
    console: &Endpoint,
    tls: Arc<rustls::ClientConfig>,
    request: hyper::http::request::Builder,
    body: Bytes,
) -> Result<T, ConsoleError> {
    let failed = |source| ConsoleError::Http {
        console: console.clone(),
        source,
    };
    let call = async {
        let mut connection = http::connect_to(console, tls).await?;
        let request = request
            .header("host", console.to_string())
            .body(Full::new(body))
            .map_err(|e| HttpError::Protocol(e.to_string()))?;
        let response = connection.send(request).await?;
        let status = response.status();
        let body = http::read_all(response.into_body(), FILE_LIMIT as usize).await?;
        Ok((status, body))
    };
    let (status, body) = tokio::time::timeout(DEADLINE, call)
        .await
        .map_err(|_| failed(HttpError::TimedOut(DEADLINE)))?
        .map_err(failed)?;
    if !status.is_success() {
        let reason = serde_json::from_slice::<serde_json::Value>(&body)
            .ok()
            .and_then(|v| Some(v.get("error")?.as_str()?.to_owned()))
            .unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
        return Err(ConsoleError::Refused {
            console: console.clone(),
            status: status.as_u16(),
            reason: reason.chars().take(400).collect(),
        });
    }
    serde_json::from_slice(&body).map_err(|e| ConsoleError::Answer {
        console: console.clone(),
        what: format!("something else than was asked for: {e}"),
    })
}

//! Whether the head of an answer fits what was asked (RFC 9110 sections 14 and 15).

use super::FetchError;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, RETRY_AFTER};
use hyper::{Response, StatusCode};
use std::time::Duration;

/// What to do with the body.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on where the part ends.
    Continues,
    /// It is the whole blob: the part is of no use.
    FromStart,
    /// The part is longer than what the console has.
    Stale,
}

/// Judges an answer to a request for the bytes from `from` of a blob of `size` bytes.
pub fn judge<B>(response: &Response<B>, from: u64, size: u64) -> Result<Verdict, FetchError> {
    let text = |name| response.headers().get(name)?.to_str().ok();
    let (verdict, expected) = match response.status() {
        StatusCode::OK => (Verdict::FromStart, size),
        StatusCode::PARTIAL_CONTENT => {
            let range = text(CONTENT_RANGE).unwrap_or_default();
            let wanted = format!("bytes {from}-{}/{size}", size.saturating_sub(1));
            if range != wanted {
                let range: String = range.chars().take(80).collect();
                return Err(FetchError::Answer(format!(
                    "content-range is `{range}`; `{wanted}` was asked for"
                )));
            }
            (Verdict::Continues, size - from)
        }
        StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => return Ok(Verdict::Stale),
        StatusCode::NOT_FOUND => return Err(FetchError::NotFound),
        status if status.is_redirection() => return Err(FetchError::Redirect(status.as_u16())),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            let wait = text(RETRY_AFTER).and_then(|t| t.trim().parse().ok());
            return Err(FetchError::Busy {
                status: status.as_u16(),
                wait: wait.map(Duration::from_secs),
            });
        }
        status => return Err(FetchError::Status(status.as_u16())),
    };
    match text(CONTENT_LENGTH).map(str::parse::<u64>) {
        Some(Ok(length)) if length != expected => Err(FetchError::Answer(format!(
            "content-length is {length}; {expected} bytes are missing"
        ))),
        Some(Err(_)) => Err(FetchError::Answer("content-length is no number".into())),
        _ => Ok(verdict),
    }
}

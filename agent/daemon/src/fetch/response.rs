//! Whether the head of an answer fits what was asked (RFC 9110 sections 14 and 15).

use super::FetchError;
use crate::clock;
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, DATE, RETRY_AFTER};
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
            return Err(FetchError::Busy {
                status: status.as_u16(),
                wait: text(RETRY_AFTER).and_then(|asked| wait(asked, text(DATE))),
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

/// How long a busy server asks to wait (RFC 9110, 10.2.3): seconds, or a date. How far that is, the server's own clock says: a
/// board's may be wrong by years.
fn wait(asked: &str, now: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = asked.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (until, now) = (date(asked)?, date(now?)?);
    Some(until.saturating_sub(now))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7). The two older ways to write one are obsolete.
fn date(text: &str) -> Option<Duration> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = text.split_ascii_whitespace().skip(1);
    let (day, month, year, time) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let place = MONTHS.find(month).filter(|at| at % 3 == 0)?;
    let month = place / 3 + 1;
    clock::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_a_number_or_a_date_by_the_servers_own_clock() {
        let seconds = |asked, now| wait(asked, now).map(|wait| wait.as_secs());
        let now = Some("Tue, 31 Dec 2024 23:59:30 GMT");
        assert_eq!(seconds(" 7 ", None), Some(7));
        assert_eq!(seconds("Wed, 01 Jan 2025 00:01:00 GMT", now), Some(90));
        assert_eq!(seconds("Tue, 31 Dec 2024 23:59:00 GMT", now), Some(0));
        for (asked, now) in [
            ("Wed, 01 Jan 2025 00:01:00 GMT", None),
            ("Wed, 01 Jan 2025 00:01:00 GMT", Some("today")),
            ("Wed, 01 anF 2025 00:01:00 GMT", now),
            ("Wed, 32 Jan 2025 00:01:00 GMT", now),
            ("Wed, 01 Jan 2025", now),
            ("-1", now),
            ("", now),
        ] {
            assert_eq!(wait(asked, now), None, "{asked}");
        }
    }
}

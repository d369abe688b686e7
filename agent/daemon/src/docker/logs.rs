//! One line of a json-file log, and Docker's multiplexed stream ("Attach to a container, stream
//! format": stream type, three zeros, a 4-byte big-endian length, the bytes).

use crate::clock;
use serde::Deserialize;
use std::time::Duration;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// Text, with its line break unless the writer cut a long line.
    pub log: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// RFC 3339.
    pub time: String,
}

impl Entry {
    /// Whether it came from stderr.
    pub fn is_stderr(&self) -> bool {
        self.stream == "stderr"
    }

    /// Its time, since 1970; zero when it cannot be read.
    pub fn at(&self) -> Duration {
        clock::parse_rfc3339(&self.time).unwrap_or_default()
    }
}

/// Adds an entry's frame to `out`.
pub fn frame(out: &mut Vec<u8>, entry: &Entry, timestamp: bool) {
    let stamp = if timestamp {
        format!("{} ", entry.time)
    } else {
        String::new()
    };
    let length = (stamp.len() + entry.log.len()) as u32;
    out.extend_from_slice(&[if entry.is_stderr() { 2 } else { 1 }, 0, 0, 0]);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(stamp.as_bytes());
    out.extend_from_slice(entry.log.as_bytes());
}

/// A time as clients write it: Unix seconds with decimals, or RFC 3339.
pub fn parse_time(text: &str) -> Option<Duration> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds = match seconds.parse() {
        Ok(seconds) => seconds,
        Err(_) => return clock::parse_rfc3339(text),
    };
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let nanos = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(Duration::new(seconds, nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_says_stream_and_length() {
        let entry = Entry {
            log: "hi\n".into(),
            stream: "stderr".into(),
            time: "2024-01-01T00:00:00Z".into(),
        };
        let mut out = Vec::new();
        frame(&mut out, &entry, false);
        assert_eq!(out, b"\x02\0\0\0\0\0\0\x03hi\n");
        out.clear();
        frame(&mut out, &entry, true);
        assert_eq!(out, b"\x02\0\0\0\0\0\0\x182024-01-01T00:00:00Z hi\n");
    }

    #[test]
    fn times() {
        assert_eq!(parse_time("12.5"), Some(Duration::new(12, 500_000_000)));
        assert_eq!(
            parse_time("1970-01-01T00:00:02Z"),
            Some(Duration::new(2, 0))
        );
        assert_eq!(parse_time("x"), None);
        assert_eq!(parse_time("1.x"), None);
    }
}

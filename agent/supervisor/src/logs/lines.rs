//! From what was read of an app to docker's json-file lines. Format: one JSON object a line, `log` (with its newline; without
//! one when a line was cut at [`LINE_BYTES`]), `stream`, `time` (RFC 3339, UTC).

use super::file::LogFile;
use super::hand_over::Job;
use super::queue::{Chunk, Missed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Bytes of one line, as Docker cuts them.
pub const LINE_BYTES: usize = 16 * 1024;

/// Lines of one read have times that are a nanosecond apart; so long after the last of them, a line has the clock's again.
const SOON: Duration = Duration::from_millis(1);

/// Those of two containers of one app at most: one beside the other while it is handed over.
pub(super) const STREAMS: [&str; 4] = ["stdout", "stderr", "stdout", "stderr"];

/// One app's log, and the lines whose ends have not come yet.
pub(super) struct Lines {
    file: LogFile,
    pending: [Vec<u8>; STREAMS.len()],
    /// Of the next line, when it comes [`SOON`].
    last: SystemTime,
}

impl Lines {
    pub(super) fn of(job: &Job) -> Self {
        Self {
            file: LogFile::of(job),
            pending: Default::default(),
            last: UNIX_EPOCH,
        }
    }

    /// A new start: what an earlier one left is its own, and the file is there for whoever wants to follow it.
    pub(super) fn begin(&mut self, job: &Job) {
        self.flush_all(SystemTime::now());
        self.file.write_piece();
        *self = Self::of(job);
        // Each piece tries again.
        let _ = self.file.open();
    }

    /// `missed` is what was dropped after it.
    pub(super) fn write(&mut self, chunks: Vec<Chunk>, missed: Missed, is_over: bool) {
        for chunk in chunks {
            self.take(&chunk);
        }
        self.note(missed, SystemTime::now());
        if is_over {
            self.flush_all(SystemTime::now());
        }
        self.file.write_piece();
    }

    /// Lines that were dropped, in the place where they are missing.
    fn note(&mut self, missed: Missed, at: SystemTime) {
        if missed.is_none() {
            return;
        }
        self.flush_all(at);
        let text = format!(
            "coracle: {} lines, {} bytes were dropped here: they came faster than they could be written\n",
            missed.lines, missed.bytes
        );
        self.file.put(&line(text.as_bytes(), STREAMS[1], at));
    }

    fn take(&mut self, chunk: &Chunk) {
        let mut at = match self.last.duration_since(chunk.at) {
            Ok(ahead) if ahead < SOON => self.last,
            _ => chunk.at,
        };
        self.note(chunk.missed, at);
        if chunk.bytes.is_empty() {
            self.flush(chunk.stream, at);
        }
        for piece in chunk.bytes.split_inclusive(|byte| *byte == b'\n') {
            self.pending[chunk.stream].extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.pending[chunk.stream].len() >= LINE_BYTES {
                self.flush(chunk.stream, at);
                // They came at once, and no two have the same time.
                at += Duration::from_nanos(1);
            }
        }
        self.last = at;
    }

    fn flush_all(&mut self, at: SystemTime) {
        for stream in 0..STREAMS.len() {
            self.flush(stream, at);
        }
    }

    fn flush(&mut self, stream: usize, at: SystemTime) {
        // Nothing is kept for an app that says nothing.
        let text = std::mem::take(&mut self.pending[stream]);
        if !text.is_empty() {
            self.file.put(&line(&text, STREAMS[stream], at));
        }
    }
}

/// One line of the file.
fn line(text: &[u8], stream: &str, at: SystemTime) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        log: std::borrow::Cow<'a, str>,
        stream: &'a str,
        time: String,
    }
    let line = Line {
        log: String::from_utf8_lossy(text),
        stream,
        time: rfc3339(at),
    };
    let mut json = serde_json::to_vec(&line).unwrap_or_default();
    json.push(b'\n');
    json
}

/// RFC 3339 in UTC, with nanoseconds. A clock outside the years 1970 to 9999 stays at their end.
fn rfc3339(at: SystemTime) -> String {
    let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_nanos(at.clamp(UNIX_EPOCH, last)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_civil() {
        let at = |seconds| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(at(1_767_225_599), "2025-12-31T23:59:59.000000000Z");
    }
}

//! `logs`: Docker's multiplexed stream, taken apart again ("Attach to a container, stream format":
//! stream type, three zeros, a 4-byte big-endian length, the bytes).

use crate::args::Logs;
use crate::client::{Client, ClientError};
use crate::failure::Failure;
use crate::output;
use http_body_util::BodyExt;
use std::fmt::Write;

/// Longest frame, in bytes: the supervisor cuts lines at 16 KiB.
const FRAME: usize = 1 << 20;
const HEADER: usize = 8;

/// Which of an app's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Out,
    Error,
}

/// Not the stream that it should be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum FrameError {
    #[error("stream type {0} is not known")]
    Stream(u8),
    #[error("a frame of {0} bytes; the limit is {FRAME}")]
    TooLong(usize),
    #[error("the stream ended inside a frame")]
    Cut,
}

/// Takes bytes in any pieces and gives whole frames.
#[derive(Debug, Default)]
struct Demultiplexer {
    buffer: Vec<u8>,
    at: usize,
}

impl Demultiplexer {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame that is whole.
    fn next(&mut self) -> Result<Option<(Stream, &[u8])>, FrameError> {
        let rest = &self.buffer[self.at..];
        let Some((header, rest)) = rest.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let stream = match header[0] {
            1 => Stream::Out,
            2 => Stream::Error,
            other => return Err(FrameError::Stream(other)),
        };
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if length > FRAME {
            return Err(FrameError::TooLong(length));
        }
        let Some(text) = rest.get(..length) else {
            return Ok(None);
        };
        self.at += HEADER + length;
        Ok(Some((stream, text)))
    }

    /// Whether the stream ended where a frame did.
    fn end(&self) -> Result<(), FrameError> {
        if self.at == self.buffer.len() {
            Ok(())
        } else {
            Err(FrameError::Cut)
        }
    }
}

/// `coracle logs`
pub async fn show(client: &Client, wanted: &Logs) -> Result<(), Failure> {
    let broken = |e: FrameError| Failure::Client(ClientError::Body(e.to_string()));
    let mut body = client.open(&path(wanted)).await?.into_body();
    let mut frames = Demultiplexer::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(ClientError::from)?;
        frames.push(frame.data_ref().map_or(&[], |data| data));
        while let Some((stream, text)) = frames.next().map_err(broken)? {
            match stream {
                Stream::Out => output::bytes(text)?,
                Stream::Error => output::error_bytes(text)?,
            }
        }
    }
    frames.end().map_err(broken)
}

fn path(wanted: &Logs) -> String {
    let mut path = format!("/containers/{}/logs?stdout=1&stderr=1", wanted.app);
    if wanted.follow {
        path.push_str("&follow=1");
    }
    if wanted.timestamps {
        path.push_str("&timestamps=1");
    }
    if let Some(tail) = wanted.tail {
        let _ = write!(path, "&tail={tail}");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] = b"\x01\0\0\0\0\0\0\x03hi\n\x02\0\0\0\0\0\0\x04oh!\n";

    #[test]
    fn frames_come_whole_however_they_were_cut() {
        for piece in 1..=TWO.len() {
            let mut frames = Demultiplexer::default();
            let mut seen = Vec::new();
            for bytes in TWO.chunks(piece) {
                frames.push(bytes);
                while let Some((stream, text)) = frames.next().unwrap() {
                    seen.push((stream, text.to_vec()));
                }
            }
            let want = [
                (Stream::Out, b"hi\n".to_vec()),
                (Stream::Error, b"oh!\n".to_vec()),
            ];
            assert_eq!(seen, want, "in pieces of {piece}");
            frames.end().unwrap();
        }
    }

    #[test]
    fn what_is_no_stream_is_refused() {
        let mut frames = Demultiplexer::default();
        frames.push(b"HTTP/1.1 ");
        assert_eq!(frames.next(), Err(FrameError::Stream(b'H')));
        let mut frames = Demultiplexer::default();
        frames.push(b"\x01\0\0\0\xff\0\0\0");
        assert_eq!(frames.next(), Err(FrameError::TooLong(0xff00_0000)));
        let mut frames = Demultiplexer::default();
        frames.push(&TWO[..13]);
        frames.next().unwrap();
        assert_eq!(frames.next(), Ok(None));
        assert_eq!(frames.end(), Err(FrameError::Cut));
    }
}

//! `coracle logs`: takes Docker's multiplexed stream apart (stream type, three zeros, a 4-byte
//! big-endian length, the bytes), stdout to stdout, stderr to stderr.

use crate::client::Client;
use crate::failure::Failure;
use hyper::Method;
use std::io::Write;

/// Longest frame, in bytes; the agent makes them of one line.
const FRAME: usize = 1 << 20;

/// Writes an app's log.
pub async fn run(
    client: &Client,
    app: &str,
    follow: bool,
    tail: Option<u32>,
    timestamps: bool,
) -> Result<(), Failure> {
    let tail = tail.map_or("all".to_owned(), |n| n.to_string());
    let path = format!(
        "/containers/{app}/logs?stdout=1&stderr=1&follow={}&tail={tail}&timestamps={}",
        u8::from(follow),
        u8::from(timestamps)
    );
    let mut body = client
        .stream(Method::GET, &path, Vec::new())
        .await?
        .into_body();
    let mut frames = Frames::default();
    while let Some(piece) = client.piece(&mut body).await? {
        frames.bytes.extend_from_slice(&piece);
        while let Some((stderr, text)) = frames.next()? {
            let written = if stderr {
                std::io::stderr().write_all(&text)
            } else {
                let mut out = std::io::stdout().lock();
                out.write_all(&text).and_then(|()| out.flush())
            };
            written.map_err(Failure::Output)?;
        }
    }
    Ok(())
}

/// Bytes that came and are not taken apart yet.
#[derive(Default)]
struct Frames {
    bytes: Vec<u8>,
}

impl Frames {
    fn next(&mut self) -> Result<Option<(bool, Vec<u8>)>, Failure> {
        let Some(head) = self.bytes.first_chunk::<8>() else {
            return Ok(None);
        };
        let stderr = head[0] == 2;
        let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if head[1..4] != [0, 0, 0] || length > FRAME {
            return Err(Failure::Board("coracled sent no log".into()));
        }
        if self.bytes.len() < 8 + length {
            return Ok(None);
        }
        let rest = self.bytes.split_off(8 + length);
        let frame = std::mem::replace(&mut self.bytes, rest);
        Ok(Some((stderr, frame[8..].to_vec())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_however_they_were_cut() {
        let wire = b"\x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\x01x";
        let mut frames = Frames::default();
        let mut got = Vec::new();
        for byte in wire {
            frames.bytes.push(*byte);
            got.extend(frames.next().unwrap());
        }
        assert_eq!(got, [(false, b"hi".to_vec()), (true, b"x".to_vec())]);
        frames.bytes = b"HTTP/1.1 200".to_vec();
        assert!(frames.next().is_err());
    }
}

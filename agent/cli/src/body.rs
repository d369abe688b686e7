//! The body of a request: nothing, all at once, or piece by piece, of known length or not.

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;

/// Pieces that wait for a slow daemon.
const PIECES: usize = 2;

/// A body.
#[derive(Debug)]
pub enum Body {
    /// All of it; taken once.
    Whole(Bytes),
    /// Pieces until the sender is dropped, and how many bytes are still to come. A piece that is
    /// an error, or too few of them, breaks the request off, so that the daemon never takes half a
    /// blob for a whole one.
    Stream(mpsc::Receiver<io::Result<Bytes>>, u64),
    /// Pieces of which nobody knows how many come. What they are has its own end in it.
    Endless(mpsc::Receiver<io::Result<Bytes>>),
}

impl Body {
    /// A body of so many bytes, and where its pieces go.
    pub fn stream(bytes: u64) -> (mpsc::Sender<io::Result<Bytes>>, Self) {
        let (sender, receiver) = mpsc::channel(PIECES);
        (sender, Self::Stream(receiver, bytes))
    }

    /// A body of unknown length, and where its pieces go.
    pub fn endless() -> (mpsc::Sender<io::Result<Bytes>>, Self) {
        let (sender, receiver) = mpsc::channel(PIECES);
        (sender, Self::Endless(receiver))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Endless(pieces) => pieces
                .poll_recv(cx)
                .map(|piece| piece.map(|piece| piece.map(Frame::data))),
            Self::Stream(pieces, left) => pieces.poll_recv(cx).map(|piece| match piece {
                Some(Ok(piece)) => {
                    *left = left.saturating_sub(piece.len() as u64);
                    Some(Ok(Frame::data(piece)))
                }
                Some(Err(e)) => Some(Err(e)),
                None if *left > 0 => Some(Err(io::ErrorKind::UnexpectedEof.into())),
                None => None,
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_, left) => SizeHint::with_exact(*left),
            Self::Endless(_) => SizeHint::default(),
        }
    }
}

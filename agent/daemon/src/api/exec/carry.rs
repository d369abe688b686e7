//! Bytes between a client and the supervisor's socket of one exec.

use super::{Going, One, State, UNKNOWN};
use crate::api::reply::Fault;
use coracle_protocol::local::{HEAD, Stream};
use hyper::StatusCode;
use hyper::upgrade::{OnUpgrade, Parts};
use hyper_util::rt::TokioIo;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{ReadHalf, WriteHalf};
use tokio::sync::mpsc;

/// Between two looks at whether a client is there that has nothing more to send.
const LOOK: Duration = Duration::from_secs(1);

/// An exec that the supervisor has begun.
pub(super) struct Carried {
    pub(super) one: Going,
    pub(super) socket: UnixStream,
    pub(super) tty: bool,
}

impl Carried {
    /// Nobody sees what it writes. Until it runs, or why not.
    pub(super) async fn detached(mut self) -> Result<(), Fault> {
        let first = read(&mut self.socket).await;
        if let Ok((Stream::End, bytes)) = &first {
            let (code, words) = Stream::read_end(bytes).unwrap_or((UNKNOWN, String::new()));
            *self.one.state() = State::Ended(code);
            return Err(Fault::bad(words));
        }
        heard(&self.one, &first);
        first.map_err(|error| Fault::new(StatusCode::BAD_GATEWAY, error.to_string()))?;
        tokio::spawn(async move {
            while matches!(*self.one.state(), State::Runs { .. }) {
                heard(&self.one, &read(&mut self.socket).await);
            }
        });
        Ok(())
    }

    /// Until the program has ended, or the client is gone, with which the supervisor ends it.
    pub(super) async fn attached(self, client: OnUpgrade, mut sizes: mpsc::Receiver<(u16, u16)>) {
        let Carried {
            one,
            mut socket,
            tty,
        } = self;
        let parts = match client
            .await
            .map(|upgraded| upgraded.downcast::<TokioIo<UnixStream>>())
        {
            Ok(Ok(Parts { io, read_buf, .. })) => Some((TokioIo::into_inner(io), read_buf)),
            _ => None,
        };
        let Some((mut client, typed)) = parts else {
            return;
        };
        let (mut from_client, mut to_client) = client.split();
        let (mut from, mut to) = socket.split();
        let down = async {
            if one.exec.stdin {
                for piece in typed.chunks(Stream::PIECE) {
                    pass_on(&from_client, &mut to, &Stream::Stdin.piece(piece)).await?;
                }
            }
            type_in(&one, &mut from_client, &mut to, &mut sizes).await
        };
        let up = async {
            loop {
                let piece = read(&mut from).await;
                heard(&one, &piece);
                let (stream, bytes) = piece?;
                match stream {
                    Stream::Stdout | Stream::Stderr => {
                        show(&mut to_client, tty, stream, &bytes).await?;
                    }
                    Stream::End => {
                        if let Some((_, words)) = Stream::read_end(&bytes)
                            && !words.is_empty()
                        {
                            let words = format!("{words}\r\n");
                            show(&mut to_client, tty, Stream::Stderr, words.as_bytes()).await?;
                        }
                        return io::Result::Ok(());
                    }
                    Stream::Started | Stream::Stdin | Stream::Size => {}
                }
            }
        };
        let end = tokio::select! {
            end = up => end,
            end = down => end,
        };
        if let Err(error) = end {
            tracing::debug!(%error, id = one.id, "an exec broke off");
        }
        drop((socket, one));
        let _ = client.shutdown().await;
    }
}

/// What is known of it now.
fn heard(one: &One, piece: &io::Result<(Stream, Vec<u8>)>) {
    let mut state = one.state();
    match (piece, &mut *state) {
        (Ok((Stream::Started, bytes)), State::Runs { pid, .. }) => {
            let number = bytes.first_chunk().copied();
            *pid = number.map_or(0, i32::from_be_bytes);
        }
        (Ok((Stream::End, bytes)), state) => {
            let end = Stream::read_end(bytes);
            *state = State::Ended(end.map_or(UNKNOWN, |(code, _)| code));
        }
        (Err(_), state) => *state = State::Ended(UNKNOWN),
        _ => {}
    }
}

async fn read(from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<(Stream, Vec<u8>)> {
    let mut head = [0; HEAD];
    from.read_exact(&mut head).await?;
    let (stream, length) = Stream::of_head(head).ok_or(io::ErrorKind::InvalidData)?;
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Ok((stream, bytes))
}

/// A terminal's output goes as it is; the rest with a head, which is Docker's.
async fn show(
    client: &mut WriteHalf<'_>,
    tty: bool,
    stream: Stream,
    bytes: &[u8],
) -> io::Result<()> {
    match tty {
        true => client.write_all(bytes).await,
        false => client.write_all(&stream.piece(bytes)).await,
    }
}

/// Until the client is gone.
async fn type_in(
    one: &One,
    client: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    sizes: &mut mpsc::Receiver<(u16, u16)>,
) -> io::Result<()> {
    let mut buffer = vec![0; Stream::PIECE];
    let mut has_more = true;
    loop {
        tokio::select! {
            count = client.read(&mut buffer), if has_more => {
                let count = count?;
                has_more = count > 0;
                // An empty piece is the end of what is typed; the client may still read.
                if one.exec.stdin {
                    pass_on(client, to, &Stream::Stdin.piece(&buffer[..count])).await?;
                }
            }
            Some((rows, columns)) = sizes.recv() => {
                let size = [rows.to_be_bytes(), columns.to_be_bytes()].concat();
                pass_on(client, to, &Stream::Size.piece(&size)).await?;
            }
            () = tokio::time::sleep(LOOK), if !has_more => is_there(client).await?,
        }
    }
}

/// A program that does not read holds it up, and its client may go meanwhile.
async fn pass_on(client: &ReadHalf<'_>, to: &mut WriteHalf<'_>, piece: &[u8]) -> io::Result<()> {
    tokio::select! {
        written = to.write_all(piece) => written,
        end = gone(client) => Err(end),
    }
}

async fn gone(client: &ReadHalf<'_>) -> io::Error {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Err(error) = is_there(client).await {
            return error;
        }
    }
}

/// Not only its way to us is closed, but the one back too: then it is not.
async fn is_there(client: &ReadHalf<'_>) -> io::Result<()> {
    let ways = Interest::READABLE | Interest::WRITABLE;
    match client.ready(ways).await?.is_write_closed() {
        true => Err(io::ErrorKind::BrokenPipe.into()),
        false => Ok(()),
    }
}

//! The task that owns the connection.

use super::frame::{FrameError, read_frame, write_frame};
use super::{Ask, Ends, Notice, PENDING, SupervisorError};
use coracle_protocol::limits::LIMITS;
use coracle_protocol::local::{Answer, Call, Message, Request};
use coracle_protocol::names::BoardId;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

/// Between two tries to connect: the socket is on this machine, so jitter has no use.
const RETRY: Duration = Duration::from_secs(1);

type Pending = BTreeMap<u64, Option<oneshot::Sender<Result<Answer, SupervisorError>>>>;

/// Keeps a connection to the supervisor at `socket` until every handle is gone. Tells it who the
/// board is, on each connection and when that changes.
pub async fn run(socket: &Path, mut ends: Ends, mut board: watch::Receiver<Option<BoardId>>) {
    let mut said = false;
    loop {
        match UnixStream::connect(socket).await {
            Ok(stream) => {
                said = false;
                tracing::info!(socket = %socket.display(), "connected to the supervisor");
                let end = serve(stream, &mut ends, &mut board).await;
                ends.up.send_replace(false);
                let _ = ends.notices.send(Notice::Lost);
                match end {
                    Ok(()) => return,
                    Err(e) => tracing::warn!(error = %e, "lost the supervisor"),
                }
            }
            Err(e) if !said => {
                said = true;
                tracing::warn!(socket = %socket.display(), error = %e, "cannot reach the supervisor; trying on");
            }
            Err(_) => {}
        }
        if ends.asks.is_closed() {
            return;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// One connection. Ends without an error when every handle is gone.
async fn serve(
    stream: UnixStream,
    ends: &mut Ends,
    board: &mut watch::Receiver<Option<BoardId>>,
) -> Result<(), FrameError> {
    let (read, mut write) = stream.into_split();
    // Reading a frame cannot be cancelled, so it has a task of its own.
    let (messages, mut incoming) = mpsc::channel(8);
    let reader = tokio::spawn(read_all(read, messages));
    let end = async {
        let (mut pending, mut id) = (Pending::new(), 0);
        call(&mut write, &mut pending, &mut id, Request::Watch, None).await?;
        board.mark_changed();
        loop {
            tokio::select! {
                message = incoming.recv() => match message {
                    Some(Ok(message)) => answer(message, &mut pending, ends),
                    Some(Err(error)) => return Err(error),
                    None => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
                },
                ask = ends.asks.recv(), if pending.len() < PENDING => match ask {
                    Some(Ask { request, answer }) => {
                        call(&mut write, &mut pending, &mut id, request, Some(answer)).await?;
                    }
                    None => return Ok(()),
                },
                Ok(()) = board.changed() => {
                    let name = board.borrow_and_update().clone();
                    if let Some(board) = name {
                        call(&mut write, &mut pending, &mut id, Request::Identity { board }, None).await?;
                    }
                }
            }
            // A caller that gave up makes room.
            pending.retain(|_, waiting| waiting.as_ref().is_none_or(|w| !w.is_closed()));
        }
    };
    let end = end.await;
    reader.abort();
    end
}

async fn call(
    write: &mut OwnedWriteHalf,
    pending: &mut Pending,
    id: &mut u64,
    request: Request,
    answer: Option<oneshot::Sender<Result<Answer, SupervisorError>>>,
) -> Result<(), FrameError> {
    *id += 1;
    let result = write_frame(write, &Call { id: *id, request }).await;
    if let Err(FrameError::TooLong { got }) = result {
        // The caller hears of it; the connection is as good as before.
        tracing::warn!(
            bytes = got,
            limit = LIMITS.local_frame_bytes,
            "a call is too long"
        );
        return Ok(());
    }
    pending.insert(*id, answer);
    result
}

fn answer(message: Message, pending: &mut Pending, ends: &Ends) {
    match message {
        Message::Event(event) => {
            let _ = ends.notices.send(Notice::Event(event));
        }
        Message::Reply(reply) => match pending.remove(&reply.id) {
            Some(Some(waiting)) => {
                let _ = waiting.send(Ok(reply.answer));
            }
            // The first answer is that to `Watch`.
            Some(None) if reply.id == 1 => {
                ends.up.send_replace(true);
                let _ = ends.notices.send(Notice::Connected);
            }
            Some(None) => {
                if let Answer::Refused { code, reason } = &reply.answer {
                    tracing::error!(%code, %reason, "the supervisor refuses this board's name");
                }
            }
            None => tracing::warn!(id = reply.id, "an answer to no call"),
        },
    }
}

async fn read_all(mut read: OwnedReadHalf, messages: mpsc::Sender<Result<Message, FrameError>>) {
    loop {
        let message = read_frame(&mut read).await;
        let end = message.is_err();
        if messages.send(message).await.is_err() || end {
            return;
        }
    }
}

//! The door for the daemon: who may come in, how many, and how much each may hold.

mod frame;

use crate::disk::{About, DiskError};
use coracle_digest::Sha256Digest;
use coracle_protocol::local::{Answer, Call, Event, Message, Reply, Request};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

pub use frame::FrameError;

/// Connections at a time: the daemon's, its next ones after a crash, and root's.
const CONNECTIONS: usize = 4;

/// Of these, what the daemon may have: root always finds one free.
const DAEMONS_CONNECTIONS: usize = 3;

/// Calls of one connection that may wait for their answer; more are not read from the socket.
const CALLS: usize = 16;

/// Events that may wait for a slow reader. One that falls further behind is disconnected: it asks
/// for the status when it comes back, and has missed nothing that still matters.
const EVENTS: usize = 128;

/// One call and the way back.
#[derive(Debug)]
pub struct Incoming {
    /// What is asked.
    pub request: Request,
    /// Who asks, by the kernel's word.
    pub uid: u32,
    /// Its process, when the kernel tells.
    pub pid: Option<i32>,
    /// Answers it.
    pub answer: AnswerTo,
    /// With the first [`Request::Watch`] of a connection: who is to be told from now on. When it is
    /// dropped the connection ends.
    pub events: Option<Watcher>,
}

/// Answers one call. Dropping it answers nothing, and the daemon's time limit takes over.
#[derive(Debug)]
pub struct AnswerTo {
    id: u64,
    to: mpsc::Sender<Message>,
    /// Of its connection, unless the call is [`Request::Watch`].
    answered: Option<Arc<Shown>>,
    _permit: OwnedSemaphorePermit,
}

/// What a connection has shown of who is at its other end.
#[derive(Debug, Default)]
struct Shown {
    /// When it had its first answer to another call than [`Request::Watch`].
    answered: OnceLock<Instant>,
    /// The program that it says it is, when it does.
    program: OnceLock<Option<Sha256Digest>>,
}

impl AnswerTo {
    /// Sends the answer. There is room for as many as there are permits; a connection that is gone
    /// does not want it.
    pub fn send(self, answer: Answer) {
        let reply = Reply {
            id: self.id,
            answer,
        };
        if self.to.try_send(Message::Reply(reply)).is_err() {
            tracing::debug!(id = self.id, "the caller has gone before its answer");
        } else if let Some(answered) = self.answered {
            answered.answered.get_or_init(Instant::now);
        }
    }
}

/// Makes the socket: root and the daemon's group, 0660. It is made in `own`, a folder of root's alone on
/// the same file system, and takes its place in one step: the folder of `path` is the daemon's as well,
/// who may have put anything there, a folder too, or do so at any moment.
pub fn listen(path: &Path, own: &Path, group: Option<u32>) -> Result<UnixListener, DiskError> {
    let new = own.join("s");
    discard(&new)?;
    let listener = UnixListener::bind(&new).about("listen at", &new)?;
    std::os::unix::fs::chown(&new, Some(0), group).about("give away", &new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o660))
        .about("set the mode of", &new)?;
    match renameat_with(CWD, &new, CWD, path, RenameFlags::EXCHANGE) {
        // Nothing is there, or the file system (or kernel) knows no exchange.
        Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS) => std::fs::rename(&new, path),
        other => other.map_err(io::Error::from),
    }
    .about("rename to", path)?;
    discard(&new)?;
    Ok(listener)
}

/// What was in the socket's place, whatever it is.
fn discard(path: &Path) -> Result<(), DiskError> {
    crate::erase::erase(path).about("remove the old socket", path)
}

/// Accepts connections until the receiver of `calls` is gone.
pub async fn serve(listener: UnixListener, daemon_uid: Option<u32>, calls: mpsc::Sender<Incoming>) {
    let places = Places::new();
    while !calls.is_closed() {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection was lost while it was accepted");
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                continue;
            }
        };
        let (uid, pid) = match stream.peer_cred() {
            Ok(peer) if may_enter(peer.uid(), daemon_uid) => (peer.uid(), peer.pid()),
            other => {
                tracing::warn!(
                    ?other,
                    "a user who may not talk to the supervisor was turned away"
                );
                continue;
            }
        };
        let Some(place) = places.take(uid) else {
            tracing::warn!(uid, "a connection too many was turned away");
            continue;
        };
        let calls = calls.clone();
        tokio::spawn(async move {
            let (from, to) = stream.into_split();
            if let Err(fault) = converse(from, to, (uid, pid), calls).await {
                tracing::warn!(%fault, "a connection was ended");
            }
            drop(place);
        });
    }
}

/// The first connection of root's or the daemon's. None when the socket fails.
pub async fn accept_one(
    listener: &UnixListener,
    daemon_uid: Option<u32>,
) -> Option<std::os::unix::net::UnixStream> {
    loop {
        let (stream, _) = listener.accept().await.ok()?;
        match stream.peer_cred() {
            Ok(peer) if may_enter(peer.uid(), daemon_uid) => return stream.into_std().ok(),
            other => tracing::warn!(
                ?other,
                "a user who may not talk to the supervisor was turned away"
            ),
        }
    }
}

/// Who is inside.
struct Places {
    all: Arc<Semaphore>,
    daemons: Arc<Semaphore>,
}

impl Places {
    fn new() -> Places {
        Places {
            all: Arc::new(Semaphore::new(CONNECTIONS)),
            daemons: Arc::new(Semaphore::new(DAEMONS_CONNECTIONS)),
        }
    }

    /// A place for this user, until it is dropped.
    fn take(&self, uid: u32) -> Option<Vec<OwnedSemaphorePermit>> {
        let mut doors = vec![&self.all];
        if uid != 0 {
            doors.push(&self.daemons);
        }
        doors
            .into_iter()
            .map(|door| door.clone().try_acquire_owned().ok())
            .collect()
    }
}

fn may_enter(uid: u32, daemon_uid: Option<u32>) -> bool {
    uid == 0 || Some(uid) == daemon_uid
}

async fn converse(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    (uid, pid): (u32, Option<i32>),
    calls: mpsc::Sender<Incoming>,
) -> Result<(), FrameError> {
    let (out, mut outgoing) = mpsc::channel::<Message>(CALLS);
    let (events, mut pending) = mpsc::channel::<Event>(EVENTS);
    let reader = async move {
        let permits = Arc::new(Semaphore::new(CALLS));
        let shown = Arc::<Shown>::default();
        let mut events = Some(events);
        while let Ok(permit) = permits.clone().acquire_owned().await {
            let Some(call) = frame::read::<Call>(&mut from).await? else {
                break;
            };
            let watches = call.request == Request::Watch;
            if let Request::Program { running } = call.request {
                shown.program.get_or_init(|| running);
            }
            let incoming = Incoming {
                request: call.request,
                uid,
                pid,
                answer: AnswerTo {
                    id: call.id,
                    to: out.clone(),
                    answered: (!watches).then(|| shown.clone()),
                    _permit: permit,
                },
                events: events.take_if(|_| watches).map(|events| Watcher {
                    events,
                    since: Instant::now(),
                    shown: shown.clone(),
                }),
            };
            if calls.send(incoming).await.is_err() {
                break;
            }
        }
        Ok::<(), FrameError>(())
    };
    let writer = async move {
        loop {
            let message = tokio::select! {
                biased;
                Some(reply) = outgoing.recv() => reply,
                event = pending.recv() => match event {
                    Some(event) => Message::Event(event),
                    None => break,
                },
            };
            frame::write(&mut to, &message).await?;
        }
        Ok::<(), FrameError>(())
    };
    tokio::select! {
        ended = reader => ended,
        ended = writer => ended,
    }
}

/// A connection that asked to be told.
#[derive(Debug)]
pub struct Watcher {
    events: mpsc::Sender<Event>,
    since: Instant,
    shown: Arc<Shown>,
}

/// Those who asked to be told.
#[derive(Debug, Default)]
pub struct Watchers(Vec<Watcher>);

impl Watchers {
    /// One more.
    pub fn add(&mut self, watcher: Watcher) {
        self.0.retain(|known| !known.events.is_closed());
        self.0.push(watcher);
    }

    /// Whether anybody has watched for so long without a break, after another call of the same connection had its answer: who
    /// cannot read what it is answered hangs up, and may well watch again. One that says which program it is counts as that one
    /// alone; one that does not is older than the question, and cannot be another.
    pub fn stays(&self, long: Duration, program: Option<Sha256Digest>) -> bool {
        self.0.iter().any(|watcher| {
            let answered = watcher.shown.answered.get().map(Instant::elapsed);
            let stayed = answered.map(|answered| answered.min(watcher.since.elapsed()));
            let said = watcher.shown.program.get();
            let is_program = said.is_none_or(|said| *said == program);
            !watcher.events.is_closed() && stayed >= Some(long) && is_program
        })
    }

    /// Tells everybody; whoever has fallen too far behind is let go. Whether anybody was told.
    pub fn tell(&mut self, event: &Event) -> bool {
        self.0
            .retain(|watcher| match watcher.events.try_send(event.clone()) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    tracing::warn!("a reader of events is too slow and was let go");
                    false
                }
            });
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_daemon_may_enter_and_nobody_else() {
        assert!(may_enter(0, None));
        assert!(may_enter(999, Some(999)));
        assert!(!may_enter(1000, Some(999)));
        assert!(!may_enter(1000, None));
    }

    #[test]
    fn a_daemon_cannot_keep_root_out() {
        let places = Places::new();
        let mut inside: Vec<_> = (0..10).filter_map(|_| places.take(999)).collect();
        assert_eq!(inside.len(), DAEMONS_CONNECTIONS);
        inside.extend(places.take(0));
        assert_eq!(inside.len(), CONNECTIONS);
        assert!(places.take(0).is_none());
        inside.remove(0);
        assert!(places.take(999).is_some());
    }

    #[tokio::test]
    async fn a_slow_watcher_is_let_go() {
        let event = Event::AppChanged {
            app: coracle_protocol::names::AppName::new("a").unwrap(),
            what: "started".into(),
        };
        let mut watchers = Watchers::default();
        assert!(!watchers.tell(&event));
        let (events, mut receiver) = mpsc::channel(2);
        watchers.add(Watcher {
            events,
            since: Instant::now(),
            shown: Arc::default(),
        });
        assert!(watchers.tell(&event));
        assert!(watchers.tell(&event));
        assert!(!watchers.tell(&event));
        // What was sent is still read, then the channel ends: the connection is closed with it.
        assert!(receiver.recv().await.is_some());
        assert!(receiver.recv().await.is_some());
        assert!(receiver.recv().await.is_none());
    }

    #[test]
    fn a_daemon_that_says_which_program_it_is_counts_as_that_one() {
        let (new, long) = (Some(Sha256Digest::of(b"new")), Duration::from_secs(9));
        let (events, _receiver) = mpsc::channel(2);
        let shown = Arc::<Shown>::default();
        let mut watchers = Watchers::default();
        watchers.add(Watcher {
            events,
            since: Instant::now() - long,
            shown: shown.clone(),
        });
        assert!(!watchers.stays(long, new), "it has had no answer");
        shown.answered.set(Instant::now() - long).unwrap();
        assert!(watchers.stays(long, new), "it is older than the question");
        shown.program.set(None).unwrap();
        assert!(!watchers.stays(long, new));
        assert!(watchers.stays(long, None));
    }

    #[tokio::test]
    async fn a_daemon_that_squats_on_the_sockets_place_is_moved_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let own = folder.path().join("own");
        let treasure = folder.path().join("treasure");
        std::fs::create_dir(&own).unwrap();
        std::fs::create_dir(&treasure).unwrap();
        let open = || {
            drop(listen(&path, &own, None).unwrap());
            let found = path.symlink_metadata().unwrap();
            assert_eq!(found.permissions().mode() & 0o777, 0o660);
            assert_eq!(std::fs::read_dir(&own).unwrap().count(), 0);
        };
        open();
        // Its own socket of before is replaced.
        open();
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir_all(path.join("full/of/folders")).unwrap();
        open();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&treasure, &path).unwrap();
        open();
        assert!(treasure.is_dir(), "a link was followed");
    }

    #[tokio::test]
    async fn a_call_comes_in_and_its_answer_goes_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let own = folder.path().join("own");
        std::fs::create_dir(&own).unwrap();
        let listener = listen(&path, &own, None).unwrap();
        let (calls, mut incoming) = mpsc::channel(1);
        let server = tokio::spawn(serve(listener, None, calls));
        let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
        frame::write(
            &mut client,
            &Call {
                id: 7,
                request: Request::Status,
            },
        )
        .await
        .unwrap();
        let call = incoming.recv().await.unwrap();
        assert_eq!(call.request, Request::Status);
        call.answer.send(Answer::Done);
        let reply: Message = frame::read(&mut client).await.unwrap().unwrap();
        let expected = Reply {
            id: 7,
            answer: Answer::Done,
        };
        assert_eq!(reply, Message::Reply(expected));
        server.abort();
    }
}

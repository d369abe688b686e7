//! A supervisor on a real socket that does what its script says and remembers what it was asked.

use coracle_daemon::supervisor::{read_frame, write_frame};
use coracle_protocol::local::{Answer, Call, Event, Message, Reply, Request, Status, StickWord};
use coracle_protocol::report::BoardFacts;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::UnixListener;
use tokio::sync::{broadcast, watch};

type Script = Box<dyn FnMut(&Request, &State) -> Option<Answer> + Send>;

/// A fake supervisor; ends when dropped.
pub struct FakeSupervisor {
    pub state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

/// What it knows.
pub struct State {
    pub status: Mutex<Status>,
    pub calls: Mutex<Vec<Request>>,
    pub events: broadcast::Sender<Event>,
    /// Whether actions end; the answer to one, to an exec, and to what is staged waits for it.
    pub actions_end: watch::Sender<bool>,
    /// A script that sets this ends the connection instead of an answer.
    pub breaks: AtomicBool,
    script: Mutex<Script>,
}

impl Drop for FakeSupervisor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn empty_status() -> Status {
    Status {
        heat: None,
        storage: vec![],
        metered: vec![],
        decommissioned: false,
        own_memory_bytes: None,
        resetting: false,
        networks: vec![],
        version: "test".into(),
        program: None,
        board: BoardFacts {
            profile: "generic".into(),
            hardware: "generic-x86-64".into(),
            architecture: "x86_64".into(),
            kernel: "6.1".into(),
            agent: "test".into(),
            memory_bytes: 1 << 30,
            cpus: 2,
        },
        current: None,
        previous: None,
        waiting: None,
        last_failure: None,
        over_budget: None,
        layers: vec![],
        trust: None,
    }
}

impl FakeSupervisor {
    /// Listens at `socket`. `script` may answer; `None` leaves the answer to the default: the
    /// status, or `Done`.
    pub fn start(
        socket: &Path,
        script: impl FnMut(&Request, &State) -> Option<Answer> + Send + 'static,
    ) -> Self {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let (events, _) = broadcast::channel(64);
        let state = Arc::new(State {
            status: Mutex::new(empty_status()),
            calls: Mutex::new(Vec::new()),
            events,
            actions_end: watch::Sender::new(true),
            breaks: AtomicBool::new(false),
            script: Mutex::new(Box::new(script)),
        });
        let serving = state.clone();
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, serving.clone()));
            }
        });
        Self { state, task }
    }

    /// The operations that were asked for, without those of the daemon's housekeeping.
    pub fn asked(&self) -> Vec<&'static str> {
        let word = |request: &Request| match request {
            Request::Offer { .. } => Some("offer"),
            Request::Stage { from, .. } => Some(match from {
                coracle_protocol::local::LayerSource::Full => "stage full",
                coracle_protocol::local::LayerSource::Delta(_) => "stage delta",
            }),
            Request::Activate { .. } => Some("activate"),
            Request::Accept { .. } => Some("accept"),
            Request::Control { .. } => Some("control"),
            _ => None,
        };
        let calls = self.state.calls.lock().unwrap();
        calls.iter().filter_map(word).collect()
    }

    /// What it was told of sticks.
    pub fn stick_words(&self) -> Vec<StickWord> {
        let word = |request: &Request| match request {
            Request::Stick { word } => Some(*word),
            _ => None,
        };
        let calls = self.state.calls.lock().unwrap();
        calls.iter().filter_map(word).collect()
    }
}

async fn serve(stream: tokio::net::UnixStream, state: Arc<State>) {
    let (mut read, write) = stream.into_split();
    let write = Arc::new(tokio::sync::Mutex::new(write));
    let mut others = tokio::task::JoinSet::new();
    while let Ok(Call { id, request }) = read_frame::<Call>(&mut read).await {
        state.calls.lock().unwrap().push(request.clone());
        if request == Request::Watch {
            let (mut events, write) = (state.events.subscribe(), write.clone());
            others.spawn(async move {
                while let Ok(event) = events.recv().await {
                    let mut write = write.lock().await;
                    write_frame(&mut *write, &Message::Event(event))
                        .await
                        .unwrap();
                }
            });
        }
        let scripted = (state.script.lock().unwrap())(&request, &state);
        if state.breaks.swap(false, Ordering::Relaxed) {
            return;
        }
        let answer = scripted.unwrap_or_else(|| match request {
            Request::Status => Answer::Status(state.status.lock().unwrap().clone()),
            _ => Answer::Done,
        });
        let is_exec = matches!(request, Request::Exec { .. });
        let is_staged = matches!(request, Request::Stage { .. });
        let is_late = is_exec || is_staged || matches!(answer, Answer::Ran { .. });
        let reply = Message::Reply(Reply { id, answer });
        if is_late && !*state.actions_end.borrow() {
            let (mut end, write) = (state.actions_end.subscribe(), write.clone());
            others.spawn(async move {
                let _ = end.wait_for(|end| *end).await;
                let _ = write_frame(&mut *write.lock().await, &reply).await;
            });
            continue;
        }
        if write_frame(&mut *write.lock().await, &reply).await.is_err() {
            return;
        }
    }
}

//! SIGKILL of coracled before every system call that changes something while it fetches a layer and has it unpacked. What it leaves
//! of the blob is the blob or a part of it, and the next try goes on from there. Needs root and ptrace(2).
//!
//! A few of the moments; `CORACLE_CUTS=all` for every one, `CORACLE_CUTS=100` for a hundred.

#[path = "../../supervisor/tests/cut/mod.rs"]
mod cut;
mod support;

use coracle_protocol::Sha256Digest;
use coracle_protocol::local::{
    Answer, LayerNeed, LayerSource, Request, StoreAction, StoreCheck, StoreFault, StoreKind,
    StoreState,
};
use cut::Cut;
use cut::family::{Whose, cut_family};
use hyper::{Method, StatusCode};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use support::daemon::Daemon;
use support::documents::{blob, diff_id};
use support::fleet::Fleet;
use support::supervisor::FakeSupervisor;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

/// Moments that are tried where nobody says how many.
const SAMPLE: usize = 8;
/// Bytes of the layer: some dozens of writes.
const LAYER_BYTES: u32 = 300_000;

fn layer() -> Vec<u8> {
    let byte = |n: u32| (n.wrapping_mul(2_654_435_761) >> 24) as u8;
    (0..LAYER_BYTES).map(byte).collect()
}

/// A console that has the layer and gives parts of it; where each request began.
async fn console(fleet: &Fleet) -> (u16, Arc<Mutex<Vec<usize>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(fleet.server());
    let begins = Arc::new(Mutex::new(Vec::new()));
    let seen = begins.clone();
    tokio::spawn(async move {
        let layer = layer();
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            // The daemon goes at any moment.
            let Ok(mut stream) = acceptor.accept(tcp).await else {
                continue;
            };
            let request = support::head_of(&mut stream).await.to_lowercase();
            if !request.contains(&blob(&layer).digest.hex()) {
                continue;
            }
            let range = request.split("range: bytes=").nth(1);
            let from = range.and_then(|range| range.split('-').next());
            let from: usize = from.map_or(0, |from| from.parse().unwrap());
            seen.lock().unwrap().push(from);
            let rest = &layer[from..];
            let (length, all) = (rest.len(), layer.len());
            let head = match from {
                0 => "HTTP/1.1 200 OK\r\n".to_owned(),
                _ => format!(
                    "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes {from}-{}/{all}\r\n",
                    all - 1
                ),
            };
            let head = format!("{head}content-length: {length}\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(rest).await;
            let _ = stream.shutdown().await;
        }
    });
    (port, begins)
}

/// A supervisor whose check found one layer broken, and that makes it of the right bytes only.
fn supervisor(socket: &Path, store: PathBuf) -> FakeSupervisor {
    let need = LayerNeed {
        diff_id: diff_id(),
        full: blob(&layer()),
        deltas: vec![],
    };
    let found = StoreCheck {
        done: 1,
        of: 1,
        found: vec![StoreFault {
            digest: diff_id(),
            kind: StoreKind::Layer,
            state: StoreState::Broken,
            needed_by: vec![],
            faults: vec![],
            more: 0,
            need: Some(need),
        }],
        ..StoreCheck::default()
    };
    let path = store.join(blob(&layer()).digest.hex());
    FakeSupervisor::start(socket, move |request, _| {
        let Request::Store { action } = request else {
            return None;
        };
        Some(match action {
            StoreAction::Check => Answer::Done,
            StoreAction::Look => Answer::Store(found.clone()),
            StoreAction::Mend { from, .. } => {
                assert_eq!(*from, LayerSource::Full);
                let bytes = std::fs::read(&path).unwrap_or_default();
                assert!(bytes == layer(), "{} bytes under its name", bytes.len());
                Answer::Done
            }
        })
    })
}

struct Scene {
    daemon: Daemon,
    store: PathBuf,
    begins: Arc<Mutex<Vec<usize>>>,
    supervisor: FakeSupervisor,
}

impl Scene {
    async fn new(fleet: &Fleet) -> Self {
        let (port, begins) = console(fleet).await;
        let daemon = Daemon::prepare();
        // Nobody listens there: the link is not what this is about.
        fleet.enrol(&daemon.state().join("identity"), port, 9);
        let store = daemon.state().join("store/blobs/sha256");
        let supervisor = supervisor(&daemon.supervisor_socket(), store.clone());
        Self {
            daemon,
            store,
            begins,
            supervisor,
        }
    }

    async fn start(&mut self) {
        self.daemon.start().await;
        for _ in 0..400 {
            let (_, status) = self
                .daemon
                .json(Method::GET, "/coracle/v1/status", b"")
                .await;
            if status["supervisor_up"] == true {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("it never reached the supervisor:\n{}", self.daemon.log());
    }

    async fn mend(&self) -> Option<(StatusCode, serde_json::Value)> {
        let body = serde_json::json!({"kind": "layer", "digest": diff_id()}).to_string();
        let path = "/coracle/v1/store/mend";
        self.daemon
            .try_json(Method::POST, path, body.as_bytes())
            .await
    }

    /// The layer is fetched, and that is cut before the n-th call.
    async fn cut_at(&mut self, n: usize) -> Cut {
        self.start().await;
        let (pid, log) = (self.daemon.pid(), self.daemon.folder().join("log"));
        let over = Arc::new(AtomicBool::new(false));
        let looked_for = over.clone();
        let (begin, begun) = tokio::sync::oneshot::channel();
        let looking = std::thread::spawn(move || {
            let begin = || begin.send(()).unwrap();
            cut_family(pid, &log, Whose::All, n, &looked_for, begin)
        });
        begun.await.unwrap();
        let answer = self.mend().await;
        over.store(true, Ordering::Relaxed);
        let cut = tokio::task::spawn_blocking(|| looking.join().unwrap());
        let cut = cut.await.unwrap();
        if let Cut::Over(_) = cut {
            assert_eq!(answer.unwrap().0, StatusCode::NO_CONTENT);
        }
        self.daemon.kill();
        cut
    }

    /// Bytes of the part that is there; the blob is whole, if it has its name.
    fn left(&self, cut: &str) -> Option<usize> {
        let entries = std::fs::read_dir(&self.store).into_iter().flatten();
        let mut part = None;
        for path in entries.map(|entry| entry.unwrap().path()) {
            let bytes = std::fs::read(&path).unwrap();
            assert!(layer().starts_with(&bytes), "{}: {cut}", path.display());
            let hex = blob(&layer()).digest.hex();
            assert_eq!(path.file_stem().unwrap().to_str(), Some(&hex[..]), "{cut}");
            match path.extension() {
                Some(extension) => {
                    assert_eq!(extension, "part", "{cut}");
                    part = Some(bytes.len());
                }
                None => assert_eq!(Sha256Digest::of(&bytes).hex(), hex, "{cut}"),
            }
        }
        part
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_that_is_cut_off_goes_on_where_it_was() {
    let fleet = Fleet::new();
    let mut scene = Scene::new(&fleet).await;
    let Cut::Over(all) = scene.cut_at(usize::MAX).await else {
        panic!("it has no end");
    };
    assert!(all > 10, "{all}");
    let wanted = match std::env::var("CORACLE_CUTS").as_deref() {
        Ok("all") => all,
        Ok(number) => number.parse().unwrap(),
        Err(_) => SAMPLE,
    };
    eprintln!("{all} moments");
    let (mut cuts, mut parts) = (0, 0);
    for k in 0..wanted.min(all) {
        let n = 1 + k * all / wanted.min(all);
        let cut = match scene.cut_at(n).await {
            Cut::Before(call) => {
                cuts += 1;
                format!("call {n} of {all}: {call}")
            }
            Cut::Over(seen) => format!("its end, after {seen} calls"),
        };
        let part = scene.left(&cut);
        eprintln!("cut before {cut}: {part:?}");

        scene.begins.lock().unwrap().clear();
        scene.start().await;
        let (status, said) = scene.mend().await.unwrap();
        assert_eq!(status, StatusCode::NO_CONTENT, "{cut}: {said}");
        scene.daemon.kill();
        assert_eq!(std::fs::read_dir(&scene.store).unwrap().count(), 0, "{cut}");
        let begins = scene.begins.lock().unwrap().clone();
        if let Some(part) = part.filter(|part| *part > 0 && *part < LAYER_BYTES as usize) {
            parts += 1;
            assert_eq!(begins, [part], "{cut}: what was here came again");
        }
    }
    assert!(cuts > 0, "nothing was cut");
    assert!(parts > 0 || wanted < SAMPLE, "nothing was left in part");
    let mended = scene.supervisor.state.calls.lock().unwrap();
    let is_mend = |request: &&Request| {
        let mend = |action: &StoreAction| matches!(action, StoreAction::Mend { .. });
        matches!(request, Request::Store { action } if mend(action))
    };
    assert!(mended.iter().filter(is_mend).count() >= wanted.min(all));
}

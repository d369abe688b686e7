//! What a check finds is fetched anew, with a console that has it, with one that has not, and without one.

mod support;

use coracle_protocol::local::{
    Answer, FileFault, LayerNeed, LayerSource, Request, StoreAction, StoreCheck, StoreFault,
    StoreKind, StoreState,
};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use support::daemon::Daemon;
use support::documents::{blob, diff_id};
use support::fleet::Fleet;
use support::supervisor::{FakeSupervisor, State};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

const FULL: &[u8] = b"the full layer";
const DELTA: &[u8] = b"a delta";
const CONFIG: &[u8] = b"{\"config\":1}";

/// A console that has these, and what it was asked for.
async fn console(fleet: &Fleet, has: &'static [&'static [u8]]) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = tokio_rustls::TlsAcceptor::from(fleet.server());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(tcp).await else {
                continue;
            };
            let request = support::head_of(&mut stream).await;
            let path = request.split(' ').nth(1).unwrap_or_default();
            let hex = path.rsplit('/').next().unwrap().to_owned();
            let found = has.iter().find(|bytes| blob(bytes).digest.hex() == hex);
            let (status, body) = found.map_or((404, &b""[..]), |bytes| (200, *bytes));
            if path.starts_with("/blobs/") {
                seen.lock().unwrap().push(hex);
            }
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(body).await;
            let _ = stream.shutdown().await;
        }
    });
    (port, asked)
}

fn found() -> StoreCheck {
    let fault = |kind, digest, need| StoreFault {
        digest,
        kind,
        state: StoreState::Broken,
        needed_by: vec!["app `web` of the running set 1.0".into()],
        faults: vec![FileFault {
            path: "bin/app".into(),
            what: "has other bytes".into(),
        }],
        more: 0,
        need,
    };
    let need = |diff_id, full, deltas| LayerNeed {
        diff_id,
        full: blob(full),
        deltas,
    };
    let config = blob(CONFIG).digest;
    let layer = need(diff_id(), FULL, vec![blob(DELTA)]);
    StoreCheck {
        done: 4,
        of: 4,
        found: vec![
            fault(StoreKind::Layer, diff_id(), Some(layer)),
            fault(StoreKind::Layer, blob(b"old").digest, None),
            fault(StoreKind::Blob, config, Some(need(config, CONFIG, vec![]))),
            fault(StoreKind::Blob, blob(b"rest").digest, None),
        ],
        ..StoreCheck::default()
    }
}

/// A supervisor that found that, and makes nothing of a blob that is not what it should be.
fn script(store: PathBuf) -> impl FnMut(&Request, &State) -> Option<Answer> + Send {
    move |request, _| {
        let Request::Store { action } = request else {
            return None;
        };
        Some(match action {
            StoreAction::Check => Answer::Done,
            StoreAction::Look => Answer::Store(found()),
            StoreAction::Mend { from, .. } => {
                let bytes = match from {
                    LayerSource::Full => FULL,
                    LayerSource::Delta(_) => DELTA,
                };
                let path = store.join(blob(bytes).digest.hex());
                match std::fs::read(path).is_ok_and(|there| there == bytes) {
                    true => Answer::Done,
                    false => Answer::Failed {
                        code: "bad-layer".into(),
                        reason: "not that layer".into(),
                    },
                }
            }
        })
    }
}

struct Scene {
    daemon: Daemon,
    supervisor: FakeSupervisor,
    store: PathBuf,
}

impl Scene {
    async fn start(console: Option<(&Fleet, u16)>) -> Self {
        let mut daemon = Daemon::prepare();
        if let Some((fleet, port)) = console {
            // Nobody listens there: the link is not what this is about.
            fleet.enrol(&daemon.state().join("identity"), port, 9);
        }
        let store = daemon.state().join("store/blobs/sha256");
        let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), script(store.clone()));
        daemon.start().await;
        for _ in 0..400 {
            let (_, status) = daemon.json(Method::GET, "/coracle/v1/status", b"").await;
            if status["supervisor_up"] == true {
                return Self {
                    daemon,
                    supervisor,
                    store,
                };
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("the daemon never reached the supervisor:\n{}", daemon.log());
    }

    fn put(&self, name: &[u8], bytes: &[u8]) -> PathBuf {
        let path = self.store.join(blob(name).digest.hex());
        std::fs::write(&path, bytes).unwrap();
        path
    }

    async fn mend(
        &self,
        kind: &str,
        digest: coracle_protocol::Sha256Digest,
    ) -> (StatusCode, Value) {
        let body = json!({"kind": kind, "digest": digest}).to_string();
        self.daemon
            .json(Method::POST, "/coracle/v1/store/mend", body.as_bytes())
            .await
    }

    fn mends(&self) -> Vec<LayerSource> {
        let calls = self.supervisor.state.calls.lock().unwrap();
        let of = |request: &Request| match request {
            Request::Store {
                action: StoreAction::Mend { from, .. },
            } => Some(*from),
            _ => None,
        };
        calls.iter().filter_map(of).collect()
    }
}

#[tokio::test]
async fn a_check_is_begun_and_looked_at() {
    let scene = Scene::start(None).await;
    let path = "/coracle/v1/store/check";
    let answer = scene.daemon.send(Method::POST, path, b"").await;
    assert_eq!(answer.status(), StatusCode::NO_CONTENT);
    let (_, said) = scene.daemon.json(Method::GET, path, b"").await;
    assert_eq!(said, serde_json::to_value(found()).unwrap());
}

#[tokio::test]
async fn a_layer_is_fetched_as_a_delta_else_as_a_whole() {
    let fleet = Fleet::new();
    let (port, asked) = console(&fleet, &[FULL, CONFIG]).await;
    let scene = Scene::start(Some((&fleet, port))).await;
    let (status, said) = scene.mend("layer", diff_id()).await;
    assert_eq!(status, StatusCode::NO_CONTENT, "{said}");
    assert_eq!(scene.mends(), [LayerSource::Full]);
    let hex = |bytes| blob(bytes).digest.hex();
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.first(), Some(&hex(DELTA)), "{asked:?}");
    assert_eq!(asked.last(), Some(&hex(FULL)), "{asked:?}");
    // What it was made from has done its work.
    assert_eq!(std::fs::read_dir(&scene.store).unwrap().count(), 0);

    // A configuration comes as a blob; what nobody names just goes.
    let config = scene.put(CONFIG, b"{\"config\":2}");
    let rest = scene.put(b"rest", b"tser");
    assert_eq!(
        scene.mend("blob", blob(CONFIG).digest).await.0,
        StatusCode::NO_CONTENT
    );
    assert_eq!(std::fs::read(config).unwrap(), CONFIG);
    assert_eq!(
        scene.mend("blob", blob(b"rest").digest).await.0,
        StatusCode::NO_CONTENT
    );
    assert!(!rest.exists());
}

#[tokio::test]
async fn without_a_console_what_is_here_has_to_do() {
    let scene = Scene::start(None).await;
    let (status, said) = scene.mend("layer", diff_id()).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(said.to_string().contains("not enrolled"), "{said}");
    scene.put(FULL, FULL);
    assert_eq!(
        scene.mend("layer", diff_id()).await.0,
        StatusCode::NO_CONTENT
    );
    assert_eq!(scene.mends(), [LayerSource::Full]);

    let (status, said) = scene.mend("layer", blob(b"old").digest).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        said.to_string().contains("no set that may run has it"),
        "{said}"
    );
    let (status, said) = scene.mend("layer", blob(b"whole").digest).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(said.to_string().contains("did not find"), "{said}");
}

#[tokio::test]
async fn a_blob_that_is_here_and_broken_is_fetched_again() {
    let fleet = Fleet::new();
    let (port, _) = console(&fleet, &[FULL]).await;
    let scene = Scene::start(Some((&fleet, port))).await;
    let mut wrong = FULL.to_vec();
    wrong[3] ^= 1;
    scene.put(FULL, &wrong);
    assert_eq!(
        scene.mend("layer", diff_id()).await.0,
        StatusCode::NO_CONTENT
    );
    assert_eq!(scene.mends(), [LayerSource::Full, LayerSource::Full]);
}

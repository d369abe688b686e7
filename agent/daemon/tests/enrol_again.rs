//! The real daemon on a board that was decommissioned a moment ago and is enrolled at once, at each moment in which it could
//! lose what it was given.

mod support;

use coracle_daemon::decommission;
use coracle_daemon::identity::{self, Overrides};
use coracle_daemon::link::Outbox;
use coracle_protocol::enrol::{EnrolAnswer, EnrolRequest};
use coracle_protocol::local::{Answer, Event, Request};
use coracle_protocol::names::BoardId;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::daemon::Daemon;
use support::fleet::{BOARD, Fleet};
use support::supervisor::{FakeSupervisor, State};
use tokio::sync::watch;

/// A console that gives a certificate to whoever asks; how often it was asked.
struct Console {
    port: u16,
    asked: Arc<AtomicUsize>,
}

impl Console {
    async fn start(fleet: Arc<Fleet>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = tokio_rustls::TlsAcceptor::from(fleet.server());
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(tcp).await else {
                    continue;
                };
                let (fleet, count) = (fleet.clone(), count.clone());
                let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let (fleet, count) = (fleet.clone(), count.clone());
                    async move {
                        if request.uri().path() != "/enrol" {
                            let mut none = hyper::Response::new(Full::default());
                            *none.status_mut() = StatusCode::NOT_FOUND;
                            return Ok::<_, hyper::Error>(none);
                        }
                        let body = request.into_body().collect().await?.to_bytes();
                        let request: EnrolRequest = serde_json::from_slice(&body).unwrap();
                        count.fetch_add(1, Ordering::Relaxed);
                        let answer = EnrolAnswer {
                            board: BoardId::new(BOARD).unwrap(),
                            certificate_pem: fleet.sign(&request.csr_pem),
                        };
                        let json = serde_json::to_vec(&answer).unwrap();
                        Ok(hyper::Response::new(Full::new(bytes::Bytes::from(json))))
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { port, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

async fn enrol(daemon: &Daemon, console: &Console, fleet: &Fleet) -> (StatusCode, String) {
    let file = serde_json::json!({
        "board": BOARD, "console_url": format!("https://127.0.0.1:{}", console.port),
        "mqtt": "127.0.0.1:2", "ca_pem": fleet.ca_pem, "token": "good"
    });
    let file = serde_json::to_vec(&file).unwrap();
    let path = "/coracle/v1/enrol";
    let (status, said) = daemon.json(Method::POST, path, &file).await;
    (status, said.to_string())
}

/// A supervisor that takes a decommissioned board back at `Enrolled`.
fn takes_back(request: &Request, state: &State) -> Option<Answer> {
    if *request == Request::Enrolled {
        state.status.lock().unwrap().decommissioned = false;
    }
    None
}

async fn broker_of(daemon: &Daemon) -> serde_json::Value {
    let (_, status) = daemon.json(Method::GET, "/coracle/v1/status", b"").await;
    status["link"]["broker"].clone()
}

#[tokio::test]
async fn while_the_board_is_being_reset_no_token_is_spent() {
    let fleet = Arc::new(Fleet::new());
    let console = Console::start(fleet.clone()).await;
    let mut daemon = Daemon::prepare();
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), takes_back);
    supervisor.state.status.lock().unwrap().resetting = true;
    daemon.start().await;
    let (status, said) = enrol(&daemon, &console, &fleet).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{said}");
    assert!(
        said.contains("is being reset") && said.contains("try again in some seconds"),
        "{said}"
    );
    assert_eq!(console.asked(), 0);
    assert!(!daemon.state().join("identity/enrolment.json").exists());

    supervisor.state.status.lock().unwrap().resetting = false;
    let (status, said) = enrol(&daemon, &console, &fleet).await;
    assert_eq!((status, console.asked()), (StatusCode::OK, 1), "{said}");
}

#[tokio::test]
async fn while_the_supervisor_is_away_no_token_is_spent() {
    let fleet = Arc::new(Fleet::new());
    let console = Console::start(fleet.clone()).await;
    let mut daemon = Daemon::prepare();
    daemon.start().await;
    let (status, said) = enrol(&daemon, &console, &fleet).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{said}");
    assert!(
        said.contains("coracle-supervisor") && said.contains("try again in some seconds"),
        "{said}"
    );
    assert_eq!(console.asked(), 0);
    assert!(!daemon.state().join("identity/enrolment.json").exists());
}

#[tokio::test]
async fn an_enrolment_that_the_supervisor_does_not_take_is_no_success() {
    let fleet = Arc::new(Fleet::new());
    let console = Console::start(fleet.clone()).await;
    let mut daemon = Daemon::prepare();
    // A reset was ordered between the two questions.
    let busy = |request: &Request, _: &State| {
        (*request == Request::Enrolled).then(|| Answer::Failed {
            code: "busy".into(),
            reason: "this board is being reset".into(),
        })
    };
    let _supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), busy);
    daemon.start().await;
    let (status, said) = enrol(&daemon, &console, &fleet).await;
    assert!(!status.is_success(), "{said}");
    assert!(
        said.contains("is being reset") && said.contains("another enrolment file"),
        "{said}"
    );
    assert!(broker_of(&daemon).await.is_null());
}

#[tokio::test]
async fn what_is_enrolled_while_the_last_word_waits_stays() {
    let fleet = Arc::new(Fleet::new());
    let console = Console::start(fleet.clone()).await;
    let mut daemon = Daemon::prepare();
    // Its old broker is away: the last word waits for as long as it may.
    fleet.enrol(&daemon.state().join("identity"), 1, 1);
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), takes_back);
    daemon.start().await;
    assert_eq!(broker_of(&daemon).await, "127.0.0.1:1");
    supervisor.state.status.lock().unwrap().decommissioned = true;
    let _ = supervisor.state.events.send(Event::Root { version: 1 });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (status, said) = enrol(&daemon, &console, &fleet).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    let left = || {
        daemon
            .log()
            .contains("connects no more until it is enrolled")
    };
    support::until("the end of the old name", left).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(broker_of(&daemon).await, "127.0.0.1:2");
    assert!(!supervisor.state.status.lock().unwrap().decommissioned);
}

/// Whether the board is somebody still when it stopped waiting for its last word, after `meanwhile`.
async fn is_somebody_after(meanwhile: impl FnOnce(&FakeSupervisor, &mut dyn FnMut())) -> bool {
    let folder = tempfile::tempdir().unwrap();
    Fleet::new().enrol(folder.path(), 1, 1);
    let load = || {
        let loaded = identity::load(folder.path(), &Overrides::default());
        loaded.unwrap().unwrap()
    };
    let (identity, _who) = watch::channel(Some(load()));
    let (board, name) = watch::channel(Some(load().board));
    let (_shutdown_end, shutdown) = watch::channel(false);
    let socket = folder.path().join("supervisor.sock");
    let fake = FakeSupervisor::start(&socket, |_, _| None);
    fake.state.status.lock().unwrap().decommissioned = true;
    let (supervisor, ends) = coracle_daemon::supervisor::channel();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { coracle_daemon::supervisor::run(&socket, ends, name).await });
    supervisor.wait_up().await;
    tasks.spawn(decommission::run(decommission::Ends {
        supervisor,
        outbox: Arc::new(Outbox::open(&folder.path().join("feedback")).unwrap()),
        identity: identity.clone(),
        board: board.clone(),
        shutdown,
    }));
    tokio::time::sleep(Duration::from_secs(1)).await;
    meanwhile(&fake, &mut || drop(identity.send_replace(Some(load()))));
    tokio::time::sleep(Duration::from_secs(22)).await;
    assert_eq!(identity.borrow().is_some(), board.borrow().is_some());
    identity.borrow().is_some()
}

#[tokio::test]
async fn only_the_identity_that_was_decommissioned_goes_with_it() {
    let as_it_was = is_somebody_after(|_, _| {});
    let another = is_somebody_after(|_, becomes_another| becomes_another());
    let taken_back = is_somebody_after(|fake, _| {
        fake.state.status.lock().unwrap().decommissioned = false;
    });
    let somebody = tokio::join!(as_it_was, another, taken_back);
    assert_eq!(somebody, (false, true, true));
}

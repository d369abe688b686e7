//! The real daemon and a console that renews its certificate, slowly, wrongly, or not at all.

mod support;

use coracle_protocol::names::BoardId;
use coracle_protocol::renewal::{RenewAnswer, RenewRequest, Standing, State};
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::daemon::Daemon;
use support::fleet::{BOARD, Fleet};
use tokio::net::TcpListener;

/// What the console does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mood {
    /// Renews what it has not signed by `/renew`.
    Renews,
    /// As above, and leaves whoever shows what it signed without an answer.
    HangsUpOnTheNewOne,
    /// As above, and takes what it signed for unknown.
    ForgetsTheNewOne,
    /// Signs once, and has a fault whenever it is shown what it signed; the one before is superseded then.
    FailsAtTheNewOne,
    /// As above, and says that what it signed is over; it may still be renewed.
    FindsTheNewOneOver,
    /// Whatever it is shown is superseded.
    Supersedes,
    /// Whatever it is shown is due.
    NeverContent,
    /// Says so.
    Revoked,
    /// Knows no such path: an older version.
    Older,
}

struct Console {
    port: u16,
    mood: Arc<Mutex<Mood>>,
    /// Certificates that were signed by `/renew`, and path and certificate of what was asked.
    signed: Arc<Mutex<Vec<String>>>,
    asked: Arc<Mutex<Vec<(String, bool)>>>,
}

impl Console {
    async fn start(fleet: Arc<Fleet>, mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let console = Self {
            port: listener.local_addr().unwrap().port(),
            mood: Arc::new(Mutex::new(mood)),
            signed: Arc::default(),
            asked: Arc::default(),
        };
        let (mood, signed, asked) = (
            console.mood.clone(),
            console.signed.clone(),
            console.asked.clone(),
        );
        let acceptor = tokio_rustls::TlsAcceptor::from(fleet.server());
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let Ok(stream) = acceptor.accept(tcp).await else {
                    continue;
                };
                let shown = stream
                    .get_ref()
                    .1
                    .peer_certificates()
                    .map(|chain| pem(&chain[0]));
                let (fleet, mood, signed, asked) =
                    (fleet.clone(), mood.clone(), signed.clone(), asked.clone());
                let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                    let path = request.uri().path().to_owned();
                    let renewed = shown.as_ref().is_some_and(|shown| {
                        signed
                            .lock()
                            .unwrap()
                            .iter()
                            .any(|s| squeezed(s) == squeezed(shown))
                    });
                    asked.lock().unwrap().push((path.clone(), renewed));
                    let (fleet, signed, mood) =
                        (fleet.clone(), signed.clone(), *mood.lock().unwrap());
                    async move {
                        let (status, body) = match (path.as_str(), mood) {
                            (_, Mood::Older) => (404, b"{\"error\":\"no such path\"}".to_vec()),
                            ("/certificate", mood) => {
                                if renewed && mood == Mood::HangsUpOnTheNewOne {
                                    std::future::pending::<()>().await;
                                }
                                let signed = !signed.lock().unwrap().is_empty();
                                match mood {
                                    Mood::FailsAtTheNewOne if renewed => {
                                        (503, b"{\"error\":\"no database\"}".to_vec())
                                    }
                                    Mood::FailsAtTheNewOne if signed => {
                                        (200, standing(Mood::Supersedes, false))
                                    }
                                    mood => (200, standing(mood, renewed)),
                                }
                            }
                            ("/renew", _) => {
                                let body = request.into_body().collect().await.unwrap().to_bytes();
                                let request: RenewRequest = serde_json::from_slice(&body).unwrap();
                                let certificate_pem = fleet.sign(&request.csr_pem);
                                signed.lock().unwrap().push(certificate_pem.clone());
                                let board = BoardId::new(BOARD).unwrap();
                                (
                                    200,
                                    serde_json::to_vec(&RenewAnswer {
                                        board,
                                        certificate_pem,
                                    })
                                    .unwrap(),
                                )
                            }
                            _ => (404, vec![]),
                        };
                        hyper::Response::builder()
                            .status(status)
                            .body(Full::new(bytes::Bytes::from(body)))
                    }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        console
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
    fn signed(&self) -> usize {
        self.signed.lock().unwrap().len()
    }
    /// Whether `/certificate` was asked for with a renewed certificate.
    fn was_shown_the_new_one(&self) -> bool {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .any(|(path, renewed)| path == "/certificate" && *renewed)
    }
}

fn standing(mood: Mood, renewed: bool) -> Vec<u8> {
    let state = match (mood, renewed) {
        (Mood::Revoked, _) => State::Revoked,
        (Mood::ForgetsTheNewOne, true) => State::Unknown,
        (Mood::FindsTheNewOneOver, _) => State::Expired,
        (Mood::Supersedes, _) => State::Superseded,
        (Mood::NeverContent, _) => State::Due,
        (_, true) => State::Good,
        (_, false) => State::Due,
    };
    let standing = Standing {
        board: BoardId::new(BOARD).unwrap(),
        serial: "41".into(),
        not_after: 4_000_000_000,
        state,
        reason: (state == State::Revoked).then(|| "revoked: stolen".into()),
        ask_in_seconds: 2,
    };
    serde_json::to_vec(&standing).unwrap()
}

fn pem(der: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(der)
}

/// The base64 of a certificate in PEM, or as it is.
fn squeezed(text: &str) -> String {
    text.lines()
        .filter(|line| !line.starts_with("-----"))
        .collect()
}

struct Board {
    daemon: Daemon,
    console: Console,
}

impl Board {
    async fn start(mood: Mood) -> Self {
        Self::start_with(mood, |_| {}).await
    }

    /// With more in the identity folder.
    async fn start_with(mood: Mood, more: impl FnOnce(&Path)) -> Self {
        let fleet = Arc::new(Fleet::new());
        let console = Console::start(fleet.clone(), mood).await;
        let mut daemon = Daemon::prepare();
        let folder = daemon.state().join("identity");
        // Nobody listens at the broker's port: this is about the console.
        fleet.enrol(&folder, console.port, 1);
        more(&folder);
        daemon.start().await;
        Self { daemon, console }
    }

    fn file(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.daemon.state().join("identity").join(name)).ok()
    }

    /// Whether what the console signed last is in force, with its key.
    fn renewed(&self) -> bool {
        let signed = self.console.signed.lock().unwrap();
        let force = self.file("board.key").unwrap_or_default();
        signed
            .last()
            .is_some_and(|s| squeezed(&force).starts_with(&squeezed(s)))
            && force.contains("PRIVATE KEY")
    }

    async fn certificate(&self) -> serde_json::Value {
        let path = "/coracle/v1/status";
        self.daemon.json(hyper::Method::GET, path, b"").await.1["certificate"].clone()
    }
}

#[tokio::test]
async fn a_certificate_that_is_due_is_renewed_with_a_new_key() {
    let mut old = String::new();
    // Before the daemon is there: it is quick.
    let read = |folder: &Path| old = std::fs::read_to_string(folder.join("board.key")).unwrap();
    let board = Board::start_with(Mood::Renews, read).await;
    support::until("the new pair", || board.renewed()).await;
    use std::os::unix::fs::PermissionsExt;
    let file = board.daemon.state().join("identity/board.key");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(
        !board.file("board.key").unwrap().contains(old.trim()),
        "the key is the old one"
    );
    assert!(board.file("renewed.key").is_none());
    // For an older version, which reads key and certificate from two files.
    support::until("the certificate alone", || {
        let alone = board.file("board.crt").unwrap();
        let signed = board.console.signed.lock().unwrap();
        !alone.contains("PRIVATE KEY") && squeezed(&alone) == squeezed(&signed[0])
    })
    .await;
    // It is good now, and nothing more is asked for.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(board.console.signed(), 1);
    let said = board.certificate().await;
    assert_eq!(said["standing"]["state"], "good", "{said}");
}

#[tokio::test]
async fn a_renewal_that_is_cut_off_before_its_proof_is_taken_up_again() {
    let mut board = Board::start(Mood::HangsUpOnTheNewOne).await;
    support::until("the proof is under way", || {
        board.console.was_shown_the_new_one()
    })
    .await;
    assert!(!board.renewed(), "a pair is in force that nobody has taken");
    assert!(
        board
            .file("renewed.key")
            .is_some_and(|pair| pair.contains("PRIVATE KEY"))
    );
    board.daemon.kill();
    board.console.set(Mood::Renews);
    board.daemon.start().await;
    support::until("the pair that waited", || board.renewed()).await;
    assert_eq!(board.console.signed(), 1, "it asked for another one");
}

#[tokio::test]
async fn a_renewed_certificate_that_the_console_does_not_take_replaces_nothing() {
    let board = Board::start(Mood::ForgetsTheNewOne).await;
    let old = board.file("board.key").unwrap();
    support::until("the proof", || board.console.was_shown_the_new_one()).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(board.file("board.key").unwrap(), old);
    let said = board.certificate().await;
    assert!(
        said["error"].as_str().unwrap().contains("does not take"),
        "{said}"
    );
}

#[tokio::test]
async fn a_pair_that_waits_outlives_the_console_s_faults() {
    let mut board = Board::start(Mood::FailsAtTheNewOne).await;
    support::until("the proof", || board.console.was_shown_the_new_one()).await;
    let waiting = board.file("renewed.key").unwrap();
    board.daemon.kill();
    board.daemon.start().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(board.file("renewed.key"), Some(waiting));
    let said = board.certificate().await;
    assert!(said["error"].as_str().unwrap().contains("503"), "{said}");
    board.daemon.kill();
    board.console.set(Mood::Renews);
    board.daemon.start().await;
    support::until("the pair that waited", || board.renewed()).await;
    assert_eq!(board.console.signed(), 1, "it asked for another one");
}

#[tokio::test]
async fn a_pair_that_waited_past_its_end_is_put_into_force_and_renewed() {
    let mut board = Board::start(Mood::HangsUpOnTheNewOne).await;
    support::until("the proof is under way", || {
        board.console.was_shown_the_new_one()
    })
    .await;
    let waiting = board.file("renewed.key").unwrap();
    board.daemon.kill();
    board.console.set(Mood::FindsTheNewOneOver);
    board.daemon.start().await;
    support::until("the pair that waited", || {
        board.file("board.key").as_ref() == Some(&waiting)
    })
    .await;
    assert_eq!(board.console.signed(), 1);
    // It is renewed in its turn, after a rest.
    support::until("the next", || board.console.signed() == 2).await;
}

#[tokio::test]
async fn a_pair_of_another_fleet_that_waits_is_no_hindrance() {
    let board = Board::start_with(Mood::Renews, |folder| {
        let other = tempfile::tempdir().unwrap();
        Fleet::new().enrol(other.path(), 1, 1);
        let read = |name| std::fs::read_to_string(other.path().join(name)).unwrap();
        let both = read("board.crt") + &read("board.key");
        std::fs::write(folder.join("renewed.key"), both).unwrap();
    })
    .await;
    support::until("the new pair", || board.renewed()).await;
    assert_eq!(board.console.signed(), 1);
}

#[tokio::test]
async fn a_console_that_is_never_content_is_not_asked_in_a_loop() {
    let board = Board::start(Mood::NeverContent).await;
    support::until("the first", || board.renewed()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(board.console.signed(), 1);
}

#[tokio::test]
async fn a_revoked_board_says_why_and_what_to_do() {
    let board = Board::start(Mood::Revoked).await;
    support::until("the answer", || {
        board.daemon.log().contains("revoked: stolen")
    })
    .await;
    assert!(board.daemon.log().contains("coracle enrol FILE"));
    let said = board.certificate().await;
    assert_eq!(said["standing"]["state"], "revoked");
    assert_eq!(said["standing"]["reason"], "revoked: stolen");
    assert_eq!(board.console.signed(), 0);
}

#[tokio::test]
async fn a_console_of_an_older_version_is_asked_seldom() {
    let board = Board::start(Mood::Older).await;
    support::until("the question", || {
        !board.console.asked.lock().unwrap().is_empty()
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(board.console.asked.lock().unwrap().len(), 1);
}

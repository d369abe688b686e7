//! The supervisor says which of the board's programs the daemon is to be; the daemon executes it in its own process.

mod support;

use coracle_digest::Sha256Digest;
use coracle_protocol::local::{Answer, Event, Request};
use coracle_protocol::report::OwnProgram;
use hyper::{Method, StatusCode};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use support::daemon::Daemon;
use support::supervisor::FakeSupervisor;
use support::until;

/// What the supervisor is at the moment; `None`: older than the question.
type Program = Arc<Mutex<Option<OwnProgram>>>;

/// A supervisor that has the daemon be what it is itself.
fn supervisor(daemon: &Daemon, program: &Program) -> FakeSupervisor {
    let program = program.clone();
    FakeSupervisor::start(&daemon.supervisor_socket(), move |request, state| {
        let own = program.lock().unwrap().clone();
        match request {
            Request::Status => {
                let mut status = state.status.lock().unwrap().clone();
                status.program = own;
                Some(Answer::Status(status))
            }
            Request::Program { .. } => Some(Answer::Program {
                program: own
                    .expect("an older one does not know the question")
                    .brought,
            }),
            _ => None,
        }
    })
}

fn is(version: &str, brought: Option<Sha256Digest>) -> Option<OwnProgram> {
    Some(OwnProgram {
        version: version.into(),
        brought,
    })
}

/// The daemon under test with some bytes behind it, where programs of releases lie.
fn bring(daemon: &Daemon, tail: &str) -> (Sha256Digest, PathBuf) {
    let folder = daemon.state().join("agent");
    std::fs::create_dir_all(&folder).unwrap();
    let mut bytes = std::fs::read(env!("CARGO_BIN_EXE_coracled")).unwrap();
    bytes.extend_from_slice(tail.as_bytes());
    let digest = Sha256Digest::of(&bytes);
    let path = folder.join(digest.hex());
    std::fs::write(&path, bytes).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    (digest, path)
}

fn shipped() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_coracled"))
}

async fn becomes(daemon: &Daemon, path: &Path) {
    let path = path.to_owned();
    until("the program", || daemon.executed() == path).await;
    until("docker.sock", || {
        std::os::unix::net::UnixStream::connect(daemon.docker_socket()).is_ok()
    })
    .await;
}

fn said(supervisor: &FakeSupervisor) -> Vec<Option<Sha256Digest>> {
    let calls = supervisor.state.calls.lock().unwrap();
    calls
        .iter()
        .filter_map(|request| match request {
            Request::Program { running } => Some(*running),
            _ => None,
        })
        .collect()
}

/// A supervisor that is another takes its connections with it; here a socket of its own does that.
async fn another_supervisor(
    daemon: &Daemon,
    before: FakeSupervisor,
    own: &Program,
) -> FakeSupervisor {
    drop(before);
    supervisor(daemon, own)
}

#[tokio::test]
async fn a_daemon_is_what_its_supervisor_is_and_goes_back_with_it() {
    let mut daemon = Daemon::prepare();
    let (two, path_two) = bring(&daemon, "two");
    let (three, path_three) = bring(&daemon, "three");
    let program: Program = Arc::new(Mutex::new(is("2", Some(two))));
    let first = supervisor(&daemon, &program);
    daemon.start().await;
    let pid = daemon.pid();
    becomes(&daemon, &path_two).await;
    until("it to say so", || said(&first).contains(&Some(two))).await;
    assert_eq!(said(&first)[0], None, "the root file system's starts first");
    // The same process, under its own name and with its own words.
    assert_eq!(daemon.proc("comm").trim(), "coracled");
    let words = daemon.proc("cmdline");
    assert!(words.contains("--config") && words.starts_with(shipped().to_str().unwrap()));
    let (status, body) = daemon.json(Method::GET, "/coracle/v1/status", b"").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["daemon_program"]["brought"], two.to_string());
    assert_eq!(body["daemon_program"]["version"], "2");
    assert_eq!(body["daemon_program"], body["program"]);

    *program.lock().unwrap() = is("3", Some(three));
    let second = another_supervisor(&daemon, first, &program).await;
    becomes(&daemon, &path_three).await;
    until("it to say so", || said(&second).contains(&Some(three))).await;

    *program.lock().unwrap() = is("0.1.0", None);
    let third = another_supervisor(&daemon, second, &program).await;
    becomes(&daemon, shipped()).await;
    until("it to say so", || said(&third).contains(&None)).await;
    assert_eq!(daemon.pid(), pid);
    let environment = daemon.proc("environ");
    assert!(!environment.contains("CORACLE_AGENT="), "{environment}");
    let status = daemon.terminate();
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
}

/// What lies there is another, or cannot be executed, or is not there: the daemon serves the board as it is.
#[tokio::test]
async fn a_program_with_other_bytes_is_not_executed() {
    let mut daemon = Daemon::prepare();
    let (two, path) = bring(&daemon, "two");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let program: Program = Arc::new(Mutex::new(is("2", Some(two))));
    let first = supervisor(&daemon, &program);
    daemon.start().await;
    until("the reason", || daemon.log().contains("its bytes are")).await;
    *program.lock().unwrap() = is("3", Some(Sha256Digest::of(b"nowhere")));
    let second = another_supervisor(&daemon, first, &program).await;
    until("the reason", || daemon.log().contains("No such file")).await;
    assert_eq!(daemon.executed(), shipped());
    let (_, body) = daemon.json(Method::GET, "/coracle/v1/status", b"").await;
    assert_eq!(body["daemon_program"]["brought"], serde_json::Value::Null);
    drop(second);
}

/// It would hang up at a question that it does not know.
#[tokio::test]
async fn a_supervisor_that_is_older_is_asked_nothing() {
    let mut daemon = Daemon::prepare();
    let (two, path) = bring(&daemon, "two");
    let program: Program = Arc::default();
    let first = supervisor(&daemon, &program);
    daemon.start().await;
    let asked = |supervisor: &FakeSupervisor| {
        let calls = supervisor.state.calls.lock().unwrap();
        calls
            .iter()
            .filter(|call| **call == Request::Status)
            .count()
            > 1
    };
    until("it to have looked", || asked(&first)).await;
    assert!(said(&first).is_empty());
    assert_eq!(daemon.executed(), shipped());
    // One that a release brought is no daemon of it.
    *program.lock().unwrap() = is("2", Some(two));
    let second = another_supervisor(&daemon, first, &program).await;
    becomes(&daemon, &path).await;
    until("it to say so", || said(&second).contains(&Some(two))).await;
    *program.lock().unwrap() = None;
    let third = another_supervisor(&daemon, second, &program).await;
    becomes(&daemon, shipped()).await;
    let event = Event::Root { version: 2 };
    until("it to listen", || {
        third.state.events.send(event.clone()).is_ok()
    })
    .await;
    assert!(said(&third).is_empty());
}

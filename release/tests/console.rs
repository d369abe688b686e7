//! Push, deploy and status against a stand-in for the console that speaks the same HTTP. The real one
//! is on the other side in the whole-system tests.

mod support;

use coracle_protocol::Sha256Digest;
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use support::{Place, Ran};

#[derive(Default)]
struct State {
    /// `METHOD path`, in order.
    requests: Vec<String>,
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, Vec<u8>>,
    /// What the deployment says, one after the other; the last stays.
    progress: VecDeque<String>,
    release: Option<(u16, String)>,
    /// What it says of the board.
    board: String,
    /// The last secret that it was given.
    secret: Vec<u8>,
    /// The last command that it was given.
    command: String,
    /// Where uploads go on.
    elsewhere: bool,
}

struct StandIn {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl StandIn {
    fn start(state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || while serve(&stream, &shared).is_some() {});
            }
        });
        Self { port, state }
    }
    fn run(&self, place: &Place, command: &str, rest: &str) -> Ran {
        place.write("token", "secret\n");
        place.run(&format!(
            "{command} --console http://127.0.0.1:{} --token-file token {rest}",
            self.port
        ))
    }
}

/// One request; `None` at the end of the connection.
fn serve(mut stream: &TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::with_capacity(1, stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|n| *n > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorization = value.to_owned(),
            "transfer-encoding" => panic!("a body of unknown length: {path}"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let (status, headers, answer) = answer(
        &mut state.lock().unwrap(),
        &method,
        &path,
        &authorization,
        body,
    );
    let length = if method == "HEAD" { 0 } else { answer.len() };
    write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n"
    )
    .ok()?;
    stream.write_all(&answer.as_bytes()[..length]).ok()
}

fn answer(
    state: &mut State,
    method: &str,
    path: &str,
    authorization: &str,
    body: Vec<u8>,
) -> (u16, String, String) {
    state.requests.push(format!("{method} {path}"));
    let plain = |status, text: &str| (status, String::new(), text.to_owned());
    // token:secret
    let wanted = if path.starts_with("/v2/") {
        "Basic dG9rZW46c2VjcmV0"
    } else {
        "Bearer secret"
    };
    if authorization != wanted {
        return plain(
            401,
            r#"{"error":"an API token is needed","hint":"send it"}"#,
        );
    }
    if let Some((_, digest)) = path.split_once("/uploads/7?digest=") {
        assert_eq!(Sha256Digest::of(&body).to_string(), digest);
        state.blobs.insert(digest.to_owned(), body);
        return plain(201, "");
    }
    if let Some((_, digest)) = path.split_once("/blobs/sha256:") {
        let there = state.blobs.contains_key(&format!("sha256:{digest}"));
        return plain(if there { 200 } else { 404 }, "");
    }
    if path.ends_with("/blobs/uploads/") {
        let place = if state.elsewhere {
            "http://elsewhere.invalid"
        } else {
            ""
        };
        return (202, format!("location: {place}{path}7\r\n"), String::new());
    }
    if path.contains("/manifests/") {
        state.manifests.insert(path.to_owned(), body);
        return plain(201, "");
    }
    match (method, path) {
        ("POST", "/api/v1/releases") => match &state.release {
            Some((status, text)) => (*status, String::new(), text.clone()),
            None => plain(200, "{}"),
        },
        ("GET", "/api/v1/boards/acme.b-1") => plain(200, &state.board),
        ("POST", "/api/v1/boards/acme.b-1/secrets") => {
            state.secret = body;
            plain(200, "{}")
        }
        ("POST", "/api/v1/boards/acme.b-1/commands") => {
            state.command = String::from_utf8(body).unwrap();
            plain(
                200,
                r#"{"id":"c1","state":"waiting","code":null,"text":null}"#,
            )
        }
        ("GET", "/api/v1/boards/acme.b-1/commands/c1") => {
            let next = match state.progress.len() {
                1 => state.progress[0].clone(),
                _ => state.progress.pop_front().unwrap(),
            };
            (200, String::new(), next)
        }
        ("POST", "/api/v1/deployments") => plain(
            200,
            r#"{"id":"d1","boards":[{"board":"acme.b-1","activity":"a","seq":4,
                "deltas":[{"from":"x","to":"y","size":1024,"full_size":1048576}],"warnings":["it sleeps"]}]}"#,
        ),
        ("GET", "/api/v1/deployments/d1") => {
            let next = match state.progress.len() {
                1 => state.progress[0].clone(),
                _ => state.progress.pop_front().unwrap(),
            };
            (200, String::new(), format!(r#"{{"boards":[{next}]}}"#))
        }
        ("POST", "/api/v1/deployments/d1/pause") => plain(
            200,
            r#"{"id":"d1","state":"paused","boards":[
                {"board":"acme.b-1","phase":null,"standing":"held","standing_reason":null}]}"#,
        ),
        ("POST", "/api/v1/deployments/d1/cancel") => plain(
            200,
            r#"{"id":"d1","state":"cancelled","boards":[
                {"board":"acme.b-1","phase":"trial","standing":"too-late","standing_reason":null},
                {"board":"acme.b-2","phase":"waiting","standing":"cancelling","standing_reason":null}]}"#,
        ),
        ("GET", "/api/v1/boards") => plain(
            200,
            r#"[{"board":"acme.b-1","presence":{"online":true},"current":{"set":{"product":"shop","version":"2",
                "state":"committed","apps":[{"name":"web","state":"running","healthy":true,"restarts":1}]}},
                "feedback":{"phase":"rolled-back","reason":"web: \u001b[31m503"}}]"#,
        ),
        _ => plain(404, r#"{"error":"no such path","hint":""}"#),
    }
}

fn phase(name: &str, more: &str) -> String {
    format!(r#"{{"board":"acme.b-1","phase":"{name}"{more}}}"#)
}

#[test]
fn a_push_brings_each_blob_once() {
    let place = Place::with_keys().with_images();
    place.with_release("1", "shop/web:1");
    let console = StandIn::start(State::default());
    console
        .run(&place, "push", "--images images release-1.json")
        .ok();
    {
        let state = console.state.lock().unwrap();
        assert_eq!(state.blobs.len(), 3, "two layers and a config");
        assert!(state.manifests.contains_key("/v2/shop/web/manifests/1"));
        assert_eq!(state.requests.last().unwrap(), "POST /api/v1/releases");
    }
    let said = console
        .run(&place, "push", "--images images release-1.json")
        .ok();
    assert!(said.contains("were there"), "{said}");
    let state = console.state.lock().unwrap();
    let uploads = state
        .requests
        .iter()
        .filter(|r| r.starts_with("PUT") && r.contains("uploads"));
    assert_eq!(uploads.count(), 3, "nothing went twice");
}

#[test]
fn a_deployment_is_held_and_taken_back_and_boards_that_are_beyond_it_are_named() {
    let place = Place::with_keys();
    let console = StandIn::start(State::default());
    let said = console.run(&place, "deployment pause", "d1").ok();
    assert_eq!(
        said,
        "deployment d1: paused\nacme.b-1: held (waiting for the board)\n"
    );
    console
        .run(&place, "deployment cancel", "d1")
        .failed(1, &["too late on 1 board: acme.b-1"]);
    console
        .run(&place, "deployment resume", "d1")
        .failed(1, &["no such path", "/api/v1/deployments/d1/resume"]);
    place.run("deployment abort d1").failed(2, &["abort"]);
}

#[test]
fn refusals_keep_their_words_and_codes() {
    let place = Place::with_keys().with_images();
    place.with_release("1", "shop/web:1");
    let refused = StandIn::start(State {
        release: Some((
            422,
            r#"{"error":"0 of 1 signatures","hint":"sign it"}"#.into(),
        )),
        ..State::default()
    });
    refused
        .run(&place, "push", "--images images release-1.json")
        .failed(3, &["0 of 1 signatures", "sign it", "/api/v1/releases"]);
    refused
        .run(&place, "push", "--images base release-1.json")
        .failed(1, &["no OCI image layout"]);

    // The token goes to the console and to nobody else.
    let elsewhere = StandIn::start(State {
        elsewhere: true,
        ..State::default()
    });
    elsewhere
        .run(&place, "push", "--images images release-1.json")
        .failed(1, &["points elsewhere", "elsewhere.invalid"]);

    place.write("wrong", "wrong");
    place
        .run(&format!(
            "status --console http://127.0.0.1:{} --token-file wrong",
            refused.port
        ))
        .failed(1, &["an API token is needed", "401"]);
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    place
        .run(&format!(
            "status --console http://127.0.0.1:{free} --token-file token"
        ))
        .failed(4, &["cannot reach the console"]);
    place
        .run("status --console 127.0.0.1 --token-file token")
        .failed(1, &["--console `127.0.0.1` is no address"]);
    place
        .run("status --console http://x --token-file nowhere")
        .failed(1, &["nowhere", "No such file"]);
}

#[test]
fn a_deployment_is_followed_to_its_end() {
    let place = Place::with_keys().with_images();
    place.with_release("1", "shop/web:1");
    let fetched = r#","fetched":{"wire_bytes":1024,"delta_bytes":1024,"full_bytes":1048576}"#;
    for (steps, code, lines) in [
        (
            vec![
                r#"{"board":"acme.b-1","phase":null}"#.to_owned(),
                phase("fetching", r#","percent":40"#),
                phase("fetching", r#","percent":40"#),
                phase("trial", ""),
                phase("committed", fetched),
            ],
            0,
            vec![
                "deployment d1",
                "acme.b-1: assignment 4, 1 deltas with 1.0 KiB instead of 1.0 MiB",
                "acme.b-1: warning: it sleeps",
                "acme.b-1: waiting for the board",
                "acme.b-1: fetching 40 %",
                "acme.b-1: trial",
                "acme.b-1: committed, 1.0 KiB over the wire instead of 1.0 MiB",
            ],
        ),
        (
            vec![phase(
                "rolled-back",
                r#","code":"unhealthy","reason":"web answered 503""#,
            )],
            1,
            vec!["acme.b-1: rolled-back (unhealthy): web answered 503"],
        ),
        (
            vec![phase(
                "refused",
                r#","code":"old-release","reason":"release counter 1 is below 2""#,
            )],
            3,
            vec!["acme.b-1: refused (old-release): release counter 1 is below 2"],
        ),
        (
            vec![phase("failed", r#","reason":"no space""#)],
            1,
            vec!["acme.b-1: failed: no space"],
        ),
    ] {
        let console = StandIn::start(State {
            progress: steps.into(),
            ..State::default()
        });
        let ran = console.run(&place, "deploy", "--board acme.b-1 --wait release-1.json");
        assert_eq!(ran.code, code, "{}{}", ran.out, ran.err);
        let said: Vec<&str> = ran.out.lines().collect();
        assert_eq!(said[said.len() - lines.len()..], lines, "{}", ran.out);
        if code != 0 {
            assert!(ran.err.contains(lines[0]), "{}", ran.err);
        }
    }
}

#[test]
fn waiting_ends_in_time() {
    let place = Place::with_keys();
    let console = StandIn::start(State {
        progress: [phase("fetching", "")].into(),
        ..State::default()
    });
    let digest = Sha256Digest::of(b"x");
    console
        .run(
            &place,
            "deploy",
            &format!("--board acme.b-1 --wait --timeout 1s --release {digest}"),
        )
        .failed(1, &["after 1 s", "acme.b-1"]);
}

#[test]
fn status_says_why_and_shows_no_control_characters() {
    let place = Place::new();
    let console = StandIn::start(State::default());
    let said = console.run(&place, "status", "").ok();
    assert_eq!(
        said,
        "acme.b-1  online  shop 2 (committed)\n  web: running, healthy, 1 restarts\n  last deployment: rolled-back: web: [31m503\n"
    );
    console
        .run(&place, "status", "acme.b-2")
        .failed(1, &["no such path", "404"]);
}

/// What a console says of a board that trusts this root.
fn board_with(version: u64, root: &str, key: Option<&str>) -> String {
    let key = key.map_or_else(String::new, |key| format!(r#","secret_key":"{key}""#));
    format!(
        r#"{{"board":"acme.b-1","current":{{"version":1,"board":{{"profile":"p","hardware":"h","architecture":"a",
        "kernel":"k","agent":"g","memory_bytes":1,"cpus":1}},"set":null,"layers":[],"trust":{{"root_version":{version},
        "root":"{root}","root_expires":1900000000,"time":1750000000,"deploy":{{"epoch":1,"value":7}},
        "offline_deploy":{{"epoch":0,"value":0}},"releases":{{}}{key}}}}}}}"#
    )
}

#[test]
fn a_secret_is_sealed_before_it_leaves() {
    let place = Place::new();
    place.write("value", "hunter2");
    let key = coracle_protocol::secret::OpeningKey::generate();
    let public = String::from(key.public().clone());
    let digest = Sha256Digest::of(b"root").to_string();
    let console = StandIn::start(State {
        board: board_with(1, &digest, Some(&public)),
        ..State::default()
    });
    let line = "--board acme.b-1 --app web --name db --value-file value";
    let said = console.run(&place, "secret set", line).ok();
    assert!(said.contains(&key.public().hint()), "{said}");
    let bytes = console.state.lock().unwrap().secret.clone();
    assert!(!String::from_utf8_lossy(&bytes).contains("hunter2"));
    let sealed = serde_json::from_slice(&bytes).unwrap();
    let board = coracle_protocol::names::BoardId::new("acme.b-1").unwrap();
    assert_eq!(key.open(&board, &sealed).unwrap(), b"hunter2");

    // A console that gives a key of its own is found out by whoever knows the board's.
    console
        .run(
            &place,
            "secret set",
            &format!("{line} --key 0123456789abcdef"),
        )
        .failed(1, &["is said to have key", "0123456789abcdef"]);
    console.state.lock().unwrap().board = board_with(1, &digest, None);
    console
        .run(&place, "secret set", line)
        .failed(1, &["acme.b-1 has not said yet"]);
}

#[test]
fn a_boards_trust_is_held_against_the_newest_root() {
    let place = Place::with_keys();
    let file = coracle_protocol::dsse::Envelope::parse(&place.read("root.json")).unwrap();
    let digest = Sha256Digest::of(&file.payload_unverified().unwrap()).to_string();
    let other = Sha256Digest::of(b"other").to_string();
    let console = StandIn::start(State::default());
    let verify = |version, root: &str| {
        console.state.lock().unwrap().board = board_with(version, root, None);
        console.run(&place, "trust verify", "--board acme.b-1 root.json")
    };
    let said = verify(1, &digest).ok();
    assert!(
        said.contains("acme.b-1: root version 1, counters deploy 1.7"),
        "{said}"
    );
    verify(0, &digest).failed(1, &["trusts root version 0", "has version 1"]);
    verify(1, &other).failed(1, &["another document with version 1"]);
    console.state.lock().unwrap().board = r#"{"board":"acme.b-1","current":null}"#.into();
    console
        .run(&place, "trust verify", "--board acme.b-1 root.json")
        .failed(1, &["has not said yet what it trusts"]);
}

#[test]
fn a_console_that_gives_another_key_later_is_found_out() {
    let place = Place::new();
    place.write("value", "hunter2");
    let [own, other] = [(); 2].map(|()| coracle_protocol::secret::OpeningKey::generate());
    let text = |key: &coracle_protocol::secret::OpeningKey| String::from(key.public().clone());
    let digest = Sha256Digest::of(b"root").to_string();
    let console = StandIn::start(State::default());
    let gives =
        |key| console.state.lock().unwrap().board = board_with(1, &digest, Some(&text(key)));
    let line = "--board acme.b-1 --app web --name db --value-file value";
    gives(&own);
    let first = console.run(&place, "secret set", line);
    assert!(
        first.err.contains("compare it with `coracle status`"),
        "{}",
        first.err
    );
    first.ok();
    let again = console.run(&place, "secret set", line);
    assert_eq!(again.err, "");
    again.ok();

    gives(&other);
    console.state.lock().unwrap().secret.clear();
    console.run(&place, "secret set", line).failed(
        3,
        &[
            &own.public().hint(),
            &other.public().hint(),
            "board-keys.json",
            "to read the secret",
        ],
    );
    assert!(
        console.state.lock().unwrap().secret.is_empty(),
        "something was sent all the same"
    );
    // Somebody went and looked.
    let compared = format!("{line} --key {}", other.public().hint());
    console.run(&place, "secret set", &compared).ok();
    console.run(&place, "secret set", line).ok();
    gives(&own);
    console
        .run(&place, "secret set", line)
        .failed(3, &["compared with the board"]);
    // Or read it from the board in the first place.
    place
        .run(&format!("secret pin --board acme.b-1 --key {}", text(&own)))
        .ok();
    console.run(&place, "secret set", line).ok();
    place
        .run("secret pin --board acme.b-1 --key abcd")
        .failed(1, &["32 bytes in base64"]);
}

#[test]
fn a_command_waits_for_the_boards_answer() {
    let place = Place::new();
    let said = |state: &str, code: &str, text: &str| {
        let code = if code.is_empty() { None } else { Some(code) };
        serde_json::json!({"id": "c1", "state": state, "code": code, "text": text}).to_string()
    };
    let console = |answers: &[String]| {
        StandIn::start(State {
            progress: answers.iter().cloned().collect(),
            ..State::default()
        })
    };
    let waiting = said("waiting", "", "");
    let logs = console(&[waiting.clone(), said("done", "", "one\n\u{1b}[2Jtwo\n")]);
    let text = logs
        .run(
            &place,
            "command logs",
            "--board acme.b-1 --app web --tail 5",
        )
        .ok();
    assert_eq!(text, "one\n[2Jtwo\n");
    let sent = logs.state.lock().unwrap().command.clone();
    assert_eq!(sent, r#"{"logs":{"app":"web","tail":5}}"#);

    let restart = "--board acme.b-1 --app web --timeout 1s";
    let refused = console(&[said("failed", "no-app", "no app `web`")]);
    refused
        .run(&place, "command restart", restart)
        .failed(1, &["acme.b-1 did not do it (no-app): no app `web`"]);
    let sent = refused.state.lock().unwrap().command.clone();
    assert_eq!(sent, r#"{"restart":{"app":"web"}}"#);
    let action = "--board acme.b-1 --app web reindex";
    let failed = said(
        "failed",
        "action-failed",
        "one\n\u{1b}[2Jtwo\nexited with 3",
    );
    let failed = console(&[failed]);
    let ran = failed.run(&place, "command action", action);
    assert_eq!(ran.out, "one\n[2Jtwo\n");
    ran.failed(
        1,
        &["acme.b-1 did not do it (action-failed): exited with 3"],
    );
    let sent = failed.state.lock().unwrap().command.clone();
    assert_eq!(sent, r#"{"action":{"app":"web","name":"reindex"}}"#);
    let silent = console(&[waiting]);
    silent
        .run(&place, "command restart", restart)
        .failed(1, &["acme.b-1 has not answered", "commands/c1"]);
    silent
        .run(
            &place,
            "command logs",
            "--board acme.b-1 --app web --tail 1001",
        )
        .failed(2, &["1001"]);
}

//! `docker exec` through the real daemon: the unmodified Docker client, and a supervisor that says what it is told to.

mod support;

use coracle_protocol::local::{Answer, Exec, HEAD, Request, Stream};
use coracle_protocol::names::AppName;
use coracle_protocol::report::SetStatus;
use hyper::{Method, StatusCode};
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use support::daemon::Daemon;
use support::supervisor::{FakeSupervisor, empty_status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::SocketAddr;
use tokio::net::{UnixListener, UnixStream};

const WAIT: Duration = Duration::from_secs(20);

async fn accepted(execs: &UnixListener) -> (UnixStream, SocketAddr) {
    let came = tokio::time::timeout(WAIT, execs.accept()).await;
    came.expect("an exec").unwrap()
}
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: tcp\r\n";
const DETACH: &str = r#"{"Detach":true}"#;
const STARTED: (Stream, &[u8]) = (Stream::Started, &[0, 0, 0, 9]);

fn running() -> SetStatus {
    let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
    serde_json::from_value(serde_json::json!({
        "deployment": digest("a"), "release": digest("b"), "product": "shop", "version": "1", "state": "committed",
        "apps": [{
            "name": "web", "image": "shop/web:1", "image_manifest": digest("c"), "state": "running", "exit_code": null,
            "oom_killed": false, "restarts": 0, "healthy": null, "health_text": null, "pid": 7, "started_at": null,
            "ip": null, "ports": [], "args": [], "limits": {"memory_bytes": 67108864, "cpu_millis": 500, "pids": 64},
            "cgroup": null, "memory_bytes": null, "cpu_usage_us": null, "pids": null
        }]
    }))
    .unwrap()
}

/// A daemon whose supervisor answers so, and the socket of what it runs.
async fn start(answer: Option<Answer>) -> (Daemon, FakeSupervisor, UnixListener) {
    let mut daemon = Daemon::prepare();
    let at = daemon.folder().join("exec.sock");
    let execs = UnixListener::bind(&at).unwrap();
    let answer = answer.unwrap_or(Answer::Transfer {
        socket: at.to_str().unwrap().to_owned(),
    });
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), move |request, _| {
        matches!(request, Request::Exec { .. }).then(|| answer.clone())
    });
    supervisor.state.status.lock().unwrap().current = Some(running());
    assert_eq!(empty_status().current, None);
    daemon.start().await;
    for _ in 0..200 {
        let (_, status) = daemon.json(Method::GET, "/coracle/v1/status", b"").await;
        if status["supervisor_up"] == true {
            return (daemon, supervisor, execs);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the daemon never reached the supervisor:\n{}", daemon.log());
}

fn asked(supervisor: &FakeSupervisor) -> Vec<(Exec, u32)> {
    let calls = supervisor.state.calls.lock().unwrap();
    let execs = calls.iter().filter_map(|call| match call {
        Request::Exec { exec, uid } => Some((exec.clone(), *uid)),
        _ => None,
    });
    execs.collect()
}

fn client(daemon: &Daemon, args: &[&str]) -> Command {
    let mut command = Command::new("docker");
    command
        .arg("-H")
        .arg(format!("unix://{}", daemon.docker_socket().display()))
        .args(args)
        .env("DOCKER_CONFIG", daemon.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs the real client, beside this thread, with that on its standard input.
async fn docker(daemon: &Daemon, args: &[&str], input: &'static str) -> Output {
    let mut command = client(daemon, args);
    tokio::task::spawn_blocking(move || {
        use std::io::Write;
        let child = command.spawn();
        let mut child = child.expect("this test needs the `docker` client on PATH");
        let mut stdin = child.stdin.take().unwrap();
        // One that reads nothing may be gone.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().unwrap()
    })
    .await
    .unwrap()
}

async fn piece(from: &mut UnixStream) -> (Stream, Vec<u8>) {
    let mut head = [0; HEAD];
    from.read_exact(&mut head).await.unwrap();
    let (stream, length) = Stream::of_head(head).unwrap();
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await.unwrap();
    (stream, bytes)
}

async fn say(to: &mut UnixStream, (stream, bytes): (Stream, &[u8])) {
    to.write_all(&stream.piece(bytes)).await.unwrap();
}

#[tokio::test]
async fn the_unmodified_docker_client_runs_programs_in_apps() {
    let (daemon, supervisor, execs) = start(None).await;
    let program = async {
        let (mut program, _) = accepted(&execs).await;
        say(&mut program, STARTED).await;
        say(&mut program, (Stream::Stderr, b"err\n")).await;
        let mut typed = Vec::new();
        loop {
            let (stream, bytes) = piece(&mut program).await;
            assert_eq!(stream, Stream::Stdin);
            if bytes.is_empty() {
                break;
            }
            typed.extend(bytes);
        }
        say(&mut program, (Stream::Stdout, &typed)).await;
        program.write_all(&Stream::end(7, "")).await.unwrap();
    };
    let line = [
        "exec", "-i", "-u", "web", "-e", "A=b", "-w", "/tmp", "web", "cat", "-n",
    ];
    let (output, ()) = tokio::join!(docker(&daemon, &line, "typed\n"), program);
    assert_eq!(
        output.status.code(),
        Some(7),
        "{output:?}\n{}",
        daemon.log()
    );
    assert_eq!(output.stdout, b"typed\n");
    assert_eq!(output.stderr, b"err\n");
    let expected = Exec {
        app: AppName::new("web").unwrap(),
        args: vec!["cat".into(), "-n".into()],
        env: vec!["A=b".into()],
        user: Some("web".into()),
        cwd: Some("/tmp".into()),
        stdin: true,
        tty: None,
    };
    let uid = nix::unistd::getuid().as_raw();
    assert_eq!(asked(&supervisor), [(expected, uid)]);
    let log = daemon.log();
    let line = log
        .lines()
        .find(|line| line.contains("program=Some(\"cat\")"));
    assert!(line.is_some_and(|line| line.contains("audit")), "{log}");

    // What there is no program for: the words, and the code that a shell has for it.
    let program = async {
        let (mut program, _) = accepted(&execs).await;
        let end = Stream::end(127, "cannot execute the program: nix");
        program.write_all(&end).await.unwrap();
    };
    let (output, ()) = tokio::join!(docker(&daemon, &["exec", "web", "nix"], ""), program);
    assert_eq!(output.status.code(), Some(127), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot execute the program: nix"), "{said}");

    // Without a word of how it ended it was no success.
    let program = async {
        let (mut program, _) = accepted(&execs).await;
        say(&mut program, STARTED).await;
    };
    let (output, ()) = tokio::join!(docker(&daemon, &["exec", "web", "x"], ""), program);
    assert_eq!(output.status.code(), Some(255), "{output:?}");
}

#[tokio::test]
async fn a_docker_client_has_a_terminal_of_its_size() {
    let (daemon, supervisor, execs) = start(None).await;
    let program = async {
        let (mut program, _) = accepted(&execs).await;
        say(&mut program, STARTED).await;
        say(&mut program, (Stream::Stdout, b"ready\r\n")).await;
        let mut size = Vec::new();
        let mut typed = Vec::new();
        while typed != b"x" || size != [0, 30, 0, 100] {
            match piece(&mut program).await {
                (Stream::Size, bytes) => size = bytes,
                (Stream::Stdin, bytes) => typed.extend(bytes),
                other => panic!("{other:?}"),
            }
        }
        program.write_all(&Stream::end(0, "")).await.unwrap();
    };
    let socket = daemon.docker_socket();
    let script = format!(
        "stty rows 30 cols 100; docker -H unix://{} exec -it web sh; echo code $?",
        socket.display()
    );
    let mut command = Command::new("script");
    command
        .args(["-qec", &script, "/dev/null"])
        .env("DOCKER_CONFIG", daemon.folder())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let terminal = tokio::task::spawn_blocking(move || {
        use std::io::{Read, Write};
        let mut child = command.spawn().expect("this test needs `script`");
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (mut shown, mut buffer, mut is_typed) = (String::new(), [0; 1024], false);
        loop {
            let count = stdout.read(&mut buffer).unwrap();
            if count == 0 {
                break;
            }
            shown += &String::from_utf8_lossy(&buffer[..count]);
            if shown.contains("ready") && !is_typed {
                is_typed = true;
                stdin.write_all(b"x").unwrap();
            }
        }
        child.wait().unwrap();
        shown
    });
    let (shown, ()) = tokio::join!(terminal, program);
    assert!(shown.unwrap().contains("code 0"), "{}", daemon.log());
    let [(exec, _)] = &asked(&supervisor)[..] else {
        panic!("asked otherwise");
    };
    assert!(exec.stdin && exec.tty.is_some(), "{exec:?}");
}

#[tokio::test]
async fn a_detached_exec_is_looked_at_until_it_has_ended() {
    let (daemon, supervisor, execs) = start(None).await;
    let body = br#"{"Cmd":["sleep","9"],"AttachStdin":true}"#;
    let (status, made) = daemon
        .json(Method::POST, "/containers/web/exec", body)
        .await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let id = made["Id"].as_str().unwrap().to_owned();
    let look = |what: &str| format!("/exec/{id}/{what}");
    let (_, before) = daemon.json(Method::GET, &look("json"), b"").await;
    assert_eq!(before["Running"], false);
    assert_eq!(before["ExitCode"], serde_json::Value::Null);

    // Without an upgrade there is nowhere for its output to go.
    let (status, _) = daemon.json(Method::POST, &look("start"), b"{}").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let detach = br#"{"Detach":true}"#;
    let begin = async {
        let (mut program, _) = accepted(&execs).await;
        say(&mut program, STARTED).await;
        program
    };
    let path = look("start");
    let (answer, mut program) = tokio::join!(daemon.send(Method::POST, &path, detach), begin);
    assert_eq!(answer.status(), StatusCode::OK);
    let (_, runs) = daemon.json(Method::GET, &look("json"), b"").await;
    assert_eq!(runs["Running"], true);
    assert_eq!(runs["Pid"], 9);
    assert_eq!(runs["ProcessConfig"]["entrypoint"], "sleep");
    assert!(!asked(&supervisor)[0].0.stdin, "nobody types");
    let (status, _) = daemon.json(Method::POST, &look("start"), detach).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let (status, _) = daemon
        .json(Method::POST, &look("resize?h=1&w=1"), b"")
        .await;
    assert_eq!(status, StatusCode::CONFLICT);

    say(&mut program, (Stream::Stdout, b"nobody sees it")).await;
    program.write_all(&Stream::end(5, "")).await.unwrap();
    support::until("its end", || program.try_read(&mut [0]).is_ok()).await;
    let (_, ended) = daemon.json(Method::GET, &look("json"), b"").await;
    assert_eq!(ended["Running"], false);
    assert_eq!(ended["ExitCode"], 5);
    let (status, _) = daemon.json(Method::GET, "/exec/none/json", b"").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn who_may_not_is_told_which_setting_it_is() {
    let refused = Answer::Refused {
        code: "not-allowed".into(),
        reason: "[local] allow of coracle.toml is \"signed\"".into(),
    };
    let (daemon, _supervisor, _execs) = start(Some(refused)).await;
    for line in [&["exec", "web", "ps"][..], &["exec", "-d", "web", "ps"]] {
        let output = docker(&daemon, line, "").await;
        assert!(!output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("[local] allow of coracle.toml"), "{said}");
    }
    let privileged = docker(&daemon, &["exec", "--privileged", "web", "ps"], "").await;
    let said = String::from_utf8_lossy(&privileged.stderr);
    assert!(said.contains("no more rights than its app"), "{said}");
}

#[tokio::test]
async fn a_client_that_goes_takes_its_program_with_it() {
    let (daemon, _supervisor, execs) = start(None).await;
    let mut child = client(&daemon, &["exec", "web", "sleep", "1000"])
        .spawn()
        .unwrap();
    let (mut program, _) = accepted(&execs).await;
    say(&mut program, STARTED).await;
    say(&mut program, (Stream::Stdout, b"begun")).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let mut rest = Vec::new();
    let gone = tokio::time::timeout(WAIT, program.read_to_end(&mut rest)).await;
    gone.expect("the supervisor is told that nobody is there")
        .unwrap();
    assert_eq!(rest, b"", "nothing was typed");
}

/// One that was made with `web` and asked for by a connection of its own, which is given back as it is.
async fn ask_for_one(daemon: &Daemon, start: &str, headers: &str) -> (String, UnixStream) {
    let body = br#"{"Cmd":["sleep","9"],"AttachStdout":true}"#;
    let (_, made) = daemon
        .json(Method::POST, "/containers/web/exec", body)
        .await;
    let id = made["Id"].as_str().unwrap().to_owned();
    let mut client = UnixStream::connect(daemon.docker_socket()).await.unwrap();
    let request = format!(
        "POST /exec/{id}/start HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n{start}",
        start.len()
    );
    client.write_all(request.as_bytes()).await.unwrap();
    (format!("/exec/{id}/json"), client)
}

async fn ends(daemon: &Daemon, path: &str) {
    for _ in 0..200 {
        let (_, seen) = daemon.json(Method::GET, path, b"").await;
        if seen["Running"] == false {
            assert_eq!((&seen["ExitCode"], &seen["Pid"]), (&255.into(), &0.into()));
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{path} runs for ever");
}

#[tokio::test]
async fn a_start_that_breaks_off_leaves_nothing_that_runs() {
    let (daemon, _supervisor, execs) = start(None).await;
    // Its client goes while the program's process is on its way.
    let (path, client) = ask_for_one(&daemon, DETACH, "").await;
    let (mut held, _) = accepted(&execs).await;
    let (_, seen) = daemon.json(Method::GET, &path, b"").await;
    assert_eq!(seen["Running"], true);
    drop(client);
    ends(&daemon, &path).await;
    let mut rest = Vec::new();
    let gone = tokio::time::timeout(WAIT, held.read_to_end(&mut rest)).await;
    gone.expect("the supervisor is told that nobody is there")
        .unwrap();

    // Whoever stood between the program and its socket ends without a word.
    let (path, _client) = ask_for_one(&daemon, "{}", UPGRADE).await;
    drop(accepted(&execs).await);
    ends(&daemon, &path).await;
}

#[tokio::test]
async fn a_start_that_the_supervisor_does_not_answer_is_over_with_its_client() {
    let (daemon, supervisor, _execs) = start(None).await;
    supervisor.state.actions_end.send_replace(false);
    for (count, (body, headers)) in [("{}", UPGRADE), (DETACH, "")].into_iter().enumerate() {
        let (path, client) = ask_for_one(&daemon, body, headers).await;
        support::until("the question", || asked(&supervisor).len() > count).await;
        drop(client);
        ends(&daemon, &path).await;
    }
}

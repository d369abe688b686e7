//! The real daemon on a real socket, with a supervisor that does what it is told: sticks, and the
//! unmodified Docker client.

mod support;

use coracle_protocol::counters::Seen;
use coracle_protocol::deploy::{AssignmentRole, Deploy, Target};
use coracle_protocol::local::{
    Answer, AppAction, Event, LayerNeed, LayerSource, Needs, Request, StickWord, Trusted,
};
use coracle_protocol::names::{AppName, BoardId};
use coracle_protocol::release::{AppLimits, Port, Protocol};
use coracle_protocol::report::{AppState, AppStatus, Feedback, Phase, SetState, SetStatus};
use coracle_protocol::root::{Role, TrustedRoot};
use coracle_protocol::trust_state::TrustState;
use http_body_util::BodyExt;
use hyper::{Method, StatusCode};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::daemon::Daemon;
use support::documents::{CONFIG, DELTA, Documents, LAYER, blob, diff_id, documents};
use support::supervisor::{FakeSupervisor, State, empty_status};

fn needs() -> Needs {
    Needs {
        already: false,
        configs: vec![blob(CONFIG)],
        layers: vec![LayerNeed {
            diff_id: diff_id(),
            full: blob(LAYER),
            deltas: vec![blob(DELTA)],
        }],
    }
}

fn event(activity: &str, phase: Phase) -> Event {
    Event::Deployment {
        activity: activity.to_owned(),
        phase,
        code: None,
        reason: None,
    }
}

/// Accepts every offer, takes deltas only when `deltas`, and ends with `end`.
fn script(deltas: bool, end: Phase) -> impl FnMut(&Request, &State) -> Option<Answer> + Send {
    move |request, state| match request {
        Request::Offer { .. } => Some(Answer::Needs(needs())),
        Request::Stage {
            from: LayerSource::Delta(_),
            ..
        } if !deltas => Some(Answer::Failed {
            code: "diff-id-mismatch".into(),
            reason: "it makes something else".into(),
        }),
        Request::Activate { activity } => {
            for phase in [Phase::Switching, Phase::Trial, end] {
                state.events.send(event(activity, phase)).unwrap();
            }
            None
        }
        _ => None,
    }
}

async fn daemon(documents: &Documents) -> Daemon {
    let mut daemon = Daemon::prepare();
    std::fs::write(daemon.folder().join("root.json"), documents.root.to_json()).unwrap();
    daemon.start().await;
    daemon
}

/// Waits until the daemon has its supervisor.
async fn connected(daemon: &Daemon) {
    for _ in 0..200 {
        let (_, status) = daemon.json(Method::GET, "/coracle/v1/status", b"").await;
        if status["supervisor_up"] == true {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the daemon never reached the supervisor:\n{}", daemon.log());
}

fn offer(documents: &Documents) -> Vec<u8> {
    let body = serde_json::json!({"deploy": documents.deploy, "release": documents.release});
    serde_json::to_vec(&body).unwrap()
}

async fn put(daemon: &Daemon, want: &[u8], bytes: &[u8]) -> StatusCode {
    let path = format!("/coracle/v1/blobs/sha256/{}", blob(want).digest.hex());
    daemon.send(Method::PUT, &path, bytes).await.status()
}

/// Applies an offer; all feedback.
async fn apply(daemon: &Daemon, activity: &str) -> Vec<Feedback> {
    let body = format!("{{\"activity\":\"{activity}\"}}");
    let response = daemon
        .send(Method::POST, "/coracle/v1/apply", body.as_bytes())
        .await;
    assert_eq!(response.status(), StatusCode::OK, "{}", daemon.log());
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let lines = bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

fn phases(feedback: &[Feedback]) -> Vec<Phase> {
    let mut phases: Vec<_> = feedback.iter().map(|f| f.phase).collect();
    phases.dedup();
    phases
}

const GOOD: [Phase; 7] = [
    Phase::Received,
    Phase::Verified,
    Phase::Fetching,
    Phase::Staging,
    Phase::Switching,
    Phase::Trial,
    Phase::Committed,
];

#[tokio::test]
async fn a_stick_is_applied_with_its_delta() {
    let documents = documents("acme.board-1", 1);
    let daemon = daemon(&documents).await;
    let supervisor =
        FakeSupervisor::start(&daemon.supervisor_socket(), script(true, Phase::Committed));
    connected(&daemon).await;
    let (status, offered) = daemon
        .json(Method::POST, "/coracle/v1/offer", &offer(&documents))
        .await;
    assert_eq!(status, StatusCode::OK, "{offered}");
    let activity = offered["activity"].as_str().unwrap();
    assert_eq!(put(&daemon, CONFIG, CONFIG).await, StatusCode::CREATED);
    assert_eq!(put(&daemon, DELTA, DELTA).await, StatusCode::CREATED);
    let feedback = apply(&daemon, activity).await;
    assert_eq!(phases(&feedback), GOOD);
    assert!(feedback.is_sorted_by(|a, b| a.sequence < b.sequence));
    assert_eq!(
        supervisor.asked(),
        ["offer", "offer", "stage delta", "activate"]
    );
    use StickWord::{Done, Reading};
    assert_eq!(supervisor.stick_words(), [Reading, Done]);
    let blobs = daemon.state().join("store/blobs/sha256");
    assert!(
        blobs.join(blob(CONFIG).digest.hex()).exists(),
        "the configuration stays"
    );
    assert!(
        !blobs.join(blob(DELTA).digest.hex()).exists(),
        "the delta was used up"
    );
}

#[tokio::test]
async fn a_delta_that_does_not_serve_gives_way_to_the_full_layer() {
    let documents = documents("acme.board-1", 1);
    let daemon = daemon(&documents).await;
    let supervisor =
        FakeSupervisor::start(&daemon.supervisor_socket(), script(false, Phase::Committed));
    connected(&daemon).await;
    let (_, offered) = daemon
        .json(Method::POST, "/coracle/v1/offer", &offer(&documents))
        .await;
    let activity = offered["activity"].as_str().unwrap();
    for bytes in [CONFIG, DELTA, LAYER] {
        assert_eq!(put(&daemon, bytes, bytes).await, StatusCode::CREATED);
    }
    assert_eq!(phases(&apply(&daemon, activity).await), GOOD);
    let asked = ["offer", "offer", "stage delta", "stage full", "activate"];
    assert_eq!(supervisor.asked(), asked);
}

#[tokio::test]
async fn a_missing_blob_and_a_rolled_back_set_are_told_as_such() {
    let documents = documents("acme.board-1", 1);
    let daemon = daemon(&documents).await;
    let supervisor =
        FakeSupervisor::start(&daemon.supervisor_socket(), script(true, Phase::RolledBack));
    connected(&daemon).await;
    let (_, offered) = daemon
        .json(Method::POST, "/coracle/v1/offer", &offer(&documents))
        .await;
    let feedback = apply(&daemon, offered["activity"].as_str().unwrap()).await;
    let last = feedback.last().unwrap();
    assert_eq!(
        (last.phase, last.code.as_deref()),
        (Phase::Failed, Some("no-blob"))
    );
    // The offer was used up: nothing may be PUT for it.
    assert_eq!(put(&daemon, CONFIG, CONFIG).await, StatusCode::NOT_FOUND);
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let (_, offered) = daemon
        .json(Method::POST, "/coracle/v1/offer", &offer(&documents))
        .await;
    for bytes in [CONFIG, DELTA] {
        put(&daemon, bytes, bytes).await;
    }
    let feedback = apply(&daemon, offered["activity"].as_str().unwrap()).await;
    assert_eq!(feedback.last().unwrap().phase, Phase::RolledBack);
    use StickWord::{Reading, Refused};
    assert_eq!(
        supervisor.stick_words(),
        [Reading, Refused, Reading, Refused]
    );
}

#[tokio::test]
async fn bad_blobs_and_bad_documents_are_refused() {
    let good = documents("acme.board-1", 1);
    let daemon = daemon(&good).await;
    let supervisor =
        FakeSupervisor::start(&daemon.supervisor_socket(), script(true, Phase::Committed));
    connected(&daemon).await;
    // Signed by a stranger: the supervisor is not even asked.
    let stranger = documents("acme.board-1", 2);
    let (status, error) = daemon
        .json(Method::POST, "/coracle/v1/offer", &offer(&stranger))
        .await;
    assert_eq!(
        (status, error["code"].as_str()),
        (StatusCode::FORBIDDEN, Some("bad-signature"))
    );
    assert!(supervisor.asked().is_empty());
    // The board's lights say so all the same.
    use StickWord::{Reading, Refused};
    assert_eq!(supervisor.stick_words(), [Reading, Refused]);
    assert_eq!(
        put(&daemon, CONFIG, CONFIG).await,
        StatusCode::NOT_FOUND,
        "no offer is open"
    );
    let (status, _) = daemon
        .json(Method::POST, "/coracle/v1/offer", &offer(&good))
        .await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        put(&daemon, CONFIG, b"{\"config\":2}").await,
        StatusCode::BAD_REQUEST,
        "other bytes"
    );
    assert_eq!(
        put(&daemon, CONFIG, b"{\"config\":1} and more").await,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        put(&daemon, CONFIG, b"{").await,
        StatusCode::BAD_REQUEST,
        "too few"
    );
    assert_eq!(
        put(&daemon, b"something else", b"x").await,
        StatusCode::NOT_FOUND
    );
    let huge = vec![b' '; 600 * 1024];
    let (status, _) = daemon.json(Method::POST, "/coracle/v1/offer", &huge).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let (status, _) = daemon
        .json(Method::POST, "/v1.43/containers/create", b"{}")
        .await;
    assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test]
async fn a_release_that_waits_is_accepted_by_its_digest_and_by_nothing_else() {
    let documents = documents("acme.board-1", 1);
    let daemon = daemon(&documents).await;
    let refuses = |request: &Request, _: &State| match request {
        Request::Accept { deployment, .. } if *deployment == blob(LAYER).digest => {
            Some(Answer::Failed {
                code: "not-waiting".into(),
                reason: "it does not wait".into(),
            })
        }
        _ => None,
    };
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), refuses);
    connected(&daemon).await;
    let accept = async |deployment: String| {
        let body = serde_json::json!({ "deployment": deployment }).to_string();
        let answer = daemon
            .send(Method::POST, "/coracle/v1/accept", body.as_bytes())
            .await;
        answer.status()
    };
    assert_eq!(
        accept(blob(CONFIG).digest.to_string()).await,
        StatusCode::NO_CONTENT
    );
    assert!(!accept(blob(LAYER).digest.to_string()).await.is_success());
    assert_eq!(accept("newest".into()).await, StatusCode::BAD_REQUEST);
    assert_eq!(supervisor.asked(), ["accept"; 2]);
    let calls = supervisor.state.calls.lock().unwrap();
    let uid = nix::unistd::getuid().as_raw();
    let by_us = |call: &&Request| matches!(call, Request::Accept { uid: by, .. } if *by == uid);
    assert_eq!(calls.iter().filter(by_us).count(), 2);
}

#[tokio::test]
async fn sigterm_ends_it_and_a_crash_leaves_a_socket_that_the_next_one_replaces() {
    let documents = documents("acme.board-1", 1);
    let mut daemon = daemon(&documents).await;
    daemon.kill();
    assert!(daemon.docker_socket().exists());
    daemon.start().await;
    assert!(daemon.terminate().success(), "{}", daemon.log());
}

#[tokio::test]
async fn root_becomes_a_user_without_a_capability() {
    assert!(nix::unistd::getuid().is_root(), "this test needs root");
    use std::os::unix::fs::PermissionsExt;
    let mut daemon = Daemon::prepare();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(daemon.folder(), open).unwrap();
    let file = daemon.folder().join("coracle.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        config.replace("[agent]", "[agent]\nuser = \"nobody\""),
    )
    .unwrap();
    daemon.start_with(&[]).await;
    let status = daemon.proc("status");
    let value = |key: &str| {
        let line = status.lines().find(|l| l.starts_with(key)).unwrap();
        line[key.len()..]
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(value("Uid:"), ["65534"; 4]);
    assert_eq!(value("Gid:"), ["65534"; 4]);
    for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
        assert_eq!(value(set), ["0000000000000000"], "{set}");
    }
    assert_eq!(value("NoNewPrivs:"), ["1"]);
    let socket = daemon.docker_socket().metadata().unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o660);
}

fn running() -> SetStatus {
    let app = |name: &str, state| AppStatus {
        name: AppName::new(name).unwrap(),
        image: format!("shop/{name}:1"),
        image_manifest: blob(name.as_bytes()).digest,
        state,
        paused: false,
        exit_code: (state == AppState::Exited).then_some(3),
        oom_killed: false,
        restarts: 0,
        healthy: (state == AppState::Running).then_some(true),
        waiting_for: None,
        health_text: None,
        pid: Some(4242),
        started_at: Some(1_700_000_000),
        ip: Some([172, 30, 0, 2].into()),
        networks: vec![],
        network_mode: String::new(),
        network_of: None,
        ports: vec![Port {
            host: 8080,
            container: 80,
            protocol: Protocol::Tcp,
            host_ip: None,
        }],
        args: vec!["/bin/serve".into()],
        init: false,
        limits: AppLimits {
            memory_bytes: 64 << 20,
            cpu_millis: 500,
            pids: 20,
            ..AppLimits::default()
        },
        cgroup: None,
        memory_bytes: Some(5 << 20),
        cpu_usage_us: Some(1_000_000),
        pids: Some(3),
        disk: None,
        users: None,
        cpus: None,
        pressure: None,
        cpu_percent: None,
        devices: vec![],
    };
    SetStatus {
        deployment: blob(b"deployment").digest,
        release: blob(b"release").digest,
        product: "shop".into(),
        version: "1.0".into(),
        state: SetState::Committed,
        stale_since: None,
        apps: vec![app("web", AppState::Running), app("job", AppState::Exited)],
    }
}

/// Runs the real client, beside this thread, which the fake supervisor needs.
async fn docker_output(daemon: &Daemon, args: &[&str]) -> std::process::Output {
    let mut command = Command::new("docker");
    command
        .args([
            "-H",
            &format!("unix://{}", daemon.docker_socket().display()),
        ])
        .args(args)
        .env("DOCKER_CONFIG", daemon.folder());
    tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .expect("this test needs the `docker` client on PATH")
}

/// Runs the real client, which must succeed; what it prints.
async fn docker(daemon: &Daemon, args: &[&str]) -> String {
    let output = docker_output(daemon, args).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "docker {args:?}: {text}{error}\n{}",
        daemon.log()
    );
    text + &error
}

#[tokio::test]
async fn the_unmodified_docker_client_reads_and_restarts() {
    let documents = documents("acme.board-1", 1);
    let daemon = daemon(&documents).await;
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), |_, _| None);
    *supervisor.state.status.lock().unwrap() = {
        let mut status = empty_status();
        status.current = Some(running());
        status
    };
    let logs = daemon.state().join("logs/web");
    std::fs::create_dir_all(&logs).unwrap();
    let line = |n: u32, stream: &str| {
        format!(
            "{{\"log\":\"line {n}\\n\",\"stream\":\"{stream}\",\"time\":\"2024-01-01T00:00:{n:02}.000000000Z\"}}\n"
        )
    };
    std::fs::write(logs.join("web.log.1"), line(1, "stdout")).unwrap();
    std::fs::write(logs.join("web.log"), line(2, "stderr") + &line(3, "stdout")).unwrap();
    connected(&daemon).await;

    let ps = docker(&daemon, &["ps"]).await;
    assert!(
        ps.contains("web") && ps.contains("0.0.0.0:8080->80/tcp") && ps.contains("(healthy)"),
        "{ps}"
    );
    assert!(!ps.contains("job"), "{ps}");
    assert!(docker(&daemon, &["ps", "-a"]).await.contains("Exited (3)"));
    assert!(
        !docker(&daemon, &["ps", "-a", "--filter", "name=job"])
            .await
            .contains("web")
    );
    let format = "{{.State.Pid}} {{.HostConfig.Memory}} {{.NetworkSettings.IPAddress}}";
    let inspect = docker(&daemon, &["inspect", "--format", format, "web"]).await;
    assert_eq!(inspect.trim(), "4242 67108864 172.30.0.2");
    assert_eq!(
        docker(&daemon, &["logs", "web"]).await,
        "line 1\nline 3\nline 2\n"
    );
    assert_eq!(
        docker(&daemon, &["logs", "--tail", "1", "web"]).await,
        "line 3\n"
    );
    assert_eq!(
        docker(
            &daemon,
            &["logs", "--since", "2024-01-01T00:00:02Z", "-t", "web"]
        )
        .await,
        "2024-01-01T00:00:03.000000000Z line 3\n2024-01-01T00:00:02.000000000Z line 2\n"
    );
    let stats = docker(&daemon, &["stats", "--no-stream", "web"]).await;
    assert!(stats.contains("5MiB / 64MiB"), "{stats}");
    assert!(docker(&daemon, &["version"]).await.contains("1.43"));
    assert!(
        docker(&daemon, &["info"])
            .await
            .contains("Coracle on generic")
    );
    assert!(docker(&daemon, &["images"]).await.contains("shop/web"));
    docker(&daemon, &["restart", "web"]).await;
    docker(&daemon, &["stop", "web"]).await;
    docker(&daemon, &["start", "web"]).await;
    assert_eq!(supervisor.asked(), ["control"; 3]);
    let uid = nix::unistd::getuid().as_raw();
    let log = daemon.log();
    for action in ["Restart", "Stop", "Start"] {
        let words = [
            "audit",
            "local request",
            &format!("uid={uid}"),
            "app=web",
            &format!("action={action}"),
        ];
        let is_it = |line: &str| words.iter().all(|word| line.contains(word));
        assert_eq!(
            log.lines().filter(|line| is_it(line)).count(),
            1,
            "{action}:\n{log}"
        );
    }
    let refused = docker_output(&daemon, &["rename", "web", "other"]).await;
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(told.contains("Coracle does not serve"), "{told}");
}

#[tokio::test]
async fn the_unmodified_docker_client_pauses_and_sends_signals() {
    let documents = documents("acme.board-1", 1);
    let daemon = daemon(&documents).await;
    let failed = |code: &str, reason: &str| {
        Some(Answer::Failed {
            code: code.into(),
            reason: reason.into(),
        })
    };
    let script = move |request: &Request, state: &State| {
        let mut status = state.status.lock().unwrap();
        let app = &mut status.current.as_mut().unwrap().apps[0];
        match request {
            Request::Control { action, .. } => {
                let paused = *action == AppAction::Pause;
                match (app.paused, paused) {
                    (true, true) => return failed("paused", "app `web` is paused already"),
                    (false, false) => return failed("not-paused", "app `web` is not paused"),
                    _ => app.paused = paused,
                }
            }
            Request::Signal { app, .. } if app.as_str() == "job" => {
                return failed("not-running", "app `job` does not run");
            }
            Request::Signal { signal, .. } if signal == "NOPE" => {
                return failed("bad-signal", "invalid signal: NOPE");
            }
            _ => {}
        }
        None
    };
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), script);
    supervisor.state.status.lock().unwrap().current = Some(running());
    connected(&daemon).await;

    docker(&daemon, &["pause", "web"]).await;
    let ps = docker(&daemon, &["ps"]).await;
    assert!(ps.contains("(Paused)") && !ps.contains("healthy"), "{ps}");
    let format = "{{.State.Status}} {{.State.Running}} {{.State.Paused}}";
    let inspect = docker(&daemon, &["inspect", "--format", format, "web"]).await;
    assert_eq!(inspect.trim(), "paused true true");
    let list = docker(&daemon, &["ps", "-q", "--filter", "status=paused"]).await;
    assert_eq!(list.lines().count(), 1);
    let format = "{{.ContainersRunning}} {{.ContainersPaused}} {{.ContainersStopped}}";
    let info = docker(&daemon, &["info", "--format", format]).await;
    assert_eq!(info.trim(), "0 1 1");
    let again = docker_output(&daemon, &["pause", "web"]).await;
    let told = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success(), "{told}");
    assert!(told.contains("paused already"), "{told}");
    docker(&daemon, &["unpause", "web"]).await;
    assert!(docker(&daemon, &["ps"]).await.contains("(healthy)"));

    docker(&daemon, &["kill", "-s", "SIGHUP", "web"]).await;
    docker(&daemon, &["kill", "-s", "RTMIN+3", "web"]).await;
    docker(&daemon, &["kill", "web"]).await;
    let signals: Vec<_> = {
        let calls = supervisor.state.calls.lock().unwrap();
        let of = |request: &Request| match request {
            Request::Signal { signal, .. } => Some(signal.clone()),
            _ => None,
        };
        calls.iter().filter_map(of).collect()
    };
    assert_eq!(signals[..2], ["SIGHUP", "RTMIN+3"]);
    assert!(signals[2].ends_with("KILL"), "{signals:?}");

    // As Docker's engine answers.
    for (path, status) in [
        ("web/pause", 204),
        ("web/pause", 409),
        ("web/unpause", 204),
        ("web/unpause", 500),
        ("absent/pause", 404),
        ("web/kill?signal=NOPE", 400),
        ("job/kill", 409),
        ("web/kill?signal=", 204),
    ] {
        let path = format!("/containers/{path}");
        let reply = daemon.send(Method::POST, &path, b"").await;
        assert_eq!(reply.status().as_u16(), status, "{path}");
    }

    let log = daemon.log();
    for action in ["Pause", "Resume", "Signal(\"SIGHUP\")"] {
        let uid = format!("uid={}", nix::unistd::getuid());
        let words = ["audit", "local request", &uid, "app=web"];
        let action = format!("action={action}");
        let is_it = |line: &&str| words.iter().all(|word| line.contains(word));
        let lines = log.lines().filter(is_it);
        let count = lines.filter(|line| line.contains(&action)).count();
        assert!(count > 0, "no line with {action}:\n{log}");
    }
}

#[tokio::test]
async fn the_unmodified_docker_client_attaches_waits_and_lists_processes() {
    let documents = documents("acme.board-1", 1);
    let daemon = daemon(&documents).await;
    let script = |request: &Request, _: &State| match request {
        Request::Processes { app } if app.as_str() == "web" => Some(Answer::Processes {
            titles: vec!["PID".into(), "CMD".into()],
            rows: vec![vec!["4242".into(), "/bin/serve -v".into()]],
        }),
        Request::Processes { .. } => Some(Answer::Failed {
            code: "not-running".into(),
            reason: "app `job` does not run".into(),
        }),
        _ => None,
    };
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), script);
    supervisor.state.status.lock().unwrap().current = Some(running());
    let logs = daemon.state().join("logs/web");
    std::fs::create_dir_all(&logs).unwrap();
    let write = |text: &str, stream: &str| {
        use std::io::Write;
        let mut options = std::fs::File::options();
        let mut log = options
            .create(true)
            .append(true)
            .open(logs.join("web.log"))
            .unwrap();
        let line =
            serde_json::json!({"log": text, "stream": stream, "time": "2024-01-01T00:00:00Z"});
        writeln!(log, "{line}").unwrap();
    };
    write("of before\n", "stdout");
    connected(&daemon).await;

    let top = docker(&daemon, &["top", "web"]).await;
    assert!(
        top.contains("PID") && top.contains("/bin/serve -v"),
        "{top}"
    );
    for (path, status) in [
        ("web/top?ps_args=-ef", 200),
        ("web/top?ps_args=aux", 400),
        ("job/top", 409),
        ("absent/top", 404),
        ("web/wait?condition=removed", 400),
        ("absent/wait", 404),
    ] {
        let method = match path.contains("top") {
            true => Method::GET,
            false => Method::POST,
        };
        let path = format!("/containers/{path}");
        let reply = daemon.send(method, &path, b"").await;
        assert_eq!(reply.status().as_u16(), status, "{path}");
    }

    // One that does not run is not waited for.
    assert_eq!(docker(&daemon, &["wait", "job"]).await.trim(), "3");
    let refused = docker_output(&daemon, &["attach", "job"]).await;
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        told.contains("cannot attach to a stopped container"),
        "{told}"
    );

    let attached = docker_output(&daemon, &["attach", "web"]);
    let waiting = docker_output(&daemon, &["wait", "web"]);
    let ends = async {
        // Until both clients hang on: the log says nothing of it.
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        write("from now on\n", "stdout");
        write("and faults\n", "stderr");
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        {
            let mut status = supervisor.state.status.lock().unwrap();
            let app = &mut status.current.as_mut().unwrap().apps[0];
            (app.state, app.pid, app.exit_code) = (AppState::Exited, None, Some(7));
        }
        let changed = Event::AppChanged {
            app: AppName::new("web").unwrap(),
            what: "it exited with 7".into(),
        };
        supervisor.state.events.send(changed).unwrap();
    };
    let (attached, waiting, ()) = tokio::join!(attached, waiting, ends);
    assert_eq!(String::from_utf8_lossy(&waiting.stdout).trim(), "7");
    assert_eq!(String::from_utf8_lossy(&attached.stdout), "from now on\n");
    assert_eq!(String::from_utf8_lossy(&attached.stderr), "and faults\n");
    assert_eq!(attached.status.code(), Some(7), "the app's own");
}

/// Whoever goes while an app writes nothing makes room for others.
#[tokio::test]
async fn an_attached_client_that_has_gone_is_noticed() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let documents = documents("acme.board-1", 1);
    let daemon = daemon(&documents).await;
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), |_, _| None);
    supervisor.state.status.lock().unwrap().current = Some(running());
    connected(&daemon).await;
    let attach = async || {
        let mut stream = tokio::net::UnixStream::connect(daemon.docker_socket())
            .await
            .unwrap();
        let head = "POST /containers/web/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\n\
                    Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let head = support::head_of(&mut stream).await;
        // It sends no more, and goes on to read, as the client does.
        stream.shutdown().await.unwrap();
        (head, stream)
    };
    let mut streams = Vec::new();
    for _ in 0..16 {
        let (head, stream) = attach().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        streams.push(stream);
    }
    let (head, _) = attach().await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    // Half closed for longer than it takes to notice one that has gone.
    let mut first = streams.remove(0);
    let mut byte = [0];
    let heard = first.read(&mut byte);
    let heard = tokio::time::timeout(std::time::Duration::from_secs(7), heard).await;
    assert!(heard.is_err(), "it was given up while it listened");
    drop(streams);
    let mut heads = Vec::new();
    for _ in 0..40 {
        let (head, _) = attach().await;
        if head.starts_with("HTTP/1.1 101 ") {
            return;
        }
        heads.push(head);
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    panic!("no room comes back: {heads:?}");
}

/// One that makes containers by hand is told where a release says what was asked, option by option.
#[tokio::test]
async fn the_unmodified_docker_client_is_told_what_a_release_says_instead() {
    let documents = documents("acme.board-1", 1);
    let daemon = daemon(&documents).await;
    let asked = async |options: &str| {
        let image = ["shop/web:1", "sh"];
        let arguments = options.split(' ').filter(|word| !word.is_empty());
        let arguments: Vec<&str> = arguments.chain(image).collect();
        let refused = docker_output(&daemon, &arguments).await;
        assert!(!refused.status.success(), "{options}");
        String::from_utf8_lossy(&refused.stderr).into_owned()
    };
    let whole = "containers are the apps of a signed release, which is whole: none is added to it on a board. Declare an app in \
                 [[apps]] of the next release (docs/release-file.md)";
    for nothing_of_networks in ["run", "create --name mine -m 64m"] {
        let told = asked(nothing_of_networks).await;
        let told = told.lines().next().unwrap_or_default();
        assert!(told.ends_with(whole), "{nothing_of_networks}: {told}");
    }
    for (options, said) in [
        ("--network host", "--network is `mode = \"host\"`"),
        ("--network none", "--network is `mode = \"none\"`"),
        ("--network bridge", "--network is `mode = \"bridge\"`"),
        (
            "--network container:web",
            "--network is `mode = \"container\"` and `container = \"web\"`",
        ),
        ("--network front", "--network is `networks = [\"front\"]`"),
        (
            "--network front --ip 10.0.1.9",
            "--network is `networks = [\"front\"]`, --ip is `ip` of an entry of `networks`",
        ),
        (
            "--network front --ip6 fd00::9",
            "--network is `networks = [\"front\"]`, --ip6 is nothing: it follows from `ip`",
        ),
        (
            "--network front --network-alias www",
            "--network is `networks = [\"front\"]`, --network-alias is `aliases` of an entry of `networks`",
        ),
        ("-p 8080:80 -p 127.0.0.1:5353:53/udp", "-p is `ports`"),
        ("-P", "-P is `ports`, where each is said"),
        ("--dns 192.0.2.53", "--dns is `dns`"),
        ("--dns-search example.org", "--dns-search is `dns_search`"),
        (
            "--add-host printer:192.0.2.9",
            "--add-host is `extra_hosts`",
        ),
        (
            "-p 80:80 --dns 192.0.2.53 --add-host a:192.0.2.9",
            "-p is `ports`, --dns is `dns`, --add-host is `extra_hosts`",
        ),
    ] {
        let told = asked(&format!("run {options}")).await;
        let told = told.lines().next().unwrap_or_default();
        let expected = format!("{whole}; in its [apps.network], {said}");
        assert!(told.ends_with(&expected), "{options}: {told}");
    }
    // Clients since 25 send a hardware address from API 1.44 on alone, and say so; older ones send it for the container.
    let told = asked("run --mac-address 02:42:00:00:00:0a").await;
    assert!(told.contains("requires API version 1.44"), "{told}");
    let body =
        serde_json::json!({"Image": "shop/web:1", "MacAddress": "02:42:00:00:00:0a"}).to_string();
    let reply = daemon
        .send(Method::POST, "/containers/create", body.as_bytes())
        .await;
    assert_eq!(reply.status(), StatusCode::NOT_IMPLEMENTED);
    let told = reply.into_body().collect().await.unwrap().to_bytes();
    let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
    let said = "--mac-address is `mac` of an entry of `networks`";
    assert_eq!(
        told["message"],
        format!("{whole}; in its [apps.network], {said}")
    );
}

#[tokio::test]
async fn where_people_may_change_nothing_they_bring_nothing_either() {
    assert!(nix::unistd::getuid().is_root(), "this test needs root");
    use std::os::unix::fs::PermissionsExt;
    let mut daemon = Daemon::prepare();
    let file = daemon.folder().join("coracle.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{config}[local]\nallow = \"none\"\n")).unwrap();
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), |_, _| None);
    daemon.start().await;
    connected(&daemon).await;
    for (path, mode) in [
        (daemon.folder().to_owned(), 0o755),
        (daemon.folder().join("run"), 0o755),
        (daemon.docker_socket(), 0o666),
    ] {
        let open = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, open).unwrap();
    }
    let socket = daemon.docker_socket();
    let by_nobody = |method: &str, path: &str| {
        let output = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "curl"])
            .args(["--silent", "--write-out", " %{http_code}", "--request"])
            .args([method, "--data", "{}", "--unix-socket"])
            .arg(&socket)
            .arg(format!("http://board/coracle/v1/{path}"))
            .output()
            .expect("setpriv and curl: apt-get install util-linux curl");
        String::from_utf8(output.stdout).unwrap()
    };
    let digest = blob(LAYER).digest.hex();
    for (method, path) in [
        ("POST", "enrol"),
        ("POST", "offer"),
        ("POST", "root"),
        ("POST", "apply"),
        ("POST", "accept"),
        ("POST", "stick/result"),
        ("POST", "store/check"),
        ("POST", "store/mend"),
        ("PUT", &format!("blobs/sha256/{digest}")),
    ] {
        let said = by_nobody(method, path);
        assert!(said.ends_with(" 403"), "{path}: {said}");
        assert!(said.contains("not-allowed"), "{path}: {said}");
    }
    assert!(by_nobody("GET", "status").ends_with(" 200"));
    assert!(supervisor.asked().iter().all(|asked| *asked == "status"));
    // Root's are judged by what they hold.
    let answer = daemon.send(Method::POST, "/coracle/v1/accept", b"{}").await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_request_that_is_not_served_is_heard_out() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let documents = documents("acme.board-1", 1);
    let daemon = daemon(&documents).await;
    let mut stream = tokio::net::UnixStream::connect(daemon.docker_socket())
        .await
        .unwrap();
    let head = "POST /containers/web/rename HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\n{}";
    stream.write_all(head.as_bytes()).await.unwrap();
    let early =
        tokio::time::timeout(std::time::Duration::from_millis(300), stream.readable()).await;
    assert!(early.is_err(), "it is answered before it has been heard");
    stream.write_all(b"\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains(" 501 "), "{answer}");
    assert!(answer.contains("Coracle does not serve"), "{answer}");
}

#[tokio::test]
async fn a_followed_log_goes_on_over_a_rotation() {
    let documents = documents("acme.board-1", 1);
    let daemon = daemon(&documents).await;
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), |_, _| None);
    supervisor.state.status.lock().unwrap().current = Some(running());
    let logs = daemon.state().join("logs/web");
    std::fs::create_dir_all(&logs).unwrap();
    let line = |n: u32| {
        format!(
            "{{\"log\":\"line {n}\\n\",\"stream\":\"stdout\",\"time\":\"2024-01-01T00:00:{n:02}Z\"}}\n"
        )
    };
    std::fs::write(logs.join("web.log"), line(1)).unwrap();
    connected(&daemon).await;
    let path = "/containers/web/logs?stdout=1&follow=1";
    let mut body = daemon.send(Method::GET, path, b"").await.into_body();
    let mut got = Vec::new();
    for n in 2..5 {
        let frame = body.frame().await.unwrap().unwrap();
        got.extend_from_slice(frame.data_ref().unwrap());
        std::fs::rename(logs.join("web.log"), logs.join("web.log.1")).unwrap();
        std::fs::write(logs.join("web.log"), line(n)).unwrap();
    }
    let frame = body.frame().await.unwrap().unwrap();
    got.extend_from_slice(frame.data_ref().unwrap());
    let text = String::from_utf8_lossy(&got);
    for n in 1..5 {
        assert!(text.contains(&format!("line {n}\n")), "{text}");
    }
}

#[tokio::test]
async fn the_unmodified_docker_client_sees_networks() {
    let documents = documents("acme.board-1", 1);
    let daemon = daemon(&documents).await;
    let supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), |_, _| None);
    *supervisor.state.status.lock().unwrap() = {
        let mut status = empty_status();
        let network = |name: &str, bridge: &str, octet: u8, internal: bool| {
            serde_json::json!({
                "name": name, "bridge": bridge, "internal": internal, "mtu": 1500, "resolver": name != "bridge",
                "subnets": [
                    {"address": format!("10.0.{octet}.0"), "prefix": 24, "gateway": format!("10.0.{octet}.1")},
                    {"address": format!("fd00:{octet}::"), "prefix": 64, "gateway": format!("fd00:{octet}::1")}
                ]
            })
        };
        status.networks = serde_json::from_value(serde_json::json!([
            network("bridge", "cor0", 0, false),
            network("front", "cor-n01", 1, false),
            network("back", "cor-n02", 2, true),
            {
                "name": "plant", "bridge": "eth1", "driver": "macvlan", "internal": false, "mtu": 1500, "resolver": false,
                "subnets": [{"address": "192.168.7.0", "prefix": 24, "gateway": "0.0.0.0"}],
                "overlaps": "route 192.168.0.0/16 of wlan0"
            }
        ]))
        .unwrap();
        let mut set = running();
        set.apps[0].networks = serde_json::from_value(serde_json::json!([
            {
                "network": "front", "interface": "eth0", "ip": "10.0.1.2", "prefix": 24, "gateway": "10.0.1.1",
                "ipv6": ["fd00:1::2", 64, "fd00:1::1"], "mac": "02:c0:0a:00:01:02", "aliases": ["www"],
                "rates": {"ingress_bytes_per_second": 8_000_000, "egress_bytes_per_second": 2_000_000},
                "traffic": {"received_bytes": 1_500_000, "received_packets": 1, "sent_bytes": 2000, "sent_packets": 2}
            },
            {"network": "back", "interface": "eth1", "ip": "10.0.2.2", "prefix": 24, "gateway": "10.0.2.1",
             "mac": "02:c0:0a:00:02:02"}
        ]))
        .unwrap();
        set.apps[0].network_mode = "front".into();
        set.apps[1].network_of = Some(AppName::new("web").unwrap());
        set.apps[1].ip = None;
        status.current = Some(set);
        status
    };
    connected(&daemon).await;

    // What a release says whole cannot be added to by hand.
    for arguments in [
        &["network", "create", "mine"][..],
        &[
            "network",
            "create",
            "-d",
            "macvlan",
            "-o",
            "parent=eth1",
            "mine",
        ],
        &["network", "rm", "front"],
        &["network", "connect", "front", "web"],
        &["network", "disconnect", "front", "web"],
        &["network", "prune", "--force"],
    ] {
        let refused = docker_output(&daemon, arguments).await;
        assert!(!refused.status.success(), "{arguments:?}");
        let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            refused.contains("are part of a signed release, which is whole"),
            "{arguments:?}: {refused}"
        );
    }

    let names = "{{.Name}} {{.Driver}} {{.Internal}}";
    let list = docker(
        &daemon,
        &[
            "network",
            "ls",
            "--format",
            "{{.Name}} {{.Driver}} {{.Scope}}",
        ],
    )
    .await;
    let mut lines: Vec<_> = list.lines().collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "back bridge local",
            "bridge bridge local",
            "front bridge local",
            "host host local",
            "none null local",
            "plant macvlan local"
        ]
    );
    let custom = docker(
        &daemon,
        &[
            "network",
            "ls",
            "--filter",
            "type=custom",
            "--filter",
            "name=ba",
            "-q",
            "--no-trunc",
        ],
    )
    .await;
    let back = custom.trim();
    // By the beginning of its id.
    assert_eq!(
        docker(
            &daemon,
            &["network", "inspect", "--format", names, &back[..12]]
        )
        .await
        .trim(),
        "back bridge true"
    );
    let format = "{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}} {{end}}{{.EnableIPv6}} \
                  {{range .Containers}}{{.Name}} {{.IPv4Address}} {{.IPv6Address}}{{end}} \
                  {{index .Options \"com.docker.network.bridge.name\"}}";
    assert_eq!(
        docker(
            &daemon,
            &["network", "inspect", "--format", format, "front"]
        )
        .await
        .trim(),
        "10.0.1.0/24 10.0.1.1 fd00:1::/64 fd00:1::1 true web 10.0.1.2/24 fd00:1::2/64 cor-n01"
    );
    let format = "{{range .IPAM.Config}}{{.Subnet}} [{{.Gateway}}]{{end}} {{.Options.parent}}, {{index .Labels \"coracle.overlaps\"}}";
    assert_eq!(
        docker(
            &daemon,
            &["network", "inspect", "--format", format, "plant"]
        )
        .await
        .trim(),
        "192.168.7.0/24 [] eth1, route 192.168.0.0/16 of wlan0"
    );
    let unknown = docker_output(&daemon, &["network", "inspect", "side"]).await;
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("network side not found"));
    let wrong = docker_output(&daemon, &["network", "ls", "--filter", "color=red"]).await;
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("invalid filter 'color'"));

    let format = "{{.HostConfig.NetworkMode}}{{range $name, $at := .NetworkSettings.Networks}} {{$name}} {{$at.IPAddress}} \
                  {{$at.Gateway}} {{$at.IPPrefixLen}} {{$at.MacAddress}} {{$at.GlobalIPv6Address}} {{$at.Aliases}}{{end}}";
    assert_eq!(
        docker(&daemon, &["inspect", "--format", format, "web"])
            .await
            .trim(),
        "front back 10.0.2.2 10.0.2.1 24 02:c0:0a:00:02:02  [] front 10.0.1.2 10.0.1.1 24 02:c0:0a:00:01:02 fd00:1::2 [www]"
    );
    let id = docker(&daemon, &["inspect", "--format", "{{.Id}}", "web"]).await;
    let mode = docker(
        &daemon,
        &["inspect", "--format", "{{.HostConfig.NetworkMode}}", "job"],
    )
    .await;
    assert_eq!(mode.trim(), format!("container:{}", id.trim()));
    let stats = docker(
        &daemon,
        &["stats", "--no-stream", "--format", "{{.NetIO}}", "web"],
    )
    .await;
    assert_eq!(stats.trim(), "1.5MB / 2kB");
    let reply = daemon.send(Method::GET, "/coracle/v1/metrics", b"").await;
    let metrics = reply.into_body().collect().await.unwrap().to_bytes();
    let metrics = String::from_utf8_lossy(&metrics);
    for line in [
        "coracle_app_network_received_bytes_total{app=\"web\"} 1500000\n",
        "coracle_app_network_sent_bytes_total{app=\"web\"} 2000\n",
        "coracle_app_network_receive_limit_bytes_per_second{app=\"web\",network=\"front\"} 8000000\n",
        "coracle_app_network_send_limit_bytes_per_second{app=\"web\",network=\"front\"} 2000000\n",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    assert!(!metrics.contains("bytes_total{app=\"job\"}"), "{metrics}");
    assert!(!metrics.contains("network=\"back\"}"), "{metrics}");
    // What it may pass is there for whoever asks for the numbers themselves; the client shows none of it.
    let reply = daemon
        .send(
            Method::GET,
            "/containers/web/stats?stream=0&one-shot=1",
            b"",
        )
        .await;
    let stats = reply.into_body().collect().await.unwrap().to_bytes();
    let stats: serde_json::Value = serde_json::from_slice(&stats).unwrap();
    assert_eq!(
        stats["networks"]["eth0"]["tx_limit_bytes_per_second"],
        2_000_000
    );
}

/// Of another board's assignment, and of an old one, too: who signed it is all that counts.
#[tokio::test]
async fn whether_a_stick_may_ask_for_a_result_is_said_by_who_signed_its_assignment() {
    use AssignmentRole::{Deploy as Online, OfflineDeploy as Stick};
    let documents = documents("acme.board-1", 1);
    let daemon = daemon(&documents).await;
    let trusted = Trusted {
        root: documents.root.clone(),
        state: TrustState::of(
            &TrustedRoot::from_image(&documents.root).unwrap(),
            Ok(&Seen::default()),
        ),
    };
    let _supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), move |request, _| {
        (*request == Request::Trust).then(|| Answer::Trust(trusted.clone()))
    });
    connected(&daemon).await;
    let with = |role, result| Deploy {
        role,
        result,
        target: Target::Boards([BoardId::new("acme.other").unwrap()].into()),
        ..documents.assignment.clone()
    };
    for (deploy, key, status, code) in [
        (with(Stick, true), Role::OfflineDeploy, 204, ""),
        (with(Stick, false), Role::OfflineDeploy, 403, "not-asked"),
        (with(Stick, true), Role::Deploy, 403, "bad-signature"),
        (with(Stick, true), Role::Root, 403, "bad-signature"),
        (with(Online, true), Role::Deploy, 403, "malformed"),
    ] {
        let deploy = documents.signed(&deploy, key);
        let body = serde_json::to_vec(&serde_json::json!({ "deploy": deploy })).unwrap();
        let answer = daemon
            .send(Method::POST, "/coracle/v1/stick/result", &body)
            .await;
        assert_eq!(answer.status().as_u16(), status, "{code}");
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        let said = String::from_utf8_lossy(&bytes).into_owned();
        assert!(said.contains(code), "{said}");
    }
}

#[tokio::test]
async fn a_reload_takes_a_good_file_and_refuses_one_that_would_keep_the_daemon_down() {
    let mut daemon = Daemon::prepare();
    let _supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), |_, _| None);
    daemon.start().await;
    let file = daemon.folder().join("coracle.toml");
    let good = std::fs::read_to_string(&file).unwrap();
    let pid = daemon.pid();
    let hang_up = || {
        let pid = nix::unistd::Pid::from_raw(pid as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
    };
    for (text, words) in [
        (good.replace("[log]", "[lok]"), "unknown field `lok`"),
        (
            good.replace("\"run\"", "\"elsewhere\""),
            "agent.run_dir is another",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        hang_up();
        support::until(words, || daemon.log().contains(words)).await;
        let reply = daemon.send(Method::GET, "/_ping", b"").await;
        assert_eq!(reply.status(), 200);
    }
    assert_eq!(daemon.log().matches("ready version=").count(), 1);

    let quiet = good.replace("debug", "info");
    std::fs::write(&file, format!("config_version = 2\nx = 1\n{quiet}")).unwrap();
    hang_up();
    support::until("the next program", || {
        daemon.log().matches("ready version=").count() == 2
    })
    .await;
    assert_eq!(daemon.pid(), pid, "in the same process");
    let reply = daemon.send(Method::GET, "/_ping", b"").await;
    assert_eq!(reply.status(), 200);
    let log = daemon.log();
    let (_, after) = log.rsplit_once("draining").unwrap();
    assert!(after.contains("passed over key=\"x\""), "{after}");
    assert!(!after.contains("DEBUG"), "{after}");
}

/// A driver takes as long as it likes: a pipe that nobody writes to stands for one.
#[tokio::test]
async fn a_sensor_that_hangs_holds_nobody_up() {
    let documents = documents("acme.b1", 1);
    let mut daemon = Daemon::prepare();
    std::fs::write(daemon.folder().join("root.json"), documents.root.to_json()).unwrap();
    let file = daemon.folder().join("coracle.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let text = text.replace("[agent]\n", "[agent]\nhardware_root = \"hardware\"\n");
    std::fs::write(&file, text).unwrap();
    let zone = daemon
        .folder()
        .join("hardware/sys/class/thermal/thermal_zone0");
    std::fs::create_dir_all(&zone).unwrap();
    std::fs::write(zone.join("type"), "slow-thermal\n").unwrap();
    let temp = zone.join("temp");
    assert!(
        Command::new("mkfifo")
            .arg(&temp)
            .status()
            .unwrap()
            .success()
    );
    daemon.start().await;

    let path = "/coracle/v1/status";
    let start = std::time::Instant::now();
    let meanwhile = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let ping = daemon.send(Method::GET, "/_ping", b"").await;
        (ping.status(), start.elapsed())
    };
    let ((_, told), (ping, at)) = tokio::join!(daemon.json(Method::GET, path, b""), meanwhile);
    assert_eq!(ping, StatusCode::OK);
    assert!(
        at < start.elapsed() - std::time::Duration::from_secs(1),
        "{at:?}"
    );
    assert!(told["board_use"]["zone"].is_null(), "{told}");

    // It answers, and the next look is told.
    let pipe = temp.clone();
    tokio::task::spawn_blocking(move || std::fs::write(pipe, "45000\n").unwrap())
        .await
        .unwrap();
    std::fs::remove_file(&temp).unwrap();
    std::fs::write(&temp, "46000\n").unwrap();
    let (_, told) = daemon.json(Method::GET, path, b"").await;
    assert_eq!(told["board_use"]["zone"], "slow-thermal", "{told}");
    assert_eq!(told["board_use"]["millidegrees"], 46_000);
}

/// Each look asks root's one thread and the sensors.
#[tokio::test]
async fn whoever_asks_for_metrics_without_end_is_told_those_of_this_second() {
    let documents = documents("acme.b1", 1);
    let mut daemon = Daemon::prepare();
    std::fs::write(daemon.folder().join("root.json"), documents.root.to_json()).unwrap();
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = looks.clone();
    let _supervisor = FakeSupervisor::start(&daemon.supervisor_socket(), move |request, _| {
        let is_look = matches!(request, Request::Status);
        counted.fetch_add(is_look.into(), Ordering::Relaxed);
        None
    });
    daemon.start().await;
    let ask = async || {
        let reply = daemon.send(Method::GET, "/coracle/v1/metrics", b"").await;
        let text = reply.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8_lossy(&text).into_owned()
    };
    let requests = |text: &str| -> u64 {
        let line = text
            .lines()
            .find(|line| line.starts_with("coracle_api_requests_total "));
        line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    let first = requests(&ask().await);
    let (before, start) = (looks.load(Ordering::Relaxed), std::time::Instant::now());
    for _ in 0..200 {
        ask().await;
    }
    let seconds = start.elapsed().as_secs() as usize + 1;
    let more = looks.load(Ordering::Relaxed) - before;
    // The daemon looks by itself now and then too.
    assert!(more <= 2 * seconds + 2, "{more} looks in {seconds} s");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    assert!(requests(&ask().await) >= first + 200, "they are told anew");
}

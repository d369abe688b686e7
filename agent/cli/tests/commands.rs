//! Commands against a daemon that says what the test wants: output and exit codes.

#[allow(dead_code, reason = "not every file of tests asks all of the stand-in")]
mod daemon;

use coracle_board_support::config::Config;
use daemon::{Daemon, coracle};
use serde_json::{Value, json};
use std::process::{Command, Output};

const STATUS: &str = "GET /coracle/v1/status";

fn digest(letter: &str) -> String {
    format!("sha256:{}", letter.repeat(64))
}

fn status() -> Value {
    let app = |name: &str, state: &str| {
        json!({
            "name": name, "image": "shop/web:1", "image_manifest": digest("a"), "state": state,
            "exit_code": 137, "oom_killed": true, "restarts": 1, "healthy": null, "health_text": null,
            "pid": 9, "started_at": 1, "ip": null, "ports": [], "args": ["/app"],
            "limits": {"memory_bytes": 67108864, "cpu_millis": 500, "pids": 64}, "cgroup": null,
            "memory_bytes": 1048576, "cpu_usage_us": 100, "pids": 3
        })
    };
    json!({
        "version": "0.1.0",
        "board": {"profile": "generic-x86-64", "hardware": "generic", "architecture": "x86_64",
                  "kernel": "6.6.1", "agent": "0.1.0", "memory_bytes": 1073741824, "cpus": 2},
        "current": {"deployment": digest("b"), "release": digest("c"), "product": "shop",
                    "version": "1.2", "state": "committed",
                    "apps": [app("web", "running"), app("worker", "exited")]},
        "previous": null, "last_failure": null, "layers": [digest("d")],
        "link": {"board": "acme.b7", "console": "fleet:8443", "broker": null, "connected": false,
                 "session": 1, "since": 5, "error": "no route", "connects": 0, "waiting": 2},
        "daemon": "0.1.0", "supervisor_up": true,
        "board_use": {"memory_total_bytes": 1073741824, "memory_used_bytes": 268435456, "load_hundredths": 52,
            "zone": "cpu-thermal", "millidegrees": 61200, "state_total_bytes": 8589934592u64,
            "state_free_bytes": 3221225472u64, "fans": 2}
    })
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn ps_shows_apps_and_as_json_what_the_daemon_said() {
    let daemon = Daemon::start();
    daemon.answer(STATUS, 200, status().to_string());
    let table = out(&daemon.run(&["ps"]));
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("NAME    STATE"), "{table}");
    assert!(lines[1].starts_with("web     running"), "{table}");
    assert!(
        lines[2].starts_with("worker  exited (out of memory)"),
        "{table}"
    );
    let listed: Value = serde_json::from_str(&out(&daemon.run(&["ps", "--json"]))).unwrap();
    assert_eq!(listed[0]["name"], "web");
    assert_eq!(listed.as_array().unwrap().len(), 2);
}

#[test]
fn status_for_people_and_for_programs() {
    let daemon = Daemon::start();
    daemon.answer(STATUS, 200, status().to_string());
    let text = out(&daemon.run(&["status"]));
    for part in [
        "board     acme.b7\n",
        "memory    256 MiB of 1 GiB in use\n",
        "load      0.52\n",
        "heat      cpu-thermal 61.2 °C\n",
        "disk      3 GiB of 8 GiB free\n",
        "set       shop 1.2, kept\n",
        "apps      1 of 2 run\n",
        "link      not connected to fleet:8443: no route, 2 reports wait\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let body: Value = serde_json::from_str(&out(&daemon.run(&["--json", "status"]))).unwrap();
    assert_eq!(body, status());
}

#[test]
fn a_supervisor_that_is_down_is_said_and_is_no_success() {
    let daemon = Daemon::start();
    let body = json!({"link": {"connected": false, "since": 0}, "daemon": "0.1.0", "supervisor_up": false});
    daemon.answer(STATUS, 200, body.to_string());
    for command in ["ps", "status"] {
        let output = daemon.run(&[command]);
        assert_eq!(code(&output), 1);
        assert!(
            err(&output).contains("the supervisor does not"),
            "{}",
            err(&output)
        );
    }
    assert_eq!(code(&daemon.run(&["status", "--json"])), 0);
}

#[test]
fn nobody_listens() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("none.sock");
    for args in [
        &["ps"][..],
        &["status"],
        &["logs", "web"],
        &["stop", "web"],
        &["images"],
    ] {
        let output = coracle(&socket, args);
        assert_eq!(code(&output), 4, "{args:?}");
        assert!(err(&output).contains("none.sock"), "{}", err(&output));
    }
    assert_eq!(code(&coracle(&socket, &["version"])), 0);
    assert_eq!(code(&coracle(&socket, &["sp"])), 2);
    assert_eq!(code(&coracle(&socket, &["--help"])), 0);
}

#[test]
fn logs_go_where_the_app_wrote_them() {
    let daemon = Daemon::start();
    let frames = b"\x01\0\0\0\0\0\0\x04out\n\x02\0\0\0\0\0\0\x04err\n\x01\0\0\0\0\0\0\x02x\n";
    let line = "GET /containers/web/logs?stdout=1&stderr=1&tail=5";
    daemon.answer(line, 200, &frames[..]);
    let output = daemon.run(&["logs", "--tail", "5", "web"]);
    assert_eq!(
        (out(&output).as_str(), err(&output).as_str()),
        ("out\nx\n", "err\n")
    );
    let missing = "GET /containers/api/logs?stdout=1&stderr=1";
    daemon.answer(missing, 404, r#"{"message":"No such container: api"}"#);
    let output = daemon.run(&["logs", "api"]);
    assert_eq!(
        (code(&output), err(&output).as_str()),
        (1, "coracle: No such container: api\n")
    );
}

#[test]
fn control_asks_once() {
    let daemon = Daemon::start();
    daemon.answer("POST /containers/web/restart", 204, "");
    daemon.answer(
        "POST /containers/web/stop",
        403,
        r#"{"message":"not yours","code":"owner"}"#,
    );
    assert_eq!(out(&daemon.run(&["restart", "web"])), "web restarted\n");
    let output = daemon.run(&["stop", "web"]);
    assert_eq!(code(&output), 3);
    assert_eq!(err(&output), "coracle: refused: not yours (owner)\n");
    assert_eq!(daemon.asked("POST /containers/web/restart").len(), 1);
}

#[test]
fn an_app_is_paused_resumed_and_sent_signals_by_dockers_paths() {
    let daemon = Daemon::start();
    daemon.answer("POST /containers/web/pause", 204, "");
    daemon.answer("POST /containers/web/unpause", 204, "");
    daemon.answer(
        "POST /containers/web/unpause",
        500,
        r#"{"message":"app `web` is not paused","code":"not-paused"}"#,
    );
    assert_eq!(out(&daemon.run(&["pause", "web"])), "web paused\n");
    assert_eq!(out(&daemon.run(&["unpause", "web"])), "web resumed\n");
    let output = daemon.run(&["resume", "web"]);
    assert_eq!(
        (code(&output), err(&output).as_str()),
        (1, "coracle: app `web` is not paused\n")
    );

    for (options, path) in [
        (&["kill", "web"][..], "KILL"),
        (&["kill", "-s", "HUP", "web"], "HUP"),
        (&["kill", "web", "--signal=SIGRTMIN+3"], "SIGRTMIN%2B3"),
    ] {
        let line = format!("POST /containers/web/kill?signal={path}");
        daemon.answer(&line, 204, "");
        let output = daemon.run(options);
        assert_eq!(code(&output), 0, "{options:?}: {}", err(&output));
        assert_eq!(daemon.asked(&line).len(), 1, "{options:?}");
    }
    for wrong in [
        &["kill", "-s", "HUP&x=1", "web"][..],
        &["kill", "-s", "", "web"],
        &["stop", "-s", "HUP", "web"],
        &["kill", "-s", "HUP"],
    ] {
        let output = daemon.run(wrong);
        assert_eq!(code(&output), 2, "{wrong:?}: {}", err(&output));
    }
    let mut paused = status();
    paused["current"]["apps"][0]["paused"] = json!(true);
    daemon.answer(STATUS, 200, paused.to_string());
    let table = out(&daemon.run(&["ps"]));
    assert!(table.contains("web     paused"), "{table}");
}

#[test]
fn stats_and_images() {
    let daemon = Daemon::start();
    let mut later = status();
    later["current"]["apps"][0]["cpu_usage_us"] = json!(500_100);
    daemon.answer(STATUS, 200, status().to_string());
    daemon.answer(STATUS, 200, later.to_string());
    let uses: Value = serde_json::from_str(&out(&daemon.run(&["stats", "--json"]))).unwrap();
    let percent = uses[0]["cpu_percent"].as_f64().unwrap();
    assert!((20.0..=50.0).contains(&percent), "{percent}");
    let images = out(&daemon.run(&["images"]));
    assert!(
        images.contains("shop/web:1  aaaaaaaaaaaa  web, worker"),
        "{images}"
    );
}

#[test]
fn enrolment() {
    const ENROL: &str = "POST /coracle/v1/enrol";
    let daemon = Daemon::start();
    let file = daemon.folder().join("b7.json");
    let content = json!({"board": "acme.b7", "console_url": "https://fleet:8443", "mqtt": "fleet:8883",
                         "ca_pem": "PEM", "token": "secret"});
    std::fs::write(&file, content.to_string()).unwrap();
    let path = file.to_str().unwrap();
    daemon.answer(ENROL, 200, r#"{"board":"acme.b7"}"#);
    daemon.answer(ENROL, 403, r#"{"message":"the token was used"}"#);
    let output = daemon.run(&["enrol", path]);
    assert_eq!(
        out(&output),
        "enrolled as acme.b7 at https://fleet:8443\n",
        "{}",
        err(&output)
    );
    let sent: Value =
        serde_json::from_slice(daemon.asked(ENROL)[0].body.as_ref().unwrap()).unwrap();
    assert_eq!(sent, content);
    assert_eq!(code(&daemon.run(&["enrol", path])), 3);
    std::fs::write(&file, "{}").unwrap();
    let output = daemon.run(&["enrol", path]);
    assert_eq!(code(&output), 1);
    assert!(
        err(&output).contains("is no enrolment file"),
        "{}",
        err(&output)
    );
    assert_eq!(daemon.asked(ENROL).len(), 2, "a broken file was sent");
}

/// A board whose root cannot be written, and whose data partition is not there: the folder is found, and of no use.
#[test]
fn a_state_folder_that_cannot_be_written_is_needed_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display();
    let config = folder.path().join("coracle.toml");
    let text = format!("[agent]\nstate_dir = \"{place}/data/coracle\"\n");
    std::fs::write(&config, text).unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    let script = format!(
        "mount -t tmpfs -o ro none {place}/data; exec \"$0\" --config {} board check --json",
        config.display()
    );
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-ec", &script])
        .arg(env!("CARGO_BIN_EXE_coracle"))
        .output()
        .unwrap();
    let checked: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(code(&output), 1);
    let gaps = checked["gaps"].as_array().unwrap();
    let gap = |subject: &str| gaps.iter().find(|gap| gap["subject"] == subject);
    let told = gap("writable state folder").expect("the gap");
    assert_eq!(told["severity"], "needed");
    let seen = told["seen"].as_str().unwrap();
    assert!(
        seen.ends_with("data is on a file system that is mounted read-only"),
        "{seen}"
    );
    let remedy = told["remedy"].as_str().unwrap();
    assert!(remedy.contains("data partition"), "{remedy}");
    // The kernel is not blamed for it.
    assert!(
        gap("overlayfs").is_none() && gap("users of apps' own").is_none(),
        "{gaps:?}"
    );
}

#[test]
fn the_board_needs_no_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("none.sock");
    let shown: Value =
        serde_json::from_str(&out(&coracle(&socket, &["board", "show", "--json"]))).unwrap();
    assert!(shown["budget"]["memory_bytes"].as_u64().unwrap() > 0);
    let output = coracle(&socket, &["board", "check", "--json"]);
    let checked: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(checked["ok"] == true, code(&output) == 0);
    // Run as root, each part was used: this machine has them, and nothing of it is left.
    let tried = |subject: &str| {
        let trials = checked["trials"].as_array().unwrap();
        let found = trials.iter().find(|t| t["subject"] == subject);
        found.unwrap_or_else(|| panic!("{subject} was not tried"))["outcome"].clone()
    };
    for subject in [
        "memory limit",
        "CPU quota",
        "overlayfs",
        "nf_tables",
        "seccomp filters",
    ] {
        assert_eq!(tried(subject), "works", "{subject}");
    }
    for gap in checked["gaps"].as_array().unwrap() {
        assert!(!gap["cost"].as_str().unwrap().is_empty(), "{gap}");
        assert!(!gap["remedy"].as_str().unwrap().is_empty(), "{gap}");
    }
    assert_eq!(code(&coracle(&socket, &["board", "schema"])), 0);
}

#[test]
fn what_waits_is_shown_and_accepted_by_its_digest() {
    let daemon = Daemon::start();
    daemon.answer(STATUS, 200, status().to_string());
    let nothing = daemon.run(&["update", "accept"]);
    assert_eq!(code(&nothing), 1);
    assert!(
        err(&nothing).contains("no release waits"),
        "{}",
        err(&nothing)
    );

    let daemon = Daemon::start();
    let mut waiting = status();
    waiting["waiting"] = json!({
        "activity": "rollout-7", "deployment": digest("e"), "version": "1.3", "code": "consent",
        "reason": "somebody on the board has to accept it (`coracle update accept`)"
    });
    daemon.answer(STATUS, 200, waiting.to_string());
    const ACCEPT: &str = "POST /coracle/v1/accept";
    daemon.answer(ACCEPT, 204, "");
    let shown = out(&daemon.run(&["status"]));
    let line = "waiting   1.3: somebody on the board has to accept it (`coracle update accept`)";
    assert!(shown.lines().any(|shown| shown == line), "{shown}");
    let accepted = daemon.run(&["update", "accept"]);
    assert_eq!(
        out(&accepted),
        "accepted: 1.3, rollout-7\n",
        "{}",
        err(&accepted)
    );
    let asked: Value =
        serde_json::from_slice(daemon.asked(ACCEPT)[0].body.as_ref().unwrap()).unwrap();
    assert_eq!(asked, json!({ "deployment": digest("e") }));
}

/// Before a program has to live with the file.
#[test]
fn a_settings_file_is_checked_with_what_it_leads_to() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("coracle.toml");
    let boards = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/boards");
    std::os::unix::fs::symlink(boards, place.path().join("boards")).unwrap();
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
        command.arg("--config").arg(&file);
        command.args(["config", "check"]).output().unwrap()
    };
    let good = "[agent]\nboard_profile = \"raspberrypi4\"\n";
    let output = check(good);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert_eq!(out(&output), format!("{}: good\n", file.display()));
    let output = check(&format!("config_version = 2\n{good}[radio]\nband = 868\n"));
    assert_eq!(code(&output), 0, "{}", err(&output));
    let said = out(&output);
    assert!(said.contains("radio.band is of a newer version"), "{said}");
    for (text, words) in [
        (good.replace("raspberrypi4", "toaster"), "toaster"),
        (
            format!("{good}[radio]\nband = 868\n"),
            "unknown field `radio`",
        ),
        (good.replace("[agent]", "[agent"), "coracle.toml:1"),
        (
            format!("config_version = 0\n{good}"),
            "coracle.toml:1: config_version: ",
        ),
    ] {
        let output = check(&text);
        assert_eq!(code(&output), 1, "{text}");
        assert!(err(&output).contains(words), "{}", err(&output));
    }
    // While a supervisor runs: what it would not take.
    let run = place.path().join("run");
    let good = format!("{good}run_dir = \"run\"\n");
    std::fs::create_dir_all(run.join("supervisor")).unwrap();
    std::fs::write(&file, &good).unwrap();
    let running = Config::load(&file).unwrap();
    std::fs::write(running.running_file(), running.running_text()).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(run.join("supervisor.sock")).unwrap();
    assert_eq!(code(&check(&good)), 0);
    let output = check(&format!("{good}cgroup_parent = \"other\"\n"));
    assert_eq!(code(&output), 1);
    let words = "agent.cgroup_parent is another than that of the supervisor that runs";
    assert!(err(&output).contains(words), "{}", err(&output));
    let mut schema = Command::new(env!("CARGO_BIN_EXE_coracle"));
    let schema = schema.args(["config", "schema"]).output().unwrap();
    let schema: Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert_eq!(schema["properties"]["agent"]["type"], "object");
}

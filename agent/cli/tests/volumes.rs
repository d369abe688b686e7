//! `coracle volume` against a daemon that says what the test wants.

#[allow(dead_code, reason = "not every file of tests asks all of the stand-in")]
mod daemon;

use daemon::Daemon;
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Output, Stdio};

const ALL: &str = "GET /coracle/v1/volumes";

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn volume(name: &str) -> Value {
    json!({
        "name": name, "owner": null, "created_at": 1, "means": "project quota", "held_bytes": 67108864,
        "used": {"bytes": 1048576, "inodes": 7, "limit_bytes": 67108864, "limit_inodes": 4096},
        "path": "/var/lib/coracle/volumes/data/room/data", "apps": ["web"], "in_previous": false
    })
}

#[test]
fn volumes_are_listed_and_shown() {
    let daemon = Daemon::start();
    daemon.answer(
        ALL,
        200,
        json!([volume("data"), volume("more")]).to_string(),
    );
    let table = out(&daemon.run(&["volume", "ls"]));
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("NAME  OWNER"), "{table}");
    assert!(
        lines[1].starts_with("data  release  1 MiB  64 MiB"),
        "{table}"
    );
    let listed: Value =
        serde_json::from_str(&out(&daemon.run(&["volume", "ls", "--json"]))).unwrap();
    assert_eq!(listed[1]["name"], "more");
    let shown = out(&daemon.run(&["volume", "inspect", "data"]));
    assert!(
        shown.contains("held by   project quota\n") && shown.contains("in use by web\n"),
        "{shown}"
    );
    let none = daemon.run(&["volume", "inspect", "none"]);
    assert_eq!(code(&none), 1);
    assert!(err(&none).contains("no volume `none`"), "{}", err(&none));
}

#[test]
fn volumes_are_made_removed_and_pruned() {
    let daemon = Daemon::start();
    let create = "POST /volumes/create?new=1";
    daemon.answer(create, 201, "{}");
    daemon.answer(
        create,
        409,
        r#"{"message":"there is one","code":"volume-exists"}"#,
    );
    let args = [
        "volume", "create", "data", "--size", "64MiB", "--inodes", "100",
    ];
    assert_eq!(out(&daemon.run(&args)), "data created\n");
    let body = daemon.asked(create)[0].body.clone().unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        body,
        json!({"Name": "data", "DriverOpts": {"size": "67108864", "inodes": "100"}})
    );
    assert_eq!(code(&daemon.run(&args)), 1);

    daemon.answer("DELETE /volumes/data", 204, "");
    assert_eq!(
        out(&daemon.run(&["volume", "rm", "data"])),
        "data removed\n"
    );
    daemon.answer(
        "DELETE /volumes/other",
        403,
        r#"{"message":"it is user 7's","code":"not-owner"}"#,
    );
    let refused = daemon.run(&["volume", "rm", "other"]);
    assert_eq!(code(&refused), 3);
    assert!(err(&refused).contains("user 7's"), "{}", err(&refused));
    let prune = "POST /volumes/prune?filters=%7B%22all%22%3A%5B%22true%22%5D%7D";
    daemon.answer(
        prune,
        200,
        r#"{"VolumesDeleted":["a","b"],"SpaceReclaimed":1048576}"#,
    );
    let pruned = out(&daemon.run(&["volume", "prune"]));
    assert_eq!(
        pruned,
        "a removed\nb removed\n2 volumes removed, 1 MiB free again\n"
    );
}

#[test]
fn a_backup_that_broke_off_is_a_failure() {
    let daemon = Daemon::start();
    let path = "GET /coracle/v1/volumes/data/backup";
    let mut tar = b"something".to_vec();
    tar.extend([0; 1024]);
    daemon.answer(path, 200, tar.clone());
    daemon.answer(path, 200, tar[..900].to_vec());
    let whole = daemon.run(&["volume", "backup", "data"]);
    assert_eq!((code(&whole), whole.stdout), (0, tar));
    let half = daemon.run(&["volume", "backup", "data"]);
    assert_eq!(code(&half), 1);
    assert!(err(&half).contains("not whole"), "{}", err(&half));
}

/// The tar is as long as its own end says, so that the request has no length: it comes in chunks.
#[test]
fn a_restore_sends_standard_input_and_tells_the_end() {
    let daemon = Daemon::start();
    let path = "PUT /coracle/v1/volumes/data/restore";
    daemon.answer(path, 204, "");
    daemon.answer(path, 400, r#"{"message":"it leads out","code":"bad-tar"}"#);
    let run = || {
        let mut child = Command::new(env!("CARGO_BIN_EXE_coracle"))
            .arg("--socket")
            .arg(daemon.folder().join("docker.sock"))
            .args(["volume", "restore", "data"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(&[7; 200_000])
            .unwrap();
        child.wait_with_output().unwrap()
    };
    let done = run();
    assert_eq!(
        (code(&done), out(&done)),
        (0, "data restored\n".to_owned()),
        "{}",
        err(&done)
    );
    let refused = run();
    assert_eq!(code(&refused), 1);
    assert!(err(&refused).contains("it leads out"), "{}", err(&refused));
    let asked = daemon.asked("PUT");
    assert_eq!(asked.len(), 2);
    assert!(
        asked
            .iter()
            .all(|a| a.body.as_deref() == Some(&[7; 200_000][..]))
    );
}

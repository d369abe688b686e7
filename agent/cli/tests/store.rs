//! `coracle store check` against a daemon that says what the test wants.

#[allow(dead_code, reason = "not every file of tests asks all of the stand-in")]
mod daemon;

use daemon::Daemon;
use serde_json::{Value, json};
use std::process::Output;

const BEGIN: &str = "POST /coracle/v1/store/check";
const LOOK: &str = "GET /coracle/v1/store/check";
const MEND: &str = "POST /coracle/v1/store/mend";

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn said(running: bool, found: Value) -> String {
    json!({"running": running, "done": 3, "of": 3, "found": found, "more": 0}).to_string()
}

fn fault(letter: &str, state: &str) -> Value {
    json!({
        "digest": format!("sha256:{}", letter.repeat(64)), "kind": "layer", "state": state,
        "needed_by": ["app `web` of the running set 1.0"], "more": 2,
        "faults": [{"path": "bin/\u{1b}app", "what": "has other bytes"}]
    })
}

fn daemon(found: Value) -> Daemon {
    let daemon = Daemon::start();
    daemon.answer(BEGIN, 204, "");
    daemon.answer(LOOK, 200, said(true, json!([])));
    daemon.answer(LOOK, 200, said(false, found));
    daemon
}

#[test]
fn a_whole_store_is_said_to_be_so() {
    let checked = daemon(json!([])).run(&["store", "check"]);
    assert_eq!((code(&checked), err(&checked).as_str()), (0, ""));
    assert_eq!(out(&checked), "3 layers and blobs are whole\n");
    let checked = daemon(json!([])).run(&["store", "check", "--json"]);
    let report: Value = serde_json::from_str(&out(&checked)).unwrap();
    assert_eq!(report, json!({"checked": 3, "found": [], "more": 0}));
}

#[test]
fn what_is_broken_has_a_line_and_an_exit_code() {
    let two = json!([fault("a", "broken"), fault("b", "unknown")]);
    let daemon = daemon(two);
    let checked = daemon.run(&["store", "check"]);
    assert_eq!(code(&checked), 1);
    let text = out(&checked);
    let lines: Vec<&str> = text.lines().collect();
    let a = "a".repeat(64);
    // What a file is called is nothing for a terminal to obey.
    assert_eq!(
        lines[0],
        format!(
            "broken: layer sha256:{a} (app `web` of the running set 1.0): bin/?app has other bytes; and 2 more"
        )
    );
    assert!(lines[1].starts_with("unknown: layer sha256:bbb"), "{text}");
    assert!(err(&checked).contains("1 broken, 0 of them repaired; `coracle store check --repair`"));
    assert!(daemon.asked(MEND).is_empty());

    let unknown = self::daemon(json!([fault("b", "unknown")])).run(&["store", "check"]);
    assert_eq!(code(&unknown), 2);
    assert!(err(&unknown).contains("1 could not be looked at"));
}

#[test]
fn each_is_repaired_or_it_says_why_not() {
    let daemon = daemon(json!([fault("a", "broken"), fault("b", "broken")]));
    daemon.answer(MEND, 204, "");
    daemon.answer(MEND, 500, r#"{"message":"no route to the console"}"#);
    let checked = daemon.run(&["store", "check", "--repair"]);
    assert_eq!(code(&checked), 1);
    let text = out(&checked);
    assert!(text.starts_with("repaired: layer sha256:aaa"), "{text}");
    let second = text.lines().nth(1).unwrap();
    assert!(
        second.starts_with("not repaired: layer sha256:bbb"),
        "{text}"
    );
    assert!(
        second.ends_with("and 2 more: no route to the console"),
        "{text}"
    );
    assert!(
        err(&checked).contains("2 broken, 1 of them repaired\n"),
        "{}",
        err(&checked)
    );
    let asked = daemon.asked(MEND);
    let body: Value = serde_json::from_slice(asked[1].body.as_ref().unwrap()).unwrap();
    assert_eq!(
        body,
        json!({"kind": "layer", "digest": format!("sha256:{}", "b".repeat(64))})
    );
}

#[test]
fn who_cannot_look_says_so() {
    let daemon = Daemon::start();
    let busy =
        r#"{"message":"a deployment is under way; try again when it has ended","code":"busy"}"#;
    daemon.answer(BEGIN, 500, busy);
    let checked = daemon.run(&["store", "check"]);
    assert_eq!(code(&checked), 2);
    assert!(
        err(&checked).contains("not checked: a deployment is under way"),
        "{}",
        err(&checked)
    );
    let nobody = daemon::coracle(&daemon.folder().join("none"), &["store", "check"]);
    assert_eq!(code(&nobody), 2);
}

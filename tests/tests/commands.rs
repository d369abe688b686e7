//! A command all the way: `coracle-release`, the real console with its broker, the real daemon, and the real supervisor, which
//! alone decides. No app runs here, so that what a good command meets is that there is none.

mod fleet;

use fleet::{Board, Fleet, Supervisor, program, until};
use serde_json::json;
use std::path::Path;

const NAME: &str = "acme.b1";

/// `coracle-release` with these words, in the fleet's folder: whether it went well, and what it said.
fn release(dir: &Path, fleet: &Fleet, line: &str) -> (bool, String) {
    let output = program("coracle-release")
        .current_dir(dir)
        .env(
            "CORACLE_CONSOLE",
            format!("http://127.0.0.1:{}", fleet.http),
        )
        .env("CORACLE_TOKEN_FILE", dir.join("console/admin.token"))
        .args(line.split(' '))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn a_command_goes_from_the_engineer_to_the_supervisor_and_back() {
    assert!(nix::unistd::geteuid().is_root(), "run this test as root");
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(dir.path(), &[]);
    let board = Board::in_folder(dir.path());
    let _supervisor = Supervisor::start(&board);
    let _daemon = board.start();
    until("docker.sock", || board.status().is_ok());
    let file = fleet.ask("/enrolments", Some(json!({"board": NAME})));
    board.ask("enrol", Some(&file.to_string())).unwrap();
    until("the board is online", || fleet.online(NAME));

    // The fleet's root document lets nobody command.
    let restart = "command restart --board acme.b1 --app web";
    let (done, said) = release(dir.path(), &fleet, restart);
    assert!(!done && said.contains("for role `command`"), "{said}");
    for line in [
        "trust rotate --from root.json --output root-2.json --add command=deploy.pub",
        "trust sign --previous root.json --key root root-2.json",
        "trust push root-2.json",
    ] {
        let (done, said) = release(dir.path(), &fleet, line);
        assert!(done, "{line}: {said}");
    }
    until("the root is in force on the board", || {
        board
            .status()
            .is_ok_and(|s| s["trust"]["root_version"] == 2)
    });

    // Each is new to the supervisor, and so refused for nothing but what it asks.
    for line in [
        restart,
        "command logs --board acme.b1 --app web --tail 5",
        "command action --board acme.b1 --app web reindex",
        restart,
    ] {
        let (done, said) = release(dir.path(), &fleet, line);
        assert!(!done, "{said}");
        assert!(
            said.contains("did not do it (no-app): no app `web`"),
            "{said}"
        );
    }
    let counters = std::fs::read_to_string(board.dir.join("state/trust/seen.a")).unwrap();
    assert!(counters.contains("\"command\":{\"epoch\":1"), "{counters}");
    let sent = fleet.ask("/boards/acme.b1/commands", None);
    assert_eq!(sent.as_array().unwrap().len(), 4, "{sent}");
}

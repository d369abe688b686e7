//! A board whose key its TPM holds: the real console with its broker, the real daemon, and swtpm as the TPM.

mod fleet;

use coracle_tests::service::{Service, wait_for};
use fleet::{Board, Fleet, Supervisor, until};
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Due after 8 s.
const LIFE: &str = "12s";
const NAME: &str = "acme.b1";

/// A TPM with the state that lies in `dir`, or a new one.
fn tpm(dir: &Path) -> Service {
    let state = dir.join("tpm-state");
    let socket = dir.join("tpm.sock");
    let _ = std::fs::remove_file(&socket);
    std::fs::create_dir_all(&state).unwrap();
    let mut swtpm = Command::new("swtpm");
    swtpm.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"]);
    swtpm.arg("--tpmstate");
    swtpm.arg(format!("dir={}", state.display()));
    swtpm.arg("--server");
    swtpm.arg(format!("type=unixio,path={}", socket.display()));
    let tpm =
        Service::start("swtpm", swtpm, dir).expect("this test needs swtpm: apt install swtpm");
    until("the TPM's socket", || socket.exists());
    tpm
}

/// Its certificate may be over by then: it is renewed first, after a pause that grew with what failed before.
fn comes_back(board: &Board) {
    let is_there = || Ok((board.status()?["link"]["connected"] == true).then_some(()));
    wait_for("the link", Duration::from_secs(120), is_there).unwrap();
}

#[test]
fn a_key_in_the_tpm_enrols_connects_and_renews_and_never_touches_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let chip = tpm(dir.path());
    let fleet = Fleet::start(dir.path(), &["--board-certificate-life", LIFE]);
    let board = Board::in_folder(dir.path());
    let config = board.dir.join("coracle.toml");
    let mut text = std::fs::read_to_string(&config).unwrap();
    text += "[identity]\nkey = \"tpm\"\ntpm = \"../tpm.sock\"\n";
    std::fs::write(config, text).unwrap();
    let _supervisor = Supervisor::start(&board);
    let daemon = board.start();
    until("docker.sock", || board.status().is_ok());
    let enrol = || {
        let file = fleet.ask("/enrolments", Some(json!({ "board": NAME })));
        board.ask("enrol", Some(&file.to_string())).unwrap();
    };
    enrol();
    until("the board is online", || fleet.online(NAME));
    until("a renewal", || fleet.history(NAME).len() >= 2);
    assert_eq!(fleet.history(NAME).last().unwrap(), "enrolled");

    // What lies on the disk is wrapped; no other key is there.
    let identity = board.dir.join("state/identity");
    let mut wrapped = 0;
    for entry in std::fs::read_dir(&identity).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        wrapped += text.matches("BEGIN TSS2 PRIVATE KEY").count();
        let others = text.replace("TSS2 PRIVATE KEY", "");
        assert!(!others.contains("PRIVATE KEY"), "{text}");
    }
    assert!(wrapped >= 1);

    // A TPM that is away is no reason to forget the identity, and is found again.
    drop(daemon);
    drop(chip);
    let key = std::fs::read(identity.join("board.key")).unwrap();
    let daemon = board.start();
    until("the board says that its TPM is away", || {
        let log = std::fs::read_to_string(daemon.log()).unwrap();
        board.status().is_ok() && log.contains("the board's key cannot be used now")
    });
    assert_eq!(std::fs::read(identity.join("board.key")).unwrap(), key);
    let chip = tpm(dir.path());
    comes_back(&board);
    drop(daemon);
    drop(chip);

    // Cleared: the board says so, and what enrols it anew is an enrolment file.
    std::fs::remove_dir_all(dir.path().join("tpm-state")).unwrap();
    let _chip = tpm(dir.path());
    let before = fleet.history(NAME).len();
    let _daemon = board.start();
    until("the board says that its TPM was cleared", || {
        let said = board.status().unwrap_or_default()["certificate"]["error"].to_string();
        said.contains("the TPM was cleared") && said.contains("coracle enrol")
    });
    assert!(board.status().unwrap()["link"]["connected"] == false);
    assert_eq!(fleet.history(NAME).len(), before);
    enrol();
    comes_back(&board);
}

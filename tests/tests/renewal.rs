//! A board's certificate from its enrolment to its revocation: the real console with its broker, and the real daemon,
//! which renews it in time, and after a while of being off too.

mod fleet;

use fleet::{Board, Fleet, Supervisor, until};
use serde_json::json;
use std::time::Duration;

/// Due after 8 s.
const LIFE: &str = "12s";
const NAME: &str = "acme.b1";

#[test]
fn a_certificate_lives_on_by_renewal_and_ends_by_revocation() {
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(dir.path(), &["--board-certificate-life", LIFE]);
    let board = Board::in_folder(dir.path());
    let _supervisor = Supervisor::start(&board);
    let daemon = board.start();
    until("docker.sock", || board.status().is_ok());
    let file = fleet.ask("/enrolments", Some(json!({"board": "acme.b1"})));
    board.ask("enrol", Some(&file.to_string())).unwrap();
    until("the board is online", || fleet.online(NAME));

    // In time, twice; the link comes back with each.
    until("two renewals", || {
        fleet
            .history(NAME)
            .iter()
            .filter(|how| *how == "renewed")
            .count()
            == 2
    });
    until("the link is up with the new one", || {
        let status = board.status().unwrap();
        status["link"]["connects"].as_u64().unwrap() >= 3
            && status["link"]["connected"] == true
            && fleet.online(NAME)
    });
    assert_eq!(fleet.history(NAME), ["renewed", "renewed", "enrolled"]);

    // Off while it is due and until it is over.
    drop(daemon);
    std::thread::sleep(Duration::from_secs(14));
    let _daemon = board.start();
    until("it is renewed after its end", || {
        fleet
            .history(NAME)
            .first()
            .is_some_and(|how| how == "renewed-expired")
    });
    until("the board is online again", || {
        fleet.online(NAME) && board.status().is_ok_and(|s| s["link"]["connected"] == true)
    });

    // Taken back.
    let reason = json!({"reason": "stolen from site 4"});
    fleet.ask("/boards/acme.b1/revocation", Some(reason));
    until("the link is gone and the board says why", || {
        let status = board.status().unwrap();
        let certificate = &status["certificate"]["standing"];
        status["link"]["connected"] == false
            && certificate["state"] == "revoked"
            && certificate["reason"] == "revoked: stolen from site 4"
    });
    let held = fleet.history(NAME).len();
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(
        fleet.history(NAME).len(),
        held,
        "a revoked board was given a certificate"
    );
    assert!(board.status().unwrap()["link"]["connected"] == false);

    // Back by a new file.
    let file = fleet.ask("/enrolments", Some(json!({"board": "acme.b1"})));
    board.ask("enrol", Some(&file.to_string())).unwrap();
    until("the board is back", || {
        fleet.online(NAME) && board.status().is_ok_and(|s| s["link"]["connected"] == true)
    });
}

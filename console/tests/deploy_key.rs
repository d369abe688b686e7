//! The deploy key in a token, with SoftHSM2 as the token.

mod support;

use coracle_digest::Sha256Digest;
use coracle_protocol::desired::{Desired, Document};
use coracle_protocol::verify::VerifiedDeploy;
use serde_json::json;
use std::fs;
use support::{Board, Fleet, noise, token, wait_for};

const URI: &str = "pkcs11:token=fleet;object=deploy";

/// Moves the fleet's deploy key from its file into a token, and answers what a console needs in its environment.
fn into_a_token(fleet: &Fleet) -> token::Environment {
    let environment = token::make(fleet);
    token::import_deploy_key(fleet);
    environment
}

/// The assignment that the board gets is signed by the fleet's deploy key.
fn arrives(fleet: &Fleet, board: &Board, release: &Sha256Digest) {
    let ordered = fleet.deploy(release, &["acme.b1"]);
    let activity = &ordered["boards"][0]["activity"];
    let message = wait_for("the message", 10, || {
        let message = board.read(&board.topic("desired"), 5)?;
        let desired: Desired = serde_json::from_slice(&message).unwrap();
        (*activity == desired.activity).then_some(desired)
    });
    let Document::Inline(envelope) = message.deploy else {
        panic!("a small document travels inline");
    };
    VerifiedDeploy::open(&envelope, &fleet.root).unwrap();
}

#[test]
fn a_console_signs_with_a_key_in_a_token_that_goes_and_comes_back() {
    let mut fleet = Fleet::start();
    let board = fleet.enrol("acme.b1");
    let (_, release) = fleet.release(1, &[("app", noise(1, 5000))]);
    fleet.stop_console();
    let environment = into_a_token(&fleet);
    fleet.use_deploy_key(URI, &environment);
    fleet.start_console();
    arrives(&fleet, &board, &release);

    token::away(&fleet);
    let order = json!({"release": release, "boards": ["acme.b1"]});
    let refused = fleet.post("/api/v1/deployments", &order);
    assert_eq!(refused.status, 503, "{refused:?}");
    let text = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(
        text.contains("token") && text.contains("coracle-console check"),
        "{text}"
    );
    token::back(&fleet);
    arrives(&fleet, &board, &release);
}

/// Three wrong ones lock a card.
#[test]
fn a_pin_that_became_wrong_is_tried_once() {
    let mut fleet = Fleet::start();
    fleet.enrol("acme.b1");
    let (_, release) = fleet.release(1, &[("app", noise(1, 5000))]);
    fleet.stop_console();
    let environment = into_a_token(&fleet);
    fleet.use_deploy_key(URI, &environment);
    fleet.start_console();

    fs::write(fleet.path("pin"), "4321\n").unwrap();
    let order = json!({"release": release, "boards": ["acme.b1"]});
    token::away(&fleet);
    assert_eq!(fleet.post("/api/v1/deployments", &order).status, 503);
    token::back(&fleet);
    let wrong = fleet.post("/api/v1/deployments", &order);
    let text = String::from_utf8_lossy(&wrong.body).into_owned();
    assert!(
        wrong.status == 503 && text.contains("the PIN is wrong"),
        "{text}"
    );
    fs::write(fleet.path("pin"), "1234\n").unwrap();
    let given_up = fleet.post("/api/v1/deployments", &order);
    let text = String::from_utf8_lossy(&given_up.body).into_owned();
    assert!(
        given_up.status == 503 && text.contains("restart the console"),
        "{text}"
    );
}

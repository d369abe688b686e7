//! The deploy key in a token, with SoftHSM2 as the token.

mod support;

use coracle_digest::Sha256Digest;
use coracle_protocol::desired::{Desired, Document};
use coracle_protocol::verify::VerifiedDeploy;
use serde_json::{Value, json};
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

/// What is taken back needs signatures; that nothing more goes out needs none.
#[test]
fn a_deployment_is_cancelled_while_the_token_is_away_and_signed_once_it_is_back() {
    let mut fleet = Fleet::start();
    let names = ["acme.b1", "acme.b2", "acme.b3"];
    let [begun, away, fresh] = names.map(|name| fleet.enrol(name));
    let (_, old) = fleet.release(1, &[("app", noise(1, 5000))]);
    let before = fleet.deploy(&old, &names[..2]);
    for board in [&begun, &away] {
        runs(&fleet, board, &before);
    }
    fleet.stop_console();
    let environment = into_a_token(&fleet);
    fleet.use_deploy_key(URI, &environment);
    fleet.start_console();
    let (_, bad) = fleet.release(2, &[("app", noise(2, 5000))]);
    let ordered = fleet.deploy(&bad, &names);
    let path = format!("/api/v1/deployments/{}", ordered["id"].as_str().unwrap());
    let of = |ordered: &Value, board: &Board| line(ordered, board)["activity"].clone();
    for board in [&begun, &away, &fresh] {
        wait_for("it is sent", 10, || {
            (kept(board)? == of(&ordered, board)).then_some(())
        });
    }
    says(&begun, &of(&ordered, &begun), "fetching");
    wait_for("its word", 10, || {
        (fleet.get(&path)["boards"][0]["phase"] == "fetching").then_some(())
    });

    token::away(&fleet);
    let halfway = fleet.post(&format!("{path}/cancel"), &json!({}));
    let text = String::from_utf8_lossy(&halfway.body).into_owned();
    assert_eq!(halfway.status, 503, "{text}");
    assert!(
        text.contains("on 2 of 3 boards") && text.contains("cancel once more"),
        "{text}"
    );
    let now = fleet.get(&path);
    assert_eq!(now["state"], "cancelled");
    let standings = |now: &Value| names.map(|name| standing(now, name));
    assert_eq!(standings(&now), ["not-signed", "not-signed", "not-sent"]);
    wait_for("nothing more goes out", 10, || {
        let had = kept(&away)? == of(&before, &away);
        (had && kept(&fresh).is_none()).then_some(())
    });
    // Nor for a word of a board that had it all the same.
    says(&away, &of(&ordered, &away), "received");
    wait_for("its word", 10, || {
        (line(&fleet.get(&path), &away)["phase"] == "received").then_some(())
    });
    assert_eq!(kept(&away), Some(of(&before, &away)));
    let audit = fleet.get("/api/v1/audit").to_string();
    assert!(audit.contains("acme.b1 not-signed"), "{audit}");

    token::back(&fleet);
    let whole = fleet.post(&format!("{path}/cancel"), &json!({}));
    assert_eq!(whole.status, 200, "{whole:?}");
    let now = whole.json();
    assert_eq!(standings(&now), ["cancelling", "cancelling", "not-sent"]);
}

fn line<'a>(deployment: &'a Value, board: &Board) -> &'a Value {
    let boards = deployment["boards"].as_array().unwrap();
    let line = boards.iter().find(|line| line["board"] == board.id);
    line.unwrap()
}

fn standing(deployment: &Value, board: &str) -> String {
    let boards = deployment["boards"].as_array().unwrap();
    let line = boards.iter().find(|line| line["board"] == board).unwrap();
    line["standing"].as_str().unwrap_or_default().to_owned()
}

/// The activity that the broker keeps for a board.
fn kept(board: &Board) -> Option<Value> {
    let message = board.read(&board.topic("desired"), 2)?;
    let desired: Desired = serde_json::from_slice(&message).unwrap();
    Some(json!(desired.activity))
}

fn says(board: &Board, activity: &Value, phase: &str) {
    let word = json!({"activity": activity, "sequence": 3, "phase": phase});
    board.publish(&board.topic("feedback"), &word);
}

/// The board says that it runs what was ordered.
fn runs(fleet: &Fleet, board: &Board, ordered: &Value) {
    let activity = line(ordered, board)["activity"].clone();
    let desired = wait_for("the message", 10, || {
        let message = board.read(&board.topic("desired"), 2)?;
        let desired: Desired = serde_json::from_slice(&message).unwrap();
        (activity == desired.activity).then_some(desired)
    });
    let digest = |document| match document {
        Document::Inline(envelope) => {
            let envelope: coracle_protocol::dsse::Envelope = envelope;
            Sha256Digest::of(&envelope.payload_unverified().unwrap())
        }
        Document::Blob(blob) => panic!("a small document travels as {blob:?}"),
    };
    let (deploy, release) = (digest(desired.deploy), digest(desired.release));
    let facts = json!({"profile": "generic", "hardware": "generic", "architecture": "x86_64",
        "kernel": "6.1", "agent": "0.1.0", "memory_bytes": 1 << 30, "cpus": 4});
    let set = json!({"deployment": deploy, "release": release, "product": "demo", "version": "1",
        "state": "committed", "apps": []});
    let current = json!({"version": 1, "board": facts, "set": set, "layers": []});
    let topic = board.topic("current");
    board.publish_with(&topic, current.to_string().as_bytes(), &["-q", "1", "-r"]);
    says(board, &activity, "committed");
    wait_for("what it runs", 10, || {
        let known = fleet.get(&format!("/api/v1/boards/{}", board.id));
        (known["current"]["set"]["deployment"] == json!(deploy)).then_some(())
    });
}

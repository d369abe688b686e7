//! A new root document: from whoever holds the root keys, through the console, to every board.

mod support;

use coracle_protocol::desired::RootNotice;
use coracle_protocol::key::SigningKey;
use coracle_protocol::topics::ROOT_NOTICE;
use serde_json::json;
use support::{Fleet, noise, wait_for};

#[test]
fn a_new_root_is_kept_and_told_to_every_board() {
    let mut fleet = Fleet::start();
    let board = fleet.enrol("acme.b1");
    let told = |version: u64| {
        wait_for("the notice", 15, || {
            let message = board.read(ROOT_NOTICE, 3)?;
            let notice: RootNotice = serde_json::from_slice(&message).ok()?;
            (notice.version == version).then_some(notice)
        })
    };
    assert!(told(1).root.is_some());

    let post = |fleet: &Fleet, bytes: &[u8]| fleet.api("POST", "/api/v1/roots", Some(bytes));
    let (two, three) = (fleet.root_of(2, |_| {}), fleet.root_of(3, |_| {}));
    let skipped = post(&fleet, &three.to_json());
    assert_eq!(skipped.status, 422, "{skipped:?}");
    let mut stranger = fleet.root_of(2, |_| {});
    stranger.signatures.clear();
    stranger.sign(&SigningKey::generate().unwrap().0).unwrap();
    assert_eq!(post(&fleet, &stranger.to_json()).status, 422);
    assert_eq!(post(&fleet, b"{}").status, 400);
    for _ in 0..2 {
        let taken = post(&fleet, &two.to_json());
        assert_eq!((taken.status, taken.json()), (200, json!({"version": 2})));
    }
    assert_eq!(told(2).root, Some(two.clone()));

    // Boards fetch those that they have missed.
    for (version, status) in [(1, 200), (2, 200), (3, 404)] {
        let answer = board.get(&format!("/root/{version}"), &[]);
        assert_eq!(answer.status, status, "{version}: {answer:?}");
    }

    // A console that is started with the first file goes on from where it was.
    fleet.stop_console();
    fleet.start_console();
    assert_eq!(told(2).root, Some(two));
    assert_eq!(post(&fleet, &three.to_json()).status, 200);
    let audit = fleet.get("/api/v1/audit");
    let entries = audit.as_array().unwrap();
    assert!(entries.iter().any(|entry| entry["action"] == "root.add"));
}

#[test]
fn a_console_whose_key_was_revoked_signs_nothing_and_says_so() {
    let fleet = Fleet::start();
    fleet.enrol("acme.b1");
    let (_, release) = fleet.release(1, &[("app", noise(1, 5000))]);
    let other = SigningKey::generate().unwrap().0.public();
    let two = fleet.root_of(2, |root| {
        root["keys"][other.key_id()] = json!(other);
        root["roles"]["deploy"]["keys"] = json!([other.key_id()]);
    });
    let taken = fleet.api("POST", "/api/v1/roots", Some(&two.to_json()));
    assert_eq!(taken.status, 200, "{taken:?}");
    let answer = fleet.post(
        "/api/v1/deployments",
        &json!({"release": release, "boards": ["acme.b1"]}),
    );
    assert_eq!(answer.status, 409, "{answer:?}");
    let words = answer.json()["error"].to_string();
    assert!(words.contains("deploy key"), "{words}");
}

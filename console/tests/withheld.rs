//! Deployments that somebody holds or takes back.

mod support;

use coracle_digest::Sha256Digest;
use coracle_protocol::counters::{Counter, Seen};
use coracle_protocol::desired::{Desired, Document};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::names::{BoardId, HardwareClass};
use coracle_protocol::time::TimeBound;
use coracle_protocol::verify::{self, VerifiedDeploy, VerifiedDeployment, VerifiedRelease};
use serde_json::{Value, json};
use support::{Board, Fleet, curl, noise};

fn inline(document: Document) -> Envelope {
    match document {
        Document::Inline(envelope) => envelope,
        Document::Blob(blob) => panic!("a small document travels as {blob:?}"),
    }
}

/// What the broker keeps for a board, once it is the message of `activity`.
fn wanted(board: &Board, activity: &Value) -> Desired {
    support::wait_for("the message", 20, || {
        let message = board.read(&board.topic("desired"), 2)?;
        let desired: Desired = serde_json::from_slice(&message).ok()?;
        (*activity == desired.activity).then_some(desired)
    })
}

fn is_kept_for(board: &Board) -> Option<Value> {
    let message = board.read(&board.topic("desired"), 2)?;
    let desired: Desired = serde_json::from_slice(&message).unwrap();
    Some(json!(desired.activity))
}

fn digest(envelope: &Envelope) -> Sha256Digest {
    Sha256Digest::of(&envelope.payload_unverified().unwrap())
}

/// The board has taken what it is to have, and says so.
fn takes(fleet: &Fleet, board: &Board, activity: &Value, version: u64) -> Envelope {
    let desired = wanted(board, activity);
    let assignment = inline(desired.deploy.clone());
    let (deploy, release) = (
        digest(&inline(desired.deploy)),
        digest(&inline(desired.release)),
    );
    let facts = json!({"profile": "generic", "hardware": "generic", "architecture": "x86_64",
        "kernel": "6.1", "agent": "0.1.0", "memory_bytes": 1 << 30, "cpus": 4});
    let set = json!({"deployment": deploy, "release": release, "product": "demo", "version": "1",
        "state": "committed", "apps": []});
    let current = json!({"version": version, "board": facts, "set": set, "layers": []});
    board.publish_with(
        &board.topic("current"),
        current.to_string().as_bytes(),
        &["-q", "1", "-r"],
    );
    says(board, activity, 9, "committed", None);
    support::wait_for("what it runs", 10, || {
        let known = fleet.get(&format!("/api/v1/boards/{}", board.id));
        (known["current"]["set"]["deployment"] == json!(deploy)).then_some(())
    });
    assignment
}

fn says(board: &Board, activity: &Value, sequence: u64, phase: &str, code: Option<&str>) {
    let mut word = json!({"activity": activity, "sequence": sequence, "phase": phase});
    if let Some(code) = code {
        word["code"] = json!(code);
        word["reason"] = json!("as the board says");
    }
    board.publish(&board.topic("feedback"), &word);
}

fn activity(deployment: &Value, board: &str) -> Value {
    let boards = deployment["boards"].as_array().unwrap();
    let line = boards.iter().find(|line| line["board"] == board);
    line.unwrap()["activity"].clone()
}

/// Board, standing and reason of each, by board.
fn standings(deployment: &Value) -> Vec<(String, Value, Value)> {
    let boards = deployment["boards"].as_array().unwrap();
    let line = |line: &Value| {
        let board = line["board"].as_str().unwrap().to_owned();
        (
            board,
            line["standing"].clone(),
            line["standing_reason"].clone(),
        )
    };
    boards.iter().map(line).collect()
}

fn standing(deployment: &Value, board: &str) -> Value {
    let all = standings(deployment).into_iter();
    all.filter(|(name, ..)| name == board)
        .map(|(_, s, _)| s)
        .next()
        .unwrap()
}

#[test]
fn a_cancelled_deployment_is_taken_back_by_signed_assignments_of_what_runs() {
    let fleet = Fleet::start();
    let names = [
        "acme.b1", "acme.b2", "acme.b3", "acme.b4", "acme.b5", "acme.b6",
    ];
    let boards = names.map(|name| fleet.enrol(name));
    let [fetches, waits, switched, offline, fresh, first] = &boards;
    let (_, old) = fleet.release(1, &[("app", noise(1, 500))]);
    let before = fleet.deploy(&old, &names[..4]);
    let runs = [fetches, waits, switched, offline]
        .map(|board| takes(&fleet, board, &activity(&before, &board.id), 1));
    let (_, new) = fleet.release(2, &[("app", noise(2, 500))]);
    let ordered = fleet.deploy(&new, &names);
    let path = format!("/api/v1/deployments/{}", ordered["id"].as_str().unwrap());
    let of = |board: &Board| activity(&ordered, &board.id);
    for board in [fetches, waits, switched, fresh, first] {
        wanted(board, &of(board));
    }
    says(fetches, &of(fetches), 3, "fetching", None);
    says(waits, &of(waits), 4, "waiting", Some("window"));
    takes(&fleet, switched, &of(switched), 2);
    says(first, &of(first), 3, "fetching", None);
    let phases = |deployment: &Value| {
        let lines = deployment["boards"].as_array().unwrap().clone();
        lines
            .iter()
            .map(|line| line["phase"].clone())
            .collect::<Vec<_>>()
    };
    support::wait_for("what they say", 10, || {
        let said = [
            json!("fetching"),
            json!("waiting"),
            json!("committed"),
            json!(null),
            json!(null),
            json!("fetching"),
        ];
        (phases(&fleet.get(&path)) == said).then_some(())
    });

    // Not for whoever may only look, nor without a token, nor in another way.
    let state = fleet.path("state").display().to_string();
    let (good, token) = fleet.run(&[
        "token",
        "new",
        "--name",
        "wall",
        "--read-only",
        "--state",
        &state,
    ]);
    assert!(good, "{token}");
    let url = format!("http://127.0.0.1:{}{path}/cancel", fleet.http);
    let auth = format!("Authorization: Bearer {}", token.trim());
    assert_eq!(curl(&["-X", "POST", "-H", &auth, &url]).status, 403);
    assert_eq!(curl(&["-X", "POST", &url]).status, 401);
    assert_eq!(
        fleet.api("GET", &format!("{path}/cancel"), None).status,
        405
    );
    assert_eq!(
        fleet.post(&format!("{path}/delete"), &json!({})).status,
        404
    );
    assert_eq!(
        fleet
            .post("/api/v1/deployments/none/cancel", &json!({}))
            .status,
        404
    );
    assert_eq!(fleet.get(&path)["state"], "open");

    let answer = fleet.post(&format!("{path}/cancel"), &json!({}));
    assert_eq!(answer.status, 200, "{answer:?}");
    let cancelled = answer.json();
    assert_eq!(cancelled["state"], "cancelled");
    let no_way_back = "nothing runs there that it could go back to";
    let wanted_standings = [
        ("acme.b1", json!("cancelling"), json!(null)),
        ("acme.b2", json!("cancelling"), json!(null)),
        ("acme.b3", json!("too-late"), json!(null)),
        ("acme.b4", json!("cancelling"), json!(null)),
        ("acme.b5", json!("not-sent"), json!(null)),
        ("acme.b6", json!("goes-on"), json!(no_way_back)),
    ]
    .map(|(board, standing, reason)| (board.to_owned(), standing, reason));
    assert_eq!(standings(&cancelled), wanted_standings);

    // Signed, newer than what it takes back, and of what runs: for the board that is away too.
    let mut taking_back = Vec::new();
    for (board, runs) in [(fetches, &runs[0]), (waits, &runs[1]), (offline, &runs[3])] {
        let known = fleet.get(&format!("/api/v1/boards/{}", board.id));
        assert_eq!(known["assignment"]["release"], json!(old), "{known}");
        assert_eq!(known["assignment"]["seq"], 3);
        let activity = known["assignment"]["activity"].clone();
        let message = wanted(board, &activity);
        let deploy = VerifiedDeploy::open(&inline(message.deploy), &fleet.root).unwrap();
        let release = VerifiedRelease::open(&inline(message.release), &fleet.root).unwrap();
        assert_eq!(release.digest(), old);
        // For just as long: a board has nothing to do for it.
        let runs = VerifiedDeploy::open(runs, &fleet.root).unwrap();
        assert_eq!(deploy.document().expires, runs.document().expires);
        let seen = Seen {
            deploy: Counter { epoch: 1, value: 2 },
            ..Seen::default()
        };
        let (id, hardware) = (
            BoardId::new(&board.id).unwrap(),
            HardwareClass::new("generic").unwrap(),
        );
        let this = verify::Board {
            id: &id,
            hardware: &hardware,
            seen: &seen,
            built_at: TimeBound::default(),
        };
        VerifiedDeployment::accept(release, deploy, this, &[]).unwrap();
        taking_back.push(activity);
    }
    support::wait_for("nothing for the board that was not sent to", 10, || {
        is_kept_for(fresh).is_none().then_some(())
    });
    assert_eq!(is_kept_for(switched), Some(of(switched)));
    assert_eq!(is_kept_for(first), Some(of(first)));

    // Once more changes nothing, and there is nothing to hold any more.
    let again = fleet.post(&format!("{path}/cancel"), &json!({}));
    assert_eq!(standings(&again.json()), wanted_standings);
    assert_eq!(is_kept_for(fetches), Some(taking_back[0].clone()));
    for change in ["pause", "resume"] {
        let refused = fleet.post(&format!("{path}/{change}"), &json!({}));
        assert_eq!(refused.status, 409, "{refused:?}");
    }

    // One drops it, in the words of an agent that knows of no cancel; one had switched just before.
    says(fetches, &of(fetches), 4, "failed", Some("superseded"));
    says(fetches, &taking_back[0], 2, "committed", None);
    takes(&fleet, waits, &taking_back[1], 2);
    says(offline, &of(offline), 9, "committed", None);
    says(offline, &taking_back[2], 2, "refused", Some("old-release"));
    let ends = support::wait_for("what they made of it", 10, || {
        let seen = fleet.get(&path);
        (standing(&seen, "acme.b4") == "too-late" && standing(&seen, "acme.b2") == "cancelled")
            .then_some(seen)
    });
    assert_eq!(standing(&ends, "acme.b1"), "cancelled");
    let of_late = fleet.get("/api/v1/boards/acme.b4");
    assert_eq!(of_late["assignment"]["release"], json!(new), "{of_late}");
    wanted(offline, &of(offline));

    let audit = fleet.get("/api/v1/audit").to_string();
    assert!(
        audit.contains("deployment.cancel") && audit.contains("acme.b3 too-late"),
        "{audit}"
    );
}

#[test]
fn a_paused_deployment_is_held_from_boards_that_said_nothing_of_it() {
    let mut fleet = Fleet::start();
    let names = ["acme.b1", "acme.b2", "acme.b3"];
    let [begun, away, fresh] = names.map(|name| fleet.enrol(name));
    let (_, old) = fleet.release(1, &[("app", noise(1, 500))]);
    let before = fleet.deploy(&old, &names[..2]);
    for board in [&begun, &away] {
        takes(&fleet, board, &activity(&before, &board.id), 1);
    }
    let (_, new) = fleet.release(2, &[("app", noise(2, 500))]);
    let ordered = fleet.deploy(&new, &names);
    let path = format!("/api/v1/deployments/{}", ordered["id"].as_str().unwrap());
    let of = |board: &Board| activity(&ordered, &board.id);
    for board in [&begun, &away, &fresh] {
        wanted(board, &of(board));
    }
    says(&begun, &of(&begun), 3, "fetching", None);
    support::wait_for("its word", 10, || {
        (fleet.get(&path)["boards"][0]["phase"] == "fetching").then_some(())
    });
    for _ in 0..2 {
        let paused = fleet.post(&format!("{path}/pause"), &json!({})).json();
        assert_eq!(paused["state"], "paused");
        let words = standings(&paused).into_iter().map(|(_, word, _)| word);
        let words: Vec<Value> = words.collect();
        assert_eq!(words, [json!(null), json!("held"), json!("held")]);
    }
    // What it is to have is what it had; nothing, where there was nothing.
    wanted(&away, &activity(&before, "acme.b2"));
    support::wait_for("nothing", 10, || {
        is_kept_for(&fresh).is_none().then_some(())
    });
    assert_eq!(is_kept_for(&begun), Some(of(&begun)));
    assert_eq!(fleet.get("/api/v1/boards/acme.b2")["assignment"]["seq"], 1);
    fleet.stop_console();
    fleet.start_console();
    assert_eq!(is_kept_for(&away), Some(activity(&before, "acme.b2")));
    assert_eq!(is_kept_for(&fresh), None);

    // A board that had it all the same is not held from what it does.
    says(&fresh, &of(&fresh), 1, "received", None);
    wanted(&fresh, &of(&fresh));
    let resumed = fleet.post(&format!("{path}/resume"), &json!({})).json();
    assert_eq!(resumed["state"], "open");
    assert_eq!(standing(&resumed, "acme.b2"), json!(null));
    wanted(&away, &of(&away));

    // Held and then cancelled: what was at the broker once is taken back by a signature all the same.
    fleet.post(&format!("{path}/pause"), &json!({}));
    let cancelled = fleet.post(&format!("{path}/cancel"), &json!({})).json();
    assert_eq!(standing(&cancelled, "acme.b2"), "cancelling");
    let known = fleet.get("/api/v1/boards/acme.b2");
    assert_eq!(known["assignment"]["seq"], 3);
    wanted(&away, &known["assignment"]["activity"]);
}

#[test]
fn what_was_cancelled_comes_back_neither_by_a_counter_nor_by_the_pause_of_a_newer_one() {
    let fleet = Fleet::start();
    let [back, away] = ["acme.b1", "acme.b2"].map(|name| fleet.enrol(name));
    let (_, old) = fleet.release(1, &[("app", noise(1, 500))]);
    let before = fleet.deploy(&old, &["acme.b1", "acme.b2"]);
    for board in [&back, &away] {
        takes(&fleet, board, &activity(&before, &board.id), 1);
    }
    let (_, bad) = fleet.release(2, &[("app", noise(2, 500))]);
    let ordered = fleet.deploy(&bad, &["acme.b1", "acme.b2"]);
    let path = format!("/api/v1/deployments/{}", ordered["id"].as_str().unwrap());
    let (_, good) = fleet.release(3, &[("app", noise(3, 500))]);
    let newer = fleet.deploy(&good, &["acme.b2"]);

    // One board has tried a release of a higher counter before, and so it takes none of a lower one.
    says(&back, &activity(&ordered, "acme.b1"), 3, "fetching", None);
    support::wait_for("its word", 10, || {
        (fleet.get(&path)["boards"][0]["phase"] == "fetching").then_some(())
    });
    let cancelled = fleet.post(&format!("{path}/cancel"), &json!({})).json();
    assert_eq!(standing(&cancelled, "acme.b1"), "cancelling");
    assert_eq!(standing(&cancelled, "acme.b2"), "superseded");
    let known = fleet.get("/api/v1/boards/acme.b1");
    let taking_back = known["assignment"]["activity"].clone();
    wanted(&back, &taking_back);
    let of_bad = activity(&ordered, "acme.b1");
    says(&back, &of_bad, 4, "failed", Some("cancelled"));
    says(&back, &taking_back, 2, "refused", Some("old-release"));
    support::wait_for("that it is not taken", 10, || {
        (standing(&fleet.get(&path), "acme.b1") == "not-taken").then_some(())
    });
    assert_eq!(is_kept_for(&back), Some(taking_back));

    let newer = format!("/api/v1/deployments/{}", newer["id"].as_str().unwrap());
    let paused = fleet.post(&format!("{newer}/pause"), &json!({})).json();
    assert_eq!(standing(&paused, "acme.b2"), "held");
    wanted(&away, &activity(&before, "acme.b2"));
}

/// A board is not waited for that nothing is sent to any more.
#[test]
fn what_was_overtaken_while_it_was_held_is_told_when_it_is_resumed() {
    let fleet = Fleet::start();
    let [overtaken, away] = ["acme.b1", "acme.b2"].map(|name| fleet.enrol(name));
    let (_, one) = fleet.release(1, &[("app", noise(1, 500))]);
    let held = fleet.deploy(&one, &["acme.b1", "acme.b2"]);
    let path = format!("/api/v1/deployments/{}", held["id"].as_str().unwrap());
    fleet.post(&format!("{path}/pause"), &json!({}));
    let (_, two) = fleet.release(2, &[("app", noise(2, 500))]);
    let newer = fleet.deploy(&two, &["acme.b1"]);
    wanted(&overtaken, &activity(&newer, "acme.b1"));

    let resumed = fleet.post(&format!("{path}/resume"), &json!({})).json();
    assert_eq!(standing(&resumed, "acme.b1"), "superseded");
    assert_eq!(standing(&resumed, "acme.b2"), json!(null));
    wanted(&away, &activity(&held, "acme.b2"));
    assert_eq!(is_kept_for(&overtaken), Some(activity(&newer, "acme.b1")));
    // Nor does it come back when the newer one is held.
    let newer = format!("/api/v1/deployments/{}", newer["id"].as_str().unwrap());
    fleet.post(&format!("{newer}/pause"), &json!({}));
    support::wait_for("nothing for it", 10, || {
        is_kept_for(&overtaken).is_none().then_some(())
    });
}

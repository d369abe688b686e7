//! Enrolment, the boards' port, and what the broker lets a board do.

mod support;

use serde_json::json;
use support::{Fleet, csr, curl, noise};

#[test]
fn a_token_makes_one_certificate_once() {
    let fleet = Fleet::start();
    let file = fleet.enrolment("acme.b1");
    assert_eq!(
        file.console_url,
        format!("https://127.0.0.1:{}", fleet.boards)
    );
    assert_eq!(file.mqtt, format!("127.0.0.1:{}", fleet.mqtt));
    let key = rcgen::KeyPair::generate().unwrap();

    // A request that cannot be signed leaves the token good.
    let bad = fleet.send_csr(&file, "nonsense");
    assert_eq!(bad.status, 400, "{bad:?}");
    let first = fleet.send_csr(&file, &csr(&key));
    assert_eq!(first.status, 200, "{first:?}");
    let second = fleet.send_csr(&file, &csr(&key));
    assert_eq!(second.status, 409, "{second:?}");
    assert!(
        second.json()["error"]
            .as_str()
            .unwrap()
            .contains("used before")
    );
    let mut wrong = file.clone();
    wrong.token = "coracle_wrong".into();
    assert_eq!(fleet.send_csr(&wrong, &csr(&key)).status, 401);

    // A newer file for the same board ends an older one that nobody used.
    let old = fleet.enrolment("acme.b2");
    fleet.enrolment("acme.b2");
    assert_eq!(fleet.send_csr(&old, &csr(&key)).status, 401);
    let audit = fleet.get("/api/v1/audit");
    let actions: Vec<&str> = audit
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|e| e["action"].as_str())
        .collect();
    assert!(
        actions.contains(&"board.enrol") && actions.contains(&"enrolment.create"),
        "{actions:?}"
    );
}

#[test]
fn blobs_need_a_certificate_and_serve_ranges() {
    let fleet = Fleet::start();
    let board = fleet.enrol("acme.b1");
    let (release, _) = fleet.release(1, &[("app", noise(3, 50_000))]);
    let layer = &release.apps[0].image.layers[0];
    let path = format!("/blobs/sha256/{}", layer.digest.hex());
    let whole = board.get(&path, &[]);
    assert_eq!((whole.status, whole.body.len() as u64), (200, layer.size));
    let part = board.get(&path, &["-H", "Range: bytes=10-19"]);
    assert_eq!((part.status, &part.body[..]), (206, &whole.body[10..20]));
    let url = format!("https://127.0.0.1:{}{path}", fleet.boards);
    let ca = board.dir.join("ca.crt");
    let bare = curl(&["--cacert", ca.to_str().unwrap(), &url]);
    assert_eq!(bare.status, 403, "{bare:?}");
    // The console's own client certificate is of the CA and names no board.
    let [ca, crt, key] = fleet
        .console_certificates()
        .map(|p| p.display().to_string());
    let console = curl(&["--cacert", &ca, "--cert", &crt, "--key", &key, &url]);
    assert_eq!(console.status, 403, "{console:?}");
    assert_eq!(board.get("/blobs/sha256/zz", &[]).status, 400);
    assert_eq!(board.get("/api/v1/boards", &[]).status, 404);
}

#[test]
fn a_board_reaches_only_its_own_topics() {
    let fleet = Fleet::start();
    let (a, b) = (fleet.enrol("acme.a"), fleet.enrol("acme.b"));
    let (_, release) = fleet.release(1, &[("app", noise(4, 1000))]);
    fleet.deploy(&release, &["acme.a", "acme.b"]);
    assert!(
        b.read(&b.topic("desired"), 5).is_some(),
        "the right reader reads it"
    );
    assert_eq!(
        a.read(&b.topic("desired"), 2),
        None,
        "another board must not"
    );
    assert_eq!(
        a.read("coracle/v1/+/desired", 3).map(|m| m.len()),
        a.read(&a.topic("desired"), 3).map(|m| m.len())
    );

    let word = |phase: &str| json!({"activity": "x", "sequence": 1, "phase": phase});
    a.publish(&b.topic("feedback"), &word("committed"));
    a.publish(&a.topic("feedback"), &word("received"));
    support::wait_for("A's feedback", 10, || {
        let seen = fleet.get("/api/v1/boards/acme.a");
        (seen["feedback"]["phase"] == "received").then_some(())
    });
    assert_eq!(fleet.get("/api/v1/boards/acme.b")["feedback"], json!(null));
    // Nor may a board write what it should run.
    a.publish_with(&a.topic("desired"), b"{}", &["-q", "1", "-r"]);
    let desired = a.read(&a.topic("desired"), 5).unwrap();
    assert!(desired.len() > 100, "{}", String::from_utf8_lossy(&desired));
}

#[test]
fn a_will_of_an_older_session_is_stale() {
    let fleet = Fleet::start();
    let board = fleet.enrol("acme.b1");
    let say = |online: bool, session: u64| {
        let message = json!({"online": online, "session": session}).to_string();
        board.publish_with(
            &board.topic("presence"),
            message.as_bytes(),
            &["-q", "1", "-r"],
        );
    };
    let seen = || fleet.get("/api/v1/boards/acme.b1")["presence"].clone();
    say(true, 4);
    say(true, 5);
    support::wait_for("the birth", 10, || (seen()["session"] == 5).then_some(()));
    say(false, 4);
    board.publish(
        &board.topic("feedback"),
        &json!({"activity": "x", "sequence": 1, "phase": "received"}),
    );
    support::wait_for("what came after the will", 10, || {
        (!fleet.get("/api/v1/boards/acme.b1")["feedback"].is_null()).then_some(())
    });
    assert_eq!(seen()["online"], true);
    say(false, 5);
    support::wait_for("the will", 10, || (seen()["online"] == false).then_some(()));
    // A board that was set up anew counts from the start.
    say(true, 1);
    support::wait_for("the new birth", 10, || {
        (seen()["online"] == true).then_some(())
    });
}

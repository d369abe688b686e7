//! Signed commands: what the console sends, to whom, and what it makes of the answer. Real console, real Mosquitto.

mod support;

use coracle_protocol::command::{Action, CommandResult, RESET_TYPE};
use coracle_protocol::counters::Seen;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::key::SigningKey;
use coracle_protocol::names::BoardId;
use coracle_protocol::time::TimeBound;
use coracle_protocol::verify::{AcceptedCommand, VerifiedCommand};
use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};
use support::{Board, Fleet, curl, wait_for};

/// Lets the console's key command, by a next root document.
fn let_command(fleet: &mut Fleet) {
    let next = fleet.root_of(2, |root| {
        root["roles"]["command"] = root["roles"]["deploy"].clone();
    });
    fleet.root = fleet.root.next(&next).unwrap();
    let taken = fleet.api("POST", "/api/v1/roots", Some(&next.to_json()));
    assert_eq!(taken.status, 200, "{taken:?}");
}

fn online(fleet: &Fleet, board: &Board, session: u64) {
    let birth = json!({"online": true, "session": session}).to_string();
    let topic = board.topic("presence");
    board.publish_with(&topic, birth.as_bytes(), &["-r", "-q", "1"]);
    wait_for("the birth", 10, || {
        let board = fleet.get("/api/v1/boards/acme.b1");
        (board["presence"]["online"] == json!(true)).then_some(())
    });
}

/// The board's own subscription, of which one message is read.
fn subscribed(board: &Board) -> Child {
    let child = board
        .mosquitto("mosquitto_sub")
        .args([
            "-t",
            &board.topic("command"),
            "-q",
            "0",
            "-C",
            "1",
            "-W",
            "20",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It says nothing when it has subscribed.
    std::thread::sleep(std::time::Duration::from_secs(1));
    child
}

fn came(child: Child) -> Envelope {
    let output = child.wait_with_output().unwrap();
    Envelope::parse(output.stdout.trim_ascii_end()).unwrap()
}

fn send(fleet: &Fleet, action: Value) -> support::Answer {
    fleet.post("/api/v1/boards/acme.b1/commands", &action)
}

fn result(fleet: &Fleet, id: &Value) -> Value {
    let id = id.as_str().unwrap();
    fleet.get(&format!("/api/v1/boards/acme.b1/commands/{id}"))
}

fn restart() -> Value {
    json!({"restart": {"app": "web"}})
}

/// A page as somebody sees it who has signed in.
fn page(fleet: &Fleet, path: &str) -> String {
    let base = format!("http://127.0.0.1:{}", fleet.http);
    let form = format!("token={}", fleet.token());
    let signed_in = curl(&["-d", &form, &format!("{base}/sign-in")]);
    let cookie = signed_in.header("set-cookie").unwrap();
    let cookie = cookie.split(';').next().unwrap();
    let page = curl(&["-b", cookie, &format!("{base}{path}")]);
    String::from_utf8_lossy(&page.body).into_owned()
}

#[test]
fn a_command_is_signed_for_one_board_and_its_answer_is_kept() {
    let mut fleet = Fleet::start();
    let board = fleet.enrol("acme.b1");
    let other = fleet.enrol("acme.b2");
    let_command(&mut fleet);
    online(&fleet, &board, 1);

    let (mine, others) = (subscribed(&board), subscribed(&other));
    let sent = send(&fleet, json!({"logs": {"app": "web", "tail": 100}}));
    assert_eq!(sent.status, 200, "{sent:?}");
    let sent = sent.json();
    assert_eq!(sent["state"], "waiting");
    let envelope = came(mine);
    let verified = VerifiedCommand::open(&envelope, &fleet.root).unwrap();
    let id = BoardId::new("acme.b1").unwrap();
    let now = TimeBound::at(sent["created_at"].as_u64().unwrap());
    let accepted = AcceptedCommand::accept(verified, &id, &Seen::default(), now).unwrap();
    assert_eq!(sent["id"], json!(accepted.digest()));
    let action = accepted.document().action.clone();
    assert!(
        matches!(action, Action::Logs { tail: 100, .. }),
        "{action:?}"
    );
    assert!(accepted.document().expires - accepted.document().issued_at <= 900);

    // In two parts, the second one first and twice; what another board says of it is nothing.
    let text = "line\n".repeat(3000);
    let messages = CommandResult::messages(accepted.digest(), None, &text);
    assert!(messages.len() > 1);
    let say = |board: &Board, message: &CommandResult| {
        board.publish(&board.topic("command-result"), &json!(message));
    };
    let lie = CommandResult::messages(accepted.digest(), Some("lie"), "it was not done");
    say(&other, &lie[0]);
    for message in messages.iter().rev() {
        say(&board, message);
        say(&board, message);
    }
    let done = wait_for("the answer", 10, || {
        let view = result(&fleet, &sent["id"]);
        (view["state"] == "done").then_some(view)
    });
    assert_eq!(done["text"], json!(text));
    assert_eq!(done["code"], Value::Null);
    // The first word counts.
    say(&board, &lie[0]);

    let mine = subscribed(&board);
    let next = send(&fleet, restart()).json();
    let second = VerifiedCommand::open(&came(mine), &fleet.root).unwrap();
    let seen = accepted.seen().clone();
    let second = AcceptedCommand::accept(second, &id, &seen, now).unwrap();
    let refused = CommandResult::messages(second.digest(), Some("no-app"), "no app `web`");
    say(&board, &refused[0]);
    let failed = wait_for("the refusal", 10, || {
        let view = result(&fleet, &next["id"]);
        (view["state"] == "failed").then_some(view)
    });
    assert_eq!(
        (&failed["code"], &failed["text"]),
        (&json!("no-app"), &json!("no app `web`"))
    );
    assert_eq!(result(&fleet, &sent["id"])["state"], "done");
    let all = fleet.get("/api/v1/boards/acme.b1/commands");
    let order: Vec<&Value> = all.as_array().unwrap().iter().map(|c| &c["id"]).collect();
    assert_eq!(order, [&next["id"], &sent["id"]]);
    let audit = fleet.get("/api/v1/audit").to_string();
    assert!(
        audit.contains("command.send") && audit.contains("restart of app web"),
        "{audit}"
    );
    let nothing = others.wait_with_output().unwrap();
    assert!(nothing.stdout.is_empty(), "another board heard it");
}

#[test]
fn nothing_is_sent_that_a_board_would_not_hear_or_take() {
    let mut fleet = Fleet::start();
    let board = fleet.enrol("acme.b1");
    online(&fleet, &board, 1);
    let refused = |fleet: &Fleet, action: Value, status: u16, says: &str| {
        let answer = send(fleet, action);
        assert_eq!(answer.status, status, "{answer:?}");
        let text = answer.json().to_string();
        assert!(text.contains(says), "{text}");
    };
    refused(&fleet, restart(), 409, "trust rotate --add command=");
    let_command(&mut fleet);
    let long = json!({"logs": {"app": "web", "tail": 1001}});
    refused(&fleet, long, 400, "the limit is 1000");
    let shell = json!({"shell": {"app": "web"}});
    refused(&fleet, shell, 400, "unknown variant");
    let nobody = fleet.post("/api/v1/boards/acme.nobody/commands", &restart());
    assert_eq!(nobody.status, 404, "{nobody:?}");

    let gone = json!({"online": false, "session": 1}).to_string();
    board.publish_with(
        &board.topic("presence"),
        gone.as_bytes(),
        &["-r", "-q", "1"],
    );
    wait_for("the end of the board", 10, || {
        let board = fleet.get("/api/v1/boards/acme.b1");
        (board["presence"]["online"] == json!(false)).then_some(())
    });
    refused(&fleet, restart(), 409, "not online");
    let revoked = fleet.post("/api/v1/boards/acme.b1/revocation", &json!({}));
    assert_eq!(revoked.status, 200, "{revoked:?}");
    refused(&fleet, restart(), 409, "is revoked");
    let none = fleet.get("/api/v1/boards/acme.b1/commands");
    assert_eq!(none, json!([]));
}

#[test]
fn a_check_tells_whether_the_key_may_command() {
    let mut fleet = Fleet::start();
    fleet.stop_console();
    let check = |fleet: &Fleet| {
        let output = Command::new(env!("CARGO_BIN_EXE_coracle-console"))
            .arg("check")
            .args(["--state".as_ref(), fleet.path("state").as_os_str()])
            .args(["--root".as_ref(), fleet.path("root.json").as_os_str()])
            .args([
                "--deploy-key".as_ref(),
                fleet.path("deploy.pk8").as_os_str(),
            ])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let said = check(&fleet);
    assert!(
        said.contains("no commands to boards: the root document does not name"),
        "{said}"
    );
    let next = fleet.root_of(2, |root| {
        root["roles"]["command"] = root["roles"]["deploy"].clone();
    });
    std::fs::write(fleet.path("root.json"), next.to_json()).unwrap();
    let said = check(&fleet);
    assert!(
        said.contains("fit together; the key may command boards"),
        "{said}"
    );
}

#[test]
fn what_takes_a_board_out_of_the_fleet_no_console_signs_and_it_carries_it() {
    let mut fleet = Fleet::start();
    let board = fleet.enrol("acme.b1");
    let (reset, other) = (
        SigningKey::generate().unwrap().0,
        SigningKey::generate().unwrap().0,
    );
    let next = fleet.root_of(2, |root| {
        let id = reset.public().key_id();
        root["keys"][&id] = json!(reset.public());
        root["roles"]["reset"] = json!({"keys": [id], "threshold": 1, "epoch": 1});
        root["roles"]["command"] = root["roles"]["deploy"].clone();
    });
    fleet.root = fleet.root.next(&next).unwrap();
    let taken = fleet.api("POST", "/api/v1/roots", Some(&next.to_json()));
    assert_eq!(taken.status, 200, "{taken:?}");
    online(&fleet, &board, 1);
    for action in [
        json!({"factory-reset": {"volumes": true}}),
        json!({"decommission": {}}),
    ] {
        let answer = send(&fleet, action);
        assert_eq!(answer.status, 403, "{answer:?}");
        assert!(answer.json().to_string().contains("no console may sign"));
    }

    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let order = |board: &str, key: &SigningKey| {
        let command = json!({
            "spec_version": 1, "board": board, "epoch": 1, "seq": 7, "issued_at": now,
            "expires": now + 120, "action": {"decommission": {}},
        });
        let mut envelope = Envelope::unsigned(RESET_TYPE, command.to_string().as_bytes());
        envelope.sign(key).unwrap();
        envelope
    };
    let path = "/api/v1/boards/acme.b1/commands";
    let carry = |envelope: &Envelope| fleet.api("POST", path, Some(&envelope.to_json()));
    let by_nobody = carry(&order("acme.b1", &other));
    assert_eq!(by_nobody.status, 422, "{by_nobody:?}");
    let elsewhere = carry(&order("acme.b2", &reset));
    assert_eq!(elsewhere.status, 400, "{elsewhere:?}");
    let mine = subscribed(&board);
    let good = order("acme.b1", &reset);
    let sent = carry(&good);
    assert_eq!(sent.status, 200, "{sent:?}");
    assert_eq!(came(mine).to_json(), good.to_json());
    let again = carry(&good);
    assert_eq!(again.status, 400, "{again:?}");
    let audit = fleet.get("/api/v1/audit").to_string();
    assert!(audit.contains("decommission ("), "{audit}");
    let id = sent.json()["id"].as_str().unwrap().parse().unwrap();
    let text = "<b>the end</b>";
    let refused = CommandResult::messages(id, Some("disk"), text);
    board.publish(&board.topic("command-result"), &json!(refused[0]));
    wait_for("the answer on the board's page", 10, || {
        let page = page(&fleet, "/boards/acme.b1");
        page.contains("failed").then(|| {
            for says in [
                "<td data-label=\"Command\">decommission",
                "disk",
                "&lt;b&gt;the end",
            ] {
                assert!(page.contains(says), "{page}");
            }
        })
    });

    // Not before the board says that it is done.
    let view = || fleet.get("/api/v1/boards/acme.b1");
    assert_eq!(view()["revoked_at"], Value::Null);
    let last_word = json!({
        "version": 1, "set": null, "layers": [], "decommissioned": true,
        "board": {"profile": "p", "hardware": "h", "architecture": "a", "kernel": "k",
            "agent": "1", "memory_bytes": 1, "cpus": 1},
    });
    board.publish(&board.topic("current"), &last_word);
    let gone = wait_for("the revocation", 10, || {
        let view = view();
        (view["revoked_at"] != Value::Null).then_some(view)
    });
    assert_eq!(gone["revoked_why"], "decommissioned");
    assert_eq!(carry(&good).status, 409);
}

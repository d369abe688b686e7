//! Attacks on commands, one test each: what a board does with an envelope that came over MQTT.
//! `docs/threat-model.md` names these tests.

use coracle_protocol::command::{COMMAND_TYPE, Command};
use coracle_protocol::counters::{Counter, Seen};
use coracle_protocol::deploy::DEPLOY_TYPE;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::key::SigningKey;
use coracle_protocol::names::BoardId;
use coracle_protocol::root::{ROOT_TYPE, TrustedRoot};
use coracle_protocol::time::TimeBound;
use coracle_protocol::verify::{AcceptedCommand, Refusal, VerifiedCommand};
use serde_json::{Value, json};

/// 2027-01-15, when all of this happens.
const NOW: u64 = 1_800_000_000;

struct World {
    root: Value,
    root_key: SigningKey,
    command_key: SigningKey,
    deploy_key: SigningKey,
    release_key: SigningKey,
    seen: Seen,
    now: u64,
}

fn key() -> SigningKey {
    SigningKey::generate().unwrap().0
}

fn world() -> World {
    let [root_key, command_key, deploy_key, release_key] = [key(), key(), key(), key()];
    let role =
        |key: &SigningKey| json!({"keys": [key.public().key_id()], "threshold": 1, "epoch": 1});
    let all = [&root_key, &command_key, &deploy_key, &release_key];
    let keys: serde_json::Map<String, Value> = all
        .iter()
        .map(|key| (key.public().key_id(), json!(String::from(key.public()))))
        .collect();
    let root = json!({
        "spec_version": 1, "version": 1, "issued_at": NOW - 86_400, "expires": NOW + 86_400,
        "keys": keys,
        "roles": {
            "root": role(&root_key), "release": role(&release_key),
            "deploy": role(&deploy_key), "command": role(&command_key),
        },
    });
    let seen = Seen {
        command: Counter {
            epoch: 1,
            value: 41,
        },
        deploy: Counter { epoch: 1, value: 7 },
        time: TimeBound::at(NOW - 3600),
        ..Seen::default()
    };
    World {
        root,
        root_key,
        command_key,
        deploy_key,
        release_key,
        seen,
        now: NOW,
    }
}

fn honest() -> Value {
    json!({
        "spec_version": 1, "board": "acme.board-1", "epoch": 1, "seq": 42,
        "issued_at": NOW, "expires": NOW + 60, "action": {"restart": {"app": "web"}},
    })
}

fn with(field: &str, value: Value) -> Value {
    let mut command = honest();
    command[field] = value;
    command
}

fn signed(kind: &str, payload: &[u8], keys: &[&SigningKey]) -> Envelope {
    let mut envelope = Envelope::unsigned(kind, payload);
    for key in keys {
        envelope.sign(key).unwrap();
    }
    envelope
}

impl World {
    fn trusted(&self) -> TrustedRoot {
        let payload = self.root.to_string();
        let envelope = signed(ROOT_TYPE, payload.as_bytes(), &[&self.root_key]);
        TrustedRoot::from_image(&envelope).unwrap()
    }

    fn take(&self, envelope: &Envelope) -> Result<AcceptedCommand, Refusal> {
        let verified = VerifiedCommand::open(envelope, &self.trusted())?;
        let board = BoardId::new("acme.board-1").unwrap();
        AcceptedCommand::accept(verified, &board, &self.seen, TimeBound::at(self.now))
    }

    fn text(&self, payload: &str) -> Result<AcceptedCommand, Refusal> {
        self.take(&signed(
            COMMAND_TYPE,
            payload.as_bytes(),
            &[&self.command_key],
        ))
    }

    fn send(&self, command: &Value) -> Result<AcceptedCommand, Refusal> {
        self.text(&command.to_string())
    }

    fn refuses(&self, command: &Value, code: &str, says: &str) {
        refused(self.send(command), code, says);
    }
}

fn refused(end: Result<AcceptedCommand, Refusal>, code: &str, says: &str) {
    let refusal = end.expect_err("it was accepted");
    let words = refusal.to_string();
    assert_eq!(refusal.code(), code, "{words}");
    assert!(words.contains(says), "`{words}` does not say `{says}`");
}

#[test]
fn an_honest_command_moves_its_own_counter_and_nothing_else() {
    let world = world();
    for action in [
        json!({"restart": {"app": "web"}}),
        json!({"logs": {"app": "web", "tail": 1000}}),
    ] {
        let accepted = world.send(&with("action", action)).unwrap();
        let expected = Seen {
            command: Counter {
                epoch: 1,
                value: 42,
            },
            ..world.seen.clone()
        };
        assert_eq!(*accepted.seen(), expected);
        let back: Command = serde_json::from_value(json!(accepted.document())).unwrap();
        assert_eq!(back, *accepted.document());
    }
}

#[test]
fn a_command_that_was_seen_is_refused() {
    let mut world = world();
    let accepted = world.send(&honest()).unwrap();
    world.seen = accepted.seen().clone();
    world.refuses(&honest(), "old-command", "1.42");
    world.refuses(&with("seq", json!(41)), "old-command", "replayed");
    assert!(world.send(&with("seq", json!(43))).is_ok());
}

#[test]
fn another_boards_command_is_refused() {
    let command = with("board", json!("acme.board-2"));
    world().refuses(&command, "wrong-board", "acme.board-2");
}

#[test]
fn a_command_by_another_roles_key_is_refused() {
    let world = world();
    let payload = honest().to_string();
    for key in [
        &world.deploy_key,
        &world.release_key,
        &world.root_key,
        &key(),
    ] {
        let envelope = signed(COMMAND_TYPE, payload.as_bytes(), &[key]);
        refused(world.take(&envelope), "bad-signature", "command: 0 of 1");
    }
}

#[test]
fn a_root_without_the_role_lets_nobody_command() {
    let mut world = world();
    world.root["roles"]
        .as_object_mut()
        .unwrap()
        .remove("command");
    world.refuses(&honest(), "no-role", "role `command`");
}

#[test]
fn a_command_needs_the_threshold_of_its_role() {
    let mut world = world();
    let ids = [&world.command_key, &world.deploy_key].map(|key| key.public().key_id());
    world.root["roles"]["command"] = json!({"keys": ids, "threshold": 2, "epoch": 1});
    world.refuses(&honest(), "bad-signature", "1 of 2");
    let keys = [&world.command_key, &world.deploy_key];
    let envelope = signed(COMMAND_TYPE, honest().to_string().as_bytes(), &keys);
    assert!(world.take(&envelope).is_ok());
}

/// Signed as an assignment, by a key that is in both roles: no command, whatever is in it.
#[test]
fn a_signature_over_another_kind_of_document_commands_nothing() {
    let mut world = world();
    let key = world.command_key.public().key_id();
    world.root["roles"]["deploy"]["keys"] = json!([key]);
    let payload = honest().to_string();
    let mut envelope = signed(DEPLOY_TYPE, payload.as_bytes(), &[&world.command_key]);
    refused(world.take(&envelope), "bad-envelope", "payload type");
    envelope.payload_type = COMMAND_TYPE.into();
    refused(world.take(&envelope), "bad-signature", "0 of 1");
}

#[test]
fn a_command_that_is_surely_over_is_refused() {
    let mut world = world();
    world.now = NOW + 60;
    assert!(world.send(&honest()).is_ok());
    world.now = NOW + 61;
    world.refuses(&honest(), "expired", "command: expired");
    // By what the board has seen, when nobody keeps its clock.
    world.now = 0;
    world.seen.time = TimeBound::at(NOW + 61);
    world.refuses(&honest(), "expired", "command: expired");
}

#[test]
fn a_command_under_an_expired_root_is_refused() {
    let mut world = world();
    world.root["expires"] = json!(NOW - 1);
    world.refuses(&honest(), "expired", "root document");
}

#[test]
fn a_command_for_longer_than_it_takes_is_refused() {
    let world = world();
    let command = with("expires", json!(NOW + 901));
    world.refuses(&command, "malformed", "expires - issued_at is 901");
    let command = with("expires", json!(NOW - 1));
    world.refuses(&command, "malformed", "expires is before");
}

#[test]
fn a_counter_that_a_stolen_command_key_ran_up_starts_anew_by_an_epoch() {
    let mut world = world();
    world.seen.command.value = (1 << 53) - 1;
    world.refuses(&honest(), "old-command", "replayed");
    world.root["roles"]["command"]["epoch"] = json!(2);
    world.refuses(&honest(), "wrong-epoch", "epoch 1");
    assert!(world.send(&with("epoch", json!(2))).is_ok());
}

#[test]
fn a_command_that_is_not_understood_whole_is_refused() {
    let world = world();
    for (command, says) in [
        (with("spec_version", json!(2)), "spec_version 2"),
        (with("critical", json!(["x"])), "`x`"),
        (with("argv", json!(["sh"])), "unknown field `argv`"),
        (with("action", json!({"shell": {"app": "web"}})), "shell"),
        (
            with("action", json!({"restart": {"app": "web", "image": "x"}})),
            "unknown field `image`",
        ),
        (
            with("action", json!({"restart": {"app": "../x"}})),
            "app name",
        ),
        (with("action", json!({"logs": {"app": "web"}})), "tail"),
        (
            with("action", json!({"logs": {"app": "web", "tail": 1001}})),
            "action.logs.tail is 1001; the limit is 1000",
        ),
        (with("seq", json!(1u64 << 53)), "seq"),
        (with("seq", json!(42.5)), "floating point"),
    ] {
        world.refuses(&command, "malformed", says);
    }
    let twice = honest().to_string().replacen('{', "{\"seq\":43,", 1);
    refused(world.text(&twice), "malformed", "duplicate field `seq`");
    let trailing = honest().to_string() + "x";
    refused(world.text(&trailing), "malformed", "trailing");
    let two = json!({"restart": {"app": "web"}, "logs": {"app": "web", "tail": 1}});
    refused(world.send(&with("action", two)), "malformed", "");
}

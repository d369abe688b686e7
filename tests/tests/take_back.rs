//! A deployment that its operator takes back, all the way: `coracle-release`, the real console with its broker, the real daemon,
//! and the real supervisor with an app that runs on. And what somebody who has the broker makes of the same messages: nothing.

mod fleet;

use fleet::engineer::Engineer;
use fleet::{Board, Fleet, Supervisor, until};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

const NAME: &str = "acme.b1";

struct Place<'a>(Engineer<'a>);

impl Place<'_> {
    /// Ordered, and its name.
    fn deploy(&self, version: u64) -> String {
        let said = self
            .0
            .done(&format!("deploy --board {NAME} {version}.json"));
        let line = said
            .lines()
            .find_map(|line| line.strip_prefix("deployment "));
        line.unwrap().to_owned()
    }

    fn standing(&self, deployment: &str) -> Value {
        let seen = self
            .0
            .fleet
            .ask(&format!("/deployments/{deployment}"), None);
        seen["boards"][0]["standing"].clone()
    }

    /// With the certificate that may read and write each board's topics.
    fn broker(&self, program: &str) -> Command {
        let said = self.0.fleet.ask("/status", None);
        let (host, port) = said["mqtt"].as_str().unwrap().split_once(':').unwrap();
        let mut command = Command::new(program);
        command.args(["-h", host, "-p", port, "-q", "1"]);
        for (option, file) in [
            ("--cafile", "ca.crt"),
            ("--cert", "console.crt"),
            ("--key", "console.key"),
        ] {
            command
                .arg(option)
                .arg(self.0.dir.join("console/pki").join(file));
        }
        command.args(["-t", &format!("coracle/v1/{NAME}/desired")]);
        command
    }
}

#[test]
fn a_deployment_is_taken_back_from_a_board_and_the_broker_does_not_bring_it_in_again() {
    assert!(nix::unistd::geteuid().is_root(), "run this test as root");
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(dir.path(), &[]);
    let board = Board::in_folder(dir.path());
    let mut supervisor = Supervisor::start(&board);
    let mut daemon = board.start();
    let place = Place(Engineer::of(dir.path(), &fleet, &board, NAME));
    for version in 1..=3 {
        let name = version.to_string();
        place
            .0
            .bring(&name, ("shop", &name, version), 1000 + version, "");
    }
    let first = place.deploy(1);
    let runs = |version: &str| {
        let set = board.status().unwrap()["current"].clone();
        (set["version"] == version && set["state"] == "committed")
            .then(|| set["apps"][0]["pid"].clone())
    };
    until("the first release", || runs("1").is_some());
    let pid = runs("1").unwrap();
    until("the console knows", || {
        let set = fleet.ask(&format!("/boards/{NAME}"), None)["current"]["set"].clone();
        set["version"] == "1" && set["state"] == "committed"
    });

    // From now on this board asks somebody first.
    let config = board.dir.join("supervisor.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}[deploy]\nconsent = true\n")).unwrap();
    supervisor.kill();
    supervisor.go_on();
    let second = place.deploy(2);
    let waits = || board.status().is_ok_and(|s| s["waiting"]["version"] == "2");
    until("the second to wait", waits);
    let kept = place
        .broker("mosquitto_sub")
        .args(["-C", "1", "-W", "20"])
        .output()
        .unwrap();
    let kept: Value = serde_json::from_slice(&kept.stdout).unwrap();

    let said = place.0.done(&format!("deployment cancel {second}"));
    assert!(
        said.contains("cancelled") && said.contains("acme.b1: cancelling (waiting)"),
        "{said}"
    );
    until("the board to drop it", || {
        let status = board.status();
        status.is_ok_and(|s| s["waiting"].is_null()) && place.standing(&second) == "cancelled"
    });
    assert_eq!(runs("1"), Some(pid.clone()), "the same process");
    let seen = fleet.ask(&format!("/deployments/{second}"), None);
    assert_eq!(seen["boards"][0]["code"], "cancelled", "{seen}");
    let known = fleet.ask(&format!("/boards/{NAME}"), None);
    assert_eq!(
        known["assignment"]["release"],
        known["current"]["set"]["release"]
    );

    // Who has the broker kept the message, and sends it under another name.
    let mut replayed = kept.clone();
    replayed["activity"] = json!("replayed");
    let mut publish = place.broker("mosquitto_pub");
    let sent = publish
        .args(["-m", &replayed.to_string()])
        .stdin(Stdio::null())
        .status();
    assert!(sent.unwrap().success());
    // The console knows of no such deployment, and shows nothing of it.
    until("its refusal", || {
        let log = std::fs::read_to_string(board.dir.join("coracled.log")).unwrap_or_default();
        log.contains("activity=replayed phase=Refused code=\"old-assignment\"")
    });

    // One that is cancelled while its board is away never gets there.
    daemon.stop().unwrap();
    until("the board is gone", || !fleet.online(NAME));
    let third = place.deploy(3);
    place.0.done(&format!("deployment pause {third}"));
    assert_eq!(place.standing(&third), "held");
    let said = place.0.done(&format!("deployment cancel {third}"));
    assert!(said.contains("cancelling"), "{said}");
    daemon = board.start();
    until("its answer", || place.standing(&third) == "cancelled");
    assert_eq!(runs("1"), Some(pid.clone()));

    // What has switched is beyond it, and the command says so.
    let (done, said) = place.0.release(&format!("deployment cancel {first}"));
    assert!(
        !done && said.contains("too late on 1 board: acme.b1"),
        "{said}"
    );
    assert_eq!(runs("1"), Some(pid));
    drop(daemon);
}

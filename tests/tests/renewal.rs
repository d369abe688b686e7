//! A board's certificate from its enrolment to its revocation: the real console with its broker, and the real daemon,
//! which renews it in time, and after a while of being off too.

use coracle_tests::service::{Service, run, wait_for};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Due after 8 s.
const LIFE: &str = "12s";

fn program(name: &str) -> Command {
    // target/<profile>/deps/<this test>
    let folder = std::env::current_exe().unwrap();
    let path = folder.ancestors().nth(2).unwrap().join(name);
    assert!(
        path.exists(),
        "{} is not built: cargo build --workspace --bins",
        path.display()
    );
    Command::new(path)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

struct Fleet {
    dir: PathBuf,
    http: u16,
    _console: Service,
}

impl Fleet {
    fn start(dir: &Path) -> Self {
        let at = |name: &str| dir.join(name).display().to_string();
        let release = |arguments: &[&str]| run(program("coracle-release").args(arguments)).unwrap();
        for role in ["root", "release", "deploy"] {
            release(&["keys", "new", "--role", role, "--output", &at(role)]);
        }
        let (root, root_key) = (at("root.json"), at("root"));
        release(&[
            "trust",
            "create",
            "--output",
            &root,
            "--root-key",
            &at("root.pub"),
            "--root-threshold",
            "1",
            "--release-key",
            &at("release.pub"),
            "--deploy-key",
            &at("deploy.pub"),
        ]);
        release(&["trust", "sign", "--key", &root_key, &root]);
        let (http, boards, mqtt) = (free_port(), free_port(), free_port());
        let local = |port: u16| format!("127.0.0.1:{port}");
        let mut console = program("coracle-console");
        console.args([
            "serve",
            "--state",
            &at("console"),
            "--advertise",
            "127.0.0.1",
            "--root",
            &root,
            "--deploy-key",
            &at("deploy"),
            "--ready-file",
            &at("ready"),
            "--board-certificate-life",
            LIFE,
            "--listen",
            &local(http),
            "--board-listen",
            &local(boards),
            "--mqtt-listen",
            &local(mqtt),
        ]);
        let mut console = Service::start("console", console, dir).unwrap();
        wait_for("the console", Duration::from_secs(30), || {
            console.check_alive()?;
            Ok(dir.join("ready").exists().then_some(()))
        })
        .unwrap();
        Self {
            dir: dir.to_owned(),
            http,
            _console: console,
        }
    }

    fn ask(&self, path: &str, body: Option<Value>) -> Value {
        let token = std::fs::read_to_string(self.dir.join("console/admin.token")).unwrap();
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "--fail-with-body",
            "-H",
            &format!("Authorization: Bearer {}", token.trim()),
        ]);
        if let Some(body) = body {
            curl.args(["--data-binary", &body.to_string()]);
        }
        let text = run(curl.arg(format!("http://127.0.0.1:{}/api/v1{path}", self.http))).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// How the board's certificates came about, the newest first.
    fn history(&self) -> Vec<String> {
        let all = self.ask("/boards/acme.b1/certificates", None);
        let used = |row: &&Value| row["last_used"].is_u64();
        all.as_array()
            .unwrap()
            .iter()
            .filter(used)
            .map(|row| row["how"].as_str().unwrap().to_owned())
            .collect()
    }

    fn online(&self) -> bool {
        self.ask("/boards/acme.b1", None)["presence"]["online"] == true
    }
}

struct Board {
    dir: PathBuf,
}

impl Board {
    fn start(&self) -> Service {
        let mut daemon = program("coracled");
        daemon
            .arg("--config")
            .arg(self.dir.join("coracle.toml"))
            .arg("--allow-root");
        Service::start("coracled", daemon, &self.dir).unwrap()
    }

    fn ask(&self, path: &str, body: Option<&str>) -> anyhow::Result<Value> {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail-with-body", "--unix-socket"])
            .arg(self.dir.join("run/docker.sock"));
        if let Some(body) = body {
            curl.args(["--data-binary", body]);
        }
        let text = run(curl.arg(format!("http://board/coracle/v1/{path}")))?;
        Ok(serde_json::from_str(&text)?)
    }

    fn status(&self) -> anyhow::Result<Value> {
        self.ask("status", None)
    }
}

fn until(what: &str, mut good: impl FnMut() -> bool) {
    wait_for(what, Duration::from_secs(40), || Ok(good().then_some(()))).unwrap();
}

#[test]
fn a_certificate_lives_on_by_renewal_and_ends_by_revocation() {
    let dir = tempfile::tempdir().unwrap();
    // The broker gives up root, and must reach its folder.
    run(Command::new("chmod").arg("755").arg(dir.path())).unwrap();
    let fleet = Fleet::start(dir.path());
    let board = Board {
        dir: dir.path().join("board"),
    };
    for folder in ["state", "run"] {
        std::fs::create_dir_all(board.dir.join(folder)).unwrap();
    }
    let config = "[agent]\nstate_dir = \"state\"\nrun_dir = \"run\"\n";
    std::fs::write(board.dir.join("coracle.toml"), config).unwrap();
    let daemon = board.start();
    until("docker.sock", || board.status().is_ok());
    let file = fleet.ask("/enrolments", Some(json!({"board": "acme.b1"})));
    board.ask("enrol", Some(&file.to_string())).unwrap();
    until("the board is online", || fleet.online());

    // In time, twice; the link comes back with each.
    until("two renewals", || {
        fleet
            .history()
            .iter()
            .filter(|how| *how == "renewed")
            .count()
            == 2
    });
    until("the link is up with the new one", || {
        let status = board.status().unwrap();
        status["link"]["connects"].as_u64().unwrap() >= 3
            && status["link"]["connected"] == true
            && fleet.online()
    });
    assert_eq!(fleet.history(), ["renewed", "renewed", "enrolled"]);

    // Off while it is due and until it is over.
    drop(daemon);
    std::thread::sleep(Duration::from_secs(14));
    let _daemon = board.start();
    until("it is renewed after its end", || {
        fleet
            .history()
            .first()
            .is_some_and(|how| how == "renewed-expired")
    });
    until("the board is online again", || {
        fleet.online() && board.status().is_ok_and(|s| s["link"]["connected"] == true)
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
    let held = fleet.history().len();
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!(
        fleet.history().len(),
        held,
        "a revoked board was given a certificate"
    );
    assert!(board.status().unwrap()["link"]["connected"] == false);

    // Back by a new file.
    let file = fleet.ask("/enrolments", Some(json!({"board": "acme.b1"})));
    board.ask("enrol", Some(&file.to_string())).unwrap();
    until("the board is back", || {
        fleet.online() && board.status().is_ok_and(|s| s["link"]["connected"] == true)
    });
}

//! The real console with its broker, and the real daemon of a board, with the real supervisor where one is asked for.

#![allow(dead_code)] // Each test file uses its part.

pub mod engineer;

use coracle_tests::service::{Service, run, wait_for};
use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub fn program(name: &str) -> Command {
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

/// Below the ports that the kernel gives to whoever connects: until it is used nobody gets it by chance.
fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static TURN: AtomicU16 = AtomicU16::new(0);
    loop {
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        let spread = (std::process::id() as u16).wrapping_mul(31);
        let port = 20_000 + spread.wrapping_add(turn) % 12_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub struct Fleet {
    dir: PathBuf,
    pub http: u16,
    _console: Service,
}

impl Fleet {
    pub fn start(dir: &Path, extra: &[&str]) -> Self {
        // The broker gives up root, and must reach its folder.
        run(Command::new("chmod").arg("755").arg(dir)).unwrap();
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
            "--listen",
            &local(http),
            "--board-listen",
            &local(boards),
            "--mqtt-listen",
            &local(mqtt),
        ]);
        console.args(extra);
        let mut console = Service::start("console", console, dir).unwrap();
        console
            .wait_for("the console", Duration::from_secs(30), || {
                Ok(dir.join("ready").exists().then_some(()))
            })
            .unwrap();
        Self {
            dir: dir.to_owned(),
            http,
            _console: console,
        }
    }

    pub fn ask(&self, path: &str, body: Option<Value>) -> Value {
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
    pub fn history(&self, board: &str) -> Vec<String> {
        let all = self.ask(&format!("/boards/{board}/certificates"), None);
        let used = |row: &&Value| row["last_used"].is_u64();
        all.as_array()
            .unwrap()
            .iter()
            .filter(used)
            .map(|row| row["how"].as_str().unwrap().to_owned())
            .collect()
    }

    pub fn is_known(&self, board: &str) -> bool {
        let boards = self.ask("/boards", None);
        boards
            .as_array()
            .unwrap()
            .iter()
            .any(|b| b["board"] == board || b["id"] == board)
    }

    pub fn online(&self, board: &str) -> bool {
        self.ask(&format!("/boards/{board}"), None)["presence"]["online"] == true
    }
}

/// A program to which the kernel does not say whether the clock is kept: a filter answers ENOSYS to adjtimex and clock_adjtime.
const NOBODY_KEEPS_IT: &str = "
import ctypes, os, platform, struct, sys
code = [(0x20, 0, 0, 0)]
for call in {'x86_64': (159, 305), 'aarch64': (171, 266)}[platform.machine()]:
    code += [(0x15, 0, 1, call), (0x06, 0, 0, 0x50000 | 38)]
code += [(0x06, 0, 0, 0x7fff0000)]
length = len(code)
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *one) for one in code))
program = ctypes.create_string_buffer(struct.pack('HL', length, ctypes.addressof(code)))
if ctypes.CDLL(None, use_errno=True).prctl(22, 2, program, 0, 0):
    sys.exit(os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
";

pub struct Board {
    pub dir: PathBuf,
    /// Line of coracle.toml that names the daemon's user; without one it stays root.
    user: &'static str,
}

impl Board {
    /// Its folder below `dir`, with a coracle.toml.
    pub fn in_folder(dir: &Path) -> Self {
        let dir = dir.join("board");
        for folder in ["state", "run"] {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
        }
        let config = "[agent]\nstate_dir = \"state\"\nrun_dir = \"run\"\n";
        std::fs::write(dir.join("coracle.toml"), config).unwrap();
        Self { dir, user: "" }
    }

    /// The clock of what runs now and of what is started later, in which nobody keeps it: `@1970-01-01 00:00:10`, `+10y`.
    pub fn set_clock(&self, words: &str) {
        // In one step: each look at the clock reads it.
        let new = self.dir.join("clock.new");
        std::fs::write(&new, words).unwrap();
        std::fs::rename(&new, self.clock()).unwrap();
    }

    fn clock(&self) -> PathBuf {
        self.dir.join("clock")
    }

    /// libfaketime stands between the program and the clock: the machine's clock is not ours to set.
    fn with_its_clock(&self, command: &mut Command) {
        if !self.clock().exists() {
            return;
        }
        let library = format!(
            "/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1",
            std::env::consts::ARCH
        );
        assert!(
            Path::new(&library).exists(),
            "{library}: apt-get install faketime"
        );
        command.env("LD_PRELOAD", library);
        command.env("FAKETIME_TIMESTAMP_FILE", self.clock());
        command.env("FAKETIME_NO_CACHE", "1");
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    }

    /// The same, with a daemon that gives up root, for an account that every Debian machine has.
    pub fn with_user(dir: &Path) -> Self {
        let user = "user = \"daemon\"\n";
        let board = Self {
            user,
            ..Self::in_folder(dir)
        };
        let config = format!("[agent]\nstate_dir = \"state\"\nrun_dir = \"run\"\n{user}");
        std::fs::write(board.dir.join("coracle.toml"), config).unwrap();
        board
    }

    /// The daemon, started again whenever it ends; its number is in `daemon.pid`.
    pub fn keep_running(&self) -> Service {
        let script = "trap 'kill $child; wait $child; exit' TERM\n\
            while :; do \"$0\" --config \"$1\" & child=$!; echo $child > \"$2\"; wait $child; sleep 1; done";
        let mut daemon = Command::new("sh");
        daemon.args(["-c", script]);
        daemon.arg(program("coracled").get_program());
        daemon.arg(self.dir.join("coracle.toml"));
        daemon.arg(self.dir.join("daemon.pid"));
        Service::start("coracled", daemon, &self.dir).unwrap()
    }

    pub fn start(&self) -> Service {
        let mut daemon = program("coracled");
        daemon
            .arg("--config")
            .arg(self.dir.join("coracle.toml"))
            .arg("--allow-root");
        self.with_its_clock(&mut daemon);
        Service::start("coracled", daemon, &self.dir).unwrap()
    }

    pub fn ask(&self, path: &str, body: Option<&str>) -> anyhow::Result<Value> {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail-with-body", "--unix-socket"])
            .arg(self.dir.join("run/docker.sock"));
        if let Some(body) = body {
            curl.args(["--data-binary", body]);
        }
        let text = run(curl.arg(format!("http://board/coracle/v1/{path}")))?;
        Ok(serde_json::from_str(&text)?)
    }

    pub fn status(&self) -> anyhow::Result<Value> {
        self.ask("status", None)
    }
}

/// The supervisor, in a network of its own; its cgroup goes with it.
pub struct Supervisor<'a> {
    board: &'a Board,
    running: Option<Service>,
}

impl<'a> Supervisor<'a> {
    pub fn start(board: &'a Board) -> Self {
        // Tests of one program run side by side.
        use std::sync::atomic::{AtomicU16, Ordering};
        static TURN: AtomicU16 = AtomicU16::new(0);
        let config = format!(
            "[agent]\nstate_dir = \"state\"\nrun_dir = \"run\"\ncgroup_parent = \"cortest-fleet-{}-{}\"\n{}",
            std::process::id(),
            TURN.fetch_add(1, Ordering::Relaxed),
            board.user
        );
        std::fs::write(board.dir.join("supervisor.toml"), config).unwrap();
        let root = board.dir.parent().unwrap().join("root.json");
        std::fs::copy(root, board.dir.join("root.json")).unwrap();
        let mut supervisor = Self {
            board,
            running: None,
        };
        supervisor.go_on();
        supervisor
    }

    /// Starts it, after the one before has ended.
    pub fn go_on(&mut self) {
        let (board, program) = (self.board, Self::program(self.board, ""));
        self.running = Some(Service::start("supervisor", program, &board.dir).unwrap());
        let socket = board.dir.join("run/supervisor.sock");
        until("the supervisor", || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
    }

    /// SIGKILL, as at a cut.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill().unwrap();
        }
    }

    /// Its process, whatever program that executes.
    pub fn pid(&self) -> u32 {
        self.running.as_ref().unwrap().pid()
    }

    /// `word`: what it does, when that is not to run.
    fn program(board: &Board, word: &str) -> Command {
        let mut command = Command::new("unshare");
        let through = match board.clock().exists() {
            true => "python3 -c \"$2\"",
            false => "",
        };
        let script = format!("ip link set lo up; exec {through} \"$0\" {word} --config \"$1\"");
        command.args(["--net", "sh", "-ec", &script]);
        command.arg(program("coracle-supervisor").get_program());
        command.arg(board.dir.join("supervisor.toml"));
        command.arg(NOBODY_KEEPS_IT);
        board.with_its_clock(&mut command);
        command
    }
}

impl Drop for Supervisor<'_> {
    fn drop(&mut self) {
        drop(self.running.take());
        if let Err(error) = run(&mut Self::program(self.board, "stop-all")) {
            eprintln!("stop-all: {error}");
        }
    }
}

pub fn until(what: &str, mut good: impl FnMut() -> bool) {
    wait_for(what, Duration::from_secs(40), || Ok(good().then_some(()))).unwrap();
}

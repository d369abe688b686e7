//! The supervisor as it ships, told to start an app: from the request on its socket to the first statement of the app's main.

use anyhow::{Context, Result, bail};
use coracle_protocol::local::{Answer, AppAction, Call, Message, Request};
use coracle_protocol::names::AppName;
use coracle_protocol::report::AppStatus;
use coracle_tests::board::{Board, BoardOptions};
use coracle_tests::console::Console;
use coracle_tests::engineer::Engineer;
use coracle_tests::service::{run, wait_for};
use coracle_tests::world::World;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// On a board nothing is warm when an app is started.
pub const IDLE: Duration = Duration::from_millis(40);
const WAIT: Duration = Duration::from_secs(20);

/// Apps that differ in what a launch has to do: name, network, whether its users are its own.
pub const APPS: [(&str, &str, bool); 4] = [
    ("own", NONE, true),
    ("boards", NONE, false),
    ("own-bridge", BRIDGE, true),
    ("boards-bridge", BRIDGE, false),
];
const NONE: &str = "mode = \"none\"";
const BRIDGE: &str = "mode = \"bridge\"\nports = [{ host = PORT, container = 8080 }]";

/// stamp.c, built static.
pub fn stamp(folder: &Path) -> Result<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bin/bench/stamp.c");
    let program = folder.join("stamp");
    run(Command::new("cc")
        .args(["-O2", "-static", "-o"])
        .arg(&program)
        .arg(source))
    .context("a C compiler (package build-essential)")?;
    Ok(program)
}

/// What the stamp program has said last, in ns of the machine's steady clock.
pub fn last_stamp(text: &str) -> Option<u64> {
    let (_, after) = text.rsplit_once("stamp ")?;
    let digits = after.find(|c: char| !c.is_ascii_digit())?;
    after[..digits].parse().ok()
}

/// The same clock, now.
pub fn now() -> Result<u64> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?;
    Ok(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

/// A board that runs [`APPS`]; it goes when this is dropped.
pub struct Supervised {
    board: Board,
    _console: Console,
    _run: InMemory,
}

/// A folder of a board that is in memory, as `/run` is.
struct InMemory(PathBuf);

impl InMemory {
    fn mount(folder: PathBuf) -> Result<InMemory> {
        std::fs::create_dir_all(&folder)?;
        run(Command::new("mount")
            .args(["-t", "tmpfs", "run"])
            .arg(&folder))?;
        Ok(InMemory(folder))
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

impl Supervised {
    /// Board `number`, with the release deployed as any other, and every app stopped.
    pub fn start(world: &World, engineer: &Engineer, number: u8) -> Result<Supervised> {
        let release = release(engineer)?;
        let console = Console::start(world, engineer.root(), &engineer.key("deploy"))?;
        let id = format!("bench.launch-{number}");
        let options = BoardOptions {
            number,
            connected: true,
            clock_in_1970: false,
            profile: "qemux86-64",
        };
        let in_memory = InMemory::mount(world.dir().join(format!("board-{number}/run")))?;
        let board = Board::start(world, &id, engineer.root(), options)?;
        board.enrol(&console)?;
        engineer.push(&console, &release)?;
        let mut deploy = console.release("deploy");
        run(deploy.args(["--board", &id, "--wait"]).arg(&release))?;
        let supervised = Supervised {
            board,
            _console: console,
            _run: in_memory,
        };
        for (app, ..) in APPS {
            supervised.stop(app)?;
        }
        Ok(supervised)
    }

    /// One launch of a stopped app after [`IDLE`], in ms; it is stopped again.
    pub fn launch(&self, app: &str) -> Result<f64> {
        std::thread::sleep(IDLE);
        let mut client = self.client()?;
        let begun = now()?;
        client.control(app, AppAction::Start)?;
        let log = self.board.state_dir().join(format!("logs/{app}/json.log"));
        let stamp = wait_for("the app's first word", WAIT, || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            Ok(last_stamp(&text).filter(|stamp| *stamp > begun))
        })?;
        self.stop(app)?;
        Ok((stamp - begun) as f64 / 1e6)
    }

    fn stop(&self, app: &str) -> Result<()> {
        self.client()?.control(app, AppAction::Stop)?;
        wait_for("the end of the app", WAIT, || {
            Ok(self.client()?.app(app)?.pid.is_none().then_some(()))
        })
    }

    fn client(&self) -> Result<Client> {
        let socket = self.board.docker_socket();
        let socket = socket.with_file_name("supervisor.sock");
        let stream = UnixStream::connect(&socket).context(socket.display().to_string())?;
        Ok(Client(stream))
    }
}

/// Of the supervisor's socket, as root.
struct Client(UnixStream);

impl Client {
    fn ask(&mut self, request: Request) -> Result<Answer> {
        let text = serde_json::to_vec(&Call { id: 1, request })?;
        let mut frame = u32::try_from(text.len())?.to_be_bytes().to_vec();
        frame.extend(text);
        self.0.write_all(&frame)?;
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let mut text = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut text)?;
        match serde_json::from_slice(&text)? {
            Message::Reply(reply) => Ok(reply.answer),
            Message::Event(event) => bail!("nobody asked for {event:?}"),
        }
    }

    fn control(&mut self, app: &str, action: AppAction) -> Result<()> {
        let app = AppName::new(app)?;
        match self.ask(Request::Control {
            app,
            action,
            uid: 0,
        })? {
            Answer::Done => Ok(()),
            other => bail!("{action:?}: {other:?}"),
        }
    }

    fn app(&mut self, name: &str) -> Result<AppStatus> {
        let Answer::Status(status) = self.ask(Request::Status)? else {
            bail!("no status");
        };
        let apps = status.current.context("nothing runs")?.apps;
        let mut found = apps.into_iter().filter(|app| app.name.as_str() == name);
        found.next().context("no such app")
    }
}

/// A signed release of [`APPS`], made once.
fn release(engineer: &Engineer) -> Result<PathBuf> {
    let signed = engineer.file("release-launch.json");
    if signed.exists() {
        return Ok(signed);
    }
    let layer = engineer.file("stamp-layer");
    std::fs::create_dir_all(&layer)?;
    stamp(&layer)?;
    run(engineer
        .release("image")
        .arg("build")
        .arg("--layer")
        .arg(&layer)
        .args(["--entrypoint", "/stamp", "--tag", "bench/stamp:1"])
        .arg("--output")
        .arg(engineer.images()))?;
    let mut text = String::from(
        "product = \"launch\"\nversion = \"launch\"\nrelease_counter = 1\nexpires = \"90d\"\nhardware = [\"qemux86-64\"]\n",
    );
    for (index, (name, network, own_users)) in APPS.into_iter().enumerate() {
        let network = network.replace("PORT", &(8081 + index).to_string());
        let users = if own_users {
            ""
        } else {
            "user_namespace = false\n"
        };
        text.push_str(&format!(
            "\n[[apps]]\nname = \"{name}\"\nimage = \"bench/stamp:1\"\ntrial_seconds = 1\n{users}\n[apps.limits]\nmemory = \"16MiB\"\n\
             cpu_millis = 400\npids = 8\n\n[apps.network]\n{network}\n"
        ));
    }
    engineer.sign_release("launch", &text)
}

//! A virtual board: the shipped supervisor and daemon, with folders and a network of their own.

use crate::console::Console;
use crate::lan::Namespace;
use crate::service::{Service, run, wait_for};
use crate::world::{World, set_mode};
use anyhow::{Context, Result};
use coracle_protocol::names::BoardId;
use serde_json::Value;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// What makes one board differ from another.
#[derive(Debug, Clone, Copy)]
pub struct BoardOptions {
    /// 1 to 200: part of names and addresses.
    pub number: u8,
    /// Whether it has a cable.
    pub connected: bool,
    /// Whether its clock starts at 1970.
    pub clock_in_1970: bool,
    /// The shipped profile that it uses.
    pub profile: &'static str,
}

/// A virtual board.
pub struct Board {
    id: BoardId,
    config: PathBuf,
    run_dir: PathBuf,
    state_dir: PathBuf,
    namespace: Namespace,
    clock_in_1970: bool,
    programs: PathBuf,
    logs: PathBuf,
    supervisor: Option<Service>,
    daemon: Option<Service>,
    keep: bool,
}

/// An account that every Debian machine has and that owns nothing; a real board has `coracle`.
const USER: &str = "daemon";

impl Board {
    /// Lays out folders and configuration and starts both processes.
    pub fn start(world: &World, id: &str, root: &Path, options: BoardOptions) -> Result<Self> {
        let name = format!("{}-{}", world.prefix(), options.number);
        let dir = world.dir().join(format!("board-{}", options.number));
        let etc = dir.join("etc");
        std::fs::create_dir_all(&etc)?;
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/boards");
        run(Command::new("cp").arg("-r").arg(shipped).arg(&etc))?;
        std::fs::copy(root, etc.join("root.json"))?;
        let (state_dir, run_dir) = (dir.join("state"), dir.join("run"));
        let text = format!(
            "[agent]\ninstance = \"{name}\"\nstate_dir = \"{}\"\nrun_dir = \"{}\"\nuser = \"{USER}\"\n\
             board_profile = \"{}\"\ncgroup_parent = \"{name}\"\n\n[network]\nbridge = \"cor0\"\nsubnet = \"172.30.0.0/16\"\n\n\
             [log]\nlevel = \"debug\"\n",
            state_dir.display(),
            run_dir.display(),
            options.profile
        );
        let config = etc.join("coracle.toml");
        std::fs::write(&config, text)?;
        set_mode(&dir, 0o755)?;
        let mut board = Self {
            id: BoardId::new(id)?,
            config,
            run_dir,
            state_dir,
            namespace: world.lan().namespace(options.number, options.connected)?,
            clock_in_1970: options.clock_in_1970,
            programs: world
                .program_path("x")
                .parent()
                .context("no folder")?
                .to_owned(),
            logs: world.logs(),
            supervisor: None,
            daemon: None,
            keep: world.keep(),
        };
        board.start_supervisor()?;
        board.start_daemon()?;
        Ok(board)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.namespace.command(&self.programs.join(program));
        if self.clock_in_1970 {
            // libfaketime stands between the program and the clock: the machine's clock is not ours to set.
            command
                .env(
                    "LD_PRELOAD",
                    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
                )
                .env("FAKETIME", "@1970-01-01 00:00:10")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command
    }

    fn service(&self, program: &str) -> Result<Service> {
        let mut command = self.command(program);
        command.arg("--config").arg(&self.config);
        Service::start(&format!("{}-{program}", self.id), command, &self.logs)
    }

    /// Starts the supervisor and waits for its socket to answer.
    pub fn start_supervisor(&mut self) -> Result<()> {
        let mut service = self.service("coracle-supervisor")?;
        let socket = self.run_dir.join("supervisor.sock");
        service.wait_for("the supervisor", Duration::from_secs(15), || {
            Ok(std::os::unix::net::UnixStream::connect(&socket).ok())
        })?;
        self.supervisor = Some(service);
        Ok(())
    }

    /// Starts the daemon and waits for its socket to answer.
    pub fn start_daemon(&mut self) -> Result<()> {
        let mut service = self.service("coracled")?;
        let socket = self.docker_socket();
        service.wait_for("the daemon", Duration::from_secs(15), || {
            Ok(std::os::unix::net::UnixStream::connect(&socket).ok())
        })?;
        self.daemon = Some(service);
        Ok(())
    }

    /// Enrols it with a one-time token and waits until the console sees it online.
    pub fn enrol(&self, console: &Console) -> Result<()> {
        let file = self.config.with_file_name("enrolment.json");
        run(console
            .release("enrol-file")
            .args(["--board", self.id.as_str()])
            .arg("--output")
            .arg(&file))?;
        run(&mut self.coracle(&["enrol", file.to_str().context("path")?]))?;
        wait_for("the board on the console", Duration::from_secs(20), || {
            Ok((console.board(&self.id)?["presence"]["online"] == true).then_some(()))
        })
    }

    /// SIGKILL to the daemon.
    pub fn kill_daemon(&mut self) -> Result<()> {
        self.daemon.take().context("no daemon")?.kill().map(drop)
    }

    /// SIGKILL to the supervisor.
    pub fn kill_supervisor(&mut self) -> Result<()> {
        self.supervisor
            .take()
            .context("no supervisor")?
            .kill()
            .map(drop)
    }

    /// Its name.
    pub fn id(&self) -> &BoardId {
        &self.id
    }
    /// Where its published ports answer.
    pub fn ip(&self) -> Ipv4Addr {
        self.namespace.ip
    }
    /// Its network.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }
    /// Its state folder.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }
    /// The Docker Engine API.
    pub fn docker_socket(&self) -> PathBuf {
        self.run_dir.join("docker.sock")
    }
    /// Process ids of supervisor and daemon.
    pub fn pids(&self) -> Result<(u32, u32)> {
        let pid = |s: &Option<Service>| s.as_ref().map(Service::pid).context("not running");
        Ok((pid(&self.supervisor)?, pid(&self.daemon)?))
    }

    /// `coracle …` as typed on the board.
    pub fn coracle(&self, args: &[&str]) -> Command {
        let mut command = self.command("coracle");
        command.arg("--config").arg(&self.config).args(args);
        command
    }

    /// `coracle status --json`.
    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&run(
            &mut self.coracle(&["status", "--json"])
        )?)?)
    }

    /// Waits until the board itself says that `activity` has ended; its last feedback.
    pub fn wait_for_end(&self, activity: &str, limit: Duration) -> Result<Value> {
        wait_for(&format!("the end of {activity}"), limit, || {
            let last = self.status()?["last_deployment"].take();
            let ends = ["committed", "refused", "rolled-back", "failed"];
            let ended = last["phase"]
                .as_str()
                .is_some_and(|phase| ends.contains(&phase));
            Ok((last["activity"] == activity && ended).then_some(last))
        })
    }

    /// The unmodified `docker` on the board's socket.
    pub fn docker(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT");
        command
            .arg("-H")
            .arg(format!("unix://{}", self.docker_socket().display()))
            .args(args);
        command
    }

    /// Asks a path of an app inside the board's namespace, as the board itself would.
    pub fn get_inside(&self, url: &str) -> Result<String> {
        let mut command = self.namespace.command(Path::new("/usr/bin/curl"));
        run(command.args(["-sS", "--max-time", "3", url]))
    }

    /// Stops everything and tears its network down; what went wrong, in words.
    pub fn stop(&mut self) -> Result<()> {
        self.daemon.take();
        self.supervisor.take();
        let mut command = self.command("coracle-supervisor");
        run(command.arg("stop-all").arg("--config").arg(&self.config)).map(drop)
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if self.keep {
            std::mem::forget(self.daemon.take());
            std::mem::forget(self.supervisor.take());
            return;
        }
        let _ = self.stop();
        self.namespace.remove();
    }
}

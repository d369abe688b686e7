//! podman and dockerd, which share a command line.

use std::io::Write;
use std::process::{Command, Stdio};

use super::room::{Room, wait_until};
use super::{Said, runtime, said};

/// The image that each has: busybox.
pub const IMAGE: &str = "coracle-busybox";

pub struct Engine {
    pub room: Room,
    /// Program and options, before the verb.
    program: Vec<String>,
    /// What each container gets: the room's cgroup, and no more of files than root here may have.
    containers: Vec<String>,
    /// What an exec of a program that is missing ends with.
    pub missing: &'static [i32],
    /// Whether attach ends with the container's code.
    pub attach_tells: bool,
    /// What it can change beside memory and CPU time.
    pub updates: &'static [&'static str],
}

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|one| (*one).to_owned()).collect()
}

fn text(path: impl AsRef<std::path::Path>) -> String {
    path.as_ref().to_str().expect("text").to_owned()
}

impl Engine {
    pub fn podman() -> Engine {
        let room = Room::new();
        let program = strings(&[
            "podman",
            "--runtime",
            &text(runtime()),
            "--root",
            &text(room.path("images")),
            "--runroot",
            "/run/podman",
            "--storage-driver",
            "vfs",
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "file",
        ]);
        let containers = strings(&[
            "--network",
            "none",
            "--cgroup-parent",
            &format!("/{}", room.group),
            "--log-driver",
            "k8s-file",
            "--ulimit",
            "nofile=1024:1024",
            "--ulimit",
            "nproc=4096:4096",
        ]);
        let mut engine = Engine::with_image(room, program, containers);
        // 4.3 ends with 0 where its input is no terminal, with runc too.
        engine.attach_tells = false;
        engine
    }

    /// With a bridge in the room's network, and its own proxy for ports.
    pub fn dockerd() -> Engine {
        const SOCKET: &str = "unix:///run/coracle-dockerd.sock";
        let mut room = Room::new();
        std::fs::write(room.path("daemon.json"), "{}").expect("a file");
        let mut daemon = room.command("dockerd");
        daemon
            .args(["--host", SOCKET, "--pidfile", "/run/coracle-dockerd.pid"])
            .arg("--config-file")
            .arg(room.path("daemon.json"))
            .arg("--data-root")
            .arg(room.path("images"))
            .args([
                "--exec-root",
                "/run/coracle-dockerd",
                "--storage-driver",
                "vfs",
            ])
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .arg(format!("--add-runtime=coracle={}", text(runtime())))
            .args([
                "--default-runtime",
                "coracle",
                "--iptables=false",
                "--ip6tables=false",
            ])
            .arg(format!("--cgroup-parent=/{}", room.group));
        room.start("dockerd", daemon);
        let program = strings(&["docker", "--host", SOCKET]);
        wait_until("dockerd", || {
            let up = room.run("docker", &["--host", SOCKET, "version"]);
            assert!(
                !room.log("dockerd").contains("failed to start daemon"),
                "{}",
                room.log("dockerd")
            );
            up.code == 0
        });
        let mut engine = Engine::with_image(room, program, Vec::new());
        // 20.10 ends so whatever the runtime says.
        engine.missing = &[126, 127];
        engine.updates = &["--pids-limit", "50"];
        engine
    }

    fn with_image(room: Room, program: Vec<String>, containers: Vec<String>) -> Engine {
        let engine = Engine {
            room,
            program,
            containers,
            missing: &[127],
            attach_tells: true,
            updates: &[],
        };
        let archive = text(engine.room.archive());
        engine.ok(&["import", &archive, IMAGE]);
        engine
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.room.command(&self.program[0]);
        command.args(&self.program[1..]).arg(args[0]);
        if matches!(args[0], "run" | "create") {
            command.args(&self.containers);
        }
        command.args(&args[1..]);
        command
    }

    pub fn run(&self, args: &[&str]) -> Said {
        said(self.command(args).output().expect("nsenter"))
    }

    /// With something to read.
    pub fn fed(&self, input: &str, args: &[&str]) -> Said {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("nsenter");
        let stdin = child.stdin.take().expect("a pipe");
        { stdin }.write_all(input.as_bytes()).expect("a reader");
        said(child.wait_with_output().expect("nsenter"))
    }

    /// It must succeed. Answers what it says.
    pub fn ok(&self, args: &[&str]) -> String {
        let said = self.run(args);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        said.out.trim_end().to_owned()
    }

    /// A container that ends by itself.
    pub fn code(&self, args: &[&str]) -> i32 {
        self.run(&[&["run", "--rm"], args].concat()).code
    }

    pub fn inspected(&self, name: &str, what: &str) -> String {
        let format = format!("{{{{.{what}}}}}");
        self.ok(&["inspect", "--format", &format, name])
    }

    pub fn status(&self, name: &str) -> String {
        self.inspected(name, "State.Status")
    }

    /// Ends with its exit code.
    pub fn ended(&self, name: &str) -> String {
        wait_until("the end", || self.status(name) == "exited");
        self.inspected(name, "State.ExitCode")
    }

    /// At once, whether it listens to signals or not.
    pub fn ends(&self, name: &str) {
        self.ok(&["kill", name]);
        assert_eq!(self.ended(name), "137");
        self.ok(&["rm", name]);
    }

    pub fn wait_for_log(&self, name: &str, line: &str) {
        wait_until(line, || {
            let said = self.run(&["logs", name]);
            said.out
                .lines()
                .chain(said.err.lines())
                .any(|one| one == line)
        });
    }
}

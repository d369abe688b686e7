//! The network part of a launch, apart from the rest; and what passes a bridge with NAT, beside docker's and podman's, in turn.

use crate::launch::median;
use anyhow::{Context, Result, bail, ensure};
use coracle_tests::service::run;
use coracle_tests::world::World;
use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
/// Of one measurement, in seconds.
const SECONDS: &str = "2";
/// Boards with a wire to the world each, and the third byte of their addresses.
const BOARDS: [(&str, u8); 3] = [("coracle", 101), ("docker", 102), ("podman", 103)];
/// crun refuses the hybrid cgroup layout, and runc finds its way: a private view without the empty v2 mount is for both.
const ALONE: &str =
    "mount --make-rprivate /; umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";

pub fn table(world: &World) -> Result<String> {
    let mut out = launch(world)?;
    out.push('\n');
    out.push_str(&throughput(world)?);
    Ok(out)
}

/// Medians of the library's own example, in µs by name.
struct Attached(String);

impl Attached {
    fn measured(world: &World) -> Result<Self> {
        run(&mut Command::new(world.built_path("examples/attach_bench"))).map(Self)
    }

    fn micros(&self, name: &str) -> Result<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|us| us.trim().parse::<f64>().ok())
            .with_context(|| format!("attach_bench says nothing of {name}: {}", self.0))
    }
}

fn launch(world: &World) -> Result<String> {
    let attached = Attached::measured(world)?;
    let of = |name: &str| attached.micros(name);
    let mut out = String::from(
        "The network part of a launch with one published port, in a network namespace of its own; medians of 50 (25 of each end).\n\n\
         | | µs |\n|---|---|\n",
    );
    for (name, what) in [
        ("attach", "the supervisor's side: address, veth, port"),
        ("inside", "the container's side: addresses, routes, up"),
        ("ended", "the end, of the supervisor's thread"),
        ("detach", "the end, when the interface is waited for"),
    ] {
        writeln!(out, "| {what} | {:.0} |", of(name)?)?;
    }
    Ok(out)
}

fn throughput(world: &World) -> Result<String> {
    let ground = Ground::make(world)?;
    let containers = [ground.coracle(world)?, ground.docker()?, ground.podman()?];
    let mut measured: [[Vec<f64>; 2]; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (at, container) in containers.iter().enumerate() {
            for (way, reverse) in [false, true].into_iter().enumerate() {
                let to = format!("198.51.{}.2", BOARDS[at].1);
                measured[at][way].push(gigabits(container.pid, &to, reverse)?);
            }
        }
    }
    let medians = measured.map(|ways| ways.map(median));
    let docker = medians[1];
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let mut out = format!(
        "One TCP connection of iperf3 through bridge and NAT to the other side of a cable, Gbit/s, {ROUNDS} times {SECONDS} s in turn. Load of the \
         machine at the end: {}.\n\n| | out | of docker | in | of docker |\n|---|---|---|---|---|\n",
        load.split(' ').next().unwrap_or("?")
    );
    for ((name, _), [sent, received]) in BOARDS.iter().zip(medians) {
        writeln!(
            out,
            "| {name} | {sent:.1} | {:.2}x | {received:.1} | {:.2}x |",
            sent / docker[0],
            received / docker[1]
        )?;
    }
    Ok(out)
}

fn gigabits(pid: u32, to: &str, reverse: bool) -> Result<f64> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &pid.to_string(), "--net", "--", "iperf3", "--json"])
            .args(["-t", SECONDS, "-c", to]);
        if reverse {
            command.arg("-R");
        }
        let output = command.output().context("iperf3")?;
        let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        match said["end"]["sum_received"]["bits_per_second"].as_f64() {
            Some(bits) => return Ok(bits / 1e9),
            // The server serves one at a time, and is not done with the last one at once.
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(200)),
            None => bail!("iperf3 to {to}: {}", said["error"]),
        }
    }
}

/// Network namespaces: the world with iperf3's server, and a board for each.
struct Ground {
    dir: PathBuf,
    name: String,
    _server: Process,
}

/// Ended with what it stands for.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Its input ends first, which is how some of them are told.
        drop(self.0.stdin.take());
        let end = Instant::now() + Duration::from_secs(2);
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One that packets go through, and what has to be typed so that it goes.
struct Container {
    pid: u32,
    end: Option<Command>,
    _with: Option<Process>,
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(end) = &mut self.end {
            let _ = end.output();
        }
    }
}

impl Ground {
    fn make(world: &World) -> Result<Self> {
        let name = format!("cbnet-{}", std::process::id());
        let dir = world.dir().join("network");
        std::fs::create_dir_all(dir.join("root/bin"))?;
        std::fs::copy("/bin/busybox", dir.join("root/bin/busybox"))
            .context("/bin/busybox (package busybox-static)")?;
        std::os::unix::fs::symlink("busybox", dir.join("root/bin/sleep"))?;
        let root = dir.join("root");
        run(Command::new("tar")
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(dir.join("root.tar"))
            .arg("."))?;
        let outside = format!("{name}-world");
        ip(&format!("netns add {outside}"))?;
        ip(&format!("-n {outside} link set lo up"))?;
        for (board, octet) in BOARDS {
            let inside = format!("{name}-{board}");
            for step in [
                format!("netns add {inside}"),
                format!("-n {inside} link set lo up"),
                format!("-n {outside} link add w{octet} type veth peer name eth0 netns {inside}"),
                format!("-n {outside} addr add 198.51.{octet}.2/24 dev w{octet}"),
                format!("-n {outside} link set w{octet} up"),
                format!("-n {inside} addr add 198.51.{octet}.1/24 dev eth0"),
                format!("-n {inside} link set eth0 up"),
                format!("-n {inside} route add default via 198.51.{octet}.2"),
            ] {
                ip(&step)?;
            }
        }
        let server = nsenter(&outside, "iperf3")
            .arg("-s")
            .stdout(Stdio::null())
            .spawn()
            .context("iperf3")?;
        Ok(Self {
            dir,
            name,
            _server: Process(server),
        })
    }

    fn on(&self, board: &str, program: &str) -> Command {
        nsenter(&format!("{}-{board}", self.name), program)
    }

    fn coracle(&self, world: &World) -> Result<Container> {
        let example = world.built_path("examples/place");
        let mut child = self
            .on("coracle", &example.to_string_lossy())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output")?).read_line(&mut line)?;
        Ok(Container {
            pid: line.trim().parse().context("the example's container")?,
            end: None,
            _with: Some(Process(child)),
        })
    }

    fn docker(&self) -> Result<Container> {
        let socket = format!("unix://{}", self.dir.join("docker.sock").display());
        let log = std::fs::File::create(self.dir.join("dockerd.log"))?;
        let daemon = self
            .on("docker", "dockerd")
            .arg("--data-root")
            .arg(self.dir.join("docker"))
            .arg("--exec-root")
            .arg(self.dir.join("docker-exec"))
            .arg("--pidfile")
            .arg(self.dir.join("docker.pid"))
            .args(["-H", &socket])
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("dockerd (package docker.io)")?;
        let daemon = Process(daemon);
        let client = || {
            let mut client = Command::new("docker");
            client.args(["-H", &socket]);
            client
        };
        let end = Instant::now() + Duration::from_secs(60);
        while !client().arg("info").output()?.status.success() {
            ensure!(Instant::now() < end, "dockerd does not answer: dockerd.log");
            std::thread::sleep(Duration::from_millis(200));
        }
        run(client()
            .arg("import")
            .arg(self.dir.join("root.tar"))
            .arg("box:1"))?;
        run(client().args(["run", "-d", "--name", "box", "box:1", "/bin/sleep", "3600"]))?;
        let pid = run(client().args(["inspect", "-f", "{{.State.Pid}}", "box"]))?;
        let mut end = client();
        end.args(["rm", "-f", "box"]);
        Ok(Container {
            pid: pid.trim().parse().context("docker's container")?,
            end: Some(end),
            _with: Some(daemon),
        })
    }

    fn podman(&self) -> Result<Container> {
        let client = || {
            let mut client = self.on("podman", "unshare");
            client
                .args(["-m", "sh", "-c", ALONE, "sh", "podman", "--runtime", "runc"])
                .args(["--cgroup-manager", "cgroupfs", "--storage-driver", "vfs"])
                .arg("--root")
                .arg(self.dir.join("podman"))
                .arg("--runroot")
                .arg(self.dir.join("podman-run"));
            client
        };
        run(client()
            .arg("import")
            .arg(self.dir.join("root.tar"))
            .arg("box:1"))?;
        let pid_file = self.dir.join("podman.pid");
        run(client()
            .args(["run", "-d", "--name", "box", "--pidfile"])
            .arg(&pid_file)
            // Raising a hard limit needs a capability that root may lack here.
            .args([
                "--ulimit",
                "nproc=4096:4096",
                "--ulimit",
                "nofile=1024:1024",
            ])
            .args(["box:1", "/bin/sleep", "3600"]))?;
        let mut end = client();
        end.args(["rm", "-f", "-t", "0", "box"]);
        Ok(Container {
            pid: read_number(&pid_file)?,
            end: Some(end),
            _with: None,
        })
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let boards = BOARDS.map(|(board, _)| board);
        for board in boards.into_iter().chain(["world"]) {
            let _ = ip(&format!("netns delete {}-{board}", self.name));
        }
    }
}

fn read_number(path: &Path) -> Result<u32> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Ok(text.trim().parse()?)
}

/// In the namespace, with this machine's /sys: `ip netns exec` would hide the cgroups.
fn nsenter(netns: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{netns}"))
        .arg("--")
        .arg(program);
    command
}

fn ip(arguments: &str) -> Result<String> {
    run(Command::new("ip").args(arguments.split(' ')))
}

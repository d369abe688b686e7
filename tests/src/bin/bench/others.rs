//! Other ways to start a program in a container, each as its manual has it: the root file system of a bundle, no network, what it
//! prints passed on, all of it gone afterwards.

use crate::dockerd::Dockerd;
use anyhow::{Context, Result};
use coracle_tests::page::OTHERS;
use coracle_tests::service::run;
use coracle_tests::world::World;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Raising a hard limit needs a capability that root may lack here.
const LIMITS: [&str; 4] = [
    "--ulimit",
    "nproc=4096:4096",
    "--ulimit",
    "nofile=1024:1024",
];
const IMAGE: &str = "corbench:stamp";

/// All of them, made ready.
pub struct Others {
    dir: PathBuf,
    root: PathBuf,
    dockerd: Dockerd,
}

impl Others {
    /// On the root file system of a bundle, which has `/stamp`.
    pub fn begin(world: &World, bundle: &Path) -> Result<Others> {
        let (dir, root) = (world.dir().join("others"), bundle.join("rootfs"));
        for folder in ["lxc", "docker"] {
            std::fs::create_dir_all(dir.join(folder))?;
        }
        // Where they mount what is theirs.
        for folder in ["proc", "sys", "dev", "tmp", "run", "etc", "usr"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        let config = format!(
            "lxc.rootfs.path = {}\nlxc.net.0.type = empty\nlxc.mount.auto = proc\n",
            root.display()
        );
        std::fs::write(dir.join("lxc.conf"), config)?;
        let docker = dir.join("docker");
        let dockerd = Dockerd::start(world, &docker.join("data"), &docker, &[])?;
        let tar = dir.join("root.tar");
        run(Command::new("tar")
            .arg("-cf")
            .arg(&tar)
            .arg("-C")
            .arg(&root)
            .arg("."))?;
        run(dockerd.docker().arg("import").arg(&tar).arg(IMAGE))?;
        Ok(Others { dir, root, dockerd })
    }

    pub fn end(self) -> Result<()> {
        self.dockerd.end()
    }

    /// What starts it once.
    pub fn command(&self, tool: &str, number: usize) -> Command {
        let program = match tool {
            "docker" => return self.docker(),
            other => other,
        };
        let mut command = Command::new(program);
        match tool {
            "bwrap" => command
                .args(["--unshare-all", "--bind"])
                .arg(&self.root)
                .args(["/", "--proc", "/proc", "--dev", "/dev"]),
            "lxc-execute" => command
                .args(["-n", &format!("corbench-{number}"), "-P"])
                .arg(self.dir.join("lxc"))
                .arg("-f")
                .arg(self.dir.join("lxc.conf"))
                .arg("--"),
            "systemd-nspawn" => command
                .args(["--quiet", "--register=no", "--keep-unit", "--pipe"])
                .args(["--private-network", "-D"])
                .arg(&self.root),
            _ => command
                .arg("--root")
                .arg(self.dir.join("podman"))
                .arg("--runroot")
                .arg(self.dir.join("podman-run"))
                .args(["--cgroup-manager", "cgroupfs", "--events-backend", "file"])
                .args(["run", "--rm", "--network", "none"])
                .args(LIMITS)
                .arg("--rootfs")
                .arg(&self.root),
        };
        command.args(["/stamp", "once"]);
        command
    }

    fn docker(&self) -> Command {
        let mut command = self.dockerd.docker();
        command
            .args(["run", "--rm", "--network", "none"])
            .args(LIMITS)
            .args([IMAGE, "/stamp", "once"]);
        command
    }

    /// As they say it themselves.
    pub fn versions(&self) -> Result<String> {
        let mut all = Vec::new();
        for tool in OTHERS {
            let output = Command::new(tool).arg("--version").output();
            let output =
                output.with_context(|| format!("{tool} (see BENCH_PACKAGES of the Makefile)"))?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let line = text.lines().next().unwrap_or_default().trim();
            all.push(
                match line.starts_with(|first: char| first.is_ascii_digit()) {
                    true => format!("{tool} {line}"),
                    false => line.to_owned(),
                },
            );
        }
        Ok(all.join("; "))
    }
}

//! A dockerd of one's own, which touches no network of the machine.

use anyhow::Result;
use coracle_tests::service::{Service, wait_for};
use coracle_tests::world::World;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

pub struct Dockerd {
    service: Service,
    socket: String,
}

impl Dockerd {
    /// With what it stores below `data`, and all else below `dir`; both are there.
    pub fn start(world: &World, data: &Path, dir: &Path, options: &[&str]) -> Result<Dockerd> {
        let socket = format!("unix://{}", dir.join("docker.sock").display());
        let mut command = Command::new("dockerd");
        command
            .arg("--data-root")
            .arg(data)
            .arg("--exec-root")
            .arg(dir.join("exec"))
            .arg("--pidfile")
            .arg(dir.join("docker.pid"))
            .args(["--bridge", "none", "--iptables=false", "--ip6tables=false"])
            .args(["-H", &socket])
            .args(options);
        let mut service = Service::start("dockerd", command, &world.logs())?;
        let mut asked = docker(&socket);
        asked.arg("info");
        service.wait_for("dockerd", Duration::from_secs(120), || {
            Ok(asked.output()?.status.success().then_some(()))
        })?;
        Ok(Dockerd { service, socket })
    }

    /// Its client.
    pub fn docker(&self) -> Command {
        docker(&self.socket)
    }

    /// It ends its own containerd when it has the time.
    pub fn end(mut self) -> Result<()> {
        self.service.signal(nix::sys::signal::Signal::SIGTERM)?;
        wait_for("the end of dockerd", Duration::from_secs(60), || {
            Ok(self.service.check_alive().is_err().then_some(()))
        })
    }
}

fn docker(socket: &str) -> Command {
    let mut command = Command::new("docker");
    command.args(["-H", socket]);
    command
}

//! A console under test: started on this machine's bridge, used through its REST API.

use crate::service::{Service, run, wait_for};
use crate::world::World;
use anyhow::{Context, Result, bail};
use coracle_protocol::names::BoardId;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Ports of a console; a world has the machine's own loopback to itself only by number.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// Of web pages, REST and registry, on loopback.
    pub operator: u16,
    /// Of enrolment and blobs.
    pub board: u16,
    /// Of the broker.
    pub mqtt: u16,
}

/// Those of the demo.
const PORTS: Ports = Ports {
    operator: 18080,
    board: 18443,
    mqtt: 18883,
};

/// A running console.
pub struct Console {
    service: Service,
    state: PathBuf,
    ip: std::net::Ipv4Addr,
    ports: Ports,
    release_program: PathBuf,
}

impl Console {
    /// Starts it and waits until it says that all is up.
    pub fn start(world: &World, root: &Path, deploy_key: &Path) -> Result<Self> {
        Self::start_on(world, root, deploy_key, PORTS)
    }

    /// As [`Console::start`], on other ports.
    pub fn start_on(world: &World, root: &Path, deploy_key: &Path, ports: Ports) -> Result<Self> {
        let state = world.dir().join("console");
        std::fs::create_dir_all(&state)?;
        let ready = state.join("ready");
        let ip = world.lan().console_ip();
        let mut command = world.program("coracle-console");
        command
            .arg("serve")
            .arg("--state")
            .arg(&state)
            .args(["--listen", &format!("127.0.0.1:{}", ports.operator)])
            .args(["--board-listen", &format!("{ip}:{}", ports.board)])
            .args(["--mqtt-listen", &format!("{ip}:{}", ports.mqtt)])
            .args(["--advertise", &ip.to_string()])
            .arg("--root")
            .arg(root)
            .arg("--deploy-key")
            .arg(deploy_key)
            .arg("--ready-file")
            .arg(&ready);
        let mut service = Service::start("console", command, &world.logs())?;
        service.wait_for("the console", Duration::from_secs(30), || {
            Ok(ready.exists().then_some(()))
        })?;
        Ok(Self {
            service,
            state,
            ip,
            ports,
            release_program: world.program_path("coracle-release"),
        })
    }

    /// Where operators reach it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.operator)
    }
    /// Where registry clients reach it.
    pub fn registry(&self) -> String {
        format!("127.0.0.1:{}", self.ports.operator)
    }
    /// Its state folder.
    pub fn state(&self) -> &Path {
        &self.state
    }
    /// The file with the operator's token.
    pub fn token_file(&self) -> PathBuf {
        self.state.join("admin.token")
    }
    /// The operator's token.
    pub fn token(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.token_file())?
            .trim()
            .to_owned())
    }
    /// Its process.
    pub fn service(&mut self) -> &mut Service {
        &mut self.service
    }

    /// `coracle-release` with this console and its token.
    pub fn release(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.release_program);
        command
            .arg(subcommand)
            .arg("--console")
            .arg(self.url())
            .arg("--token-file")
            .arg(self.token_file());
        command
    }

    /// GET of the REST API.
    pub fn get(&self, path: &str) -> Result<Value> {
        let mut response = ureq::get(format!("{}{path}", self.url()))
            .header("authorization", format!("Bearer {}", self.token()?))
            .call()
            .with_context(|| format!("GET {path}"))?;
        Ok(serde_json::from_str(
            &response.body_mut().read_to_string()?,
        )?)
    }

    /// A page as a browser sees it that signed in with the operator's token.
    pub fn page(&self, path: &str) -> Result<String> {
        let jar = self.state.join("cookies");
        let curl = || {
            let mut command = Command::new("curl");
            command
                .args(["-sS", "--fail", "-b"])
                .arg(&jar)
                .arg("-c")
                .arg(&jar);
            command
        };
        run(curl()
            .args(["-H", &format!("Origin: {}", self.url()), "--data-urlencode"])
            .arg(format!("token={}", self.token()?))
            .arg(format!("{}/sign-in", self.url())))?;
        run(curl().arg(format!("{}{path}", self.url())))
    }

    /// What the console knows of a board.
    pub fn board(&self, board: &BoardId) -> Result<Value> {
        self.get(&format!("/api/v1/boards/{board}"))
    }

    /// Publishes to a topic as the console's own broker user: what a thief of its credentials could do.
    /// The broker throws the real console off meanwhile, so what boards answer is to be asked of them.
    pub fn publish_as_thief(&self, topic: &str, message: &[u8]) -> Result<()> {
        let file = self.state.join("thief.json");
        std::fs::write(&file, message)?;
        let find = |names: [&str; 2]| -> Result<PathBuf> {
            for dir in ["pki"] {
                for name in names {
                    let path = self.state.join(dir).join(name);
                    if path.exists() {
                        return Ok(path);
                    }
                }
            }
            bail!("none of {names:?} below {}", self.state.display())
        };
        let (ca, cert, key) = (
            find(["ca.crt", "ca.pem"])?,
            find(["console.crt", "console.pem"])?,
            find(["console.key", "console-key.pem"])?,
        );
        // The broker gives every client of this user the same id, so thief and console throw each other
        // off; who loses that race before the acknowledgement tries again, as a thief would.
        let ip = self.ip.to_string();
        let port = self.ports.mqtt.to_string();
        wait_for(
            "the thief's message to be taken",
            Duration::from_secs(15),
            || {
                run(Command::new("mosquitto_pub")
                    .args(["-h", &ip, "-p", &port, "-q", "1", "-r", "-t", topic])
                    .arg("--cafile")
                    .arg(&ca)
                    .arg("--cert")
                    .arg(&cert)
                    .arg("--key")
                    .arg(&key)
                    .arg("-f")
                    .arg(&file))
                .map(Some)
            },
        )
        .map(drop)
    }
}

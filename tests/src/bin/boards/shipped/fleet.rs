//! What stands outside the board: keys, a console with its broker, and releases of a small app.

use anyhow::{Context, Result, ensure};
use coracle_protocol::names::BoardId;
use coracle_tests::console::{Console, Ports};
use coracle_tests::engineer::Engineer;
use coracle_tests::leftovers;
use coracle_tests::measure::get;
use coracle_tests::service::{run, wait_for};
use coracle_tests::world::World;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub struct Fleet {
    pub console: Console,
    pub engineer: Engineer,
    pub board: BoardId,
    pub world: World,
    hardware: &'static str,
    /// Further apps of each release, as its file has them.
    pub beside: String,
    /// How often apps are asked for their health, in milliseconds; those that are not well more often.
    pub probe_ms: u32,
}

/// So that what is not well is known soon.
const SOON_MS: u32 = 500;

/// The two apps of each release, with the ports they publish; both tell the release's version.
pub const APPS: [(&str, u16); 2] = [("front", 8080), ("back", 9000)];

/// Files beside the program in each version's layer: of many sizes, so that a layer is many writes.
const FILES: usize = 40;

impl Fleet {
    pub fn create(
        prefix: &str,
        ports: Ports,
        board: &str,
        hardware: &'static str,
    ) -> Result<Fleet> {
        let world = World::create(prefix, false)?;
        let engineer = Engineer::make_keys(&world, &|_| {})?;
        let console = Console::start_on(&world, engineer.root(), &engineer.key("deploy"), ports)?;
        Ok(Fleet {
            console,
            engineer,
            board: BoardId::new(board)?,
            world,
            hardware,
            beside: String::new(),
            probe_ms: SOON_MS,
        })
    }

    /// Ends console and broker and takes all away; fails when something of it is left.
    pub fn remove(self) -> Result<()> {
        let prefix = self.world.prefix().to_owned();
        drop(self);
        let left = leftovers::find(&prefix);
        ensure!(left.is_empty(), "left behind: {left:#?}");
        Ok(())
    }

    /// The folder of which `image(tag)` made the one layer.
    pub fn layer(&self, tag: u8) -> PathBuf {
        self.engineer.file(&format!("layer-{tag}"))
    }

    /// `shop/app:<tag>`: the example and files of which a quarter differs from tag to tag.
    pub fn image(&self, app: &Path, tag: u8) -> Result<()> {
        let layer = self.layer(tag);
        std::fs::create_dir_all(layer.join("data"))?;
        std::fs::copy(app, layer.join("hello")).with_context(|| app.display().to_string())?;
        for at in 0..FILES {
            let of = if at % 4 == 0 { u64::from(tag) } else { 0 };
            let bytes = noise(
                at as u64 * 257 + of,
                at * at * 61 + 100 * usize::from(tag) * (at % 2),
            );
            std::fs::write(layer.join(format!("data/{at}")), bytes)?;
        }
        run(self
            .engineer
            .release("image")
            .arg("build")
            .arg("--layer")
            .arg(&layer)
            .args(["--entrypoint", "/hello", "--output"])
            .arg(self.engineer.images())
            .args(["--tag", &format!("shop/app:{tag}")]))
        .map(drop)
    }

    /// A signed release with version and counter `number`, pushed to the console.
    pub fn release(&self, number: u64, tag: u8, healthy: bool) -> Result<PathBuf> {
        self.release_with(number, tag, healthy, "")
    }

    /// The same, with `before` in its file before its apps.
    pub fn release_with(
        &self,
        number: u64,
        tag: u8,
        healthy: bool,
        before: &str,
    ) -> Result<PathBuf> {
        let (path, interval) = match healthy {
            true => ("/healthz", self.probe_ms),
            false => ("/nothing", SOON_MS),
        };
        let hardware = self.hardware;
        let mut text = format!(
            "product = \"shop\"\nversion = \"{number}\"\nrelease_counter = {number}\nexpires = \"90d\"\nhardware = [\"{hardware}\"]\n"
        );
        text += before;
        for (name, port) in APPS {
            text += &format!(
                r#"
[[apps]]
name = "{name}"
image = "shop/app:{tag}"
trial_seconds = 2

[apps.env]
APP_VERSION = "{number}"
PORT = "{port}"

[apps.limits]
memory = "16MiB"
cpu_millis = 300
pids = 8

[apps.network]
mode = "bridge"
ports = [{{ host = {port}, container = {port} }}]

[apps.health]
probe = {{ http = {{ port = {port}, path = "{path}" }} }}
interval_ms = {interval}
timeout_ms = 3000
retries = 4
start_period_ms = 4000
"#
            );
        }
        text += &self.beside;
        let toml = self.engineer.file(&format!("release-{number}.toml"));
        std::fs::write(&toml, text)?;
        let output = self.engineer.file(&format!("release-{number}.json"));
        run(self
            .engineer
            .release("release")
            .arg("create")
            .arg(&toml)
            .arg("--images")
            .arg(self.engineer.images())
            .arg("--key")
            .arg(self.engineer.key("release"))
            .arg("--output")
            .arg(&output))?;
        self.engineer.push(&self.console, &output)?;
        Ok(output)
    }

    /// The file that enrols the board, good once.
    pub fn enrolment(&self) -> Result<String> {
        let file = self.world.dir().join("enrolment.json");
        run(self
            .console
            .release("enrol-file")
            .args(["--board", self.board.as_str(), "--output"])
            .arg(&file))?;
        std::fs::read_to_string(&file).with_context(|| file.display().to_string())
    }

    /// Assigns a release; does not wait for the board.
    pub fn assign(&self, release: &Path) -> Result<()> {
        run(self
            .console
            .release("deploy")
            .args(["--board", self.board.as_str()])
            .arg(release))
        .map(drop)
    }

    /// What the console knows of the board.
    pub fn seen(&self) -> Result<Value> {
        self.console.board(&self.board)
    }

    pub fn wait_online(&self, limit: Duration) -> Result<()> {
        wait_for("the board on the console", limit, || {
            Ok((self.seen()?["presence"]["online"] == true).then_some(()))
        })
    }

    /// Waits until the console hears that the board's last deployment has ended in `phase`, with `version` committed.
    /// Feedback and the state of what runs come apart: the feedback may still be that of the deployment before.
    pub fn wait_for_phase(&self, version: u64, phase: &str, limit: Duration) -> Result<Value> {
        self.wait_for_one_of(version, &[phase], limit)
    }

    /// The same, of several phases.
    pub fn wait_for_one_of(&self, version: u64, phases: &[&str], limit: Duration) -> Result<Value> {
        let what = format!("version {version} {} on the console", phases.join(" or "));
        wait_for(&what, limit, || {
            let seen = self.seen()?;
            let phase = seen["feedback"]["phase"].as_str().unwrap_or_default();
            let heard = committed(&seen) == Some(version) && phases.contains(&phase);
            Ok(heard.then_some(seen))
        })
    }
}

/// The version that the board last said to run for good, if it does not try one.
pub fn committed(seen: &Value) -> Option<u64> {
    let set = &seen["current"]["set"];
    let version = set["version"].as_str()?.parse().ok()?;
    (set["state"] == "committed").then_some(version)
}

/// The version that the apps at these addresses tell; all tell the same one.
pub fn version_at(urls: &[String]) -> Result<u64> {
    let mut versions = Vec::new();
    for url in urls {
        let (status, body) = get(url)?;
        ensure!(status == 200, "{url} answers {status}");
        let version = body.trim().strip_prefix("hello from version ");
        versions.push(version.context("another app")?.parse()?);
    }
    ensure!(
        versions.iter().all(|v| *v == versions[0]),
        "the apps are of different sets: {versions:?}"
    );
    Ok(versions[0])
}

/// The console heard that the last deployment was taken back because the power went in its trial.
pub fn was_interrupted(seen: &Value) -> bool {
    let told = &seen["feedback"];
    let reason = told["reason"].as_str().unwrap_or_default();
    told["phase"] == "rolled-back" && reason.contains("restarted before")
}

/// Bytes that no compression shortens, the same for the same seed (xorshift64).
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    })
    .take(length)
    .collect()
}

//! An app that tries to pass each of its limits, and what the board shows of it from outside.
//!
//! | file | what it holds |
//! |---|---|
//! | `limits` | each limit there is, and what tries to pass it, or why nothing does |
//! | `memory`, `processes`, `storage`, `network` | the attempts, and when one counts as held |
//! | `look` | what the kernel has counted of the app |

#[cfg(test)]
mod limits;
mod look;
mod memory;
mod network;
mod processes;
mod storage;

use super::fleet::Fleet;
use super::machine::Machine;
use crate::board::Layout;
use anyhow::{Context, Result, ensure};
use coracle_tests::service::run;
use look::Look;
use network::Wire;
use serde_json::Value;
use std::fmt::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

const NAME: &str = "greedy";
/// A board that is emulated on a busy machine is slow, and the app has a part of its CPU.
const ACTION_SECONDS: u32 = 150;
const SHORT: Duration = Duration::from_secs(60);
/// What its shell calls, beside the shell.
const APPLETS: [&str; 17] = [
    "dd", "du", "grep", "head", "mkdir", "mkfifo", "nc", "rm", "sed", "sh", "sleep", "sync",
    "tail", "taskset", "timeout", "wc", "yes",
];

/// Which limits a board can hold.
#[derive(Debug, Clone, Copy)]
pub struct Bears {
    pub layout: Layout,
    /// Whether its kernel bears rates of reading and writing.
    pub io: bool,
    pub cpus: u32,
}

/// One attempt.
struct Attempt {
    name: &'static str,
    /// What the action runs in the app's shell. It ends with 0: what became of the attempt is in what it says.
    script: String,
    /// What is told of it; fails unless it was held.
    judge: fn(&mut Seen<'_>) -> Result<String>,
}

/// What is known after an attempt.
struct Seen<'a> {
    last: &'a Look,
    now: &'a Look,
    said: &'a str,
    machine: &'a mut Machine,
    wire: &'a Wire,
}

pub struct Greedy {
    bears: Bears,
    wire: Wire,
}

impl Greedy {
    pub fn create(bears: Bears) -> Result<Greedy> {
        let wire = Wire::open()?;
        Ok(Greedy { bears, wire })
    }

    fn attempts(&self) -> Vec<Attempt> {
        attempts(self.bears, self.wire.ports())
    }

    /// Its part of a release.
    pub fn app(&self) -> String {
        app(self.bears, &self.attempts())
    }

    /// Commands each attempt, and fails unless the board held it and everything else went on as before.
    pub fn is_held(&self, fleet: &Fleet, machine: &mut Machine) -> Result<()> {
        let before = processes_of(machine)?;
        let mut last = Look::at(machine, self.bears)?;
        for attempt in self.attempts() {
            let said = act(fleet, attempt.name)?;
            let now = Look::at(machine, self.bears)?;
            let mut seen = Seen {
                last: &last,
                now: &now,
                said: &said,
                machine: &mut *machine,
                wire: &self.wire,
            };
            let told = (attempt.judge)(&mut seen)
                .with_context(|| format!("{}, of which the app said:\n{said}", attempt.name))?;
            println!("  limit held: {told}");
            last = now;
        }
        let after = processes_of(machine)?;
        ensure!(
            before == after,
            "something beside what was greedy did not go on: {before} became {after}"
        );
        Ok(())
    }
}

/// All that a board can hold. The last one's processes stay for a while, so that they can be seen.
fn attempts(bears: Bears, ports: network::Ports) -> Vec<Attempt> {
    let mut all = storage::attempts(bears);
    all.extend(network::attempts(ports));
    all.extend(memory::attempts(bears));
    all.extend(processes::attempts(bears));
    all
}

fn app(bears: Bears, attempts: &[Attempt]) -> String {
    let mut text = format!(
        "\n[[apps]]\nname = \"{NAME}\"\nimage = \"shop/{NAME}:1\"\ninit = true\ntrial_seconds = 2\n\n[apps.limits]\n"
    );
    text += &memory::limits(bears);
    text += &processes::limits(bears);
    text += &storage::limits(bears);
    text += "\n[apps.network]\nmode = \"bridge\"\n";
    text += &network::limits();
    text += &storage::folders();
    for Attempt { name, script, .. } in attempts {
        let _ = write!(
            text,
            "\n[[apps.actions]]\nname = \"{name}\"\nargv = [\"/bin/sh\", \"-c\", '''{script}''']\ntimeout_seconds = {ACTION_SECONDS}\n"
        );
    }
    text
}

/// The board's `board.toml` with a limit of each app's log, beside what its site says.
pub fn site(own: Option<&str>) -> String {
    let limit = format!("[quotas]\nlog_mib = {}\n", storage::LOG_MIB);
    match own {
        Some(text) if text.contains("[quotas]") => text.replacen("[quotas]\n", &limit, 1),
        Some(text) => format!("{text}\n{limit}"),
        None => limit,
    }
}

/// `shop/greedy:1`: busybox, which waits to be asked for lines of its log.
pub fn image(fleet: &Fleet, busybox: &Path) -> Result<()> {
    let layer = fleet.engineer.file(NAME);
    let bin = layer.join("bin");
    std::fs::create_dir_all(&bin)?;
    std::fs::copy(busybox, bin.join("busybox")).with_context(|| busybox.display().to_string())?;
    for applet in APPLETS {
        symlink("busybox", bin.join(applet))?;
    }
    std::fs::write(layer.join("main"), storage::MAIN)?;
    run(fleet
        .engineer
        .release("image")
        .arg("build")
        .arg("--layer")
        .arg(&layer)
        .args(["--entrypoint", "/bin/sh", "--entrypoint", "/main"])
        .arg("--output")
        .arg(fleet.engineer.images())
        .args(["--tag", &format!("shop/{NAME}:1")]))
    .map(drop)
}

fn act(fleet: &Fleet, name: &str) -> Result<String> {
    // Options of the console stand behind the subcommand of `command`.
    let console = fleet.console.release("action");
    let mut command = fleet.engineer.release("command");
    command
        .args(console.get_args())
        .args(["--board", fleet.board.as_str(), "--app", NAME, name]);
    run(&mut command)
}

/// Each app's process and restarts, and ours: what an attempt must not change.
fn processes_of(machine: &mut Machine) -> Result<Value> {
    let text = machine.run("coracle ps --json", SHORT)?;
    let apps: Vec<Value> = serde_json::from_str(&text).with_context(|| text.clone())?;
    let ours = machine.run("pidof coracle-supervisor coracled", SHORT)?;
    let mut ours: Vec<&str> = ours.split_whitespace().collect();
    ours.sort_unstable();
    let apps: Vec<Value> = apps
        .iter()
        .map(|app| serde_json::json!([app["name"], app["pid"], app["restarts"], app["state"]]))
        .collect();
    Ok(serde_json::json!({"apps": apps, "ours": ours}))
}

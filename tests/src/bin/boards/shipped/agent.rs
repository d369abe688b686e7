//! A release that brings the board's own program: supervisor and daemon become the new one in their own processes while apps
//! run on, are it after the next start of the board too, and are again the one before it where the next cannot run.

use super::addresses::Addresses;
use super::fleet::Fleet;
use super::machine::{Machine, console};
use super::whole_loop::{LONG, SHORT, told};
use anyhow::{Context, Result, ensure};
use coracle_digest::Sha256Digest;
use coracle_tests::service::{run, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What the release's program is executed as.
const PROGRAMS: [&str; 2] = ["coracle-supervisor", "coracled"];

/// What an engineer builds next: its bytes, as an image in the fleet's layout.
pub struct Successor {
    pub version: String,
    counter: u64,
    /// The folder of which its image's one layer was made.
    pub layer: PathBuf,
    pub digest: Sha256Digest,
}

impl Successor {
    /// The program in `file` with `tail` behind it: another one, which does the same.
    pub fn of(
        fleet: &Fleet,
        file: &Path,
        tail: &str,
        (version, counter): (&str, u64),
    ) -> Result<Successor> {
        let layer = fleet.engineer.file(&format!("agent-{version}"));
        std::fs::create_dir_all(&layer)?;
        let program = layer.join("coracle-agent");
        // With its mode.
        std::fs::copy(file, &program).with_context(|| file.display().to_string())?;
        let mut bytes = std::fs::read(&program)?;
        bytes.extend_from_slice(tail.as_bytes());
        std::fs::write(&program, &bytes)?;
        run(fleet
            .engineer
            .release("image")
            .arg("build")
            .arg("--rootfs")
            .arg(&layer)
            .args([
                "--owner",
                "0:0",
                "--entrypoint",
                "/coracle-agent",
                "--output",
            ])
            .arg(fleet.engineer.images())
            .args(["--tag", &format!("coracle/agent:{version}")]))?;
        Ok(Successor {
            version: version.to_owned(),
            counter,
            layer,
            digest: Sha256Digest::of(&bytes),
        })
    }

    /// Its part of a release.
    pub fn table(&self) -> String {
        let Self {
            version, counter, ..
        } = self;
        format!(
            "\n[agent]\nversion = \"{version}\"\ncounter = {counter}\nimage = \"coracle/agent:{version}\"\n"
        )
    }
}

/// Brings one that works, then one that ends at once. The board runs release `runs` before, and the number that is given back
/// after. `broken` is a program of the board's architecture that is no agent.
pub fn is_replaced(
    fleet: &Fleet,
    machine: &mut Machine,
    (folder, shipped, broken): (&Path, &Path, &Path),
    (addresses, runs): (Addresses, u64),
) -> Result<(u64, Successor)> {
    let two = Successor::of(fleet, shipped, "two", ("two", 2))?;
    let three = Successor::of(fleet, broken, "", ("three", 3))?;
    let (new, next) = (runs + 1, runs + 2);

    let (before, apps) = (ours(machine)?, apps(machine)?);
    let mark = console(folder, "board").len();
    let start = Instant::now();
    fleet.assign(&fleet.release_with(new, 1, true, &two.table())?)?;
    fleet.wait_for_phase(new, "committed", LONG)?;
    addresses.answer(&new.to_string())?;
    is_run(fleet, machine, &two)?;
    let after = ours(machine)?;
    for name in PROGRAMS {
        let executed = after.iter().any(|(process, program)| {
            process.0 == name
                && program.ends_with(&two.digest.hex())
                && before.contains_key(process)
        });
        ensure!(
            executed,
            "{name} is not the new program in the process of before: {before:?} became {after:?}"
        );
    }
    // The new one found them running when it had taken over, before it switched to its own set.
    let said = console(folder, "board");
    let said = said.get(mark..).unwrap_or_default();
    for (name, pid) in &apps {
        let adopted = format!("adopted app={name} pid={pid}");
        ensure!(said.contains(&adopted), "no `{adopted}` in:\n{said}");
    }
    told(
        "assignment of another agent to committed, 30 s of it the trial",
        start,
    );

    let apps_of_two = self::apps(machine)?;
    let start = Instant::now();
    fleet.assign(&fleet.release_with(next, 2, true, &three.table())?)?;
    // Nothing was switched to its set. A coracled that is not connected yet when it ends hears later that it did not stay.
    let seen = fleet.wait_for_one_of(new, &["failed", "rolled-back"], LONG)?;
    let reason = seen["feedback"]["reason"].as_str().unwrap_or_default();
    let by_program =
        seen["feedback"]["code"] == "agent" || reason.contains(" did not stay (agent): ");
    ensure!(by_program, "{}", seen["feedback"]);
    println!("  release {next}: {reason:?}");
    is_run(fleet, machine, &two)?;
    addresses.answer(&new.to_string())?;
    let now = self::apps(machine)?;
    ensure!(
        now == apps_of_two,
        "apps did not run on: {apps_of_two:?} became {now:?}"
    );
    told(
        "an agent that ends at once, to the one before it again",
        start,
    );
    Ok((new, two))
}

/// Supervisor and daemon are that program, by what they say on the board and by what the console heard.
pub fn is_run(fleet: &Fleet, machine: &mut Machine, program: &Successor) -> Result<()> {
    let wanted = json!({"version": program.version, "brought": program.digest});
    wait_for("both to be the release's program", LONG, || {
        let text = machine.run("coracle status --json", SHORT)?;
        let status: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        let seen = fleet.seen()?;
        let said = [
            &status["program"],
            &status["daemon_program"],
            &seen["current"]["supervisor"],
            &seen["current"]["daemon"],
        ];
        ensure!(
            said.iter().all(|program| **program == wanted),
            "supervisor, daemon, and both as the console has them, are {said:?}"
        );
        Ok(Some(()))
    })
}

/// The program of each of our processes, children too, by whose it is and its number.
fn ours(machine: &mut Machine) -> Result<BTreeMap<(String, String), String>> {
    let mut ours = BTreeMap::new();
    for name in PROGRAMS {
        let command =
            format!("for p in $(pidof {name}); do echo $p $(readlink /proc/$p/exe); done");
        let text = machine.run(&command, SHORT)?;
        for (pid, program) in text.lines().filter_map(|line| line.split_once(' ')) {
            ours.insert((name.to_owned(), pid.to_owned()), program.trim().to_owned());
        }
    }
    Ok(ours)
}

/// Name and process of each app.
fn apps(machine: &mut Machine) -> Result<BTreeMap<String, u64>> {
    let text = machine.run("coracle ps --json", SHORT)?;
    let apps: Vec<Value> = serde_json::from_str(&text).with_context(|| text.clone())?;
    let pair = |app: &Value| Some((app["name"].as_str()?.to_owned(), app["pid"].as_u64()?));
    let pairs: Option<_> = apps.iter().map(pair).collect();
    pairs.with_context(|| format!("an app without a process: {text}"))
}

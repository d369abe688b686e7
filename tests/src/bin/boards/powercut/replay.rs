//! The many: what a cut leaves is mounted on this machine, in a mount namespace of its own, and the shipped supervisor
//! and daemon are started on it. No kernel boots here; everything else is as on the board.

use super::chance::Chance;
use super::disk::{Loss, Medium, last_flush, sparse_copy};
use super::history::Promise;
use super::mounted::Mounted;
use super::record::{Recorded, UPDATE};
use super::{Effort, OF_AGENTS, Tally, UNFLUSHED, inspect};
use crate::shipped::fleet::{APPS, Fleet, committed, version_at};
use anyhow::{Context, Result, ensure};
use coracle_digest::Sha256Digest;
use coracle_tests::lan::Namespace;
use coracle_tests::service::{Service, run, wait_for};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// How many places are drawn for each cut.
const PLACES: usize = 3;
/// Each so many cuts one comes while the board's own program is replaced, which is a short part of the log.
const EACH: usize = 4;

/// Cuts the recorded log at `effort.cuts` places.
pub fn all(fleet: &Fleet, recorded: &Recorded, effort: &Effort) -> Result<Tally> {
    let folder = fleet.world.dir();
    let place = Place::make(fleet)?;
    let base = folder.join("medium.img");
    sparse_copy(&recorded.before, &base)?;
    let mut medium = Medium::open(&base)?;
    let mut chance = Chance::of(effort.seed);
    let (first, end) = (recorded.history.first_end(), recorded.asked.len());
    let unflushed = |at: usize| at - last_flush(&recorded.asked[..at]);
    let spans: Vec<(usize, usize)> = recorded.agents.iter().map(|brought| brought.span).collect();
    let mut cuts: Vec<usize> = (0..effort.cuts)
        .filter_map(|number| {
            let (from, to) = match number % EACH == 1 && !spans.is_empty() {
                true => spans[chance.below(spans.len())],
                false => (first, end),
            };
            // Most instants have nothing to lose: of some places, the one that has most.
            let places = (0..PLACES).map(|_| from + chance.below(to - from) + 1);
            places.max_by_key(|at| unflushed(*at))
        })
        .collect();
    cuts.sort_unstable();
    let mut tally = Tally::default();
    for (number, at) in cuts.into_iter().enumerate() {
        // Each cut has a seed of its own, which its place in the list does not change.
        let mut chance = Chance::of(effort.seed ^ ((at as u64) << 20) ^ number as u64);
        let loss = Loss::of(&mut chance);
        medium.cut(&recorded.asked, at, loss, &mut chance, &place.image)?;
        let promise = recorded.history.promise(at);
        let cut = Cut {
            fleet,
            place: &place,
            promise: &promise,
            newest: recorded.history.newest(),
            layers: recorded.layers(fleet),
            agents: recorded.programs(at),
        };
        let outcome = cut.one();
        let unflushed = unflushed(at);
        let what = format!(
            "cut {number} at {at} of {end} ({unflushed} unflushed, {}), {promise:?}",
            loss.name()
        );
        let came = outcome.with_context(|| what)?;
        tally.count(format!("replayed: {}", loss.name()));
        tally.count(format!("replayed: {came}"));
        if unflushed > 0 {
            tally.count(format!("replayed: {UNFLUSHED}"));
        }
        if number % 20 == 19 {
            println!("  {} cuts held", number + 1);
        }
    }
    Ok(tally)
}

/// Where the board stands on this machine.
struct Place {
    image: PathBuf,
    /// The data partition's mount point.
    state: PathBuf,
    run: PathBuf,
    config: PathBuf,
    passwd: PathBuf,
    namespace: Namespace,
    programs: PathBuf,
}

impl Place {
    fn make(fleet: &Fleet) -> Result<Place> {
        let dir = fleet.world.dir().join("replayed");
        let place = Place {
            image: dir.join("cut.img"),
            state: dir.join("state"),
            run: dir.join("run"),
            config: dir.join("etc/coracle.toml"),
            passwd: dir.join("passwd"),
            namespace: fleet.world.lan().namespace(1, true)?,
            programs: dir.join("programs"),
        };
        let etc = dir.join("etc");
        for folder in [&place.state, &etc, &place.programs] {
            std::fs::create_dir_all(folder)?;
        }
        let shipped = fleet.world.built_path("../static/release/coracle-agent");
        for name in ["coracle-supervisor", "coracled", "coracle"] {
            std::os::unix::fs::symlink(&shipped, place.programs.join(name))?;
        }
        run(Command::new("cp")
            .arg("-r")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../config/boards"))
            .arg(&etc))?;
        std::fs::copy(fleet.engineer.root(), etc.join("root.json"))?;
        // The board's user, which this machine does not know.
        let user = "root:x:0:0:root:/root:/bin/sh\ncoracle:x:990:990::/:/bin/false\n";
        std::fs::write(&place.passwd, user)?;
        std::fs::write(
            place.passwd.with_extension("group"),
            "root:x:0:\ncoracle:x:990:\n",
        )?;
        let name = format!("{}-1", fleet.world.prefix());
        let text = format!(
            "[agent]\ninstance = \"{name}\"\nstate_dir = \"{}\"\nrun_dir = \"{}\"\nuser = \"coracle\"\n\
             board_profile = \"qemux86-64\"\ncgroup_parent = \"{name}\"\n",
            place.state.display(),
            place.run.display()
        );
        std::fs::write(&place.config, text)?;
        Ok(place)
    }

    fn program(&self, mounted: &Mounted, name: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.namespace.name))
            .arg(format!("--mount=/proc/{}/ns/mnt", mounted.pid()))
            .arg("--")
            .arg(self.programs.join(name))
            .arg("--config")
            .arg(&self.config);
        command
    }

    /// The version that both apps tell.
    fn answers(&self) -> Result<u64> {
        version_at(&APPS.map(|(_, port)| format!("http://{}:{port}/", self.namespace.ip)))
    }
}

/// One cut, and what is held against it.
struct Cut<'a> {
    fleet: &'a Fleet,
    place: &'a Place,
    promise: &'a Promise,
    /// The version of the newest release.
    newest: u64,
    /// The folders that layers were made of.
    layers: Vec<PathBuf>,
    /// The programs of its own that the board may be; `None` is the root file system's.
    agents: Vec<Option<Sha256Digest>>,
}

impl Cut<'_> {
    /// Mount, check, start, ask, let the console speak; what came of it.
    fn one(&self) -> Result<String> {
        let Self {
            fleet,
            place,
            promise,
            ..
        } = *self;
        wait_for("the console to miss the board", LIMIT, || {
            Ok((fleet.seen()?["presence"]["online"] == false).then_some(()))
        })?;
        let _ = std::fs::remove_dir_all(&place.run);
        let passwd = place.passwd.display();
        let group = place.passwd.with_extension("group");
        let users = format!(
            "mount --bind {passwd} /etc/passwd && mount --bind {} /etc/group",
            group.display()
        );
        let mounted = Mounted::checked(&place.image, &place.state, &users, &fleet.world.logs())?;
        inspect::as_left(&mounted.inside, promise, &self.layers)?;
        let mut programs = Vec::new();
        let outcome = self.live(&mounted, &mut programs);
        // The daemon first: it would report the end of everything.
        while let Some(program) = programs.pop() {
            drop::<Service>(program);
        }
        let mut stop = Command::new("nsenter");
        stop.arg(format!("--net=/run/netns/{}", place.namespace.name))
            .arg(format!("--mount=/proc/{}/ns/mnt", mounted.pid()))
            .arg("--")
            .arg(place.programs.join("coracle-supervisor"))
            .args(["stop-all", "--config"])
            .arg(&place.config);
        let stopped = run(&mut stop);
        let came = outcome.with_context(|| logs(fleet))?;
        stopped?;
        inspect::nothing_set_aside(&mounted.inside)?;
        mounted.end()?;
        Ok(came)
    }

    fn live(&self, mounted: &Mounted, programs: &mut Vec<Service>) -> Result<String> {
        let Self {
            fleet,
            place,
            promise,
            newest,
            ..
        } = *self;
        let logs = fleet.world.logs();
        for name in ["cut-supervisor", "cut-daemon"] {
            let _ = std::fs::remove_file(logs.join(format!("{name}.log")));
        }
        programs.push(Service::start(
            "cut-supervisor",
            place.program(mounted, "coracle-supervisor"),
            &logs,
        )?);
        let version = wait_for("both apps", LIMIT, || {
            programs[0].check_alive()?;
            place.answers().map(Some)
        })?;
        ensure!(
            promise.versions.contains(&version),
            "version {version} runs; it must be one of {:?}",
            promise.versions
        );
        programs.push(Service::start(
            "cut-daemon",
            place.program(mounted, "coracled"),
            &logs,
        )?);
        fleet.wait_online(LIMIT)?;
        let mut came = match promise.versions.iter().position(|v| *v == version) {
            Some(0) => "the old set ran",
            _ => "the new set ran",
        }
        .to_owned();
        // The newest assignment is waiting for the board, unless the cut was in its trial: that one is not tried twice.
        let converged = wait_for("board and console to agree", UPDATE, || {
            let (runs, seen) = (place.answers()?, fleet.seen()?);
            if committed(&seen) != Some(runs) {
                return Ok(None);
            }
            if runs == newest {
                return Ok(Some("came to the newest release"));
            }
            let interrupted = promise.under_way == Some(newest) && board_says_interrupted(fleet);
            Ok(interrupted.then_some("told that its trial was interrupted"))
        });
        came = format!("{came}, and {}", converged?);
        // Both are one program, and one that the board may be.
        let status = || -> Result<Value> {
            let text = run(place.program(mounted, "coracle").args(["status", "--json"]))?;
            serde_json::from_str(&text).context(text)
        };
        let agent = wait_for("daemon and supervisor to be one program", UPDATE, || {
            let status = status()?;
            let (program, daemon) = (&status["program"], &status["daemon_program"]);
            ensure!(program == daemon, "supervisor {program}, daemon {daemon}");
            let brought = program["brought"].as_str().map(str::to_owned);
            Ok(Some(brought))
        })?;
        let may: Vec<Option<String>> = self
            .agents
            .iter()
            .map(|d| d.map(|d| d.to_string()))
            .collect();
        ensure!(
            may.contains(&agent),
            "its own program is {agent:?}; it must be one of {may:?}"
        );
        // What the console keeps may be from after the cut, while the board is on trial with that release again.
        wait_for("the deployment to end", UPDATE, || {
            let state = &status()?["current"]["state"];
            Ok((state == "committed").then_some(()))
        })?;
        run(place.program(mounted, "coracle").args(["store", "check"])).context("store check")?;
        if may.len() > 1 {
            let which = if may[0] == agent { "old" } else { "new" };
            came += &format!("; {OF_AGENTS}: the {which} one runs");
        }
        Ok(came)
    }
}

/// What the board says, not what the console keeps: that one heard the deployment's end in the recording, after the instant of
/// the cut, and takes no other for the same deployment.
fn board_says_interrupted(fleet: &Fleet) -> bool {
    let log = fleet.world.logs().join("cut-daemon.log");
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines()
        .any(|line| line.contains("phase=RolledBack") && line.contains("restarted before"))
}

fn logs(fleet: &Fleet) -> String {
    let tail = |name: &str| {
        let path = fleet.world.logs().join(format!("{name}.log"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    };
    format!(
        "supervisor:\n{}\ndaemon:\n{}",
        tail("cut-supervisor"),
        tail("cut-daemon")
    )
}

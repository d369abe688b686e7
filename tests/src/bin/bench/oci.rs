//! `coracle-runtime run` beside crun and runc, in turn and on the same bundle: alone, and with many containers beside.

use crate::launch::{bundle, median, ours_and_cruns, stamp_bundle};
use crate::supervised::Supervised;
use anyhow::{Context, Result, ensure};
use coracle_tests::engineer::Engineer;
use coracle_tests::service::run;
use coracle_tests::world::World;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const RUNS: usize = 40;
const RUNS_BESIDE: usize = 15;
/// Containers that sleep while one more is launched.
const BESIDE: [usize; 4] = [1, 50, 200, 500];
/// Each is started alone, so that its peak is its own.
const RUNS_FOR_MEMORY: usize = 5;

/// One program as a manager would start it: name, path.
type Tool<'a> = (&'a str, &'a Path);

pub fn table(world: &World, engineer: &Engineer, crun: &Path) -> Result<String> {
    let bundle = bundle(world, "oci")?;
    let ours = world.built_path("../static/release/coracle-runtime");
    ensure!(ours.exists(), "{} is missing: make bench", ours.display());
    let runc = Path::new("runc");
    let tools: [Tool<'_>; 3] = [("coracle-runtime", &ours), ("crun", crun), ("runc", runc)];

    let mut out = format!(
        "`run` of `busybox true` from the bundle that `runc spec` writes, the tools in turn, {RUNS} times each. Cold: 40 ms of idleness \
         before. Warm: right after another run of the same tool. Peak memory is that of all its processes, the highest of {RUNS_FOR_MEMORY} runs. \
         docs/launch.md says where the time goes. Goals: 0.4 of crun cold, 0.9 warm, 2.5 MB.\n\n\
         | | cold, ms | of crun | warm, ms | of crun | peak memory, MB |\n|---|---|---|---|---|---|\n"
    );
    let times = timed(&bundle, &tools, RUNS, true)?;
    let of = |name: &str, mode: &str| times.median(name, mode);
    for (name, path) in tools {
        let (cold, warm) = (of(name, "cold")?, of(name, "warm")?);
        writeln!(
            out,
            "| {name} | {cold:.1} | {:.2}x | {warm:.1} | {:.2}x | {:.2} |",
            cold / of("crun", "cold")?,
            warm / of("crun", "warm")?,
            peak_kib(&bundle, path)? as f64 * 1024.0 / 1e6
        )?;
    }

    writeln!(
        out,
        "\nCold, with other containers beside, each a `busybox sleep` with namespaces and cgroups of its own, {RUNS_BESIDE} runs each. Memory is \
         what MemAvailable has lost, by container: the program, its cgroups and its namespaces. Of coracle-runtime no process stays. Both \
         tools' times are to the end of the run. The supervisor's launch is that of the row `coracle-supervisor` of the launches above; it and \
         the crun beside it run the same program, in turn, {RUNS_BESIDE} times each, both to main.\n\n\
         | containers beside | coracle-runtime, ms | crun, ms | of crun | supervisor's launch to main, ms | crun to main, ms | of crun | memory of one, KiB |\n\
         |---|---|---|---|---|---|---|---|"
    )?;
    let sleepers = Sleepers::new(&ours, &bundle, world.dir())?;
    let stamp = stamp_bundle(world, "beside")?;
    let board = Supervised::start(world, engineer, 4)?;
    let before = available_kib()?;
    for count in BESIDE {
        sleepers.start_up_to(count)?;
        let each = before.saturating_sub(available_kib()?) / count as u64;
        let times = timed(&bundle, &tools[..2], RUNS_BESIDE, false)?;
        let (a, b) = (
            times.median("coracle-runtime", "cold")?,
            times.median("crun", "cold")?,
        );
        let (launch, main) = ours_and_cruns(&board, crun, &stamp, RUNS_BESIDE)?;
        writeln!(
            out,
            "| {count} | {a:.1} | {b:.1} | {:.2}x | {launch:.1} | {main:.1} | {:.2}x | {each} |",
            a / b,
            launch / main
        )?;
    }
    Ok(out)
}

/// Lines `NAME MODE MICROSECONDS`.
struct Times(String);

impl Times {
    fn median(&self, name: &str, mode: &str) -> Result<f64> {
        let wanted = format!("{name} {mode} ");
        let values: Vec<f64> = self
            .0
            .lines()
            .filter_map(|line| line.strip_prefix(&wanted)?.parse::<f64>().ok())
            .map(|micros| micros / 1e3)
            .collect();
        ensure!(!values.is_empty(), "{name} did not run {mode}");
        Ok(median(values))
    }
}

/// Bash's own clock: starting `date` would count. crun refuses the hybrid layout of cgroups, so all run in a view without
/// the empty v2 mount.
fn timed(bundle: &Path, tools: &[Tool<'_>], runs: usize, warm: bool) -> Result<Times> {
    let mut body = format!(
        "cd {}; once() {{ s=${{EPOCHREALTIME/./}}; $3 run corbench-$1-$i || exit 1; e=${{EPOCHREALTIME/./}}; echo $1 $2 $((e-s)); }}; \
         for i in $(seq {runs}); do ",
        bundle.display()
    );
    for (name, path) in tools {
        write!(body, "sleep 0.04; once {name} cold {}; ", path.display())?;
        if warm {
            write!(
                body,
                "$(once {name} before {} > /dev/null); once {name} warm {}; ",
                path.display(),
                path.display()
            )?;
        }
    }
    body.push_str("done");
    in_private_view(&body).map(Times)
}

pub fn in_private_view(body: &str) -> Result<String> {
    let view = "mount --make-rprivate /; umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
    run(Command::new("unshare").args(["-m", "sh", "-c", view, "sh", "bash", "-c", body]))
}

fn peak_kib(bundle: &Path, tool: &Path) -> Result<u64> {
    let body = format!(
        "cd {}; for i in $(seq {RUNS_FOR_MEMORY}); do /usr/bin/time -f %M {} run corbench-rss-$i 2>&1; done",
        bundle.display(),
        tool.display()
    );
    let text = in_private_view(&body)?;
    let peaks = text.lines().filter_map(|line| line.trim().parse().ok());
    peaks
        .max()
        .with_context(|| format!("time printed `{text}`"))
}

pub fn available_kib() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.context("no MemAvailable in /proc/meminfo")
}

/// Containers that go when this is dropped.
struct Sleepers {
    runtime: PathBuf,
    bundle: PathBuf,
    states: PathBuf,
}

impl Sleepers {
    fn new(runtime: &Path, bundle: &Path, folder: &Path) -> Result<Sleepers> {
        let own = folder.join("sleepers");
        std::fs::create_dir_all(&own)?;
        let text = std::fs::read(bundle.join("config.json"))?;
        let mut spec: serde_json::Value = serde_json::from_slice(&text)?;
        spec["process"]["args"] = serde_json::json!(["/bin/busybox", "sleep", "100000"]);
        spec["root"]["path"] = serde_json::json!(bundle.join("rootfs"));
        std::fs::write(own.join("config.json"), serde_json::to_vec(&spec)?)?;
        Ok(Sleepers {
            runtime: runtime.into(),
            bundle: own,
            states: folder.join("sleepers-states"),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.runtime);
        command.arg("--root").arg(&self.states);
        command.current_dir(&self.bundle);
        command
    }

    fn names(&self) -> Result<Vec<String>> {
        let text = run(self.command().args(["list", "-q"]))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn start_up_to(&self, count: usize) -> Result<()> {
        for number in self.names()?.len()..count {
            let id = format!("corbench-sleeper-{number}");
            let mut start = self.command();
            start.args(["run", "-d", &id]);
            let null = || std::process::Stdio::null();
            // No pipe of ours may stay open in it.
            let status = start.stdin(null()).stdout(null()).stderr(null()).status()?;
            ensure!(status.success(), "starting {id} ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for name in self.names().unwrap_or_default() {
            if let Err(error) = run(self.command().args(["delete", "-f", &name])) {
                eprintln!("{name} is left: {error:#}");
            }
        }
    }
}

//! An app that tries to pass each of its limits, and what the board shows of it from outside.

mod look;

use super::fleet::Fleet;
use super::machine::Machine;
use crate::board::Layout;
use anyhow::{Context, Result, ensure};
use coracle_tests::service::run;
use look::{Look, first};
use serde_json::Value;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

const NAME: &str = "greedy";
const MEMORY_MIB: u64 = 12;
const CPU_MILLIS: u64 = 250;
const PIDS: u64 = 12;
const LAYER_KIB: u64 = 1024;
const VOLUME_KIB: u64 = 3072;
const MEMORY_FOLDER_KIB: u64 = 1024;
const WRITE_MIB_PER_SECOND: u64 = 2;

/// What it wants of each.
const WANTED_MIB: u64 = 32;
const WANTED_PROCESSES: u64 = 40;
const SPUN_SECONDS: u64 = 3;
const WRITTEN_MIB: u64 = 6;

/// A board that is emulated on a busy machine is slow, and the app has a part of its CPU.
const ACTION_SECONDS: u32 = 150;
/// What its shell calls, beside the shell.
const APPLETS: [&str; 8] = ["dd", "du", "rm", "sed", "sh", "sleep", "sync", "timeout"];
const SHORT: Duration = Duration::from_secs(60);

/// What an action runs in the app's shell. Each ends with 0: what became of its attempt is in what it says.
fn actions(io: bool) -> Vec<(&'static str, String)> {
    let mut actions = vec![
        (
            "memory",
            format!(
                "dd if=/dev/zero of=/dev/null bs={WANTED_MIB}M count=1 2>/dev/null; echo ended $?"
            ),
        ),
        (
            "cpu",
            format!("timeout {SPUN_SECONDS} sh -c 'while :; do :; done'; echo ended $?"),
        ),
        (
            "fill",
            "for f in /layer /kept/full /scratch/full; do \
               dd if=/dev/zero of=$f bs=64k count=128 2>&1 | sed -n \"s|^dd: |$f |p\"; \
             done; sync; du -k /layer /kept/full /scratch/full; rm /layer /kept/full /scratch/full"
                .to_owned(),
        ),
    ];
    if io {
        // The same 1.5 MiB again and again, past the cache.
        let write = "dd if=/dev/zero of=/kept/io bs=64k count=24 conv=notrunc oflag=direct 2>&1";
        let rounds = WRITTEN_MIB * 1024 / (24 * 64);
        actions.push((
            "write",
            format!(
                "read from rest < /proc/uptime; n=0; while [ $n -lt {rounds} ]; do {write} || exit; n=$((n+1)); done; \
                 read to rest < /proc/uptime; echo from $from; echo to $to; rm /kept/io"
            ),
        ));
    }
    // The last one: its processes stay for a while, so that they can be seen.
    actions.push((
        "fork",
        format!(
            "sh -c 'n=0; while [ $n -lt {WANTED_PROCESSES} ]; do sleep 30 & n=$((n+1)); done' 2>&1; echo ended $?"
        ),
    ));
    actions
}

/// Its part of a release. `io`: with a rate of writing too.
pub fn app(io: bool) -> String {
    let rate = match io {
        true => format!("io_write_per_second = \"{WRITE_MIB_PER_SECOND}MiB\""),
        false => String::new(),
    };
    let actions: String = actions(io)
        .iter()
        .map(|(name, script)| {
            format!(
                "\n[[apps.actions]]\nname = \"{name}\"\nargv = [\"/bin/sh\", \"-c\", '''{script}''']\ntimeout_seconds = {ACTION_SECONDS}\n"
            )
        })
        .collect();
    format!(
        r#"
[[apps]]
name = "{NAME}"
image = "shop/{NAME}:1"
init = true
trial_seconds = 2

[apps.limits]
memory = "{MEMORY_MIB}MiB"
cpu_millis = {CPU_MILLIS}
pids = {PIDS}
disk = "{LAYER_KIB}KiB"
{rate}

[apps.network]
mode = "none"

[[apps.volumes]]
name = "{NAME}"
target = "/kept"
size = "{VOLUME_KIB}KiB"

[[apps.tmpfs]]
target = "/scratch"
size = "{MEMORY_FOLDER_KIB}KiB"
{actions}"#
    )
}

/// `shop/greedy:1`: busybox, asleep.
pub fn image(fleet: &Fleet, busybox: &Path) -> Result<()> {
    let layer = fleet.engineer.file(NAME);
    let bin = layer.join("bin");
    std::fs::create_dir_all(&bin)?;
    std::fs::copy(busybox, bin.join("busybox")).with_context(|| busybox.display().to_string())?;
    for applet in APPLETS {
        symlink("busybox", bin.join(applet))?;
    }
    run(fleet
        .engineer
        .release("image")
        .arg("build")
        .arg("--layer")
        .arg(&layer)
        .args(["--entrypoint", "/bin/sleep", "--entrypoint", "1000000"])
        .arg("--output")
        .arg(fleet.engineer.images())
        .args(["--tag", &format!("shop/{NAME}:1")]))
    .map(drop)
}

/// Commands each attempt, and fails unless the board held it and everything else went on as before.
pub fn is_held(fleet: &Fleet, machine: &mut Machine, layout: Layout, io: bool) -> Result<()> {
    let before = processes(machine)?;
    let mut last = Look::at(machine, layout)?;
    for (name, _) in actions(io) {
        let said = act(fleet, name)?;
        let now = Look::at(machine, layout)?;
        let told = match name {
            "memory" => memory(&last, &now, &said),
            "cpu" => cpu(&last, &now),
            "fill" => disk(&said),
            "fork" => forks(&last, &now),
            _ => writing(&last, &now, &said),
        };
        let told = told.with_context(|| format!("{name}, of which the app said:\n{said}"))?;
        println!("  limit held: {told}");
        last = now;
    }
    let after = processes(machine)?;
    ensure!(
        before == after,
        "something beside what was greedy did not go on: {before} became {after}"
    );
    Ok(())
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

fn memory(last: &Look, now: &Look, said: &str) -> Result<String> {
    let (own, all) = (
        now.oom_kills()? - last.oom_kills()?,
        now.all_oom_kills()? - last.all_oom_kills()?,
    );
    ensure!(
        said.contains("ended 137") && own == 1 && all == 1,
        "{own} processes of the app were killed for want of memory, {all} on the board"
    );
    let peak = now.memory_peak()?;
    ensure!(peak <= MEMORY_MIB << 20, "its peak is {peak} bytes");
    Ok(format!(
        "memory: {WANTED_MIB} MiB wanted, {MEMORY_MIB} allowed, peak {:.1}; that process was killed, and no other",
        peak as f64 / 1048576.0
    ))
}

fn cpu(last: &Look, now: &Look) -> Result<String> {
    let (used, seconds) = (
        now.cpu_seconds()? - last.cpu_seconds()?,
        now.seconds - last.seconds,
    );
    let allowed = CPU_MILLIS as f64 / 1000.0;
    let throttled = now.throttled()? - last.throttled()?;
    // A period's worth may come before the first look at the clock.
    ensure!(
        used <= allowed * (seconds + 0.2) && used >= allowed && throttled >= 10,
        "{used:.2} s of CPU in {seconds:.1} s, held up {throttled} times"
    );
    Ok(format!(
        "CPU: {used:.2} s in {seconds:.1} s, {SPUN_SECONDS} of them without a pause, {CPU_MILLIS} thousandths allowed, held up {throttled} times"
    ))
}

fn disk(said: &str) -> Result<String> {
    let mut told = Vec::new();
    for (file, what, allowed) in [
        ("/layer", "writable layer", LAYER_KIB),
        ("/kept/full", "volume", VOLUME_KIB),
        ("/scratch/full", "folder in memory", MEMORY_FOLDER_KIB),
    ] {
        let refused = said.lines().any(|line| {
            line.starts_with(&format!("{file} "))
                && (line.contains("No space left") || line.contains("quota exceeded"))
        });
        let size = said
            .lines()
            .find_map(|line| line.strip_suffix(file)?.trim().parse::<u64>().ok());
        let size = size.with_context(|| format!("nothing of {file}"))?;
        ensure!(
            refused && size <= allowed && size >= allowed / 2,
            "{what}: {size} KiB written, {allowed} allowed, refused: {refused}"
        );
        told.push(format!("{what} {size} of {allowed} KiB"));
    }
    Ok(format!("disk, 8 MiB wanted of each: {}", told.join(", ")))
}

fn forks(last: &Look, now: &Look) -> Result<String> {
    let refused = now.refused_forks()? - last.refused_forks()?;
    let there = now.processes()?;
    ensure!(
        refused >= 1 && (PIDS - 3..=PIDS).contains(&there),
        "{there} processes, {refused} refused"
    );
    Ok(format!(
        "processes: {WANTED_PROCESSES} wanted, {PIDS} allowed, {there} there"
    ))
}

fn writing(last: &Look, now: &Look, said: &str) -> Result<String> {
    let at = |name| first::<f64>(said, name).with_context(|| format!("no `{name}`"));
    let seconds = at("to ")? - at("from ")?;
    let written = (now.written() - last.written()) as f64 / 1048576.0;
    // The throttle lets a slice of a tenth of a second through at once.
    let least = WRITTEN_MIB as f64 / WRITE_MIB_PER_SECOND as f64 - 0.3;
    ensure!(
        written >= WRITTEN_MIB as f64 && seconds >= least,
        "{written:.1} MiB in {seconds:.2} s"
    );
    Ok(format!(
        "writing: {written:.1} MiB in {seconds:.2} s, {WRITE_MIB_PER_SECOND} MiB a second allowed"
    ))
}

/// Each app's process and restarts, and ours: what an attempt must not change.
fn processes(machine: &mut Machine) -> Result<Value> {
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

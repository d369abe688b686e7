//! From the order to start an app to the first statement of its main: the supervisor beside crun, runc and the floor, in turn,
//! with 40 ms of idleness before each run, as on a board.

use crate::floor::Floor;
use crate::others::Others;
use crate::supervised::{APPS, IDLE, Supervised, last_stamp, now, stamp};
use anyhow::{Context, Result};
use coracle_tests::engineer::Engineer;
use coracle_tests::page::{CRUN, LAUNCH, OTHERS};
use coracle_tests::service::run;
use coracle_tests::world::World;
use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const RUNS: usize = 50;

/// One run: ms to main, and to the end where the one who started it waits for that.
type Run = (f64, Option<f64>);

/// Medians in ms and ratios to crun.
pub fn table(world: &World, engineer: &Engineer, crun: &Path) -> Result<String> {
    let bundle = stamp_bundle(world, "launch")?;
    let floor = Floor::build(&bundle)?;
    let board = Supervised::start(world, engineer, 3)?;
    let (rows, versions) = in_view_of_peers(|| {
        let others = Others::begin(world, &bundle)?;
        let rows = measure(&board, &floor, crun, &bundle, &others)?;
        let versions = others.versions()?;
        others.end()?;
        Ok((rows, versions))
    })?;
    drop(board);
    let of = |name: &str| rows.iter().find(|row| row.0 == name).map(|row| row.1.0);
    let crun = of(CRUN).context("no row of crun")?;
    let mut out = format!(
        "A static C program whose first statement reads the clock (`tests/src/bin/bench/stamp.c`), {RUNS} runs of each row, in turn, {} ms \
         idle before each. `coracle-supervisor` as it ships gets the request to start an app on its socket; the app has an overlay \
         root, a seccomp filter, limits, a log, and users of its own unless the row says otherwise. crun and runc are started as a \
         manager starts them, on a plain folder as `runc spec` writes it: without a seccomp filter, and with no network but a namespace of \
         its own. The floor is a C program that makes the system calls of a container and does nothing else; the second one has an overlay root \
         and 400 instructions of seccomp, as ours. Beside: {versions}, on the same folder (docker on an image of it) and without a network; bwrap has \
         no cgroup of its own, systemd-nspawn one without limits (systemd's hierarchy alone on cgroup v1). To the end: the program ends at once, and all is cleared away. Goals, of crun to main: \
         0.25 without a network, 0.35 with bridge and a published port.\n\n\
         | | to main, median ms | of crun | to the end, median ms |\n|---|---|---|---|\n",
        IDLE.as_millis()
    );
    for (name, (main, end)) in rows {
        let end = end.map(|end| format!("{end:.1}")).unwrap_or_default();
        writeln!(out, "| {name} | {main:.1} | {:.2}x | {end} |", main / crun)?;
    }
    Ok(out)
}

/// One run, by its number.
type Once<'a> = Box<dyn Fn(usize) -> Result<Run> + 'a>;

/// The rows of the page, each with its medians.
fn measure(
    board: &Supervised,
    floor: &Floor,
    crun: &Path,
    bundle: &Path,
    others: &Others,
) -> Result<Vec<(&'static str, Run)>> {
    let floor_of = move |layered| {
        move |_| -> Result<Run> {
            let (main, end) = floor.once(IDLE.as_millis(), layered)?;
            Ok((main, Some(end)))
        }
    };
    let mut all: Vec<Once<'_>> = vec![Box::new(floor_of(false)), Box::new(floor_of(true))];
    for (app, ..) in APPS {
        all.push(Box::new(move |_| Ok((board.launch(app)?, None))));
    }
    for program in [crun, Path::new("runc")] {
        all.push(Box::new(move |number| {
            peer(of_runtime(program, bundle, number))
        }));
    }
    for tool in OTHERS {
        all.push(Box::new(move |number| peer(others.command(tool, number))));
    }
    let rows: Vec<_> = LAUNCH.into_iter().zip(all).collect();
    let mut seen: Vec<Vec<Run>> = vec![Vec::new(); rows.len()];
    for number in 0..RUNS {
        for ((name, once), seen) in rows.iter().zip(&mut seen) {
            seen.push(once(number).context(*name)?);
        }
    }
    let medians = rows.iter().zip(seen).map(|((name, _), seen)| {
        let main = median(seen.iter().map(|run| run.0).collect());
        let ends: Option<Vec<f64>> = seen.iter().map(|run| run.1).collect();
        (*name, (main, ends.map(median)))
    });
    Ok(medians.collect())
}

/// One of the stamp, started by another tool.
fn peer(mut command: Command) -> Result<Run> {
    std::thread::sleep(IDLE);
    let begun = now()?;
    let text = run(&mut command)?;
    let end = now()? - begun;
    let stamp = last_stamp(&text).filter(|stamp| *stamp > begun);
    let stamp = stamp.with_context(|| format!("{command:?} printed `{text}`"))?;
    Ok(((stamp - begun) as f64 / 1e6, Some(end as f64 / 1e6)))
}

/// crun refuses the hybrid cgroup layout: `work` and what it starts see none of the empty v2 mount.
fn in_view_of_peers<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let private = || -> Result<()> {
        nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)?;
        let unified = Path::new("/sys/fs/cgroup/unified");
        if unified.exists() {
            nix::mount::umount2(unified, MntFlags::MNT_DETACH)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            private().context("a view of the mounts without cgroup v2")?;
            work()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Medians to main in ms, of so many launches in turn: an app without a network, and crun with the same program.
pub fn ours_and_cruns(
    board: &Supervised,
    crun: &Path,
    bundle: &Path,
    runs: usize,
) -> Result<(f64, f64)> {
    in_view_of_peers(|| {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for number in 0..runs {
            ours.push(board.launch(APPS[0].0)?);
            theirs.push(peer(of_runtime(crun, bundle, number))?.0);
        }
        Ok((median(ours), median(theirs)))
    })
}

/// One run of the stamp's bundle.
fn of_runtime(program: &Path, bundle: &Path, number: usize) -> Command {
    let mut command = Command::new(program);
    command.current_dir(bundle);
    command.args(["run", &format!("corbench-stamp-{number}")]);
    command
}

/// The bundle of a program that says when it was in its main.
pub fn stamp_bundle(world: &World, part: &str) -> Result<PathBuf> {
    let dir = bundle(world, part)?;
    stamp(&dir.join("rootfs"))?;
    let config = dir.join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&config)?)?;
    spec["process"]["args"] = serde_json::json!(["/stamp", "once"]);
    std::fs::write(&config, serde_json::to_vec(&spec)?)?;
    Ok(dir)
}

/// A bundle as `runc spec` writes it, without a terminal. `runc spec` replaces nothing, so each part has its own.
pub fn bundle(world: &World, part: &str) -> Result<PathBuf> {
    let dir = world.dir().join(format!("bundle-{part}"));
    std::fs::create_dir_all(dir.join("rootfs/bin"))?;
    std::fs::copy("/bin/busybox", dir.join("rootfs/bin/busybox"))
        .context("/bin/busybox (package busybox-static)")?;
    run(Command::new("runc").arg("spec").current_dir(&dir))?;
    let config = dir.join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&config)?)?;
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = serde_json::json!(["/bin/busybox", "true"]);
    // Raising the limit of open files needs a capability that root may lack here.
    spec["process"]["rlimits"] = serde_json::json!([]);
    std::fs::write(&config, serde_json::to_vec(&spec)?)?;
    Ok(dir)
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

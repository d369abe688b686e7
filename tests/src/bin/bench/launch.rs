//! Launch of `busybox true`: our launch path beside crun, runc and the floor, interleaved, with 40 ms of idle
//! before each run, as on a board.

use crate::floor::Floor;
use anyhow::{Context, Result, ensure};
use coracle_tests::service::run;
use coracle_tests::world::World;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;
const RUNS_PER_ROUND: usize = 10;

/// Medians in ms and ratios to crun.
pub fn table(world: &World, crun_program: &Path) -> Result<String> {
    let bundle = bundle(world, "launch")?;
    let floor = Floor::build(&bundle)?;
    let (mut coracle, mut crun, mut runc) = (Vec::new(), Vec::new(), Vec::new());
    let (mut plain, mut layered) = (Vec::new(), Vec::new());
    let (mut begun, mut ended) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        coracle.push(ours(world)?);
        let network = crate::network::added_to_a_launch(world)?;
        begun.push(network.begun);
        ended.push(network.ended);
        plain.push(floor.median(RUNS_PER_ROUND, 40, false)?);
        layered.push(floor.median(RUNS_PER_ROUND, 40, true)?);
        crun.extend(oci_runs(("crun", crun_program), &bundle)?);
        runc.extend(oci_runs(("runc", Path::new("runc")), &bundle)?);
    }
    let (c, k, r) = (median(coracle), median(crun), median(runc));
    let (begun, ended) = (median(begun), median(ended));
    let mut out = format!(
        "`busybox true`, cgroups, no outside network; {} runs of each peer and five times 50 of ours, interleaved by rounds, \
         40 ms idle before each. Not the same work: ours has an overlay root and a seccomp filter and is the supervisor's launch \
         (request to reaped, clean-up included); theirs is one `run` of the program on a plain folder, without a seccomp \
         filter, as `runc spec` writes it. Theirs pays for starting a program, as a manager that calls them does. The floor is a C program \
         that makes the system calls of a container and does nothing else; the second one has an overlay root and 400 instructions of \
         seccomp, as ours. With bridge: what the network part takes by itself is added, up to the exec of the app, and once more with the \
         network's end, during which the kernel waits until nobody can hold on to the interface.\n\n\
         | | median ms | of crun |\n|---|---|---|\n",
        ROUNDS * RUNS_PER_ROUND
    );
    for (name, ms) in [
        ("floor", median(plain)),
        ("floor with overlay and seccomp", median(layered)),
        ("coracle-supervisor launch", c),
        ("the same with bridge and a published port", c + begun),
        ("and with the end of its network", c + begun + ended),
        ("crun run", k),
        ("runc run", r),
    ] {
        writeln!(out, "| {name} | {ms:.1} | {:.2}x |", ms / k)?;
    }
    Ok(out)
}

/// Median of the supervisor's launch in ms, by the library's own example: 50 runs, request to reaped, clean-up included.
pub fn ours(world: &World) -> Result<f64> {
    let text = run(&mut Command::new(world.built_path("examples/launch_bench")))?;
    let mut words = text.split_whitespace().skip_while(|w| *w != "median");
    let ms = words.nth(1).and_then(|w| w.parse::<f64>().ok());
    ms.with_context(|| format!("launch_bench printed `{text}`"))
}

/// A bundle as `runc spec` writes it, without a terminal. `runc spec` replaces nothing, so each part has its own.
pub fn bundle(world: &World, part: &str) -> Result<std::path::PathBuf> {
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

// Bash's own clock, in microseconds: starting `date` would count against the peers.
fn oci_runs((runtime, program): (&str, &Path), bundle: &Path) -> Result<Vec<f64>> {
    // crun refuses the hybrid cgroup layout: a private view without the empty v2 mount.
    let script = "mount --make-rprivate /; umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
    let times = bundle.join(format!("{runtime}.times"));
    let body = format!(
        "cd {}; for i in $(seq {RUNS_PER_ROUND}); do sleep 0.04; s=${{EPOCHREALTIME/./}}; {} run corbench-{runtime}-$i || exit 1; \
         e=${{EPOCHREALTIME/./}}; echo $((e-s)); done > {}",
        bundle.display(),
        program.display(),
        times.display()
    );
    let start = Instant::now();
    run(Command::new("unshare").args(["-m", "sh", "-c", script, "sh", "bash", "-c", &body]))?;
    ensure!(
        start.elapsed() > Duration::from_millis(40),
        "{runtime} did not run"
    );
    let text = std::fs::read_to_string(&times)?;
    Ok(text
        .lines()
        .filter_map(|l| l.parse::<f64>().ok())
        .map(|us| us / 1e3)
        .collect())
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

//! Time from "launch this" to "it has ended", `busybox true` in an overlay with seccomp and a cgroup of its own.
//!
//! `launch_bench [--users | --init | --peer COMMAND...]`: 50 launches, 40 ms of idleness before each, as on a board where nothing is warm.
//! Prints the median in ms. `launch_bench --users`: the container has ids of its own, as apps do; `--init`: and an init. With `--peer`, measures a command in the same way, for example
//! `launch_bench --peer crun run -b BUNDLE x`. Needs root and busybox-static.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio as CommandStdio};
use std::time::{Duration, Instant};

use coracle_runtime::namespaces::{IdRange, UserNs};
use coracle_runtime::{
    Capabilities, CgroupTree, LaunchSpec, Limits, Rootfs, SeccompProgram, prepare, reap,
};

const ROUNDS: usize = 50;
const IDLE: Duration = Duration::from_millis(40);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let took = match arguments.split_first() {
        Some((flag, command)) if flag == "--peer" && !command.is_empty() => peer(command)?,
        Some((flag, [])) if flag == "--users" => ours(true, false)?,
        Some((flag, [])) if flag == "--init" => ours(true, true)?,
        None => ours(false, false)?,
        _ => return Err("usage: launch_bench [--users | --init | --peer COMMAND...]".into()),
    };
    println!(
        "median {:.2} ms, best {:.2} ms, worst {:.2} ms",
        took[ROUNDS / 2],
        took[0],
        took[ROUNDS - 1]
    );
    Ok(())
}

fn measure(
    mut launch: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<Vec<f64>, Box<dyn Error>> {
    let mut took = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        std::thread::sleep(IDLE);
        let started = Instant::now();
        launch()?;
        took.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    took.sort_by(f64::total_cmp);
    Ok(took)
}

fn peer(command: &[String]) -> Result<Vec<f64>, Box<dyn Error>> {
    measure(|| {
        let status = Command::new(&command[0])
            .args(&command[1..])
            .stdin(CommandStdio::null())
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err(format!("{command:?} ended with {status}").into())
        }
    })
}

fn ours(own_users: bool, init: bool) -> Result<Vec<f64>, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    for name in ["image/bin", "layer/upper", "layer/work", "merged"] {
        fs::create_dir_all(path(name))?;
    }
    fs::copy("/bin/busybox", path("image/bin/busybox"))?;
    let seccomp = SeccompProgram::docker(Capabilities::docker())?;
    let tree = CgroupTree::detect(&format!("coracle-bench-{}", std::process::id()))?;
    let limits = Limits {
        memory_bytes: Some(64 << 20),
        pids: Some(100),
        ..Limits::default()
    };

    let took = measure(|| one(&tree, &limits, &seccomp, folder.path(), (own_users, init)))?;
    tree.remove_parent()?;
    Ok(took)
}

/// All that a launch costs: the cgroup is made and removed in the time that is measured, as crun does.
fn one(
    tree: &CgroupTree,
    limits: &Limits,
    seccomp: &SeccompProgram,
    folder: &Path,
    (own_users, init): (bool, bool),
) -> Result<(), Box<dyn Error>> {
    let cgroup = tree.create("bench", limits)?;
    let rootfs = Rootfs::Overlay {
        lower: vec![folder.join("image")],
        upper: folder.join("layer/upper"),
        work: folder.join("layer/work"),
        merged: folder.join("merged"),
    };
    let mut spec = LaunchSpec::new("bench", rootfs, &cgroup)?;
    spec.args = vec!["/bin/busybox".into(), "true".into()];
    spec.seccomp = Some(seccomp);
    spec.init = init;
    if own_users {
        spec.namespaces.user = UserNs::Range(IdRange {
            first: 0x7000_0000,
            count: 65_536,
        });
    }
    let running = prepare(&spec, &|| Ok(()))?.start()?;
    let exit = reap::wait(running.pid).ok_or("not our child")?;
    if !exit.success() {
        return Err(format!("busybox true ended with {exit:?}").into());
    }
    Ok(cgroup.remove()?)
}

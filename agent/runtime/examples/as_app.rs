//! Runs a program with all that an app of a release has around it, so that what this costs the program can be measured: an
//! overlay, users of its own, the default seccomp filter, limits of memory, CPU and processes. Needs root.
//!
//! `as_app ROOT PROGRAM ARGUMENT...`: on the folder ROOT, with this machine's /usr read-only.

use std::error::Error;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use coracle_runtime::namespaces::{IdRange, UserNs};
use coracle_runtime::{
    Capabilities, CgroupTree, LaunchSpec, Limits, Mount, Rootfs, SeccompProgram, Stdio, prepare,
    reap,
};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(root), command) = (arguments.next(), arguments.collect::<Vec<_>>()) else {
        return Err("usage: as_app ROOT PROGRAM ARGUMENT...".into());
    };
    let tree = CgroupTree::detect(&format!("coracle-as-app-{}", std::process::id()))?;
    let outcome = run(&tree, Path::new(&root), command);
    tree.remove_parent()?;
    outcome
}

fn run(tree: &CgroupTree, root: &Path, command: Vec<String>) -> Result<ExitCode, Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    for name in ["layer/upper", "layer/work", "merged"] {
        fs::create_dir_all(path(name))?;
    }
    let cpus = std::thread::available_parallelism()?.get();
    let limits = Limits {
        memory_bytes: Some(256 << 20),
        // Counted, and enough for one thread.
        cpu_millis: Some(cpus as u64 * 1000),
        pids: Some(64),
        ..Limits::default()
    };
    let seccomp = SeccompProgram::docker(Capabilities::docker())?;
    let cgroup = tree.create("app", &limits)?;
    let rootfs = Rootfs::Overlay {
        lower: vec![root.into()],
        upper: path("layer/upper"),
        work: path("layer/work"),
        merged: path("merged"),
    };
    let mut spec = LaunchSpec::new("app", rootfs, &cgroup)?;
    spec.args = command;
    spec.mounts = vec![Mount::bind("/usr", "/usr", true)];
    spec.seccomp = Some(&seccomp);
    spec.namespaces.user = UserNs::Range(IdRange {
        first: 0x7000_0000,
        count: 65_536,
    });
    spec.stdio = Stdio {
        stdout: std::io::stdout().as_fd().try_clone_to_owned()?,
        stderr: std::io::stderr().as_fd().try_clone_to_owned()?,
        ..Stdio::null()?
    };
    let running = prepare(&spec, &|| Ok(())).and_then(|created| created.start());
    let exit = running.map(|running| reap::wait(running.pid));
    cgroup.remove()?;
    match exit? {
        Some(exit) if exit.success() => Ok(ExitCode::SUCCESS),
        other => Err(format!("it ended with {other:?}").into()),
    }
}

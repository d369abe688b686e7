//! The test programs that run on a board, and the libraries they need.

use crate::arch::Arch;
use crate::board::{Board, Tests};
use anyhow::{Context, Result, ensure};
use coracle_tests::packages::Cache;
use coracle_tests::service::run;
use std::path::PathBuf;
use std::process::Command;

/// The runtime's tests that need a kernel to themselves. No libtest in them: they run on nothing but libc.
const TESTS: [&str; 2] = ["container", "jail"];

/// Those of the OCI command line, which start it as a program. Not `id_mapped`: a board has no file system but tmpfs, which
/// can show other owners since Linux 6.3.
const OCI_TESTS: [&str; 8] = [
    "apparmor",
    "confined",
    "exec",
    "hostile",
    "lifecycle",
    "net_devices",
    "old_kernels",
    "spec_fields",
];
/// The network's, of kinds of links that this machine's kernel may lack.
const NETWORK_TESTS: [&str; 1] = ["wire"];
/// Those of it that need programs which a small Debian has, or a file system for /tmp that shows other owners.
const ENGINES_TESTS: [&str; 4] = ["checkpoint", "engines", "id_mapped", "systemd"];
const OCI_PROGRAM: &str = "coracle-runtime";
/// With CRIU, which is this machine's: not on a board of another architecture.
const CHECKPOINT: &str = "checkpoint";
/// The supervisor's: what it makes of a disk with project quotas.
const SUPERVISOR_TESTS: [&str; 1] = ["quota"];
/// What it makes of a watchdog.
const WATCHDOG_TESTS: [&str; 1] = ["reset"];
const SUPERVISOR: &str = "coracle-supervisor";

/// What a checkpoint is made with, of this machine: CRIU, and what it calls.
const OCI_TOOLS: [&str; 3] = ["/usr/sbin/criu", "/usr/bin/tar", "/usr/bin/gzip"];

pub struct Program {
    pub name: String,
    pub file: PathBuf,
    /// With the paths that the dynamic loader looks for.
    pub libraries: Vec<PathBuf>,
}

/// The tests, and beside them the programs that some of them start.
pub struct Programs {
    pub tests: Vec<Program>,
    pub started: Vec<Program>,
}

pub fn build(board: &Board, cache: &Cache) -> Result<Programs> {
    let arch = board.arch;
    let mut tests = match board.tests {
        Tests::Usual | Tests::AndOci => compile(arch, cache, "coracle-runtime", &TESTS)?,
        _ => Vec::new(),
    };
    let mut started = Vec::new();
    if board.tests == Tests::Engines {
        let mut more = compile(arch, cache, "coracle-oci", &ENGINES_TESTS)?;
        started.push(stripped(arch, cache, take(&mut more, OCI_PROGRAM)?)?);
        tests.extend(more);
        return Ok(Programs { tests, started });
    }
    if board.has_oci() {
        let native = arch.cross().is_none();
        let mut names = OCI_TESTS.to_vec();
        names.extend(native.then_some(CHECKPOINT));
        let mut more = compile(arch, cache, "coracle-oci", &names)?;
        started.push(take(&mut more, OCI_PROGRAM)?);
        tests.extend(more);
        for tool in OCI_TOOLS.into_iter().filter(|_| native) {
            let file = PathBuf::from(tool);
            ensure!(
                file.exists(),
                "{tool} is missing: apt-get install criu tar gzip"
            );
            started.push(Program {
                name: tool.rsplit('/').next().unwrap_or_default().into(),
                libraries: libraries(&file)?,
                file,
            });
        }
    }
    let of_supervisor = match board.tests {
        Tests::Watchdog => Some(&WATCHDOG_TESTS),
        _ => board.supervisor.then_some(&SUPERVISOR_TESTS),
    };
    if let Some(names) = of_supervisor {
        let mut more = compile(arch, cache, "coracle-supervisor", names)?;
        let program = take(&mut more, SUPERVISOR)?;
        for one in [program].into_iter().chain(more) {
            let one = stripped(arch, cache, one)?;
            let is_test = one.name != SUPERVISOR;
            if is_test { &mut tests } else { &mut started }.push(one);
        }
    }
    if !matches!(board.tests, Tests::Oci | Tests::Watchdog) {
        tests.extend(compile(arch, cache, "coracle-network", &NETWORK_TESTS)?);
    }
    Ok(Programs { tests, started })
}

/// The program of a package, out of it and its tests.
fn take(built: &mut Vec<Program>, name: &str) -> Result<Program> {
    let at = built.iter().position(|one| one.name == name);
    let at = at.with_context(|| format!("cargo did not build {name}"))?;
    Ok(built.remove(at))
}

/// Without what debuggers read: a board has all of it in memory, twice while it boots.
fn stripped(arch: Arch, cache: &Cache, program: Program) -> Result<Program> {
    let (machine, strip) = match arch.cross() {
        None => ("native", "strip".to_owned()),
        Some((triple, linker)) => (triple, linker.replace("gcc", "strip")),
    };
    let file = cache.folder().join(format!("{}-{machine}", program.name));
    run(Command::new(&strip).arg("-o").arg(&file).arg(&program.file))
        .with_context(|| format!("{strip} (package binutils)"))?;
    Ok(Program { file, ..program })
}

fn compile(arch: Arch, cache: &Cache, package: &str, tests: &[&str]) -> Result<Vec<Program>> {
    let target = cache.folder().parent().context("no target folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let mut command = Command::new(cargo);
    command
        .args([
            "test",
            "--quiet",
            "--no-run",
            "--message-format=json-render-diagnostics",
        ])
        // For this machine as the whole workspace is tested: a package alone has other features, and would take the place of the
        // programs that its tests start meanwhile.
        .arg(match arch.cross() {
            None => "--workspace".to_owned(),
            Some(_) => format!("--package={package}"),
        })
        .args(tests.iter().flat_map(|test| ["--test", test]))
        .arg("--target-dir")
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if let Some((triple, linker)) = arch.cross() {
        let variable = triple.to_uppercase().replace('-', "_");
        command
            .args(["--target", triple])
            .env(format!("CARGO_TARGET_{variable}_LINKER"), linker)
            .env(
                format!("CARGO_TARGET_{variable}_RUSTFLAGS"),
                "-C target-feature=+crt-static",
            );
    }
    let output = command.output().context("running cargo")?;
    // What it built is on the standard output, a line of 1 KiB each; why it could not, on the other.
    ensure!(
        output.status.success(),
        "{command:?} ended with {}:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let messages = String::from_utf8_lossy(&output.stdout);
    let of_package = |line| test_program(line, package);
    let mut built: Vec<(String, PathBuf)> = messages.lines().filter_map(of_package).collect();
    built.sort();
    for test in tests {
        ensure!(
            built.iter().any(|(name, _)| name == test),
            "cargo built {built:?} and no {test}"
        );
    }
    built
        .into_iter()
        .map(|(name, file)| {
            let libraries = match arch.cross() {
                None => libraries(&file)?,
                Some(_) => Vec::new(),
            };
            Ok(Program {
                name,
                file,
                libraries,
            })
        })
        .collect()
}

/// Name and file, when this message of cargo's tells of a program of that package.
fn test_program(message: &str, package: &str) -> Option<(String, PathBuf)> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let id = message["package_id"].as_str()?;
    id.contains(&format!("#{package}@")).then_some(())?;
    let file = message["executable"].as_str()?;
    let name = message["target"]["name"].as_str()?;
    Some((name.into(), file.into()))
}

/// `ldd` has lines such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`.
pub fn libraries(program: &std::path::Path) -> Result<Vec<PathBuf>> {
    let text = run(Command::new("ldd").arg(program))?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
        .map(PathBuf::from)
        .collect())
}

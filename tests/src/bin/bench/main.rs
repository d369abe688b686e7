//! `make bench`: measurements beside other tools, in one run, written to docs/benchmarks.md.
//! Every figure of another tool is measured here, now; none is copied from somewhere.

mod delta;
mod launch;
mod memory;
mod oci;
mod sizes;

use anyhow::{Context, Result};
use coracle_tests::console::Console;
use coracle_tests::engineer::Engineer;
use coracle_tests::world::World;
use std::fmt::Write;
use std::process::Command;

fn main() -> Result<()> {
    // One part alone is printed, and the page stays as it is.
    if std::env::args().nth(1).as_deref() == Some("oci") {
        let world = World::create("corbench", false)?;
        println!("{}", oci::table(&world)?);
        return Ok(());
    }
    let tell = |text: &str| println!("  {text}");
    let world = World::create("corbench", false)?;
    let engineer = Engineer::make_keys(&world, &tell)?;
    engineer.build_images(&world, &tell)?;
    let console = Console::start(&world, engineer.root(), &engineer.key("deploy"))?;

    let mut page = String::from(
        "# Benchmarks\n\nWritten by `make bench`, which measures every row in one run on one machine. \
         Ratios say more than times: the machine is small and shared.\n\n",
    );
    writeln!(page, "{}\n", machine()?)?;
    for (title, section) in [
        ("Sizes", sizes::table(&world)?),
        ("Launch", launch::table(&world)?),
        ("OCI command line", oci::table(&world)?),
        ("Delta", delta::table(&world, &engineer)?),
        ("Memory", memory::table(&world, &engineer, &console)?),
    ] {
        println!("\n{title}\n{section}");
        writeln!(page, "## {title}\n\n{section}")?;
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/benchmarks.md");
    std::fs::write(path, page).context(path)?;
    println!("written to docs/benchmarks.md");
    Ok(())
}

/// The machine and the versions of what was measured beside.
fn machine() -> Result<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cpus = std::thread::available_parallelism()?;
    let version = |program: &str| {
        let output = Command::new(program).arg("--version").output();
        let text = output
            .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
            .unwrap_or_default();
        text.lines().next().unwrap_or("not installed").to_owned()
    };
    Ok(format!(
        "Machine: {cpus} cores, Linux {}. Beside: {}; {}; zstd {}; xdelta3.",
        kernel.trim(),
        version("crun"),
        version("runc"),
        version("zstd")
            .split_whitespace()
            .find(|w| w.starts_with('v'))
            .unwrap_or("?")
            .trim_end_matches(','),
    ))
}

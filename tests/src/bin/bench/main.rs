//! `make bench`: measurements beside other tools, in one run, written to docs/benchmarks.md.
//! Every figure of another tool is measured here, now; none is copied from somewhere.

mod delta;
mod dockerd;
mod floor;
mod idle;
mod inside;
mod launch;
mod memory;
mod network;
mod oci;
mod others;
mod peers;
mod sizes;
mod supervised;
mod writes;

use anyhow::{Context, Result, bail};
use coracle_tests::console::Console;
use coracle_tests::engineer::Engineer;
use coracle_tests::page::PARTS;
use coracle_tests::world::World;
use std::fmt::Write;
use std::path::Path;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/benchmarks.md");

/// Those that need the example images.
const WITH_IMAGES: [&str; 3] = ["delta", "writes", "memory"];

fn main() -> Result<()> {
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    // Those that are named on the command line are printed alone, and the page stays as it is; with `--keep` they take the
    // place of their sections there.
    let keep = wanted.iter().any(|w| w == "--keep");
    wanted.retain(|w| w != "--keep");
    let words = PARTS.map(|(word, _)| word);
    if let Some(wrong) = wanted.iter().find(|w| !words.contains(&w.as_str())) {
        bail!("{wrong:?} is no part; the parts are {}", words.join(", "));
    }
    let tell = |text: &str| println!("  {text}");
    let world = World::create("corbench", false)?;
    let engineer = Engineer::make_keys(&world, &tell)?;
    if wanted.is_empty() || wanted.iter().any(|w| WITH_IMAGES.contains(&w.as_str())) {
        engineer.build_images(&world, &tell)?;
    }

    let crun = peers::crun();
    let machine = machine(&crun)?;
    println!("  {}", peers::version(&crun));
    let mut page = match keep {
        true => std::fs::read_to_string(PAGE).context(PAGE)?,
        false => format!(
            "# Benchmarks\n\nWritten by `make bench`: the rows of a section in one run on one machine, and all of them where no section says that it was measured apart. \
             Ratios say more than times: the machine is small and shared.\n\n{machine}\n\n"
        ),
    };
    let console = || Console::start(&world, engineer.root(), &engineer.key("deploy"));
    for (part, title) in PARTS {
        if !wanted.is_empty() && !wanted.iter().any(|w| w == part) {
            continue;
        }
        let section = match part {
            "sizes" => sizes::table(&world)?,
            "launch" => launch::table(&world, &engineer, &crun)?,
            "oci" => oci::table(&world, &engineer, &crun)?,
            "idle" => idle::table(&world, &crun)?,
            "inside" => inside::table(&world)?,
            "network" => network::table(&world)?,
            "delta" => delta::table(&world, &engineer)?,
            "writes" => writes::table(&world, &engineer, &console()?)?,
            _ => memory::table(&world, &engineer, &console()?)?,
        };
        println!("\n{title}\n{section}");
        match keep {
            true => {
                let section = format!("Measured apart from the rest. {machine}\n\n{section}");
                page = replaced(&page, title, &section);
            }
            false => writeln!(page, "## {title}\n\n{section}")?,
        }
    }
    if wanted.is_empty() || keep {
        std::fs::write(PAGE, page).context(PAGE)?;
        println!("written to docs/benchmarks.md");
    }
    Ok(())
}

/// The page with another section of this title, at its end where it had none.
fn replaced(page: &str, title: &str, section: &str) -> String {
    let head = format!("## {title}\n\n");
    let (before, after) = match page.split_once(&head) {
        Some((before, rest)) => (before, rest.find("\n## ").map_or("", |at| &rest[at + 1..])),
        None => (page, ""),
    };
    let between = if after.is_empty() { "" } else { "\n" };
    format!(
        "{}\n\n{head}{}\n{between}{after}",
        before.trim_end(),
        section.trim_end()
    )
}

/// The machine and the versions of what was measured beside.
fn machine(crun: &Path) -> Result<String> {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cpus = std::thread::available_parallelism()?;
    let version = |program: &str| peers::version(Path::new(program));
    Ok(format!(
        "Machine: {cpus} cores, Linux {}. Beside: {}; {}; zstd {}; xdelta3.",
        kernel.trim(),
        peers::version(crun),
        version("runc"),
        version("zstd")
            .split_whitespace()
            .find(|w| w.starts_with('v'))
            .unwrap_or("?")
            .trim_end_matches(','),
    ))
}

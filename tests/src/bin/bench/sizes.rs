//! Stripped size of what goes on a board.

use anyhow::{Context, Result};
use coracle_tests::world::World;
use std::path::PathBuf;

/// In all.
const BUDGET_ARM: u64 = 6 << 20;
const BUDGET_X86_64: u64 = 110 << 16;
const BUDGET_STATIC: u64 = 31 << 18;
/// What `make static` builds.
const STATIC: &str = "x86_64, static";
/// What `make arm` builds.
const ARM: [&str; 2] = ["aarch64-unknown-linux-gnu", "armv7-unknown-linux-gnueabihf"];

pub fn table(world: &World) -> Result<String> {
    let own = world.built_path("coracle-agent");
    let size = std::fs::metadata(&own).with_context(|| own.display().to_string())?;
    let mut rows = row(std::env::consts::ARCH, Some(size.len()));
    let alone = world.built_path("../static/release/coracle-agent");
    let alone = std::fs::metadata(alone).ok().map(|file| file.len());
    rows += &row(STATIC, alone);
    for triple in ARM {
        let path: PathBuf = ["..", triple, "release", "coracle-agent"].iter().collect();
        let built = std::fs::metadata(world.built_path("").join(path));
        rows += &row(triple, built.ok().map(|file| file.len()));
    }
    Ok(format!(
        "Stripped, as shipped (`--release`): coracle-supervisor, coracled and coracle are one file, coracle-agent. Budget: 6 MiB in all on ARM, 6.88 on x86-64, 7.75 with the C library in it. Memory on boards of each architecture: docs/boards.md.\n\n\
         | built for | bytes | MiB | budget |\n|---|---|---|---|\n{rows}"
    ))
}

fn row(name: &str, size: Option<u64>) -> String {
    let (budget, by) = match name {
        STATIC => (BUDGET_STATIC, "make static"),
        _ if name.starts_with("x86_64") => (BUDGET_X86_64, "make bench"),
        _ => (BUDGET_ARM, "make arm"),
    };
    let Some(size) = size else {
        return format!("| {name} | not built here (`{by}`) | | |\n");
    };
    let verdict = if size <= budget { "met" } else { "missed" };
    let mib = size as f64 / f64::from(1 << 20);
    format!("| {name} | {size} | {mib:.2} | {verdict} |\n")
}

#[cfg(test)]
mod tests {
    use super::{BUDGET_ARM, BUDGET_STATIC, BUDGET_X86_64, STATIC, row};

    #[test]
    fn a_size_is_held_against_the_budget_and_one_that_is_not_known_is_not_met() {
        assert_eq!(row("a", Some(BUDGET_ARM)), "| a | 6291456 | 6.00 | met |\n");
        assert!(row("a", Some(BUDGET_ARM + 1)).ends_with("| missed |\n"));
        assert!(row("x86_64", Some(BUDGET_X86_64)).ends_with("| met |\n"));
        assert!(row("x86_64", Some(BUDGET_X86_64 + 1)).ends_with("| missed |\n"));
        assert!(row(STATIC, Some(BUDGET_STATIC)).ends_with("| met |\n"));
        assert!(row(STATIC, Some(BUDGET_STATIC + 1)).ends_with("| missed |\n"));
        assert!(row("a", None).contains("make arm"));
    }
}

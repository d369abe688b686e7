//! Stripped size of what goes on a board.

use anyhow::{Context, Result};
use coracle_tests::world::World;
use std::path::PathBuf;

/// Of one architecture, in all.
const BUDGET: u64 = 6 << 20;
/// What `make arm` builds.
const ARM: [&str; 2] = ["aarch64-unknown-linux-gnu", "armv7-unknown-linux-gnueabihf"];

pub fn table(world: &World) -> Result<String> {
    let own = world.built_path("coracle-agent");
    let size = std::fs::metadata(&own).with_context(|| own.display().to_string())?;
    let mut rows = row(std::env::consts::ARCH, Some(size.len()));
    for triple in ARM {
        let path: PathBuf = ["..", triple, "release", "coracle-agent"].iter().collect();
        let built = std::fs::metadata(world.built_path("").join(path));
        rows += &row(triple, built.ok().map(|file| file.len()));
    }
    Ok(format!(
        "Stripped, as shipped (`--release`): coracle-supervisor, coracled and coracle are one file, coracle-agent. Budget: 6 MiB in all, {BUDGET} bytes.\n\n\
         | built for | bytes | MiB | budget |\n|---|---|---|---|\n{rows}"
    ))
}

fn row(name: &str, size: Option<u64>) -> String {
    let Some(size) = size else {
        return format!("| {name} | not built here (`make arm`) | | |\n");
    };
    let verdict = if size <= BUDGET { "met" } else { "missed" };
    let mib = size as f64 / f64::from(1 << 20);
    format!("| {name} | {size} | {mib:.2} | {verdict} |\n")
}

#[cfg(test)]
mod tests {
    use super::{BUDGET, row};

    #[test]
    fn a_size_is_held_against_the_budget_and_one_that_is_not_known_is_not_met() {
        assert_eq!(row("a", Some(BUDGET)), "| a | 6291456 | 6.00 | met |\n");
        assert!(row("a", Some(BUDGET + 1)).ends_with("| missed |\n"));
        assert!(row("a", None).contains("make arm"));
    }
}

//! Stripped sizes of what goes on a board.

use anyhow::{Context, Result};
use coracle_tests::measure::human;
use coracle_tests::world::World;
use std::fmt::Write;

/// Budget: 6 MiB in all.
pub fn table(world: &World) -> Result<String> {
    let mut out = String::from(
        "Stripped, as shipped (`--release`). Budget: 6 MiB in all.\n\n| program | size |\n|---|---|\n",
    );
    let mut total = 0;
    for program in ["coracle-supervisor", "coracled", "coracle"] {
        let path = world.program_path(program);
        let size = std::fs::metadata(&path)
            .with_context(|| path.display().to_string())?
            .len();
        total += size;
        writeln!(out, "| {program} | {} |", human(size))?;
    }
    writeln!(out, "| **in all** | **{}** |", human(total))?;
    Ok(out)
}

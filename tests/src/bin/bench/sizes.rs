//! Stripped size of what goes on a board.

use anyhow::{Context, Result};
use coracle_tests::measure::human;
use coracle_tests::world::World;

/// Budget: 6 MiB in all.
pub fn table(world: &World) -> Result<String> {
    let path = world.built_path("coracle-agent");
    let size = std::fs::metadata(&path)
        .with_context(|| path.display().to_string())?
        .len();
    Ok(format!(
        "Stripped, as shipped (`--release`): coracle-supervisor, coracled and coracle are one file. Budget: 6 MiB in all.\n\n\
         | program | size |\n|---|---|\n| coracle-agent | {} |\n",
        human(size)
    ))
}

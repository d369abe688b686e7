//! Prints what this machine is, as JSON: the profile and why, the budget, the kernel and its gaps.
//! `cargo run -p coracle-board-support --example board [coracle.toml [root folder]]`

use coracle_board_support::budget::Budget;
use coracle_board_support::config::{Config, DEFAULT_CONFIG_FILE};
use coracle_board_support::detect::{Detected, choose};
use coracle_board_support::probe::{KernelFacts, Trials, gaps};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().unwrap_or(DEFAULT_CONFIG_FILE.to_owned());
    let root = arguments.next().unwrap_or("/".to_owned());
    let config = Config::load(Path::new(&file))?;
    let detected = Detected::read(Path::new(&root));
    let chosen = choose(&config, &detected)?;
    let kernel = KernelFacts::read(Path::new(&root), &chosen.profile.kernel.required_options);
    let report = serde_json::json!({
        "profile": chosen.profile.name,
        "because": chosen.reason.to_string(),
        "left_out": chosen.left_out,
        "detected": detected,
        "budget": Budget::of(&chosen.profile, &detected),
        "gaps": gaps(&kernel, &Trials::default(), &chosen.profile),
        "kernel": kernel,
    });
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

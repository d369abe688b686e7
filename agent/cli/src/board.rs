//! `coracle board …`: which board this is and what its kernel lacks. Needs no daemon.

use crate::args::BoardCommand;
use crate::failure::Failure;
use crate::table;
use coracle_board_support::config::{Config, DEFAULT_CONFIG_FILE, WrittenConfig};
use coracle_board_support::detect::{self, Detected};
use coracle_board_support::probe::{self, KernelFacts, Severity};
use coracle_board_support::profile::Profile;
use std::path::Path;

/// Runs it.
pub fn run(what: BoardCommand, config: &Path, json: bool) -> Result<(), Failure> {
    let failed = |e: &dyn std::fmt::Display| Failure::Board(e.to_string());
    if what == BoardCommand::Schema {
        return schema();
    }
    let config = if !config.exists() && config == Path::new(DEFAULT_CONFIG_FILE) {
        Config::from_written(WrittenConfig::default(), Path::new("/etc/coracle"))
    } else {
        Config::load(config).map_err(|e| failed(&e))?
    };
    let detected = Detected::read(Path::new("/"));
    let chosen = detect::choose(&config, &detected).map_err(|e| failed(&e))?;
    if what == BoardCommand::Show {
        if json {
            return table::json(&serde_json::json!({"detected": detected, "chosen": chosen}));
        }
        return show(&detected, &chosen);
    }
    let facts = KernelFacts::read(Path::new("/"));
    let gaps = probe::gaps(&facts, &chosen.profile);
    let needed = gaps
        .iter()
        .any(|gap| gap.severity == Severity::Needed && gap.certain);
    if json {
        table::json(
            &serde_json::json!({"profile": chosen.profile.name, "kernel": facts, "gaps": gaps}),
        )?;
    } else {
        check(&chosen.profile, &facts, &gaps)?;
    }
    if needed {
        let text = "this kernel lacks what apps need; see above";
        return Err(Failure::Board(text.into()));
    }
    Ok(())
}

fn show(detected: &Detected, chosen: &detect::Chosen) -> Result<(), Failure> {
    let profile = &chosen.profile;
    let mut text = format!(
        "profile   {}: {}\nbecause   {}\nhardware  {}\n",
        profile.name.as_str(),
        profile.description,
        chosen.reason,
        profile.hardware_class.as_str()
    );
    if !detected.model.is_empty() {
        text.push_str(&format!("model     {}\n", table::plain(&detected.model)));
    }
    if let (Some(memory), Some(cpus)) = (detected.memory_bytes, detected.cpus) {
        text.push_str(&format!(
            "machine   {cpus} cores, {}\n",
            table::bytes(memory)
        ));
    }
    for file in &chosen.left_out {
        text.push_str(&format!("left out  {}\n", table::plain(file)));
    }
    table::out(&text)
}

fn check(profile: &Profile, facts: &KernelFacts, gaps: &[probe::Gap]) -> Result<(), Failure> {
    let mut text = format!(
        "kernel {} for profile {}\n",
        facts.release,
        profile.name.as_str()
    );
    if gaps.is_empty() {
        text.push_str("nothing is missing\n");
    }
    for gap in gaps {
        let word = match (gap.severity, gap.certain) {
            (Severity::Needed, true) => "MISSING",
            (Severity::Needed, false) => "unsure",
            (Severity::Wanted, _) => "wanted",
            (Severity::Note, _) => "note",
        };
        text.push_str(&format!(
            "\n{word:8} {}\n         {}\n         {}\n",
            gap.subject, gap.cost, gap.remedy
        ));
    }
    table::out(&text)
}

/// A whole profile, as an example that can be changed: the generic one of this architecture.
fn schema() -> Result<(), Failure> {
    let architecture = coracle_board_support::profile::Architecture::of_this_program();
    table::json(&Profile::generic(architecture))
}

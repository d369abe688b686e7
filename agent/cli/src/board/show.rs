//! `board show`: the profile in force, why it is this one, what the kernel shows, what the apps may
//! use together, and each value with the file that it is from.

use super::detected;
use crate::failure::Failure;
use crate::human::{printable, size};
use crate::output;
use coracle_board_support::budget::Budget;
use coracle_board_support::config::Config;
use coracle_board_support::detect::{Chosen, Detected, choose};
use coracle_board_support::profile::{Origin, Setting};
use std::fmt::Write;
use std::path::Path;

/// `coracle board show`
pub fn show(config: &Config, json: bool) -> Result<(), Failure> {
    let detected = detected(config);
    let chosen = choose(config, &detected)?;
    let budget = Budget::of(&chosen.profile, &detected);
    if json {
        return output::json(&serde_json::json!({
            "profile": chosen.profile,
            "because": chosen.reason.to_string(),
            "site_file": chosen.site_file,
            "settings": chosen.settings,
            "serial_number": chosen.profile.identity.read(Path::new("/")),
            "left_out": chosen.left_out,
            "detected": detected,
            "budget": budget,
        }));
    }
    output::text(&describe(&chosen, &detected, &budget))
}

pub(super) fn describe(chosen: &Chosen, detected: &Detected, budget: &Budget) -> String {
    let profile = &chosen.profile;
    let mut text = String::new();
    let mut line = |title: &str, value: &str| {
        let _ = writeln!(text, "{title:<13}{}", printable(value));
    };
    line(
        "profile",
        &format!("{}: {}", profile.name.as_str(), profile.description),
    );
    line("because", &chosen.reason.to_string());
    if let Some(file) = &chosen.site_file {
        line("changed by", &file.display().to_string());
    }
    line("hardware", profile.hardware_class.as_str());
    line("architecture", profile.architecture.as_str());
    for (title, value) in [
        ("model", &detected.model),
        ("vendor", &detected.dmi_vendor),
        ("product", &detected.dmi_product),
    ] {
        if !value.is_empty() {
            line(title, value);
        }
    }
    let compatible: Vec<&str> = detected
        .device_tree_compatible
        .iter()
        .map(|c| c.as_str())
        .collect();
    if !compatible.is_empty() {
        line("compatible", &compatible.join(", "));
    }
    if let Some(serial) = profile.identity.read(Path::new("/")) {
        line("serial", &serial);
    }
    let size_or = |bytes: Option<u64>| bytes.map_or_else(|| "not shown".to_owned(), size);
    let cpus = detected
        .cpus
        .map_or_else(|| "not shown".to_owned(), |n| n.to_string());
    line("memory", &size_or(detected.memory_bytes));
    line("cores", &cpus);
    line("disk", &size_or(detected.disk_bytes));
    let reserve = &profile.reserve;
    line(
        "reserved",
        &format!(
            "{} MiB of memory, {} of a core's 1000, {} MiB of disk",
            reserve.memory_mib, reserve.cpu_millis, reserve.disk_mib
        ),
    );
    line(
        "for apps",
        &format!(
            "{} of memory, {} thousandths of a core, {} processes, {} of disk",
            size(budget.memory_bytes),
            budget.cpu_millis,
            budget.pids,
            size(budget.disk_bytes)
        ),
    );
    let modes: Vec<&str> = budget.modes.iter().map(|mode| mode.as_str()).collect();
    line("networks", &modes.join(", "));
    if let Some(watchdog) = &profile.watchdog {
        let seconds = watchdog.timeout_seconds.get();
        line("watchdog", &format!("{}, {seconds} s", watchdog.device));
    }
    for file in &chosen.left_out {
        line("left out", file);
    }
    text.push_str("\nvalues, and where each is from\n");
    let width = chosen.settings.iter().map(|s| s.key.len()).max();
    for setting in &chosen.settings {
        let (origin, value) = in_force(setting, detected);
        let _ = writeln!(
            text,
            "{:<width$}  {origin:<8}{}",
            setting.key,
            printable(&value),
            width = width.unwrap_or_default()
        );
    }
    text
}

/// The file and the value; the kernel and its figure where it showed the real one.
fn in_force(setting: &Setting, detected: &Detected) -> (&'static str, String) {
    let written = serde_json::to_string(&setting.value).unwrap_or_default();
    let shown = match setting.key.as_str() {
        "memory_mib" => detected.memory_bytes.map(|bytes| bytes >> 20),
        "disk_mib" => detected.disk_bytes.map(|bytes| bytes >> 20),
        "cpus" => detected.cpus.map(u64::from),
        _ => None,
    };
    match (shown, setting.origin) {
        (Some(shown), _) => ("kernel", format!("{shown} (written: {written})")),
        (None, Origin::Site) => ("site", written),
        (None, Origin::Profile) => ("profile", written),
        (None, Origin::Default) => ("default", written),
    }
}

//! A coracle.toml of a newer version than this program: an agent that goes back to the one before it must not stay down for
//! want of a word.

use super::{CONFIG_VERSION, LocalPolicy, StickPolicy, WrittenConfig};
use crate::toml_file;
use std::path::Path;
use toml::{Table, Value};

/// What this program understands of a file that says that it is of a newer version, and the keys that it does not. `None` when
/// the file does not say so: a key that is not known is a slip then, which is told.
pub(super) fn read(text: &str, path: &Path) -> Option<(WrittenConfig, Vec<String>)> {
    let table: Table = toml_file::parse(text, path).ok()?;
    let version = table.get("config_version")?.as_integer()?;
    if version <= i64::from(CONFIG_VERSION) {
        return None;
    }
    let (mut understood, mut passed_over) = (String::new(), Vec::new());
    for (section, values) in &table {
        let Value::Table(values) = values else {
            if section != "config_version" {
                passed_over.push(section.clone());
            }
            continue;
        };
        let header = format!("[{section}]\n");
        let mut lines = String::new();
        for (key, value) in values {
            let line = format!("{key} = {value}\n");
            match toml_file::parse::<WrittenConfig>(&format!("{header}{line}"), path) {
                Ok(_) => lines += &line,
                Err(_) => passed_over.push(format!("{section}.{key}")),
            }
        }
        if !lines.is_empty() {
            understood += &format!("{header}{lines}");
        }
    }
    let mut written: WrittenConfig = toml_file::parse(&understood, path).ok()?;
    // What somebody has bounded in words that are too new is not open for that.
    for key in &passed_over {
        match key.as_str() {
            "local.allow" => written.local.allow = Some(LocalPolicy::None),
            "usb.plugged" => written.usb.plugged = Some(StickPolicy::Ignore),
            "deploy.window" | "deploy.consent" => written.deploy.consent = Some(true),
            _ => {}
        }
    }
    Some((written, passed_over))
}

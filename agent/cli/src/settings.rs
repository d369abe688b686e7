//! `config`: coracle.toml, looked at before a program has to live with it.

use crate::failure::Failure;
use crate::output;
use coracle_board_support::config::Config;
use coracle_board_support::detect::{Detected, choose};
use std::fmt::Write;
use std::path::Path;

/// JSON Schema of coracle.toml; a test holds it and the parser together.
pub const SCHEMA: &str = include_str!("settings/schema.json");

/// `config check`; what is wrong with the file itself has been said already.
pub fn check(config: &Config) -> Result<(), Failure> {
    choose(config, &Detected::read(Path::new("/")))?;
    let file = config.file.display();
    let mut text = String::new();
    for key in &config.passed_over {
        let _ = writeln!(text, "{file}: {key} is of a newer version and passed over");
    }
    let word = match config.file.exists() {
        true => "good",
        false => "not there; the defaults are in force",
    };
    let _ = writeln!(text, "{file}: {word}");
    if let Some(key) = config.running_key_that_differs() {
        let file = file.to_string();
        return Err(Failure::FixedKey { file, key });
    }
    output::text(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_board_support::config::WrittenConfig;
    use serde_json::Value;

    const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/coracle.toml");

    /// The shipped file with each key that stands behind a `#` in force, and the values that it names.
    fn whole() -> Value {
        let text = std::fs::read_to_string(SHIPPED).unwrap();
        let key = |line: &&str| {
            let name = line.split(" = ").next().unwrap_or_default();
            let plain = |c: char| c.is_ascii_lowercase() || c == '_';
            line.contains(" = ") && !name.is_empty() && name.chars().all(plain)
        };
        let lines = text
            .lines()
            .filter_map(|line| match line.strip_prefix('#') {
                Some(rest) => Some(rest.trim_start()).filter(key),
                None => Some(line),
            });
        let text = lines.collect::<Vec<_>>().join("\n");
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("coracle.toml");
        std::fs::write(&file, &text).unwrap();
        Config::load(&file).unwrap_or_else(|fault| panic!("{fault}\n{text}"));
        let written: WrittenConfig = toml::from_str(&text).unwrap();
        serde_json::to_value(written).unwrap()
    }

    fn keys(of: &Value) -> Vec<&str> {
        let map = of.as_object().unwrap();
        let given = map.iter().filter(|(_, value)| !value.is_null());
        given.map(|(key, _)| key.as_str()).collect()
    }

    #[test]
    fn the_schema_the_shipped_file_and_the_parser_know_the_same_keys() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let whole = whole();
        assert_eq!(keys(&schema["properties"]), keys(&whole));
        for (section, values) in whole.as_object().unwrap() {
            let below = &schema["properties"][section];
            if values.is_number() {
                assert_eq!(below["type"], "integer");
                continue;
            }
            assert_eq!(below["additionalProperties"], false, "{section}");
            assert_eq!(keys(&below["properties"]), keys(values), "{section}");
            for (key, value) in values.as_object().unwrap() {
                let kind = &below["properties"][key];
                let fits = match value {
                    Value::String(text) => match kind["enum"].as_array() {
                        Some(allowed) => allowed.iter().any(|one| one == text),
                        None => kind["type"] == "string",
                    },
                    Value::Bool(_) => kind["type"] == "boolean",
                    Value::Number(_) => kind["type"] == "integer",
                    Value::Array(_) => kind["type"] == "array",
                    other => panic!("{section}.{key}: {other}"),
                };
                assert!(fits, "{section}.{key}: {value} and {kind}");
            }
        }
    }

    /// What the schema lists is what the parser takes, and nothing else.
    #[test]
    fn the_words_of_the_schema_are_the_parsers() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let takes = |section: &str, key: &str, word: &str| {
            let text = format!("[{section}]\n{key} = \"{word}\"\n");
            toml::from_str::<WrittenConfig>(&text).is_ok()
        };
        let mut words = 0;
        for (section, below) in schema["properties"].as_object().unwrap() {
            let Some(properties) = below["properties"].as_object() else {
                continue;
            };
            for (key, kind) in properties {
                let Some(allowed) = kind["enum"].as_array() else {
                    continue;
                };
                for word in allowed {
                    assert!(takes(section, key, word.as_str().unwrap()), "{key}: {word}");
                    words += 1;
                }
                assert!(!takes(section, key, "neither"), "{section}.{key}");
            }
        }
        assert!(words > 15, "{words}");
    }
}

use super::*;
use coracle_board_support::budget::Budget;
use coracle_board_support::config::WrittenConfig;
use coracle_board_support::detect::choose;
use coracle_board_support::probe::{KernelFacts, Trials, gaps};
use coracle_board_support::profile::Profile;
use serde_json::Value;

const BOARDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/boards");

/// Every key and kind of `value` has its place in `schema`, and all that must be there is there.
fn fits(value: &Value, schema: &Value, at: &str) {
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(
            allowed.contains(value),
            "{at}: {value} is not in the schema"
        );
        return;
    }
    match (schema["type"].as_str().unwrap(), value) {
        ("object", Value::Object(map)) => {
            for (key, value) in map.iter().filter(|(_, v)| !v.is_null()) {
                let below = &schema["properties"][key];
                assert!(below.is_object(), "{at}.{key} is not in the schema");
                fits(value, below, &format!("{at}.{key}"));
            }
            for key in schema["required"].as_array().unwrap() {
                assert!(map.contains_key(key.as_str().unwrap()), "{at} lacks {key}");
            }
        }
        ("array", Value::Array(list)) => {
            assert!(
                list.len() as u64 <= schema["maxItems"].as_u64().unwrap(),
                "{at}"
            );
            list.iter().for_each(|v| fits(v, &schema["items"], at));
        }
        ("string", Value::String(_)) | ("integer", Value::Number(_)) => {}
        (kind, value) => panic!("{at}: {value} is no {kind}"),
    }
}

#[test]
fn the_schema_and_the_parser_agree() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let mut count = 0;
    for entry in std::fs::read_dir(BOARDS).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        let profile = Profile::load(&path).unwrap();
        fits(
            &serde_json::to_value(&profile).unwrap(),
            &schema,
            &path.display().to_string(),
        );
        count += 1;
    }
    assert!(count > 3, "no profiles in {BOARDS}");
}

/// Keys that no shipped profile has.
#[test]
fn the_schema_has_what_a_site_may_say() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let text = std::fs::read_to_string(format!("{BOARDS}/generic-x86-64.toml")).unwrap();
    let network = "[network]\nsubnet = \"10.0.0.0/16\"\nmtu = 1400\nparents = [\"eth?\"]\ninterfaces = [\"lan?\"]\n\
                   forwarding = \"keep\"\nbridge_nf = \"off\"\negress = \"none\"\nhost_access = \"never\"\n\
                   offloads = [{ links = \"eth?\", on = [\"gro\"], off = [\"tx-checksum\", \"rx-checksum\", \"tso\"] }]\n\
                   app_offloads = { off = [\"gso\"] }\n";
    let text = text.replacen("[network]\n", network, 1);
    let profile = Profile::parse(&text, Path::new("x.toml")).unwrap();
    fits(&serde_json::to_value(&profile).unwrap(), &schema, "profile");
    for (here, enumeration) in [
        ("forwarding", vec!["set", "keep"]),
        ("bridge_nf", vec!["keep", "off"]),
        ("egress", vec!["any", "none"]),
        ("host_access", vec!["asked", "never"]),
    ] {
        let known = &schema["properties"]["network"]["properties"][here]["enum"];
        assert_eq!(*known, serde_json::json!(enumeration));
    }
}

/// What the schema calls required, the parser requires; what it does not, the parser does not.
#[test]
fn required_keys_are_required() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let text = std::fs::read_to_string(format!("{BOARDS}/raspberrypi4.toml")).unwrap();
    let path = Path::new("raspberrypi4.toml");
    let required = schema["required"].as_array().unwrap();
    for key in schema["properties"].as_object().unwrap().keys() {
        let mut inside = false;
        let kept = text.lines().filter(|line| {
            if line.starts_with('[') {
                let header = line.trim_start_matches('[');
                inside = header.starts_with(&format!("{key}]"))
                    || header.starts_with(&format!("{key}."));
            }
            !inside && !line.starts_with(&format!("{key} ="))
        });
        let without: String = kept.map(|line| format!("{line}\n")).collect();
        assert_ne!(
            without.lines().count(),
            text.lines().count(),
            "{key} is not in the file"
        );
        let parsed = Profile::parse(&without, path);
        let is_required = required.iter().any(|r| r == key);
        assert_eq!(parsed.is_err(), is_required, "{key}");
    }
}

#[test]
fn check_and_show_say_why() {
    let config = Config::from_written(WrittenConfig::default(), Path::new("/nowhere"));
    let detected = detected(&config);
    let chosen = choose(&config, &detected).unwrap();
    let budget = Budget::of(&chosen.profile, &detected);
    let text = show::describe(&chosen, &detected, &budget);
    assert!(text.contains("because      no profile matches"), "{text}");
    assert!(
        text.contains("\nquotas.pids") && text.contains("profile "),
        "{text}"
    );
    let memory = text.lines().find(|l| l.starts_with("memory_mib ")).unwrap();
    assert!(memory.contains(" kernel "), "{memory}");
    // An empty root is a kernel that has nothing.
    let empty = tempfile::tempdir().unwrap();
    let facts = KernelFacts::read(empty.path(), &[]);
    let trials = Trials::default();
    let found = gaps(&facts, &trials, &chosen.profile);
    let text = check::report(&facts, &trials, "x", &found);
    assert!(
        text.contains("MISSING   cgroups (needed)\n          cost:   no limit"),
        "{text}"
    );
    assert!(
        text.contains("remedy: build the kernel with CONFIG_PID_NS"),
        "{text}"
    );
}

//! The borders of the house, held by `cargo metadata` and by reading the sources: which crate may
//! depend on which, where `unsafe` may stand, and which words are not names for a file.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which of our crates a crate may depend on: docs/architecture.md, "May depend on". A new crate
/// fails this test until it has a line here.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("coracle-digest", &[]),
    ("coracle-board-support", &[]),
    ("coracle-runtime", &[]),
    ("coracle-network", &[]),
    // The runtime's command line for podman and containerd, thin over the library.
    ("coracle-oci", &["coracle-runtime"]),
    // Another's crate in the place of another's: what oci-spec takes for regex.
    ("regex", &[]),
    ("coracle-protocol", &["coracle-digest"]),
    // It knows layers and blobs, and nothing of releases.
    ("coracle-images", &["coracle-digest"]),
    (
        "coracle-supervisor",
        &[
            "coracle-digest",
            "coracle-protocol",
            "coracle-images",
            "coracle-board-support",
            "coracle-runtime",
            "coracle-network",
        ],
    ),
    (
        "coracle-daemon",
        &[
            "coracle-digest",
            "coracle-protocol",
            "coracle-images",
            "coracle-board-support",
        ],
    ),
    (
        "coracle-cli",
        &[
            "coracle-digest",
            "coracle-protocol",
            "coracle-board-support",
        ],
    ),
    // Their programs in one file; it has no code but the choice by name.
    (
        "coracle-agent",
        &["coracle-supervisor", "coracle-daemon", "coracle-cli"],
    ),
    // Private keys in files and tokens: the engineer's and the console's, and no board's.
    ("coracle-keys", &["coracle-protocol"]),
    (
        "coracle-release",
        &[
            "coracle-digest",
            "coracle-protocol",
            "coracle-images",
            "coracle-keys",
            "coracle-board-support",
        ],
    ),
    (
        "coracle-console",
        &[
            "coracle-digest",
            "coracle-protocol",
            "coracle-images",
            "coracle-keys",
        ],
    ),
    (
        "coracle-tests",
        &[
            "coracle-digest",
            "coracle-protocol",
            "coracle-images",
            "coracle-board-support",
        ],
    ),
];

/// Programs that run on no board and are no product; nothing may depend on them either.
const EXAMPLES: &[&str] = &["coracle-example-hello"];

/// A library that also has a command: the architecture gives the runtime an OCI command line, and
/// the supervisor uses its library all the same.
const LIBRARIES_WITH_A_COMMAND: &[&str] = &["coracle-runtime"];

/// The programs of a board, linked into one file; nothing depends on it.
const ONE_FILE: &str = "coracle-agent";

/// In the place of a crate of others, whose version it has.
const STAND_INS: &[&str] = &["regex"];

/// Names that say nothing about what is in a file.
const EMPTY_NAMES: [&str; 8] = [
    "util", "utils", "helper", "helpers", "common", "manager", "misc", "shared",
];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace")
        .to_owned()
}

/// Our crates that `package` names in its dependencies of these kinds.
fn ours(package: &Package, all: &BTreeSet<&str>, kinds: &[DependencyKind]) -> BTreeSet<String> {
    package
        .dependencies
        .iter()
        .filter(|d| kinds.contains(&d.kind) && all.contains(d.name.as_str()))
        .map(|d| d.name.to_string())
        .collect()
}

#[test]
fn each_crate_depends_only_on_what_the_architecture_allows() {
    let metadata = metadata();
    let all: BTreeSet<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let allowed: BTreeMap<&str, &[&str]> = MAY_DEPEND_ON.iter().copied().collect();
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let Some(allowed) = allowed
            .get(name)
            .copied()
            .or_else(|| EXAMPLES.contains(&name).then_some(&[][..]))
        else {
            faults.push(format!("{name} has no line in MAY_DEPEND_ON"));
            continue;
        };
        // A crate's own tests may look further, but never at a program of ours: that is what the
        // tests crate is for. This is checked below.
        let kinds = [DependencyKind::Normal, DependencyKind::Build];
        for used in ours(package, &all, &kinds) {
            if !allowed.contains(&used.as_str()) {
                faults.push(format!("{name} → {used}; allowed: {allowed:?}"));
            }
        }
    }
    for (name, _) in MAY_DEPEND_ON {
        if !all.contains(name) {
            faults.push(format!(
                "{name} has a line in MAY_DEPEND_ON but is no crate"
            ));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn nothing_depends_on_a_program() {
    let metadata = metadata();
    let programs: BTreeSet<&str> = metadata
        .packages
        .iter()
        .filter(|p| p.targets.iter().any(|t| t.is_bin()))
        .map(|p| p.name.as_str())
        .filter(|name| !LIBRARIES_WITH_A_COMMAND.contains(name))
        .collect();
    assert!(programs.len() >= 5, "found only {programs:?}");
    let any = [
        DependencyKind::Normal,
        DependencyKind::Build,
        DependencyKind::Development,
    ];
    for package in metadata.packages.iter().filter(|p| *p.name != ONE_FILE) {
        let used = ours(package, &programs, &any);
        assert!(used.is_empty(), "{} depends on {used:?}", package.name);
    }
}

#[test]
fn each_manifest_takes_the_workspace_s_lints_and_edition() {
    for package in &metadata().packages {
        let path = package.manifest_path.as_std_path();
        let text = fs::read_to_string(path).unwrap();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let lints = lines
            .windows(2)
            .any(|two| two == ["[lints]", "workspace = true"]);
        assert!(
            lints,
            "{}: no `[lints]` with `workspace = true`",
            path.display()
        );
        let own_version = STAND_INS.contains(&package.name.as_str());
        let keys = ["edition", "rust-version", "license", "version"];
        for key in keys
            .into_iter()
            .filter(|key| *key != "version" || !own_version)
        {
            let line = format!("{key}.workspace = true");
            assert!(
                lines.contains(&line.as_str()),
                "{}: no `{line}`",
                path.display()
            );
        }
    }
}

#[test]
fn unsafe_stands_in_one_file_of_a_crate_and_says_why() {
    let mut faults = Vec::new();
    for package in &metadata().packages {
        let mut homes = BTreeSet::new();
        for file in sources(package) {
            let text = fs::read_to_string(&file).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            let place = file.strip_prefix(root()).unwrap_or(&file).display();
            if lines.iter().any(|line| line.contains("allow(unsafe_code)")) {
                homes.insert(file.clone());
            }
            for (number, line) in lines.iter().enumerate() {
                // The lint finds `unsafe` where it is not allowed; that each one is explained it does not.
                if is_unsafe(line) && !explained(&lines, number) {
                    faults.push(format!(
                        "{place}:{}: unsafe without `SAFETY:` above",
                        number + 1
                    ));
                }
            }
        }
        // Test code apart: a test may have to make the situation that the code handles.
        homes.retain(|file| {
            let text = file.to_string_lossy();
            !text.contains("/tests/") && !text.ends_with("tests.rs") && !text.contains("/examples/")
        });
        if homes.len() > 1 {
            faults.push(format!("{}: unsafe is allowed in {homes:?}", package.name));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or("");
    // Put together here, so that this file does not find itself.
    ["{", "fn ", "impl ", "extern "]
        .iter()
        .any(|what| code.contains(&["unsafe", what].join(" ")))
}

/// A comment with `SAFETY` or a `# Safety` section, at most twelve lines above or on the line.
fn explained(lines: &[&str], at: usize) -> bool {
    lines[at.saturating_sub(12)..=at]
        .iter()
        .any(|line| line.contains("SAFETY:") || line.contains("# Safety"))
}

#[test]
fn a_file_s_name_says_what_is_in_it() {
    for package in &metadata().packages {
        for file in sources(package) {
            let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
            let folder = file
                .parent()
                .unwrap()
                .file_name()
                .unwrap()
                .to_string_lossy();
            assert!(
                !EMPTY_NAMES.contains(&stem.as_str()) && !EMPTY_NAMES.contains(&&*folder),
                "{}: name it after its idea",
                file.display()
            );
        }
    }
}

#[test]
fn the_supervisor_s_crates_make_no_threads() {
    // Its child runs ordinary Rust after clone3, which is sound only while there is one thread.
    let threads = [
        "spawn_blocking",
        "tokio::fs",
        "thread::spawn",
        "thread::Builder",
        "rt-multi-thread",
        "new_multi_thread",
    ];
    let metadata = metadata();
    for package in &metadata.packages {
        let name = package.name.as_str();
        if !["coracle-supervisor", "coracle-runtime", "coracle-network"].contains(&name) {
            continue;
        }
        let mut files = sources(package);
        files.push(package.manifest_path.clone().into_std_path_buf());
        for file in files {
            let path = file.to_string_lossy();
            if path.contains("/tests/") || path.ends_with("tests.rs") || path.contains("/examples/")
            {
                continue;
            }
            // What a child of the supervisor's runs that makes no process: the writer of all logs.
            if path.ends_with("agent/supervisor/src/logs/write.rs") {
                continue;
            }
            let text = fs::read_to_string(&file).unwrap();
            // Unit tests stand at a file's end and run in the test harness's threads anyway.
            let code = text.split("#[cfg(test)]").next().unwrap_or("");
            for (number, line) in code.lines().enumerate() {
                let line = line
                    .split("//")
                    .next()
                    .unwrap_or("")
                    .split('#')
                    .next()
                    .unwrap_or("");
                for word in threads {
                    assert!(!line.contains(word), "{path}:{}: {word}", number + 1);
                }
            }
        }
    }
}

/// Each `.rs` file of a package, without those of a package inside its folder.
fn sources(package: &Package) -> Vec<PathBuf> {
    let folder = package.manifest_path.as_std_path().parent().unwrap();
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["src", "tests", "examples", "benches"]
        .iter()
        .map(|name| folder.join(name))
        .collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.join("Cargo.toml").exists() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

//! The table of published attacks in docs/threat-model.md and the tests agree: each row is named by one test,
//! each test names one row, a row has a folder of fixtures or says why it has none, and no attack of the three published
//! lists is left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// TUF 1.0.34, "Goals to protect against specific attacks".
const TUF: [&str; 10] = [
    "Arbitrary installation",
    "Endless data",
    "Extraneous dependencies",
    "Fast-forward",
    "Indefinite freeze",
    "Malicious mirrors",
    "Mix-and-match",
    "Rollback",
    "Vulnerability to key compromises",
    "Wrong software installation",
];

/// Uptane 2.1.0, "Description of threats".
const UPTANE: [&str; 10] = [
    "Eavesdrop",
    "Drop-request",
    "Slow retrieval",
    "Freeze",
    "Partial bundle installation",
    "Denial of service against the repositories",
    "Rollback",
    "Endless data",
    "Mix-and-match",
    "Arbitrary software",
];

/// RFC 9124, 4.2.
const RFC_9124: [&str; 18] = [
    "THREAT.IMG.EXPIRED",
    "THREAT.IMG.EXPIRED.OFFLINE",
    "THREAT.IMG.INCOMPATIBLE",
    "THREAT.IMG.FORMAT",
    "THREAT.IMG.LOCATION",
    "THREAT.NET.REDIRECT",
    "THREAT.NET.ONPATH",
    "THREAT.IMG.REPLACE",
    "THREAT.IMG.NON_AUTH",
    "THREAT.UPD.WRONG_PRECURSOR",
    "THREAT.UPD.UNAPPROVED",
    "THREAT.IMG.DISCLOSURE",
    "THREAT.MFST.OVERRIDE",
    "THREAT.MFST.EXPOSURE",
    "THREAT.IMG.EXTRA",
    "THREAT.KEY.EXPOSURE",
    "THREAT.MFST.MODIFICATION",
    "THREAT.MFST.TOCTOU",
];

/// Of our own.
const OURS: [&str; 9] = [
    "another board's manifest replayed",
    "retained-message replay",
    "cross-document signature confusion",
    "duplicate JSON keys",
    "small-order keys",
    "the same key counted twice under two keyids",
    "wrong precursor for a delta",
    "contents of a stick swapped between check and use",
    "a counter file restored",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Test, attacks (each with the list that it is from) and fixture of each row.
fn rows() -> Vec<(String, Vec<String>, String)> {
    let text = fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let (_, section) = text.split_once("## Published attacks\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let lines = section.lines().filter(|line| line.starts_with("| `"));
    lines
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            assert_eq!(cells.len(), 4, "{line}");
            assert!(!cells[2].is_empty(), "{line}");
            let attacks = cells[1].split("; ").map(str::to_owned).collect();
            let test = cells[0].trim_matches('`').to_owned();
            (test, attacks, cells[3].to_owned())
        })
        .collect()
}

/// Functions under `#[test]` or `#[tokio::test]`, and the names that the macro of the attacks makes tests of.
fn tests() -> BTreeSet<String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
                walk(&path, found);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&root(), &mut files);
    let mut names = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        for after in text.split("test]\n").skip(1) {
            let Some((_, rest)) = after.split_once("fn ") else {
                continue;
            };
            names.extend(rest.split_once('(').map(|(name, _)| name.to_owned()));
        }
    }
    let attacks = fs::read_to_string(root().join("protocol/tests/attacks/main.rs")).unwrap();
    let (_, list) = attacks.split_once("\nattacks! {").unwrap();
    let (list, _) = list.split_once('}').unwrap();
    names.extend(list.split_whitespace().map(str::to_owned));
    names
}

#[test]
fn each_row_is_named_by_a_test_of_its_own() {
    let (rows, tests) = (rows(), tests());
    let mut seen = BTreeSet::new();
    for (test, ..) in &rows {
        assert!(tests.contains(test), "no test is called `{test}`");
        assert!(seen.insert(test), "`{test}` names two rows");
    }
    assert!(rows.len() > 30, "only {} rows were read", rows.len());
}

/// Where fixtures of attacks are. That a folder of the first is read by the test of its name is what `every_folder_has_its_test`
/// there holds; of the others the test names it where it reads it.
const FIXTURES: [&str; 3] = [
    "protocol/tests/attacks",
    "agent/supervisor/tests/attacks",
    "release/tests/attacks",
];

#[test]
fn a_row_has_a_folder_of_fixtures_or_says_what_its_attack_is_instead() {
    let rows = rows();
    let mut folders = 0;
    for (test, _, fixture) in &rows {
        let places = FIXTURES.map(|place| root().join(place).join(test));
        let files: Vec<usize> = places
            .iter()
            .filter_map(|folder| Some(fs::read_dir(folder).ok()?.count()))
            .collect();
        match fixture.strip_prefix("none: ") {
            None => {
                assert_eq!(fixture, "folder", "`{test}`");
                assert!(
                    matches!(files[..], [count] if count > 0),
                    "`{test}` has these files: {files:?}"
                );
                folders += 1;
            }
            Some(what) => {
                assert!(
                    what.split(' ').count() > 2,
                    "`{test}`: `{what}` says nothing"
                );
                assert!(files.is_empty(), "`{test}` has a folder: say so");
            }
        }
    }
    assert!(folders > 20, "only {folders} rows have a folder");
    for place in &FIXTURES[1..] {
        let tests = root().join(place).join("..");
        let sources = fs::read_dir(tests).unwrap().flatten();
        let text: String = sources
            .filter_map(|entry| fs::read_to_string(entry.path()).ok())
            .collect();
        for entry in fs::read_dir(root().join(place)).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name == "make.rs" {
                continue;
            }
            assert!(
                rows.iter().any(|(test, ..)| *test == name),
                "no row is `{name}`"
            );
            assert!(
                text.contains(&format!("\"{name}\"")),
                "nobody reads `{name}`"
            );
        }
    }
}

#[test]
fn no_published_attack_is_left_out_and_none_stands_twice() {
    let mut expected: Vec<String> = OURS.map(str::to_owned).to_vec();
    expected.extend(TUF.map(|name| format!("TUF: {name}")));
    expected.extend(UPTANE.map(|name| format!("Uptane: {name}")));
    expected.extend(RFC_9124.map(|name| format!("RFC 9124: {name}")));
    let told: Vec<String> = rows()
        .into_iter()
        .flat_map(|(_, attacks, _)| attacks)
        .collect();
    for name in &expected {
        let rows = told.iter().filter(|attack| *attack == name).count();
        assert_eq!(rows, 1, "`{name}` stands in {rows} rows");
    }
    for attack in &told {
        let of_a_list = ["TUF: ", "Uptane: ", "RFC 9124: "]
            .iter()
            .any(|list| attack.starts_with(list));
        assert!(
            !of_a_list || expected.contains(attack),
            "`{attack}` is in none of the lists"
        );
    }
}

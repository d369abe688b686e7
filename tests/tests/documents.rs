//! Documents say what is true: a test, file or folder that one of them names as proof is there.

use coracle_tests::page;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect(path)
}

/// Every `name` in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" && !name.to_string_lossy().starts_with('.') {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Names of functions, and of the folders that each hold the fixture of the attack test of that name.
fn names() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    let mut names = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).expect("a source file");
        for after in text.split("fn ").skip(1) {
            let name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            names.insert(after.chars().take_while(|&c| name(c)).collect());
        }
    }
    let attacks = fs::read_dir(root().join("protocol/tests/attacks")).expect("the attacks");
    names.extend(
        attacks
            .flatten()
            .map(|e| e.file_name().to_string_lossy().into_owned()),
    );
    names
}

#[test]
fn each_test_that_the_threat_model_names_exists() {
    let (text, names) = (read("docs/threat-model.md"), names());
    let is_name = |q: &&str| {
        q.contains('_')
            && q.chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '*')
    };
    let named: Vec<&str> = quoted(&text)
        .into_iter()
        .filter(is_name)
        .filter(|q| *q != "no_new_privs")
        .collect();
    assert!(named.len() > 30, "only {} tests are named", named.len());
    let missing: Vec<&&str> = named
        .iter()
        .filter(|q| match q.strip_suffix('*') {
            Some(start) => !names.iter().any(|n| n.starts_with(start)),
            None => !names.contains(**q),
        })
        .collect();
    assert!(missing.is_empty(), "no test is called {missing:?}");
}

#[test]
fn each_path_that_features_and_readme_name_exists() {
    let mut seen = 0;
    for document in [
        "docs/features.md",
        "docs/threat-model.md",
        "docs/architecture.md",
        "docs/boards.md",
        "README.md",
    ] {
        let text = read(document);
        let links = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        let folder = Path::new(document).parent().expect("a folder");
        for link in links.filter(|l| !l.contains("://") && !l.starts_with('#')) {
            assert!(
                root().join(folder).join(link).exists(),
                "{document} links to {link}"
            );
            seen += 1;
        }
        let tops = [
            "agent/",
            "protocol/",
            "images/",
            "console/",
            "release/",
            "board-support/",
            "tests/",
            "config/",
            "docs/",
        ];
        for path in quoted(&text)
            .into_iter()
            .filter(|q| tops.iter().any(|t| q.starts_with(t)) && !q.contains(' '))
        {
            assert!(root().join(path).exists(), "{document} names {path}");
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} paths were found to check");
}

#[test]
fn no_feature_stands_twice() {
    let text = read("docs/features.md");
    let mut seen = BTreeSet::new();
    for row in text.lines() {
        let id = row.strip_prefix("| ").and_then(|row| row.split(' ').next());
        let is_id = |id: &&str| {
            id.starts_with(|c: char| c.is_ascii_uppercase())
                && id.len() > 1
                && id[1..].chars().all(|c| c.is_ascii_digit())
        };
        if let Some(id) = id.filter(is_id) {
            assert!(seen.insert(id), "{id} stands twice");
        }
    }
    assert!(seen.len() > 60, "only {} are read", seen.len());
}

/// Titles of sections, and below each the first cells of its tables' rows without their heads.
fn sections(page: &str) -> Vec<(&str, Vec<&str>)> {
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            found.push((title, Vec::new()));
        }
        let is_head = lines.peek().is_some_and(|next| next.starts_with("|---"));
        let row = line.strip_prefix("| ").filter(|_| !is_head);
        if let (Some(row), Some((_, rows))) = (row, found.last_mut()) {
            rows.extend(row.split(" |").next());
        }
    }
    found
}

#[test]
fn the_page_of_benchmarks_has_what_the_bench_prints() {
    let text = read("docs/benchmarks.md");
    let found = sections(&text);
    let titles: Vec<&str> = found.iter().map(|(title, _)| *title).collect();
    assert_eq!(titles, page::PARTS.map(|(_, title)| title));
    let launch = found.iter().find(|(title, _)| *title == "Launch");
    assert_eq!(launch.map(|(_, rows)| &rows[..]), Some(&page::LAUNCH[..]));
}

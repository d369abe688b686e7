//! The page: a head, then a section for each pair, which is replaced when the pair is measured again.

use anyhow::{Context, Result};
use std::path::Path;

use super::pairs::{PAIRS, Pair};
use super::tools::Tool;

const HEAD: &str = "# Deltas beside other tools\n\n\
    Written by `make bench-deltas`, one pair after the other; `PAIR=name` measures one again, `TOOL=name` one tool's rows. All of it \
    comes from one machine, which had other work at the same time: times are wall-clock and can be off by several times, even within a pair; bytes and memory do not \
    depend on it. \
    The trees come from the npm registry, from PyPI and from Debian's archive (its release beside its security update, whatever these are on \
    the day). Peak memory is the whole process's, and every step is a process of its own. `tuned` tells the pairs that were looked at while the \
    models were made: the others say more. OSTree's figure has no tar headers in it; casync's is the chunks that the older version lacks, and the index.\n";

/// Puts a pair's section into the page.
pub fn put(path: &Path, pair: &Pair, section: &str) -> Result<()> {
    let old = read(path)?;
    std::fs::write(path, replaced(&old, pair.name, section))
        .with_context(|| path.display().to_string())
}

/// The row that a tool has in a pair's section.
pub fn row(path: &Path, pair: &Pair, tool: &Tool) -> Result<Option<String>> {
    let page = read(path)?;
    Ok(row_of(&page, pair.name, tool.name).map(str::to_owned))
}

/// What a pair's section says of the two versions and their size.
pub fn versions(path: &Path, pair: &Pair) -> Result<Option<String>> {
    let page = read(path)?;
    Ok(versions_of(&page, pair.name).map(str::to_owned))
}

fn read(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(page) => Ok(page),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn row_of<'a>(page: &'a str, pair: &str, tool: &str) -> Option<&'a str> {
    let start = format!("| {tool} | ");
    section_of(page, pair)?
        .lines()
        .find(|line| line.starts_with(&start))
}

/// Nothing where a pair was not measured.
fn versions_of<'a>(page: &'a str, pair: &str) -> Option<&'a str> {
    let line = section_of(page, pair)?.lines().next()?;
    line.contains(" → ")
        .then(|| line.trim_end_matches("; tuned"))
}

fn replaced(page: &str, name: &str, section: &str) -> String {
    let mut sections = String::new();
    let mut missing = Vec::new();
    for pair in &PAIRS {
        let text = match pair.name == name {
            true => Some(section),
            false => section_of(page, pair.name),
        };
        match text {
            Some(text) => {
                sections.push_str(&format!("\n## {}\n\n{}\n", pair.name, text.trim_end()));
            }
            None => missing.push(pair.name),
        }
    }
    let mut made = String::from(HEAD);
    if !missing.is_empty() {
        made.push_str(&format!("\nNot measured yet: {}.\n", missing.join(", ")));
    }
    made + &sections
}

fn section_of<'a>(page: &'a str, name: &str) -> Option<&'a str> {
    let heading = format!("\n## {name}\n\n");
    let (_, rest) = page.split_once(&heading)?;
    Some(rest.split("\n## ").next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_that_is_measured_again_replaces_its_own_section_alone() {
        let first = replaced("", "git", "old\n\n| a |\n");
        let second = replaced(&first, "esbuild", "new\n");
        let third = replaced(&second, "git", "again\n");
        let (missing, sections) = third.split_once(".\n\n## ").unwrap();
        assert_eq!(sections, "esbuild\n\nnew\n\n## git\n\nagain\n");
        assert!(
            missing.contains("Not measured yet: libnode108, "),
            "{missing}"
        );
        assert!(!missing.contains(" git"), "{missing}");
        assert_eq!(replaced(&third, "git", "again\n"), third);
    }

    #[test]
    fn a_tools_row_is_found_in_its_pairs_section() {
        let page = replaced("", "git", "| bsdiff 4 | 1 |\n| casync | 2 |\n");
        let page = replaced(&page, "libc6", "| bsdiff 4 | 3 |\n");
        assert_eq!(row_of(&page, "git", "bsdiff 4"), Some("| bsdiff 4 | 1 |"));
        assert_eq!(row_of(&page, "libc6", "bsdiff 4"), Some("| bsdiff 4 | 3 |"));
        assert_eq!(row_of(&page, "libc6", "casync"), None);
        assert_eq!(row_of(&page, "git", "bsdiff"), None);
    }

    #[test]
    fn a_section_says_of_which_versions_it_is() {
        let page = replaced("", "git", "1 → 2, 9 MiB as tar; tuned\n\n| a |\n");
        let page = replaced(&page, "libc6", "not measured: no network\n");
        assert_eq!(versions_of(&page, "git"), Some("1 → 2, 9 MiB as tar"));
        assert_eq!(versions_of(&page, "libc6"), None);
        assert_eq!(versions_of(&page, "numpy"), None);
    }

    #[test]
    fn a_name_that_begins_like_another_is_not_it() {
        let page = replaced("", "esbuild arm64", "arm\n");
        assert_eq!(section_of(&page, "esbuild"), None);
    }
}

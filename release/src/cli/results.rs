//! `usb-results`: what boards left on sticks, in one table.

use super::{json, say};
use crate::failure::Failure;
use crate::files;
use clap::Args;
use coracle_protocol::report::Phase;
use coracle_protocol::stick::{BoardResult, FOLDER};
use std::path::{Path, PathBuf};

/// Files that are read of one folder: each board leaves some at most, and a stick goes round so many.
const FILES: usize = 4096;

/// What boards left on sticks that were made with `usb --result`. Nobody signs it: it is for whoever carried the stick.
///
/// Example: coracle-release usb-results /media/stick collected-last-week
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Results {
    /// Mounted sticks, or folders with their files
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
    /// As the boards wrote it
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Results) -> Result<(), Failure> {
    let mut all = Vec::new();
    for folder in &args.folders {
        collect(folder, &mut all)?;
    }
    // Of one board the last try last.
    all.sort_by(|(one, a), (two, b)| {
        let key = |result: &BoardResult| (result.of().to_owned(), result.time.at_least);
        (key(a), one).cmp(&(key(b), two))
    });
    let results: Vec<BoardResult> = all.into_iter().map(|(_, result)| result).collect();
    if args.json {
        return json(&results);
    }
    if results.is_empty() {
        say("no board has left anything there; sticks ask for it with `usb --result`");
        return Ok(());
    }
    for line in table(&results) {
        say(&line);
    }
    Ok(())
}

/// The results of a stick, of its folder `coracle`, or of a folder that they were copied to.
fn collect(folder: &Path, all: &mut Vec<(PathBuf, BoardResult)>) -> Result<(), Failure> {
    let inner = folder.join(FOLDER);
    let folder = match inner.is_dir() {
        true => inner,
        false => folder.to_owned(),
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(&folder).map_err(|e| unreadable(&folder, &e))? {
        let entry = entry?;
        let is_plain = entry.file_type()?.is_file();
        if is_plain && BoardResult::is_name(&entry.file_name().to_string_lossy()) {
            paths.push(entry.path());
        }
    }
    if paths.len() > FILES {
        return Err(Failure::usage(format!(
            "{}: {} results; {FILES} are read at once",
            folder.display(),
            paths.len()
        )));
    }
    for path in paths {
        let bytes = files::read(&path, BoardResult::BYTES as u64)?;
        match BoardResult::parse(&bytes) {
            Ok(result) => all.push((path, result)),
            // One that was pulled out too early is none of the others' business.
            Err(e) => eprintln!("{}: no result: {e}", path.display()),
        }
    }
    Ok(())
}

fn unreadable(folder: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{}: {error}", folder.display()))
}

fn table(results: &[BoardResult]) -> Vec<String> {
    let head = [
        "BOARD", "STICK", "BROUGHT", "OUTCOME", "HAS NOW", "TIME", "REASON",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(results.iter().map(row));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..head.len()).map(|c| width(c).unwrap_or(0)).collect();
    let line = |row: &[String; 7]| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn row(result: &BoardResult) -> [String; 7] {
    let time = match result.time.kept {
        true => result.time.clock.clone(),
        // A clock that nobody keeps says nothing.
        false => format!("after {}", crate::human::date(result.time.at_least)),
    };
    let code = result.code.as_deref().unwrap_or_default();
    let reason = result.reason.as_deref().unwrap_or_default();
    let why = match (code, reason) {
        _ if result.outcome == Phase::Committed => String::new(),
        ("", reason) => reason.to_owned(),
        (code, "") => code.to_owned(),
        (code, reason) => format!("{code}: {reason}"),
    };
    [
        result.of().to_owned(),
        result.stick.to_string(),
        format!("{} {}", result.product, result.version),
        result.outcome.to_string(),
        result.runs.clone().unwrap_or_else(|| "-".to_owned()),
        time,
        why,
    ]
    .map(|cell| printable(&cell))
}

/// A stranger may have written it: nothing in it moves the cursor.
fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(plain).collect()
}

//! The table of runs in docs/power-cuts.md: a row for each seed, written by the run itself.

use anyhow::{Context, Result};
use coracle_tests::service::run;
use std::path::Path;
use std::process::Command;

const BEGIN: &str = "<!-- One row for each seed, written by `make powercut`. -->";
const HEAD: &str = "\
| seed | recorded | replayed, all held | of them with unflushed writes | of them while the board's program was replaced | booted, all held | Linux in the board, where cuts were replayed | commit | seconds |
|---|---|---|---|---|---|---|---|---|";
const END: &str = "<!-- End of the rows. -->";

/// A run that held.
pub struct Row {
    pub seed: u64,
    pub recorded: String,
    pub replayed: usize,
    pub unflushed: usize,
    pub of_agents: usize,
    pub booted: usize,
    pub kernel: String,
    pub seconds: u64,
}

impl Row {
    /// Puts it in the place of its seed's.
    pub fn write(&self, file: &Path) -> Result<()> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        let commit = run(Command::new("git").args(["describe", "--always", "--dirty"]))?;
        let here = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let text = self
            .put(&text, here.trim(), commit.trim())
            .with_context(|| format!("{} has no table of runs", file.display()))?;
        std::fs::write(file, text).with_context(|| file.display().to_string())
    }

    fn put(&self, text: &str, here: &str, commit: &str) -> Option<String> {
        let (before, rest) = text.split_once(BEGIN)?;
        let (table, after) = rest.split_once(END)?;
        let mut rows: Vec<(u64, String)> = table
            .lines()
            .filter_map(|row| Some((seed(row)?, row.to_owned())))
            .filter(|(seed, _)| *seed != self.seed)
            .collect();
        let Self {
            seed,
            recorded,
            replayed,
            unflushed,
            of_agents,
            booted,
            kernel,
            seconds,
        } = self;
        rows.push((
            *seed,
            format!(
                "| {seed} | {recorded} | {replayed} | {unflushed} | {of_agents} | {booted} | {kernel}, {here} | {commit} | {seconds} |"
            ),
        ));
        rows.sort();
        let rows: Vec<String> = rows.into_iter().map(|(_, row)| row).collect();
        Some(format!(
            "{before}{BEGIN}\n{HEAD}\n{}\n{END}{after}",
            rows.join("\n")
        ))
    }
}

/// The first cell of a row of the table's body.
fn seed(row: &str) -> Option<u64> {
    row.strip_prefix('|')?
        .split('|')
        .next()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_has_one_row_and_the_text_around_stays() {
        let row = |seed, replayed| Row {
            seed,
            recorded: "16 updates".into(),
            replayed,
            unflushed: 3,
            of_agents: 2,
            booted: 1,
            kernel: "6.1".into(),
            seconds: 9,
        };
        let text = format!("before\n{BEGIN}\n{END}\nafter | 7 |\n");
        let put = |text: &str, row: Row| row.put(text, "6.18", "abc").unwrap();
        let text = put(&text, row(7, 10));
        let text = put(&text, row(2, 20));
        let text = put(&text, row(7, 30));
        let last = "| 7 | 16 updates | 30 | 3 | 2 | 1 | 6.1, 6.18 | abc | 9 |";
        let first = last.replace("| 7 |", "| 2 |").replace("| 30 |", "| 20 |");
        assert_eq!(
            text,
            format!("before\n{BEGIN}\n{HEAD}\n{first}\n{last}\n{END}\nafter | 7 |\n")
        );
        assert!(row(1, 1).put("nothing", "", "").is_none());
    }
}

//! What was measured of the boards, as a table in docs/boards.md.

use super::rest::Rest;
use anyhow::{Context, Result, ensure};
use coracle_tests::measure::{Pss, human};

/// Between these two lines.
const BEGIN: &str = "<!-- written by `coracle-boards shipped --table` -->";
const END: &str = "<!-- until here -->";

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/boards.md");

/// One board.
#[derive(Debug, Clone)]
pub struct Row {
    pub name: String,
    /// Kernel, cgroups, init, CPUs.
    pub made_of: String,
    /// From power on to the apps' answers, the set already there.
    pub boot_seconds: f32,
    /// From assignment of the first release to committed.
    pub release_seconds: f32,
    pub limits_seconds: f32,
    /// What an update fetched, and what it would have taken whole.
    pub update: (u64, u64),
    pub rest: Rest,
}

fn parts(pss: Pss) -> String {
    let mib = |kib: u64| kib as f64 / 1024.0;
    format!(
        "{:.2} = {:.2} + {:.2} + {:.2} + {:.2}",
        mib(pss.in_all()),
        mib(pss.program),
        mib(pss.written),
        mib(pss.libraries),
        mib(pss.own)
    )
}

impl Row {
    fn line(&self) -> String {
        let rest = &self.rest;
        let kib = |kib: u64| human(kib << 10);
        let cells = [
            format!("`{}`", self.name),
            self.made_of.clone(),
            format!("{:.1} s", self.boot_seconds),
            format!("{:.1} s", self.release_seconds),
            format!("{:.1} s", self.limits_seconds),
            format!("{} of {}", human(self.update.0), human(self.update.1)),
            parts(rest.supervisor),
            parts(rest.daemon),
            format!("**{:.2}**", rest.pss_kib() as f64 / 1024.0),
            format!("{:.2}", rest.others_kib as f64 / 1024.0),
            format!("{} and {}", rest.wakes.0, rest.wakes.1),
            format!("{} of {}", kib(rest.memory_left_kib), kib(rest.memory_kib)),
            kib(rest.root_kib),
            kib(rest.data_kib),
        ];
        format!("| {} |", cells.join(" | "))
    }
}

pub fn write(rows: &[Row]) -> Result<()> {
    let page = std::fs::read_to_string(PAGE).context(PAGE)?;
    let page = put(&page, rows).context("docs/boards.md")?;
    std::fs::write(PAGE, page).context(PAGE)
}

/// The text with these boards' lines in the place of those that it had of them; other boards' stay.
fn put(text: &str, rows: &[Row]) -> Result<String> {
    let marks = text.split_once(BEGIN).and_then(|(before, rest)| {
        let (table, after) = rest.split_once(END)?;
        Some((before, table, after))
    });
    let (before, table, after) = marks.with_context(|| format!("no `{BEGIN}` and `{END}`"))?;
    let mut lines: Vec<String> = table.trim().lines().map(str::to_owned).collect();
    ensure!(
        lines.len() >= 2,
        "no table with a heading between the marks"
    );
    for row in rows {
        let line = row.line();
        let cells = |line: &str| line.matches(" | ").count();
        ensure!(
            cells(&line) == cells(&lines[0]),
            "the table has other columns than `{line}`"
        );
        let own = format!("| `{}` |", row.name);
        match lines.iter_mut().find(|line| line.starts_with(&own)) {
            Some(old) => *old = line,
            None => lines.push(line),
        }
    }
    Ok(format!(
        "{before}{BEGIN}\n{}\n{END}{after}",
        lines.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> Row {
        let pss = |own| Pss {
            program: 1024,
            written: 512,
            libraries: 0,
            own,
        };
        Row {
            name: name.to_owned(),
            made_of: "6.1, v2, busybox, 1 CPU".to_owned(),
            boot_seconds: 4.51,
            release_seconds: 3.0,
            limits_seconds: 40.0,
            update: (2048, 1 << 20),
            rest: Rest {
                supervisor: pss(256),
                daemon: pss(512),
                others_kib: 100,
                wakes: (20, 31),
                memory_kib: 200 << 10,
                memory_left_kib: 100 << 10,
                root_kib: 10 << 10,
                data_kib: 512,
            },
        }
    }

    fn page(lines: &str) -> String {
        let heads = vec!["h"; 14].join(" | ");
        format!("before\n{BEGIN}\n| {heads} |\n|---|\n{lines}{END}\nafter\n")
    }

    #[test]
    fn a_boards_line_is_replaced_and_others_stay() {
        let line = "| `a` | 6.1, v2, busybox, 1 CPU | 4.5 s | 3.0 s | 40.0 s | 2.0 KiB of 1.0 MiB | 1.75 = 1.00 + 0.50 + 0.00 + 0.25 | \
                    2.00 = 1.00 + 0.50 + 0.00 + 0.50 | **3.75** | 0.10 | 20 and 31 | 100.0 MiB of 200.0 MiB | 10.0 MiB | 512.0 KiB |\n";
        let old = page("| `a` | old |\n| `ab` | other |\n");
        let new = put(&old, &[row("a")]).expect("a table");
        assert_eq!(new, page(&format!("{line}| `ab` | other |\n")));
        let added = put(&page(""), &[row("a")]).expect("a table");
        assert_eq!(added, page(line));
    }

    #[test]
    fn a_page_without_the_table_or_with_another_is_refused() {
        assert!(put("nothing", &[row("a")]).is_err());
        let other = page("").replace(" | h |", " |");
        assert!(put(&other, &[row("a")]).is_err());
    }

    #[test]
    fn docs_boards_has_the_table() {
        let page = include_str!("../../../../../docs/boards.md");
        put(page, &[row("x86-64")]).expect("the columns of a row");
    }
}

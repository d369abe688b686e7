//! `make bench-deltas`: bytes, time and memory of deltas between real versions, beside other tools, written to
//! docs/benchmarks-deltas.md. Every figure is measured here; none is copied from somewhere.

mod page;
mod pairs;
mod tools;

use anyhow::{Context, Result, bail, ensure};
use coracle_tests::measure::human;
use coracle_tests::service::run;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use pairs::{PAIRS, Pair};
use tools::{TOOLS, Tool};

/// What one tool did.
struct Row {
    bytes: u64,
    make: Cost,
    apply: Cost,
}

struct Cost {
    seconds: f32,
    kib: u64,
}

/// `coracle-bench-deltas [--tool NAME] [PAIR]`: all that is not named otherwise.
fn main() -> Result<()> {
    let mut wanted: Vec<String> = std::env::args().skip(1).collect();
    let tool = match wanted.iter().position(|argument| argument == "--tool") {
        Some(at) => {
            ensure!(at + 1 < wanted.len(), "--tool wants a name");
            wanted.drain(at..at + 2).nth(1)
        }
        None => None,
    };
    let work = tempfile::tempdir()?;
    let cache = std::env::temp_dir().join("coracle-delta-pairs");
    std::fs::create_dir_all(&cache)?;
    let path = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../docs/benchmarks-deltas.md"
    ));
    if let Some(unknown) = &tool
        && TOOLS.iter().all(|tool| tool.name != *unknown)
    {
        let known: Vec<&str> = TOOLS.iter().map(|tool| tool.name).collect();
        bail!(
            "no tool is called `{unknown}`; there are {}",
            known.join(", ")
        );
    }
    if let Some(unknown) = wanted
        .iter()
        .find(|name| PAIRS.iter().all(|pair| pair.name != **name))
    {
        let known: Vec<&str> = PAIRS.iter().map(|pair| pair.name).collect();
        bail!(
            "no pair is called `{unknown}`; there are {}",
            known.join(", ")
        );
    }
    for pair in &PAIRS {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == pair.name) {
            continue;
        }
        let rows = |one: &Tool| match &tool {
            // Another tool's row stays as it is, if there is one.
            Some(name) if one.name != *name => page::row(path, pair, one),
            _ => Ok(None),
        };
        let measured = measured(pair, &cache, work.path(), rows).and_then(|section| {
            // Rows of other versions would stand in one table.
            match page::versions(path, pair)? {
                Some(known) if tool.is_some() && !section.starts_with(&known) => {
                    bail!("the page has {known}: measure the pair by all tools")
                }
                _ => Ok(section),
            }
        });
        let section = match measured {
            Err(error) if tool.is_some() => {
                println!("## {}\n\nleft as it was: {error:#}\n", pair.name);
                continue;
            }
            measured => measured.unwrap_or_else(|error| format!("not measured: {error:#}\n")),
        };
        print!("## {}\n\n{section}\n", pair.name);
        // One after the other: what was measured is not lost with what could not be.
        page::put(path, pair, &section)?;
    }
    println!("written to docs/benchmarks-deltas.md");
    Ok(())
}

/// One pair's table; `known` has the rows that are not measured.
fn measured(
    pair: &Pair,
    cache: &Path,
    work: &Path,
    known: impl Fn(&Tool) -> Result<Option<String>>,
) -> Result<String> {
    let [(old_version, old), (new_version, new)] = pair.trees(cache)?;
    let (old_tar, new_tar) = (work.join("old.tar"), work.join("new.tar"));
    packed(&old, &old_tar)?;
    packed(&new, &new_tar)?;
    let inputs = [("O", &old), ("N", &new), ("OT", &old_tar), ("NT", &new_tar)];
    let size = std::fs::metadata(&new_tar)?.len();
    let mut section = format!(
        "{old_version} → {new_version}, {} as tar{}\n\n\
         | tool | bytes | make: time | make: peak RSS | apply: time | apply: peak RSS |\n|---|---|---|---|---|---|\n",
        human(size),
        if pair.tuned { "; tuned" } else { "" }
    );
    for tool in &TOOLS {
        if let Some(row) = known(tool)? {
            writeln!(section, "{row}")?;
            continue;
        }
        match row(tool, &inputs, &work.join("tool")) {
            Ok(row) => writeln!(
                section,
                "| {} | {} | {:.1} s | {} | {:.1} s | {} |",
                tool.name,
                row.bytes,
                row.make.seconds,
                human(row.make.kib * 1024),
                row.apply.seconds,
                human(row.apply.kib * 1024)
            )?,
            Err(error) => writeln!(section, "| {} | failed: {error:#} | | | | |", tool.name)?,
        }
    }
    Ok(section)
}

/// What a tool's commands find in their environment.
type Inputs<'a> = [(&'a str, &'a PathBuf); 4];

/// A tree's tar, the same whenever it is made.
fn packed(tree: &Path, tar: &Path) -> Result<()> {
    let options = [
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mtime=@0",
    ];
    run(Command::new("tar")
        .args(options)
        .arg("-C")
        .arg(tree)
        .arg("-cf")
        .arg(tar)
        .arg("."))?;
    Ok(())
}

fn row(tool: &Tool, inputs: &Inputs, work: &Path) -> Result<Row> {
    let _ = std::fs::remove_dir_all(work);
    std::fs::create_dir(work)?;
    let shell = |script: &str| -> Result<String> { run(&mut command(script, inputs, work)?) };
    shell(tool.prepare)?;
    let make = timed(command(tool.make, inputs, work)?, work)?;
    let bytes = shell(tool.size)?.trim().parse().context("its size")?;
    let apply = timed(command(tool.apply, inputs, work)?, work)?;
    shell(tool.check).context("it made something else")?;
    Ok(Row { bytes, make, apply })
}

fn command(script: &str, inputs: &Inputs, work: &Path) -> Result<Command> {
    let own = std::env::current_exe()?.with_file_name("coracle-release");
    ensure!(
        own.exists(),
        "{} is missing: build the workspace",
        own.display()
    );
    let mut command = Command::new("sh");
    command
        .args(["-euc", script])
        .envs(inputs.iter().copied())
        .env("W", work)
        .env("CORACLE", own);
    Ok(command)
}

/// Wall time, and the peak resident set of the largest process, as GNU time reports them.
fn timed(command: Command, work: &Path) -> Result<Cost> {
    let report = work.join("time");
    let mut timed = Command::new("/usr/bin/time");
    timed.args(["-f", "%e %M", "-o"]).arg(&report);
    timed.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        timed.env(name, value.unwrap_or_default());
    }
    run(&mut timed)?;
    let text = std::fs::read_to_string(&report)?;
    let (seconds, kib) = text.trim().split_once(' ').context("what time printed")?;
    Ok(Cost {
        seconds: seconds.parse()?,
        kib: kib.parse()?,
    })
}

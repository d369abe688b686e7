//! `state`, `list` and `ps`: what there is.

use std::process::Command;

use crate::alive;
use crate::failure::{Doing, Failure, OnPath};
use crate::id::ContainerId;
use crate::state::{Record, Status};
use crate::store::Store;

pub fn state(store: &Store, id: &ContainerId) -> Result<(), Failure> {
    let entry = store.look(id)?;
    let (record, status) = alive::read(&entry)?;
    print_json(&record.shown(status))
}

pub fn list(store: &Store, json: bool, quiet: bool) -> Result<(), Failure> {
    let all = read_all(store)?;
    if quiet {
        all.iter().for_each(|(record, _)| println!("{}", record.id));
        return Ok(());
    }
    if json {
        let shown: Vec<_> = all
            .iter()
            .map(|(record, status)| record.shown(*status))
            .collect();
        println!("{}", serde_json::to_string(&shown).map_err(no_json)?);
        return Ok(());
    }
    println!(
        "{:<24} {:<10} {:<10} {:<22} BUNDLE",
        "ID", "PID", "STATUS", "CREATED"
    );
    for (record, status) in &all {
        let shown = record.shown(*status);
        println!(
            "{:<24} {:<10} {:<10} {:<22} {}",
            shown.id,
            shown.pid,
            shown.status,
            shown.created,
            shown.bundle.display()
        );
    }
    Ok(())
}

/// Those that are being made or removed at this moment are left out.
fn read_all(store: &Store) -> Result<Vec<(Record, Status)>, Failure> {
    let mut all = Vec::new();
    for id in store.list()? {
        match store.look(&id) {
            Err(Failure::Missing(_)) => continue,
            entry => all.extend(alive::read(&entry?).ok()),
        }
    }
    Ok(all)
}

/// The host's ps, and of its lines those of the container.
pub fn ps(store: &Store, id: &ContainerId, json: bool, options: &[String]) -> Result<(), Failure> {
    let entry = store.look(id)?;
    let (record, _) = alive::read(&entry)?;
    let pids = alive::cgroup(&record)?.processes()?;
    if json {
        println!("{}", serde_json::to_string(&pids).map_err(no_json)?);
        return Ok(());
    }
    let mut command = Command::new("ps");
    if options.is_empty() {
        command.arg("-ef");
    } else {
        command.args(options);
    }
    let output = command.output().on("ps")?;
    if !output.status.success() {
        return Err(std::io::Error::other(String::from_utf8_lossy(
            &output.stderr,
        )))
        .doing("running ps");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let Some(column) = header.split_whitespace().position(|name| name == "PID") else {
        return Err(Failure::Usage("the options of ps show no PID".into()));
    };
    println!("{header}");
    for line in lines {
        let pid = line
            .split_whitespace()
            .nth(column)
            .and_then(|pid| pid.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            println!("{line}");
        }
    }
    Ok(())
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    println!("{}", serde_json::to_string_pretty(value).map_err(no_json)?);
    Ok(())
}

fn no_json(source: serde_json::Error) -> Failure {
    Failure::Json {
        path: "standard output".into(),
        source,
    }
}

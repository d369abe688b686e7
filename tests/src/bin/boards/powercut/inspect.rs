//! What must hold of the files on the data partition, whoever reads them.

use super::history::Promise;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Before anything of ours has been started: counters, store, layers. `layers` are the folders that images were made of.
pub fn as_left(state: &Path, promise: &Promise, layers: &[PathBuf]) -> Result<()> {
    counters(state, promise)?;
    whole(&state.join("store/blobs/sha256"), "blob")?;
    // None was brought yet.
    let programs = state.join("agent");
    if programs.exists() {
        whole(&programs, "program")?;
    }
    whole_layers(state, layers)
}

/// After all: nothing had to be set aside.
pub fn nothing_set_aside(state: &Path) -> Result<()> {
    let found =
        coracle_tests::service::run(Command::new("find").arg(state).args(["-name", "*.bad*"]))?;
    ensure!(found.is_empty(), "set aside as damaged:\n{found}");
    Ok(())
}

/// The newest whole slot is not below what was heard, and neither is the deploy counter.
fn counters(state: &Path, promise: &Promise) -> Result<()> {
    let mut newest: Option<Value> = None;
    let mut faults = Vec::new();
    for slot in ["seen.a", "seen.b"] {
        let path = state.join("trust").join(slot);
        let read = std::fs::read_to_string(&path).with_context(|| path.display().to_string());
        match read.and_then(|text| whole_slot(&text)) {
            Ok(slot)
                if newest
                    .as_ref()
                    .is_none_or(|n| n["generation"].as_u64() < slot["generation"].as_u64()) =>
            {
                newest = Some(slot);
            }
            Ok(_) => {}
            Err(fault) => faults.push(format!("{slot}: {fault:#}")),
        }
    }
    // Each is replaced by rename: a cut never leaves a torn one.
    ensure!(faults.is_empty(), "counters: {}", faults.join("; "));
    let newest = newest.context("no counters")?;
    let release = newest["seen"]["releases"]["shop"]["value"]
        .as_u64()
        .unwrap_or(0);
    ensure!(
        release >= promise.counter,
        "the release counter went back: {release}, and the console had heard of the end of {}",
        promise.counter
    );
    Ok(())
}

fn whole_slot(text: &str) -> Result<Value> {
    let (json, sum) = text.split_once('\n').context("no checksum")?;
    let of = digest(json.as_bytes());
    ensure!(
        sum == of,
        "the checksum is {sum}; of the content it is {of}"
    );
    Ok(serde_json::from_str(json)?)
}

/// Every file that bears a digest as its name has that digest.
fn whole(folder: &Path, what: &str) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.len() == 64 {
            let found = digest(&std::fs::read(&path)?);
            ensure!(found == name, "{what} {name} has digest {found}");
        }
    }
    Ok(())
}

/// Every layer that has its name has all its files.
fn whole_layers(state: &Path, layers: &[PathBuf]) -> Result<()> {
    let wanted: Vec<_> = layers
        .iter()
        .map(|layer| tree(layer))
        .collect::<Result<_>>()?;
    let folder = state.join("layers");
    for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() && !wanted.contains(&tree(&path)?) {
            bail!(
                "layer {} is none of those that were made: torn",
                path.display()
            );
        }
    }
    Ok(())
}

/// Path to content of every file below a folder.
fn tree(top: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let content = std::fs::read(&path).with_context(|| path.display().to_string())?;
                files.insert(path.strip_prefix(top)?.to_owned(), content);
            }
        }
    }
    Ok(files)
}

fn digest(bytes: &[u8]) -> String {
    coracle_digest::Sha256Digest::of(bytes).hex()
}

//! A short run of what the fuzz targets of documents and messages do, with the fixtures of the other tests as seeds.

use std::fs;
use std::path::{Path, PathBuf};

use coracle_protocol::dsse::Envelope;

#[path = "../../fuzz/bodies/documents.rs"]
mod documents;
#[path = "../../fuzz/bodies/envelope.rs"]
mod envelope;
#[path = "../../fuzz/bodies/messages.rs"]
mod messages;
#[path = "../../fuzz/short_run.rs"]
mod short_run;

use short_run::short_run;

/// The JSON files right below these folders that are not longer than the fuzzer's inputs.
fn seeds(folders: &[PathBuf]) -> Vec<Vec<u8>> {
    let files = folders
        .iter()
        .flat_map(|folder| fs::read_dir(folder).unwrap());
    let mut paths: Vec<_> = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == "json"))
        .collect();
    paths.sort();
    let read = paths.iter().map(|path| fs::read(path).unwrap());
    let all: Vec<_> = read.filter(|seed| seed.len() < 65_536).collect();
    assert!(!all.is_empty());
    all
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

/// Only those of the honest: what else the same keys signed would be a forgery to this target.
#[test]
fn envelopes() {
    let seeds = seeds(&[tests().join("attacks/honest")]);
    short_run(&seeds, 1000, envelope::run);
}

#[test]
fn payloads() {
    let attacks = fs::read_dir(tests().join("attacks")).unwrap();
    let folders: Vec<_> = attacks
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    let payload = |json: Vec<u8>| Envelope::parse(&json).ok()?.payload_unverified().ok();
    let seeds: Vec<_> = seeds(&folders).into_iter().filter_map(payload).collect();
    assert!(seeds.len() > 100, "{}", seeds.len());
    short_run(&seeds, 50, documents::run);
}

#[test]
fn local_and_remote_messages() {
    short_run(&seeds(&[tests().join("golden")]), 300, messages::run);
}

//! A short run of what the fuzz targets do: each seed, and copies of it that were changed here and there. Without
//! libFuzzer's sense of coverage it finds little that is new; it keeps found what was found, and the targets alive.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use coracle_images::delta::{make, tar_diff};

#[path = "../../fuzz/bodies/delta.rs"]
mod delta;
#[path = "../../fuzz/bodies/index.rs"]
mod index;
#[path = "../../fuzz/bodies/manifest.rs"]
mod manifest;
#[path = "../../fuzz/short_run.rs"]
mod short_run;
#[path = "../../fuzz/bodies/tar_diff.rs"]
mod tar_diffs;
#[path = "../../fuzz/bodies/unpack.rs"]
mod unpack;

use short_run::short_run;

fn seeds(ending: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seed ends in .{ending}");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// A tar of files.
fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The targets' base, and what it may have become.
fn pair() -> [Vec<u8>; 2] {
    let old = b"one two three ".repeat(100);
    let mut new = old.clone();
    new.splice(300..310, *b"four five six seven");
    let with = |web: &[u8], manual: &[u8]| layer(&[("bin/doc.gz", manual), ("bin/web", web)]);
    [
        with(&old, include_bytes!("../../fuzz/seeds/old.gz")),
        with(&new, include_bytes!("../../fuzz/seeds/new.gz")),
    ]
}

/// The delta target's base, and one in which each program has other instructions, some put in between.
fn programs() -> [Vec<u8>; 2] {
    let old = delta::base_files();
    let new = old.iter().map(|(name, bytes)| {
        let bytes = match *name {
            "bin/a32" => delta::programs::arm_program(40, 600, 3, 30),
            "bin/a64" => delta::programs::arm_program(183, 600, 3, 30),
            "bin/doc.gz" => include_bytes!("../../fuzz/seeds/new.gz").to_vec(),
            "bin/frames.so" => delta::programs::framed(60, (0..60).map(|one| one * 7 % 60)),
            "bin/x86" => delta::programs::program(600, 3, 30),
            _ => bytes.clone(),
        };
        (*name, bytes)
    });
    let new: Vec<_> = new.collect();
    [old, new].map(|files| {
        let files: Vec<_> = files
            .iter()
            .map(|(name, bytes)| (*name, &bytes[..]))
            .collect();
        layer(&files)
    })
}

fn delta_of([old, new]: &[Vec<u8>; 2]) -> Vec<u8> {
    let mut fresh = Vec::new();
    make(&old[..], &new[..], &mut fresh).unwrap();
    fresh
}

/// What the target takes for a delta whose operations it packs itself.
fn unpacked(delta: &[u8]) -> Vec<u8> {
    let number = |at: usize| u64::from_le_bytes(delta[at..at + 8].try_into().unwrap());
    let [target, packed, control, pieces] = [76, 84, 92, 100].map(number);
    let (sections, packed) = (&delta[116..], packed as usize);
    let mut operations = Vec::new();
    let control_section = &sections[..packed];
    lzma_rust2::LzmaReader::new(control_section, control, 3, 0, 0, 256 << 10, None)
        .unwrap()
        .read_to_end(&mut operations)
        .unwrap();
    let mut seed = vec![delta[8] - 3];
    seed.extend((target as u32).to_le_bytes());
    seed.extend((operations.len() as u16).to_le_bytes());
    seed.extend((pieces as u16).to_le_bytes());
    seed.extend(operations);
    seed.extend(&sections[packed..]);
    seed
}

#[test]
fn deltas() {
    let fresh = delta_of(&pair());
    if std::env::var_os("CORACLE_WRITE_GOLDEN").is_some() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
        fs::write(seeds.join("small-v4.delta"), &fresh).unwrap();
        let programs = delta_of(&programs());
        fs::write(seeds.join("programs-v4.delta"), &programs).unwrap();
        fs::write(seeds.join("operations-v4.delta"), unpacked(&programs)).unwrap();
    }
    let mut all = seeds("delta");
    all.push(fresh);
    for (number, seed) in all.iter().enumerate() {
        let ended = delta::run(seed).is_some();
        assert!(
            ended,
            "seed {number} is refused: CORACLE_WRITE_GOLDEN=1 writes those of version 4"
        );
    }
    short_run(&all, 1000, |bytes| {
        delta::run(bytes);
    });
}

/// Changed operations of a delta between programs of each machine: they are carried out, up to where they go wrong.
#[test]
fn operations_of_deltas() {
    let [old, new] = programs();
    let whole = delta_of(&[old, new.clone()]);
    let seed = unpacked(&whole);
    let size = Some(new.len() as u64);
    assert_eq!(delta::run(&whole), size);
    assert_eq!(delta::run(&seed), size, "the same, packed again");
    // In the head and the operations alone: what is changed behind them makes other bytes, and no errors.
    let end = 9 + usize::from(u16::from_le_bytes([seed[5], seed[6]]));
    let mut ended = 0;
    short_run(&[seed[..end].to_vec()], 1000, |operations| {
        let changed = [operations, &seed[end..]].concat();
        ended += usize::from(delta::run(&changed).is_some());
    });
    assert!(ended > 10, "hardly one of them came to its end: {ended}");
}

#[test]
fn tar_diffs() {
    let [old, new] = pair();
    let mut fresh = vec![0];
    tar_diff::make(&old[..], &new[..], &mut fresh).unwrap();
    let mut all = seeds("tar_diff");
    all.push(fresh);
    short_run(&all, 2000, tar_diffs::run);
}

#[test]
fn layers() {
    let tar = layer(&[("bin/web", b"hello"), ("bin/.wh.old", b"")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let zstd = zstd::encode_all(&tar[..], 3).unwrap();
    let all = [(0u8, tar), (1, gzip.finish().unwrap()), (2, zstd)];
    let all = all.map(|(kind, blob)| [&[kind], &blob[..]].concat());
    short_run(&all, 300, unpack::run);
}

#[test]
fn indexes() {
    let mut all = seeds("index");
    assert!(all.iter().all(|seed| index::run(seed) > 0));
    // Deeper than a parser that calls itself can go.
    all.push(b"[".repeat(2000));
    all.push(b"{\"manifests\":".repeat(2000));
    let mut found = 0;
    short_run(&all, 1000, |bytes| found += index::run(bytes).min(1));
    assert!(found > 50, "the copies are all refused at once: {found}");
}

#[test]
fn manifests() {
    let of_kind = |kind: u8, ending| -> Vec<Vec<u8>> {
        let seeds = seeds(ending).into_iter();
        seeds.map(|seed| [&[kind], &seed[..]].concat()).collect()
    };
    let mut all = of_kind(0, "manifest");
    all.extend(of_kind(1, "config"));
    assert!(all.iter().all(|seed| manifest::run(seed)));
    all.push(b"\0{\"layers\":".repeat(2000));
    let mut images = 0;
    short_run(&all, 1000, |bytes| {
        images += usize::from(manifest::run(bytes))
    });
    assert!(images > 50, "the copies are all refused at once: {images}");
}

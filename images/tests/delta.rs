//! Deltas: any two trees, hostile bytes, and one delta that must be read for ever.

#[path = "support/layers.rs"]
mod layers;

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::process::Command;

use coracle_images::Limits;
use coracle_images::delta::{DeltaHeader, DeltaReader, make};
use layers::programs::{self, arm_program, framed};
use layers::{gzipped, manual};
use proptest::prelude::*;

fn program(seed: u32, insert: usize) -> Vec<u8> {
    programs::program(20_000, seed, insert)
}

/// Writes the files of a tree and returns its tar stream.
fn tree(dir: &Path, files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.mode(tar::HeaderMode::Deterministic);
    for (name, content) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        builder.append_path_with_name(&path, name).unwrap();
    }
    builder.into_inner().unwrap()
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn apply(delta: &[u8], base: &Path) -> io::Result<Vec<u8>> {
    let limits = Limits {
        unpacked_bytes: 64 << 20,
        ..Limits::default()
    };
    let base = File::open(base)?.into();
    let mut reader = DeltaReader::open(file(delta), base, &limits).map_err(io::Error::other)?;
    let mut out = Vec::new();
    reader.read_to_end(&mut out)?;
    Ok(out)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_two_trees([old, new] in layers::pairs()) {
        let base = tempfile::tempdir().unwrap();
        layers::unpack(&old, base.path());
        let mut delta = Vec::new();
        let made = make(&old[..], &new[..], &mut delta).unwrap();
        prop_assert_eq!(made.size, delta.len() as u64);
        prop_assert!(apply(&delta, base.path()).unwrap() == new);
    }

    #[test]
    fn any_bytes_can_be_a_target(target in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let dir = tempfile::tempdir().unwrap();
        let mut delta = Vec::new();
        make(&[][..], &target[..], &mut delta).unwrap();
        prop_assert!(apply(&delta, dir.path()).unwrap() == target);
    }
}

/// Bytes that nothing compresses, the same for the same number.
fn block(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Makes a delta between two trees, holds what it makes against the newer one, and says how long it is.
fn bytes_between(old: &[(&str, Vec<u8>)], new: &[(&str, Vec<u8>)]) -> usize {
    let owned = |files: &[(&str, Vec<u8>)]| -> Vec<_> {
        let one = |(name, content): &(&str, Vec<u8>)| ((*name).to_owned(), content.clone());
        files.iter().map(one).collect()
    };
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    let old = tree(&base, &owned(old));
    let new = tree(&dir.path().join("new"), &owned(new));
    let mut delta = Vec::new();
    make(&old[..], &new[..], &mut delta).unwrap();
    assert!(apply(&delta, &base).unwrap() == new);
    delta.len()
}

/// Each file has one that it is mostly made from, and none of these has the block.
#[test]
fn a_block_that_moved_into_another_file_is_made_from_where_it_was() {
    let (front, back) = (program(1, 0), program(2, 0));
    let (other, moved) = (program(3, 0), block(4, 24_000));
    let old = [
        ("lib/a.so", [&front[..], &moved, &back].concat()),
        ("lib/b.so", other.clone()),
    ];
    let (half, rest) = other.split_at(9_000);
    let new = [
        ("lib/a.so", [&front[..], &back].concat()),
        ("lib/b.so", [half, &moved, rest].concat()),
    ];
    let bytes = bytes_between(&old, &new);
    assert!(bytes < 1500, "{bytes}");
}

#[test]
fn one_file_of_two_and_two_files_of_one_are_made_from_all_that_were_there() {
    let (one, two) = (block(1, 30_000), block(2, 20_000));
    let both = [&one[..], &two].concat();
    let apart = [("lib/one.so", one), ("lib/two.so", two)];
    let together = [("lib/whole.so", both)];
    for (old, new) in [(&apart[..], &together[..]), (&together, &apart)] {
        let bytes = bytes_between(old, new);
        assert!(bytes < 1000, "{bytes}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn blocks_may_move_anywhere(
        old in proptest::collection::vec(proptest::collection::vec(0u64..9, 1..5), 1..4),
        new in proptest::collection::vec(proptest::collection::vec((0u64..11, 0usize..40), 1..5), 1..4),
    ) {
        let length = |number: u64| 1_500 + 700 * number as usize;
        let content = |number: u64| match number % 3 {
            0 => arm_program(183, length(number), number as u32, 0),
            1 => programs::program(length(number), number as u32, 0),
            _ => block(number, length(number)),
        };
        let names = ["a/one.so", "a/two.so", "b/three.js", "b/four.bin", "c/five"];
        let before: Vec<_> = names.iter().zip(&old).map(|(name, blocks)| {
            let content: Vec<u8> = blocks.iter().flat_map(|block| content(*block)).collect();
            (*name, content)
        }).collect();
        let after: Vec<_> = names.iter().skip(1).zip(&new).map(|(name, blocks)| {
            let content: Vec<u8> = blocks.iter().flat_map(|&(block, skip)| content(block).split_off(skip)).collect();
            (*name, content)
        }).collect();
        bytes_between(&before, &after);
    }
}

/// The pair behind the golden file.
fn golden_pair(dir: &Path) -> (Vec<u8>, Vec<u8>) {
    let text =
        |version: &str| format!("version {version}\n{}", "the same line\n".repeat(40)).into_bytes();
    let old = [
        ("bin/app".to_owned(), program(7, 0)),
        ("bin/lib1.so".to_owned(), program(8, 0)),
        ("etc/same".to_owned(), text("0")),
        ("etc/text".to_owned(), text("1")),
    ];
    let new = [
        ("bin/app".to_owned(), program(7, 93)),
        ("bin/lib2.so".to_owned(), program(8, 0)),
        ("etc/empty".to_owned(), Vec::new()),
        ("etc/fresh".to_owned(), b"something new".repeat(30)),
        ("etc/same".to_owned(), text("0")),
        ("etc/text".to_owned(), text("2")),
    ];
    (tree(&dir.join("base"), &old), tree(&dir.join("new"), &new))
}

#[test]
fn the_golden_deltas_are_read_as_ever_and_the_last_one_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = golden_pair(dir.path());
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut delta = Vec::new();
    make(&old[..], &new[..], &mut delta).unwrap();
    if std::env::var_os("CORACLE_WRITE_GOLDEN").is_some() {
        fs::write(data.join("golden-v4.delta"), &delta).unwrap();
    }
    for version in [3, 4] {
        let golden = fs::read(data.join(format!("golden-v{version}.delta"))).unwrap();
        assert!(
            apply(&golden, &dir.path().join("base")).unwrap() == new,
            "version {version} must be read for ever"
        );
        assert_eq!(golden[8..10], [version, 0]);
        let header = DeltaHeader::read(&golden[..]).unwrap();
        assert_eq!(header.base, coracle_digest::Sha256Digest::of(&old));
        assert_eq!(header.target, coracle_digest::Sha256Digest::of(&new));
        assert_eq!(header.target_size, new.len() as u64);
        // Sizes are a promise too: a program that only moved costs little.
        assert!(
            version < 4 || delta.len() <= golden.len(),
            "{} bytes, it was {}",
            delta.len(),
            golden.len()
        );
    }
}

/// What a decoder makes that was written from docs/delta-format.md.
fn decoded_by_another(delta: &Path, base: &Path) -> Vec<u8> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/delta_decode.py");
    let mut python = Command::new("python3");
    let decoded = python.arg(script).args([delta, base]).output().unwrap();
    let said = String::from_utf8_lossy(&decoded.stderr);
    assert!(decoded.status.success(), "{said}");
    decoded.stdout
}

#[test]
fn a_decoder_written_from_the_format_makes_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (_, new) = golden_pair(dir.path());
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let golden = data.join("golden-v4.delta");
    assert!(decoded_by_another(&golden, &dir.path().join("base")) == new);

    // Each reading of a layout, moves and literals among them.
    let base = dir.path().join("others");
    let files = |insert: usize, order: Vec<u32>| {
        [
            ("a32".to_owned(), arm_program(40, 700, 3, insert)),
            ("a64".to_owned(), arm_program(183, 700, 4, insert)),
            ("frames".to_owned(), framed(200, order.into_iter())),
            ("manual".to_owned(), manual(insert as u32, 60)),
            ("x86".to_owned(), programs::program(1500, 5, insert)),
        ]
    };
    let old = tree(&base, &files(0, (0..200).collect()));
    let moved = (0..8).flat_map(|stretch| (0..25).map(move |one| stretch * 3 % 8 * 25 + one));
    let new = tree(&dir.path().join("newer"), &files(40, moved.collect()));
    let delta = dir.path().join("delta");
    let mut made = Vec::new();
    make(&old[..], &new[..], &mut made).unwrap();
    fs::write(&delta, &made).unwrap();
    assert!(decoded_by_another(&delta, &base) == new);

    // Also from bytes that nobody meant so, which lead to states that no maker leads to.
    let mut others = 0;
    for part in 1..5 {
        let mut other = made.clone();
        other[made.len() - 1 - made.len() * part / 16] ^= 1;
        fs::write(&delta, &other).unwrap();
        if let Ok(out) = apply(&other, &base) {
            assert!(out != new && decoded_by_another(&delta, &base) == out);
            others += 1;
        }
    }
    assert!(others > 0, "each of them was refused");
}

#[test]
fn deltas_of_versions_that_are_not_read_are_refused_by_name() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    for version in [1, 2, 5] {
        let mut old = fs::read(data.join(format!("golden-v{}.delta", version.min(2)))).unwrap();
        old[8] = version;
        let error = DeltaHeader::read(&old[..]).unwrap_err();
        let wanted = format!("delta version {version} is not known here, only versions 3 and 4");
        assert!(error.to_string().contains(&wanted), "{error}");
    }
}

#[test]
fn the_table_of_frames_follows_functions_that_moved() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    let file = |content| [("lib/frames.so".to_owned(), content)];
    let old = tree(&base, &file(framed(2000, 0..2000)));
    // Eighty stretches of functions, in another order.
    let moved = (0..80).flat_map(|stretch| (0..25).map(move |one| stretch * 37 % 80 * 25 + one));
    let new = tree(&dir.path().join("new"), &file(framed(2000, moved)));
    let mut delta = Vec::new();
    make(&old[..], &new[..], &mut delta).unwrap();
    assert!(apply(&delta, &base).unwrap() == new);
    // The table alone has 16,012 bytes.
    assert!(delta.len() < 3000, "{} bytes", delta.len());
}

/// A layer of many small files that a build made again: same contents, every time is another.
fn times_apart(files: u32, times: u64) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut state = 1u32;
    for number in 0..files {
        let name = format!(
            "usr/lib/python3.11/module{:03}/part{number}.py",
            number % 40 + number / 1000 * 40
        );
        let mut content = Vec::new();
        for _ in 0..50 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            content.extend(state.to_le_bytes());
        }
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000 + times * (50_000 + u64::from(state >> 20)));
        builder
            .append_data(&mut header, name, &content[..])
            .unwrap();
    }
    builder.into_inner().unwrap()
}

/// Names and times of all files; their contents are 200 bytes each that do not compress.
#[test]
fn other_times_on_every_file_cost_some_bytes_for_each_of_them() {
    for files in [1000, 20_000] {
        let dir = tempfile::tempdir().unwrap();
        let (old, new) = (times_apart(files, 0), times_apart(files, 1));
        tar::Archive::new(&old[..]).unpack(dir.path()).unwrap();
        let mut delta = Vec::new();
        make(&old[..], &new[..], &mut delta).unwrap();
        assert!(apply(&delta, dir.path()).unwrap() == new);
        let bytes = delta.len();
        assert!(bytes < 5 * files as usize, "{bytes} for {files} files");
    }
}

#[test]
fn a_file_that_got_another_name_is_made_from_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut changed = program(7, 0);
    changed.splice(30_000..30_000, *b"an insertion");
    let base = dir.path().join("base");
    let old = tree(&base, &[("opt/engine".to_owned(), program(7, 0))]);
    let new = tree(
        &dir.path().join("new"),
        &[("srv/motor.bin".to_owned(), changed)],
    );
    let mut delta = Vec::new();
    make(&old[..], &new[..], &mut delta).unwrap();
    assert!(apply(&delta, &base).unwrap() == new);
    assert!(delta.len() < 1500, "{} bytes", delta.len());
}

/// What was below the folder is nowhere on the board, and its neighbours are.
#[test]
fn a_file_that_took_a_folders_place_took_what_was_below_it() {
    let dir = tempfile::tempdir().unwrap();
    let (base, first) = (dir.path().join("base"), dir.path().join("first"));
    let contents = |seed: u32| -> Vec<u8> { program(seed, 0)[..5000].to_vec() };
    let file = |name: &str, seed| (name.to_owned(), contents(seed));
    let below = ["a-b", "a/b", "a/c/d", "a/e", "a0"].into_iter().zip(1..);
    let below: Vec<_> = below.map(|(name, seed)| file(name, seed)).collect();
    let last = [file("a", 9)];
    // One stream: the folder's files, and then a file of the folder's name.
    let mut old = tree(&first, &below);
    old.truncate(old.len() - 1024);
    let kept = [below[0].clone(), below[4].clone(), last[0].clone()];
    tree(&base, &kept);
    old.extend(tree(&dir.path().join("last"), &last));
    let new: Vec<_> = (1..6)
        .chain([9])
        .map(|seed| file(&format!("new/{seed}"), seed))
        .collect();
    let new = tree(&dir.path().join("new"), &new);
    let mut delta = Vec::new();
    make(&old[..], &new[..], &mut delta).unwrap();
    assert!(apply(&delta, &base).unwrap() == new);
    // Three of six contents are there still.
    assert!((10_000..20_000).contains(&delta.len()), "{}", delta.len());
}

/// As a package that came to be a folder; a board has the folder alone.
#[test]
fn a_folder_that_took_a_files_place_took_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (base, first) = (dir.path().join("base"), dir.path().join("first"));
    let module = program(1, 0)[..5000].to_vec();
    let mut old = tree(&first, &[("module".to_owned(), module.clone())]);
    old.truncate(old.len() - 1024);
    old.extend(tree(&base, &[("module/part".to_owned(), b"part".to_vec())]));
    let mut folder = tar::Header::new_gnu();
    folder.set_entry_type(tar::EntryType::Directory);
    folder.set_path("module").unwrap();
    folder.set_mode(0o755);
    folder.set_size(0);
    folder.set_uid(0);
    folder.set_gid(0);
    folder.set_mtime(0);
    folder.set_cksum();
    let part = old.len() - 2048;
    old.splice(part..part, *folder.as_bytes());
    let new = tree(&dir.path().join("new"), &[("module".to_owned(), module)]);
    let mut delta = Vec::new();
    make(&old[..], &new[..], &mut delta).unwrap();
    assert!(apply(&delta, &base).unwrap() == new);
}

/// Literals among them are coded from each instruction's last byte on.
#[test]
fn instructions_of_arm_that_were_put_in_between() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    // The second insertion is too long for one step of the decoder.
    for (name, machine, insert) in [("a64", 183, 40), ("long", 183, 9000), ("a32", 40, 40)] {
        let with = |insert: usize| [(name.to_owned(), arm_program(machine, 3000, 3, insert))];
        let old = tree(&base.join(name), &with(0));
        let new = tree(&dir.path().join("new").join(name), &with(insert));
        let mut delta = Vec::new();
        make(&old[..], &new[..], &mut delta).unwrap();
        assert!(apply(&delta, &base.join(name)).unwrap() == new, "{name}");
    }
}

#[test]
fn hostile_deltas_end_with_an_error_or_other_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = golden_pair(dir.path());
    let base = dir.path().join("base");
    let mut delta = Vec::new();
    make(&old[..], &new[..], &mut delta).unwrap();
    for length in (0..delta.len()).step_by(37) {
        assert!(apply(&delta[..length], &base).is_err(), "cut at {length}");
    }
    let mut state = 1u32;
    for round in 0..200 {
        let mut broken = delta.clone();
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // The header and the control section take most of the blows.
        let span = if round % 2 == 0 {
            300.min(broken.len())
        } else {
            broken.len()
        };
        let at = (state >> 8) as usize % span;
        broken[at] ^= (state as u8) | 1;
        if let Ok(made) = apply(&broken, &base) {
            let header = DeltaHeader::read(&broken[..]).unwrap();
            assert_eq!(made.len() as u64, header.target_size, "byte {at}");
        }
    }
}

#[test]
fn a_source_outside_the_base_is_refused() {
    // A delta against a tree whose file was replaced by a link to another one.
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    let files = [("dir/secret".to_owned(), b"secret".repeat(100))];
    let old = tree(&base, &files);
    let new = tree(&dir.path().join("new"), &files);
    let mut delta = Vec::new();
    make(&old[..], &new[..], &mut delta).unwrap();
    assert!(apply(&delta, &base).unwrap() == new);
    let aside = dir.path().join("aside");
    fs::rename(base.join("dir"), &aside).unwrap();
    std::os::unix::fs::symlink(&aside, base.join("dir")).unwrap();
    assert!(
        apply(&delta, &base).is_err(),
        "a linked folder was followed"
    );
    fs::remove_file(base.join("dir")).unwrap();
    fs::create_dir(base.join("dir")).unwrap();
    std::os::unix::fs::symlink(aside.join("secret"), base.join("dir/secret")).unwrap();
    assert!(apply(&delta, &base).is_err(), "a linked file was followed");
}

/// Contents are compared on several threads, and large files in two halves: which of them is first must not matter.
#[test]
fn the_same_layers_make_the_same_delta() {
    let dir = tempfile::tempdir().unwrap();
    let large = |insert: usize| -> Vec<u8> {
        (0..20)
            .flat_map(|seed| program(seed, if seed % 7 == 0 { insert } else { 0 }))
            .collect()
    };
    let files = |insert: usize| {
        let mut files = vec![("bin/large".to_owned(), large(insert))];
        for number in 0..12 {
            files.push((
                format!("lib/part{number:02}.so"),
                program(100 + number, insert),
            ));
        }
        files
    };
    assert!(large(0).len() > 1 << 20);
    let base = dir.path().join("base");
    let old = tree(&base, &files(0));
    let new = tree(&dir.path().join("new"), &files(77));
    let [first, second] = [(); 2].map(|()| {
        let mut delta = Vec::new();
        make(&old[..], &new[..], &mut delta).unwrap();
        delta
    });
    assert!(first == second);
    // Where the halves meet nothing is lost: 15 insertions of 77 bytes, and the calls across them.
    assert!(first.len() < 12 << 10, "{} bytes", first.len());
    let limits = Limits::default();
    let base = File::open(&base).unwrap().into();
    let mut reader = DeltaReader::open(file(&first), base, &limits).unwrap();
    let mut out = Vec::new();
    reader.read_to_end(&mut out).unwrap();
    assert!(out == new);
}

#[test]
fn the_text_of_gzip_files_is_compared() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    let files = |version: u32| {
        vec![
            (
                "doc/long.gz".to_owned(),
                gzipped(&manual(version, 30_000), "-9"),
            ),
            (
                "doc/short.gz".to_owned(),
                gzipped(&manual(version, 3), "-6"),
            ),
            // What is behind the end of a gzip file cannot be made again: it goes as it is.
            (
                "doc/two.gz".to_owned(),
                [gzipped(&manual(version, 9), "-9"), b"more".to_vec()].concat(),
            ),
            (
                "doc/none.gz".to_owned(),
                b"\x1F\x8B\x08 is no gzip file".to_vec(),
            ),
        ]
    };
    let (old, new) = (
        tree(&base, &files(1)),
        tree(&dir.path().join("new"), &files(2)),
    );
    assert!(files(1)[0].1.len() > 200_000);
    let mut delta = Vec::new();
    make(&old[..], &new[..], &mut delta).unwrap();
    assert!(apply(&delta, &base).unwrap() == new);
    assert!(delta.len() < 2000, "{} bytes", delta.len());
}

#[test]
fn a_gzip_file_whose_text_is_too_long_is_no_source_of_text() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    let text = |version: u32| manual(version, 100);
    let old = tree(&base, &[("doc.gz".to_owned(), gzipped(&text(1), "-9"))]);
    let new = tree(
        &dir.path().join("new"),
        &[("doc.gz".to_owned(), gzipped(&text(2), "-9"))],
    );
    let mut delta = Vec::new();
    make(&old[..], &new[..], &mut delta).unwrap();
    assert!(apply(&delta, &base).unwrap() == new);
    // The base has another file there now, small on flash and large in memory.
    fs::write(base.join("doc.gz"), gzipped(&vec![0; 3 << 20], "-9")).unwrap();
    let error = apply(&delta, &base).unwrap_err();
    let source = error.get_ref().unwrap().to_string();
    assert!(source.contains("too long"), "{source}");
}

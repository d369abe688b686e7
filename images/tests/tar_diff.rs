//! tar-diff version 1: what is made is read by a second decoder, written from the format's description alone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::Command;

use coracle_images::Limits;
use coracle_images::delta::tar_diff::{TarDiffError, apply, make};
use proptest::prelude::*;

#[path = "support/layers.rs"]
mod layers;

/// file-format.md of containers/tar-diff, as plainly as it can be written.
fn second_decoder(diff: &[u8], base: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    assert_eq!(&diff[..8], b"tardf1\n\0");
    let mut operations = Vec::new();
    let mut stream = ruzstd::decoding::StreamingDecoder::new(&diff[8..]).unwrap();
    stream.read_to_end(&mut operations).unwrap();
    let (mut out, mut at, mut source, mut place) = (Vec::new(), 0, &Vec::new(), 0usize);
    while at < operations.len() {
        let operation = operations[at];
        at += 1;
        let (mut size, mut shift) = (0usize, 0);
        loop {
            let byte = operations[at];
            at += 1;
            size |= usize::from(byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let has_data = matches!(operation, 0 | 1 | 3);
        let data = if has_data {
            &operations[at..at + size]
        } else {
            &[]
        };
        at += data.len();
        match operation {
            0 => out.extend_from_slice(data),
            1 => {
                source = &base[std::str::from_utf8(data).unwrap()];
                place = 0;
            }
            2 => {
                out.extend_from_slice(&source[place..place + size]);
                place += size;
            }
            3 => {
                let old = &source[place..place + size];
                out.extend(
                    old.iter()
                        .zip(data)
                        .map(|(old, new)| old.wrapping_add(*new)),
                );
                place += size;
            }
            4 => place = size,
            _ => panic!("operation {operation}"),
        }
    }
    out
}

fn layer(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        builder
            .append_data(&mut header, name, &content[..])
            .unwrap();
    }
    builder.into_inner().unwrap()
}

fn unpacked(files: &BTreeMap<String, Vec<u8>>, dir: &Path) {
    for (name, content) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

fn applied(diff: &[u8], dir: &Path) -> Result<Vec<u8>, TarDiffError> {
    let mut out = Vec::new();
    let base = File::open(dir).unwrap().into();
    let made = apply(diff, base, &Limits::default(), &mut out)?;
    assert_eq!(made, out.len() as u64);
    Ok(out)
}

/// The regular files below a folder, by their paths.
fn files(root: &Path, below: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap().file_type();
        if kind.is_dir() {
            files(root, &path, found);
        } else if kind.is_file() {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            found.insert(name.to_owned(), fs::read(&path).unwrap());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn both_decoders_make_the_layer([old, new] in layers::pairs()) {
        let base = tempfile::tempdir().unwrap();
        layers::unpack(&old, base.path());
        let mut diff = Vec::new();
        make(&old[..], &new[..], &mut diff).unwrap();
        let mut unpacked = BTreeMap::new();
        files(base.path(), base.path(), &mut unpacked);
        prop_assert!(second_decoder(&diff, &unpacked) == new);
        prop_assert!(applied(&diff, base.path()).unwrap() == new);
    }

    #[test]
    fn damaged_ones_end(at in 8usize..400, with in 1u8..) {
        let old = BTreeMap::from([("a/b".to_owned(), b"some text ".repeat(90))]);
        let new = BTreeMap::from([("a/b".to_owned(), b"same text ".repeat(95))]);
        let dir = tempfile::tempdir().unwrap();
        unpacked(&old, dir.path());
        let mut diff = Vec::new();
        make(&layer(&old)[..], &layer(&new)[..], &mut diff).unwrap();
        let at = at % diff.len();
        diff[at] ^= with;
        // An error or other bytes, but an end.
        let _ = applied(&diff, dir.path());
    }
}

/// By hand: a path that leads out, a number that is too long, an operation that is not there.
#[test]
fn hostile_operations_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    fs::create_dir(&base).unwrap();
    fs::write(dir.path().join("secret"), b"secret").unwrap();
    std::os::unix::fs::symlink("../secret", base.join("link")).unwrap();
    let with = |operations: &[u8]| {
        let mut diff = b"tardf1\n\0".to_vec();
        diff.extend(zstd::encode_all(operations, 3).unwrap());
        applied(&diff, &base)
    };
    assert!(with(b"\x01\x09../secret\x02\x06").is_err());
    assert!(with(b"\x01\x04link\x02\x06").is_err());
    assert!(with(b"\x00\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7Fx").is_err());
    assert!(with(b"\x02\x01").is_err(), "a copy without a source");
    assert!(with(b"\x09\x00").is_err());
    assert_eq!(with(b"\x00\x05hello").unwrap(), b"hello");
}

#[test]
fn other_versions_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let error = applied(b"tardf2\n\0and more", dir.path()).unwrap_err();
    assert!(error.to_string().contains("version 2"), "{error}");
    let error = applied(b"something else", dir.path()).unwrap_err();
    assert!(matches!(error, TarDiffError::Magic), "{error}");
}

/// What containers/tar-diff writes at its higher levels has windows of up to 32 MiB.
#[test]
fn windows_of_other_tools_are_taken_up_to_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let with = |window: u32| {
        let mut diff = b"tardf1\n\0".to_vec();
        let mut packed = zstd::stream::write::Encoder::new(&mut diff, 3).unwrap();
        packed.window_log(window).unwrap();
        std::io::Write::write_all(&mut packed, b"\x00\x05hello").unwrap();
        packed.finish().unwrap();
        applied(&diff, dir.path())
    };
    assert_eq!(with(25).unwrap(), b"hello");
    assert_eq!(with(27).unwrap(), b"hello");
    let error = with(28).unwrap_err();
    assert!(matches!(error, TarDiffError::Io(_)), "{error}");
}

/// Two layers of three files, one of which changed here and there.
fn versions() -> [BTreeMap<String, Vec<u8>>; 2] {
    let mut state = 3u32;
    let mut bytes = |count: usize| -> Vec<u8> {
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8 & 15
            })
            .collect()
    };
    let (program, data) = (bytes(20_000), bytes(5000));
    let mut changed = program.clone();
    for at in (0..changed.len()).step_by(1009) {
        changed[at] ^= 3;
    }
    changed.splice(9000..9100, bytes(300));
    let files = |program: &[u8], more: &str| {
        let more = (format!("etc/{more}"), format!("{more}\n").into_bytes());
        BTreeMap::from([
            ("bin/program".to_owned(), program.to_vec()),
            ("share/data".to_owned(), data.clone()),
            more,
        ])
    };
    [files(&program, "old"), files(&changed, "new")]
}

/// A diff that containers/tar-diff made itself. With `TAR_DIFF` its program is run, and makes the file anew.
#[test]
fn what_the_formats_own_tool_made_is_applied() {
    let [old, new] = versions();
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    unpacked(&old, &base);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/made-by-tar-diff.tardiff");
    if let Some(tool) = std::env::var_os("TAR_DIFF") {
        let [from, to] = ["old.tar", "new.tar"].map(|name| dir.path().join(name));
        fs::write(&from, layer(&old)).unwrap();
        fs::write(&to, layer(&new)).unwrap();
        let mut run = Command::new(tool);
        let made = run.args([&from, &to, &fixture]).status().unwrap();
        assert!(made.success());
    }
    let diff = fs::read(fixture).unwrap();
    // It is a diff, not a copy.
    assert!(diff.len() < 2500, "{} bytes", diff.len());
    assert!(applied(&diff, &base).unwrap() == layer(&new));
}

/// What is made here, by a program that shares nothing with it; with `TAR_PATCH` by the format's own tool too.
#[test]
fn what_is_made_is_applied_by_others() {
    let [old, mut new] = versions();
    // Another name, a file that is gone, one of nothing, and one that is in no version before.
    let data = new.remove("share/data").unwrap();
    new.insert("share/moved".to_owned(), data);
    new.insert("etc/empty".to_owned(), Vec::new());
    new.insert("etc/more".to_owned(), (0..=255).collect());
    let dir = tempfile::tempdir().unwrap();
    let (base, diff) = (dir.path().join("base"), dir.path().join("diff"));
    unpacked(&old, &base);
    let mut made = Vec::new();
    make(&layer(&old)[..], &layer(&new)[..], &mut made).unwrap();
    assert!(made.len() < 3000, "{} bytes: a copy", made.len());
    fs::write(&diff, &made).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tar_patch.py");
    let patched = Command::new("python3")
        .arg(script)
        .args([&diff, &base])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&patched.stderr);
    assert!(patched.status.success(), "{said}");
    assert!(patched.stdout == layer(&new));
    if let Some(tool) = std::env::var_os("TAR_PATCH") {
        let out = dir.path().join("out");
        let patched = Command::new(tool).args([&diff, &base, &out]).status();
        assert!(patched.unwrap().success());
        assert!(fs::read(out).unwrap() == layer(&new));
    }
}

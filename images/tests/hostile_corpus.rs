//! Every layer of `tests/data/hostile` through the unpacker, in bounded memory. `agent/supervisor/tests/hostile_layers.rs` has the
//! same layers unpacked by the jailed child. Needs root.

#[path = "support/attack.rs"]
mod attack;
mod support;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use attack::{Attack, Made, Outcome, Places, assert_found, corpus};
use coracle_images::Limits;
use coracle_images::layout::LayerType;
use coracle_images::unpack::{Applied, Source, UnpackError, apply_layer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{facts, fd, require_root};

/// Bytes that unpacking may set aside beside what the test has at its start: a zstd window of 8 MiB, and buffers. Whoever wants
/// more is ended.
const MEMORY: u64 = 32 << 20;

/// Bytes of this process that count for RLIMIT_DATA.
fn data_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    kib << 10
}

fn unpack(made: &Made, tree: &Path) -> Result<Applied, UnpackError> {
    let limits = Limits {
        unpacked_bytes: made.signed_bytes,
        // The jail's test makes as many as a board would.
        entries: 20_000,
        ..Limits::default()
    };
    let source = Source::Full {
        blob: attack::open(made),
        layer: LayerType::from_media_type(made.media_type).unwrap(),
    };
    apply_layer(source, fd(tree), &limits)
}

/// An error and all that is below it.
fn in_words(error: &dyn Error) -> String {
    match error.source() {
        Some(below) => format!("{error}: {}", in_words(below)),
        None => error.to_string(),
    }
}

fn judge(made: &Made, result: Result<Applied, UnpackError>, tree: &Path) {
    let name = &made.name;
    match (&made.outcome_for_an_administrator, result) {
        (Outcome::Harmless(wanted), Ok(applied)) => {
            assert_eq!(applied.diff_id, made.diff_id, "{name}");
            for (path, found) in wanted {
                assert_found(name, tree, path, found);
            }
        }
        (Outcome::Refused(texts), Err(error)) => {
            let words = in_words(&error);
            for text in texts {
                assert!(words.contains(text), "{name}: {words}");
            }
        }
        // The digest tells.
        (Outcome::Refused(texts), Ok(applied)) if texts.is_empty() => {
            assert_ne!(applied.diff_id, made.diff_id, "{name}");
        }
        (_, result) => panic!("{name}: {result:?}"),
    }
}

#[test]
fn no_layer_of_the_corpus_gets_out_or_takes_much_memory() {
    require_root();
    let dir = tempfile::tempdir().unwrap();
    let blobs = dir.path().join("blobs");
    fs::create_dir(&blobs).unwrap();
    let scene = dir.path().join("scene");
    let (tree, outside) = (scene.join("inside"), scene.join("outside"));
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("victim"), "untouched").unwrap();
    let before = facts(&outside);
    let places = Places {
        outside: "../outside",
        absolute: &outside,
    };
    let attacks = corpus();
    assert!(attacks.len() > 60, "{}", attacks.len());
    let make = |attack: &Attack| attack.make(&places, &blobs);
    let made: Vec<Made> = attacks.iter().flat_map(make).collect();

    let most = data_bytes() + MEMORY;
    let old = getrlimit(Resource::Data);
    let limited = Rlimit {
        current: Some(most),
        ..old
    };
    setrlimit(Resource::Data, limited).unwrap();
    for made in &made {
        fs::create_dir(&tree).unwrap();
        eprintln!("{}", made.name);
        let result = unpack(made, &tree);
        judge(made, result, &tree);
        assert_eq!(facts(&outside), before, "{}: outside changed", made.name);
        attack::assert_without_capabilities(&made.name, &outside.join("victim"));
        assert_eq!(fs::read_dir(&scene).unwrap().count(), 2, "{}", made.name);
        fs::remove_dir_all(&tree).unwrap();
    }
    setrlimit(Resource::Data, old).unwrap();
}

/// Ends a thread that looks at it, also when the test fails.
struct Ended<'a>(&'a AtomicBool);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Somebody else exchanges a folder of the tree and a link to one outside, again and again, while files are made below it.
#[test]
fn a_folder_that_is_swapped_for_a_link_meanwhile_leads_nowhere() {
    require_root();
    let dir = tempfile::tempdir().unwrap();
    let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
    for folder in [&inside, &outside] {
        fs::create_dir(folder).unwrap();
    }
    fs::write(outside.join("victim"), "untouched").unwrap();
    let before = facts(&outside);
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o4755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(1);
    for number in 0..300 {
        // Another folder between, so that the walk comes anew each time.
        for name in ["door/victim".to_owned(), format!("other/{number}")] {
            tar.append_data(&mut header, name, &b"x"[..]).unwrap();
        }
    }
    let tar = tar.into_inner().unwrap();
    let (door, link) = (inside.join("door"), inside.join("link"));
    let over = AtomicBool::new(false);
    let mut outcomes = [0; 2];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            while !over.load(Ordering::Relaxed) {
                let _ = renameat_with(CWD, &door, CWD, &link, RenameFlags::EXCHANGE);
            }
        });
        let _ended = Ended(&over);
        for _ in 0..100 {
            // They are exchanged while they are removed, too.
            while [&door, &link]
                .iter()
                .any(|path| path.symlink_metadata().is_ok())
            {
                for path in [&door, &link] {
                    let _ = fs::remove_dir_all(path);
                    let _ = fs::remove_file(path);
                }
            }
            fs::create_dir(&door).unwrap();
            std::os::unix::fs::symlink("../outside", &link).unwrap();
            let result =
                coracle_images::unpack::unpack_tar(&tar[..], fd(&inside), &Limits::default());
            outcomes[usize::from(result.is_ok())] += 1;
            assert_eq!(facts(&outside), before, "the world outside changed");
        }
    });
    assert!(outcomes[0] > 0, "it was never swapped at the right moment");
}

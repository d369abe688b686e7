//! SIGKILL of the supervisor, of the child that unpacks, or of both as when the power goes, before every system call that changes the
//! board while a layer is unpacked. The next start has the whole layer or none of it, the next try has it, and a check of all that
//! the board keeps finds nothing. Needs root and ptrace(2).
//!
//! A few of the moments; `CORACLE_CUTS=all` for every one, `CORACLE_CUTS=100` for a hundred.

mod board;
mod cut;

use board::{Board, app, rootfs, wait_for};
use coracle_digest::Sha256Digest;
use coracle_images::Limits;
use coracle_images::decompress::tar_stream;
use coracle_images::delta::{MEDIA_TYPE, make};
use coracle_images::layout::{LayerType, RunConfig};
use coracle_protocol::deploy::Delta;
use coracle_protocol::local::{Answer, LayerSource, Request, StoreAction};
use coracle_protocol::release::{Image, Layer};
use cut::family::{Whose, cut_family};
use cut::{Cut, Traced};
use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(60);
/// Moments that are tried where nobody says how many.
const SAMPLE: usize = 8;

/// Mode and contents of each path below a folder.
type Tree = BTreeMap<PathBuf, (u32, Vec<u8>)>;

fn tree(root: &Path) -> Tree {
    fn walk(root: &Path, folder: &Path, found: &mut Tree) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let facts = path.symlink_metadata().unwrap();
            let contents = match facts.file_type() {
                kind if kind.is_file() => std::fs::read(&path).unwrap(),
                kind if kind.is_symlink() => std::fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes(),
                _ => Vec::new(),
            };
            let name = path.strip_prefix(root).unwrap().to_owned();
            found.insert(name, (facts.mode(), contents));
            if facts.is_dir() {
                walk(root, &path, found);
            }
        }
    }
    let mut found = Tree::new();
    walk(root, root, &mut found);
    found
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// An image that the board does not have yet, and what its layer is to be.
fn fresh(board: &Board, number: usize) -> (Image, Tree) {
    let rootfs = rootfs(board, &format!("page {number}"));
    (board.image(&rootfs, RunConfig::default()), tree(&rootfs))
}

/// Who ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    Supervisor,
    Child,
    Both,
}

/// The layer that deltas are made from.
struct Base {
    layer: Layer,
    tar: Vec<u8>,
}

impl Base {
    fn of(board: &Board, image: &Image) -> Self {
        let layer = image.layers[0].clone();
        let tar = unpacked(board, &layer);
        Self { layer, tar }
    }

    /// A delta to the image's layer, which is put into the board's store.
    fn delta(&self, board: &Board, image: &Image) -> Delta {
        let new = &image.layers[0];
        let mut bytes = Vec::new();
        make(&self.tar[..], &unpacked(board, new)[..], &mut bytes).unwrap();
        let digest = Sha256Digest::of(&bytes);
        std::fs::write(board.store_blob(digest), &bytes).unwrap();
        Delta {
            from: self.layer.diff_id,
            to: new.diff_id,
            media_type: MEDIA_TYPE.into(),
            digest,
            size: bytes.len() as u64,
        }
    }
}

fn unpacked(board: &Board, layer: &Layer) -> Vec<u8> {
    let blob = std::fs::File::open(board.store_blob(layer.digest)).unwrap();
    let kind = LayerType::from_media_type(&layer.media_type).unwrap();
    let mut tar = Vec::new();
    tar_stream(blob, kind, &Limits::default())
        .read_to_end(&mut tar)
        .unwrap();
    tar
}

/// What stages the image's layer, from its own blob or by a delta, if the board lacks it.
fn request(
    board: &mut Board,
    activity: &str,
    image: &Image,
    base: Option<&Base>,
) -> Option<Request> {
    let (release, mut deploy) = board.documents(activity, vec![app(image, "true")]);
    let mut from = LayerSource::Full;
    if let Some(base) = base {
        let delta = base.delta(board, image);
        from = LayerSource::Delta(delta.digest);
        deploy.deltas.push(delta);
    }
    let needs = board.needs(activity, &release, &deploy);
    let layer = needs.layers.first()?;
    Some(Request::Stage {
        activity: activity.into(),
        diff_id: layer.diff_id,
        from,
    })
}

/// Its layer is unpacked, and that is cut before the n-th call.
fn cut_at(board: &mut Board, image: &Image, base: Option<&Base>, victim: Victim, n: usize) -> Cut {
    let stage = request(board, "cut", image, base).expect("a new layer");
    let mut client = board.client();
    let (socket, log, pid) = (board.socket(), board.log_path(), board.supervisor_pid());
    let over = Arc::new(AtomicBool::new(false));
    let ended = over.clone();
    // Not before the process is looked into.
    let (begin, begun) = std::sync::mpsc::channel();
    let watcher = std::thread::spawn(move || {
        begun.recv().unwrap();
        // One that was cut before it came hears nothing.
        let answer = client.try_ask(stage);
        if answer.is_some() {
            // What follows the answer is part of it.
            std::thread::sleep(Duration::from_millis(300));
        }
        ended.store(true, Ordering::Relaxed);
        // Whatever wakes it.
        let _ = UnixStream::connect(&socket);
        answer
    });
    let begin = || begin.send(()).unwrap();
    let cut = match victim {
        Victim::Supervisor => {
            let traced = Traced::seize(pid, &log);
            begin();
            traced.run_to(n, &over)
        }
        Victim::Both => cut_family(pid, &log, Whose::All, n, &over, begin),
        Victim::Child => cut_family(pid, &log, Whose::Children, n, &over, begin),
    };
    if let (Cut::Before(_), true) = (&cut, victim != Victim::Child) {
        board.restart_supervisor();
    }
    let answer = watcher.join().unwrap();
    if let (Cut::Before(call), Victim::Child) = (&cut, victim) {
        match answer {
            Some(Answer::Failed { code, reason }) => {
                let bad = if base.is_some() {
                    "bad-delta"
                } else {
                    "bad-layer"
                };
                assert_eq!(code, bad, "{call}");
                assert!(reason.contains("the unpacking child died"), "{reason}");
            }
            // Another child than the one that unpacks: it had its say before.
            Some(Answer::Done) => {}
            other => panic!("{other:?} after {call}"),
        }
    }
    cut
}

/// Everything that the board keeps is read again.
fn is_clean(board: &Board, cut: &str) {
    let ask = |action| board.ask(Request::Store { action });
    assert_eq!(ask(StoreAction::Check), Answer::Done, "{cut}");
    let said = wait_for("the end of the check", WAIT, || {
        match ask(StoreAction::Look) {
            Answer::Store(said) => (!said.running).then_some(said),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(said.found, [], "{cut}");
    assert!(said.done > 0 && said.done == said.of, "{cut}: {said:?}");
}

/// The layer has its name and is whole, or it has none and nothing of it stays.
fn is_whole_or_gone(board: &Board, image: &Image, wanted: &Tree, cut: &str) -> bool {
    let diff_id = image.layers[0].diff_id;
    let place = board.state().join("layers").join(diff_id.hex());
    let there = place.exists();
    assert_eq!(board.status().layers.contains(&diff_id), there, "{cut}");
    if there {
        assert!(
            tree(&place) == *wanted,
            "half a layer has its name after {cut}"
        );
    }
    let staging = board.state().join("staging");
    wait_for("what was half unpacked to go", WAIT, || {
        names(&staging).is_empty().then_some(())
    });
    there
}

#[test]
fn a_layer_that_is_cut_off_is_whole_or_gone_and_comes_the_next_time() {
    walk(&mut Board::start(), None, Victim::Supervisor);
}

#[test]
fn a_layer_whose_child_is_cut_off_with_the_supervisor_is_whole_or_gone() {
    walk(&mut Board::start(), None, Victim::Both);
}

#[test]
fn a_child_that_is_killed_leaves_nothing_and_the_next_one_makes_the_layer() {
    walk(&mut Board::start(), None, Victim::Child);
}

#[test]
fn a_layer_that_is_cut_off_among_links_to_the_old_one_is_whole_or_gone_and_the_old_one_stays() {
    let mut board = Board::start();
    let (old, wanted) = fresh(&board, 1_000_000);
    board.commit("old", vec![app(&old, "exec sleep 1000")]);
    let layer = |image: &Image| {
        let layers = board.state().join("layers");
        layers.join(image.layers[0].diff_id.hex())
    };
    let place = layer(&old);
    for victim in [Victim::Supervisor, Victim::Both] {
        walk(&mut board, None, victim);
    }
    assert!(tree(&place) == wanted, "the old layer changed");
    assert!(
        std::fs::metadata(place.join("bin/busybox"))
            .unwrap()
            .nlink()
            > 1,
        "nothing was linked"
    );
}

#[test]
fn a_delta_that_is_cut_off_is_a_whole_layer_or_none_and_comes_the_next_time() {
    let mut board = Board::start();
    let (old, wanted) = fresh(&board, 1_000_000);
    let base = Base::of(&board, &old);
    board.commit("old", vec![app(&old, "exec sleep 1000")]);
    for victim in [Victim::Supervisor, Victim::Both, Victim::Child] {
        walk(&mut board, Some(&base), victim);
    }
    let layers = board.state().join("layers");
    let place = layers.join(old.layers[0].diff_id.hex());
    assert!(tree(&place) == wanted, "the old layer changed");
}

/// Cuts a fresh image's layer off at each moment that is tried.
fn walk(board: &mut Board, base: Option<&Base>, victim: Victim) {
    // Each has layers of its own.
    let first = 10_000 * (1 + victim as usize);
    let (image, wanted) = fresh(board, first);
    let Cut::Over(all) = cut_at(board, &image, base, victim, usize::MAX) else {
        panic!("it has no end");
    };
    assert!(is_whole_or_gone(board, &image, &wanted, "nothing"));
    assert!(all > 5, "{all}");
    let wanted_cuts = match std::env::var("CORACLE_CUTS").as_deref() {
        Ok("all") => all,
        Ok(number) => number.parse().unwrap(),
        Err(_) => SAMPLE,
    };
    eprintln!("{victim:?}: {all} moments");
    let mut outcomes = Vec::new();
    for k in 0..wanted_cuts.min(all) {
        let n = 1 + k * all / wanted_cuts.min(all);
        let (image, wanted) = fresh(board, first + n);
        let cut = match cut_at(board, &image, base, victim, n) {
            Cut::Before(call) => format!("call {n} of {all}: {call}"),
            Cut::Over(seen) => format!("its end, after {seen} calls"),
        };
        eprintln!("cut before {cut}");
        outcomes.push(is_whole_or_gone(board, &image, &wanted, &cut));
        is_clean(board, &cut);

        if let Some(again) = request(board, "again", &image, base) {
            assert_eq!(board.ask(again), Answer::Done, "{cut}");
        }
        assert!(is_whole_or_gone(board, &image, &wanted, &cut));
        is_clean(board, &cut);
        // As the daemon does: each check reads what this moment left.
        for digest in [image.layers[0].digest, image.config.digest] {
            std::fs::remove_file(board.store_blob(digest)).unwrap();
        }
    }
    assert!(
        outcomes.contains(&false),
        "no cut came before the layer had its name"
    );
}

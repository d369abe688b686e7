//! SIGKILL of the supervisor before every system call that changes the board while it has a layer unpacked. The next start has
//! the whole layer or none of it, and the next try has it. Needs root and ptrace(2).
//!
//! A few of the moments; `CORACLE_CUTS=all` for every one, `CORACLE_CUTS=100` for a hundred.

mod board;
mod cut;

use board::{Board, app, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::{Message, Request};
use coracle_protocol::release::Image;
use cut::{Cut, Traced};
use std::collections::BTreeMap;
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

/// Its layer is unpacked, and that is cut before the n-th call.
fn cut_at(board: &mut Board, image: &Image, n: usize) -> Cut {
    let (release, deploy) = board.documents("cut", vec![app(image, "true")]);
    let needs = board.needs("cut", &release, &deploy);
    assert_eq!(needs.layers.len(), 1);
    let mut client = board.client();
    let (socket, log) = (board.socket(), board.log_path());
    let traced = Traced::seize(board.supervisor_pid(), &log);
    client.send(Request::Stage {
        activity: "cut".into(),
        diff_id: needs.layers[0].diff_id,
        from: coracle_protocol::local::LayerSource::Full,
    });
    let over = Arc::new(AtomicBool::new(false));
    let ended = over.clone();
    let watcher = std::thread::spawn(move || {
        while let Some(message) = client.message() {
            if let Message::Reply(_) = message {
                // What follows the answer is part of it.
                std::thread::sleep(Duration::from_millis(300));
                ended.store(true, Ordering::Relaxed);
                // Whatever wakes it.
                let _ = UnixStream::connect(&socket);
                break;
            }
        }
    });
    let cut = traced.run_to(n, &over);
    if let Cut::Before(_) = cut {
        board.restart_supervisor();
    }
    watcher.join().unwrap();
    cut
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
    walk(&mut Board::start());
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
    walk(&mut board);
    assert!(tree(&place) == wanted, "the old layer changed");
    assert!(
        std::fs::metadata(place.join("bin/busybox"))
            .unwrap()
            .nlink()
            > 1,
        "nothing was linked"
    );
}

/// Cuts a fresh image's layer off at each moment that is tried.
fn walk(board: &mut Board) {
    let (image, wanted) = fresh(board, 0);
    let Cut::Over(all) = cut_at(board, &image, usize::MAX) else {
        panic!("it has no end");
    };
    assert!(is_whole_or_gone(board, &image, &wanted, "nothing"));
    assert!(all > 5, "{all}");
    let wanted_cuts = match std::env::var("CORACLE_CUTS").as_deref() {
        Ok("all") => all,
        Ok(number) => number.parse().unwrap(),
        Err(_) => SAMPLE,
    };
    let mut outcomes = Vec::new();
    for k in 0..wanted_cuts.min(all) {
        let n = 1 + k * all / wanted_cuts.min(all);
        let (image, wanted) = fresh(board, n);
        let cut = match cut_at(board, &image, n) {
            Cut::Before(call) => format!("call {n} of {all}: {call}"),
            Cut::Over(seen) => format!("its end, after {seen} calls"),
        };
        eprintln!("cut before {cut}");
        outcomes.push(is_whole_or_gone(board, &image, &wanted, &cut));

        let (release, deploy) = board.documents("again", vec![app(&image, "true")]);
        let needs = board.needs("again", &release, &deploy);
        board.stage_all("again", &needs);
        assert!(is_whole_or_gone(board, &image, &wanted, &cut));
    }
    assert!(
        outcomes.contains(&false),
        "no cut came before the layer had its name"
    );
}

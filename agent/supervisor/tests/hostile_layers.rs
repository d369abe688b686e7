//! Every layer of `images/tests/data/hostile` through the supervisor and its jailed child, as a release that is signed and names it:
//! nothing outside changes, memory stays bounded, nothing stays in staging, the reason says what it was, and what ran runs on.
//! Needs root.

#[path = "../../../images/tests/support/attack.rs"]
mod attack;
mod board;

use attack::{Made, Outcome, Places, assert_found, corpus};
use board::{Board, app, own_kib, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::{Answer, LayerSource, Message, Request};
use coracle_protocol::release::{Image, Layer};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What the child writes to at its peak beside what it was born with, in KiB.
const CHILD: u64 = 8 << 10;
/// What the supervisor itself may gain by all of them, in KiB: it reads what its children tell.
const SUPERVISOR: u64 = 4 << 10;
/// Making and deleting half a million files takes a while.
const LONG: Duration = Duration::from_secs(600);

/// Mode, owner, time and length of all that is below some folders.
fn facts(folders: &[PathBuf]) -> BTreeMap<PathBuf, (u32, u32, i64, u64)> {
    let mut found = BTreeMap::new();
    let mut open = folders.to_vec();
    while let Some(path) = open.pop() {
        let facts = path.symlink_metadata().unwrap();
        if facts.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|e| e.unwrap().path()));
        }
        let of = (facts.mode(), facts.uid(), facts.mtime(), facts.len());
        found.insert(path, of);
    }
    found
}

/// Looks at the supervisor's children all the time.
struct Watched {
    supervisor: u32,
    /// KiB of the largest since it was asked last.
    largest: AtomicU64,
    over: AtomicBool,
}

impl Watched {
    fn look(&self) {
        let pid = self.supervisor;
        let children = format!("/proc/{pid}/task/{pid}/children");
        while !self.over.load(Ordering::Relaxed) {
            let children = fs::read_to_string(&children).unwrap_or_default();
            for kib in children.split_whitespace().filter_map(own_kib) {
                self.largest.fetch_max(kib, Ordering::Relaxed);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Ends the thread that looks, also when the test fails.
struct Ended<'a>(&'a Watched);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

/// A board with an app that runs, and a folder beside its state that must stay as it is.
struct Scene {
    board: Board,
    image: Image,
    outside: PathBuf,
    guarded: Vec<PathBuf>,
}

impl Scene {
    fn new() -> Self {
        let mut board = Board::start();
        let image = board.image(&rootfs(&board, "what runs"), RunConfig::default());
        board.commit("1", vec![app(&image, "exec sleep 10000")]);
        let outside = board.dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("victim"), "untouched").unwrap();
        let running = board.state().join("layers");
        let running = running.join(image.layers[0].diff_id.hex());
        let guarded = vec![outside.clone(), running, board.dir.path().join("etc")];
        Self {
            board,
            image,
            outside,
            guarded,
        }
    }

    fn places(&self) -> Places<'_> {
        Places {
            // From <state>/staging/<diff_id>.
            outside: "../../../outside",
            absolute: &self.outside,
        }
    }

    /// It is signed, assigned and staged.
    fn stage(&mut self, made: &Made) -> Answer {
        let store = self.board.store_blob(made.blob_digest);
        fs::copy(&made.blob, store).unwrap();
        let mut image = self.image.clone();
        image.layers.push(Layer {
            media_type: made.media_type.into(),
            digest: made.blob_digest,
            size: made.blob_bytes,
            diff_id: made.diff_id,
            unpacked_size: made.signed_bytes,
            entries: None,
        });
        let apps = vec![app(&image, "true")];
        let (release, deploy) = self.board.documents(&made.name, apps);
        self.board.needs(&made.name, &release, &deploy);
        let mut client = self.board.client();
        client.send(Request::Stage {
            activity: made.name.clone(),
            diff_id: made.diff_id,
            from: LayerSource::Full,
        });
        // Half a million files take longer than a client of the tests waits for one message.
        wait_for("the layer's end", LONG, || match client.message() {
            Some(Message::Reply(reply)) => Some(reply.answer),
            _ => None,
        })
    }

    fn tree(&self, made: &Made) -> PathBuf {
        self.board.state().join("layers").join(made.diff_id.hex())
    }

    fn judge(&self, made: &Made, answer: Answer) {
        let name = &made.name;
        let tree = self.tree(made);
        match (&made.outcome, answer) {
            (Outcome::Harmless(wanted), Answer::Done) => {
                for (path, found) in wanted {
                    assert_found(name, &tree, path, found);
                }
            }
            (Outcome::Refused(texts), Answer::Failed { code, reason }) => {
                // Whole blocks that nobody signed end as that.
                let codes = match texts.is_empty() {
                    true => &["bad-layer", "diff-id-mismatch"][..],
                    false => &["bad-layer"],
                };
                assert!(codes.contains(&code.as_str()), "{name}: {code}: {reason}");
                for text in texts {
                    assert!(reason.contains(text), "{name}: {reason}");
                }
                assert!(!reason.contains("died"), "{name}: {reason}");
                assert!(!tree.exists(), "{name} has its name");
            }
            (_, answer) => panic!("{name}: {answer:?}"),
        }
        let staging = self.board.state().join("staging");
        wait_for(&format!("{name} to leave staging"), LONG, || {
            let names = fs::read_dir(&staging).unwrap();
            (names.count() == 0).then_some(())
        });
    }
}

#[test]
fn no_layer_of_the_corpus_leaves_the_jail_or_takes_much_memory() {
    let mut scene = Scene::new();
    let before = facts(&scene.guarded);
    let running = running_app(&scene.board);
    let supervisor = scene.board.supervisor_pid();
    let born_with = own_kib(&supervisor.to_string()).unwrap();
    let watched = Watched {
        supervisor,
        largest: AtomicU64::new(0),
        over: AtomicBool::new(false),
    };
    let blobs = scene.board.dir.path().join("blobs");
    fs::create_dir(&blobs).unwrap();
    let mut most = (0, String::new());
    std::thread::scope(|scope| {
        scope.spawn(|| watched.look());
        let _ended = Ended(&watched);
        for attack in corpus() {
            let all = attack.make(&scene.places(), &blobs);
            for made in all {
                watched.largest.store(0, Ordering::Relaxed);
                let answer = scene.stage(&made);
                let held = watched.largest.load(Ordering::Relaxed);
                eprintln!("{}: {held} KiB", made.name);
                assert!(held <= born_with + CHILD, "{}: {held} KiB", made.name);
                most = most.clone().max((held, made.name.clone()));
                scene.judge(&made, answer);
                assert_eq!(facts(&scene.guarded), before, "{}", made.name);
                let victim = scene.outside.join("victim");
                attack::assert_without_capabilities(&made.name, &victim);
                fs::remove_file(&made.blob).unwrap();
            }
        }
    });
    println!("{most:?}, of which it was born with {born_with}");
    assert!(
        most.0 > born_with,
        "{most:?}, born with {born_with}: no child was seen"
    );
    let held = own_kib(&supervisor.to_string()).unwrap();
    assert!(
        held <= born_with + SUPERVISOR,
        "the supervisor: {born_with} KiB, then {held}"
    );
    assert_eq!(running_app(&scene.board), running);
}

/// Process and start of the one app.
fn running_app(board: &Board) -> (Option<u32>, Option<u64>) {
    let current = board.status().current.unwrap();
    (current.apps[0].pid, current.apps[0].started_at)
}

/// Somebody who may write to staging exchanges a folder of the tree and a link to one outside, again and again, while the child
/// makes files below it.
#[test]
fn a_folder_that_is_swapped_for_a_link_meanwhile_leads_out_of_no_jail() {
    let mut scene = Scene::new();
    let before = facts(&scene.guarded);
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o4755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    header.set_size(1);
    for number in 0..20_000 {
        for name in ["door/victim".to_owned(), format!("other/{}", number % 100)] {
            tar.append_data(&mut header, name, &b"x"[..]).unwrap();
        }
    }
    let tar = tar.into_inner().unwrap();
    let blob = scene.board.dir.path().join("blob");
    fs::write(&blob, &tar).unwrap();
    let digest = coracle_digest::Sha256Digest::of(&tar);
    let made = Made {
        name: "swapped".into(),
        blob,
        blob_digest: digest,
        blob_bytes: tar.len() as u64,
        media_type: "application/vnd.oci.image.layer.v1.tar",
        diff_id: digest,
        signed_bytes: tar.len() as u64,
        outcome: Outcome::Refused(vec![]),
        outcome_for_an_administrator: Outcome::Refused(vec![]),
    };
    let tree = scene.board.state().join("staging").join(digest.hex());
    let (door, link) = (tree.join("door"), tree.join("link"));
    let over = AtomicBool::new(false);
    let swapped = AtomicU64::new(0);
    let answer = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                swap(&door, &link, &swapped);
            }
        });
        let answer = scene.stage(&made);
        over.store(true, Ordering::Relaxed);
        answer
    });
    assert!(swapped.into_inner() > 0, "nothing was swapped");
    // The child goes no further, or finds the folder each time.
    match &answer {
        Answer::Failed { code, reason } => {
            assert_eq!(code, "bad-layer");
            assert!(reason.contains("door"), "{reason}");
        }
        other => assert_eq!(*other, Answer::Done),
    }
    assert_eq!(facts(&scene.guarded), before);
    if answer != Answer::Done {
        scene.judge(&made, answer);
    }
}

fn swap(door: &Path, link: &Path, swapped: &AtomicU64) {
    let _ = std::os::unix::fs::symlink("../../../outside", link);
    if renameat_with(CWD, door, CWD, link, RenameFlags::EXCHANGE).is_ok() {
        swapped.fetch_add(1, Ordering::Relaxed);
    }
}

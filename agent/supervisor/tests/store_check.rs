//! What the board keeps of layers and blobs is read again, what is broken is named, and made anew. Needs root.

mod board;

use board::{Board, app, http_health, rootfs, wait_for};
use coracle_digest::Sha256Digest;
use coracle_protocol::local::{
    Answer, AppAction, LayerSource, Request, StoreAction, StoreCheck, StoreFault, StoreKind,
    StoreState,
};
use coracle_protocol::release::{App, Image, Network, NetworkMode};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(120);

fn ask(board: &Board, action: StoreAction) -> Answer {
    board.ask(Request::Store { action })
}

fn look(board: &Board) -> StoreCheck {
    match ask(board, StoreAction::Look) {
        Answer::Store(said) => said,
        other => panic!("{other:?}"),
    }
}

/// A whole check.
#[track_caller]
fn check(board: &Board) -> StoreCheck {
    assert_eq!(ask(board, StoreAction::Check), Answer::Done);
    let said = wait_for("the end of the check", LONG, || {
        let said = look(board);
        (!said.running).then_some(said)
    });
    assert_eq!((said.done, said.more), (said.of, 0), "{}", board.log());
    said
}

/// The only thing that it finds, its faults each as `path what`.
#[track_caller]
fn found(board: &Board) -> (StoreFault, Vec<String>) {
    let mut found = check(board).found;
    let one = found.pop().expect("something is broken");
    assert_eq!(found, []);
    let faults = one.faults.iter();
    let faults = faults.map(|fault| format!("{} {}", fault.path, fault.what));
    let faults = faults.collect();
    (one, faults)
}

fn mend(board: &Board, layer: Sha256Digest) -> Answer {
    ask(
        board,
        StoreAction::Mend {
            diff_id: layer,
            from: LayerSource::Full,
        },
    )
}

/// An app that shows a page on its own network.
fn web(board: &Board, page: &str) -> (App, Image) {
    let image = board.image(&rootfs(board, page), Default::default());
    let mut web = app(&image, "exec httpd -f -p 8080 -h /www");
    web.network = Network {
        mode: NetworkMode::Host,
        ..Network::default()
    };
    web.health = Some(http_health(8080));
    (web, image)
}

fn tree(board: &Board, image: &Image) -> PathBuf {
    board
        .state()
        .join("layers")
        .join(image.layers[0].diff_id.hex())
}

fn page(board: &Board) -> Option<String> {
    board.get("http://127.0.0.1:8080/index.html")
}

/// The same length, in place.
fn scratch(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[0] ^= 1;
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .write_all(&bytes)
        .unwrap();
}

#[test]
fn what_is_broken_is_named_with_who_needs_it() {
    let mut board = Board::start();
    let (web, image) = web(&board, "one");
    board.commit("1.0", vec![web]);
    let layer = image.layers[0].diff_id;
    let clean = check(&board);
    assert_eq!(clean.found, []);
    // The layer, and the two blobs that the test's daemon leaves there.
    assert_eq!(clean.of, 3);

    let tree = tree(&board, &image);
    let broken = |expected: &[&str]| {
        let (found, faults) = found(&board);
        assert_eq!(faults, expected);
        assert_eq!((found.digest, found.kind), (layer, StoreKind::Layer));
        assert_eq!(found.state, StoreState::Broken);
        assert_eq!(found.needed_by, ["app `web` of the running set 1.0"]);
        let need = found.need.unwrap();
        assert_eq!(
            (need.diff_id, need.full.digest),
            (layer, image.layers[0].digest)
        );
    };
    let page = tree.join("www/index.html");
    scratch(&page);
    broken(&["www/index.html has other bytes"]);
    scratch(&page);
    fs::set_permissions(&page, Permissions::from_mode(0o666)).unwrap();
    broken(&["www/index.html has mode 0666 instead of 0644"]);
    fs::set_permissions(&page, Permissions::from_mode(0o644)).unwrap();
    chown(&page, Some(5), None).unwrap();
    broken(&["www/index.html belongs to 5:0 instead of 0:0"]);
    chown(&page, Some(0), None).unwrap();
    rustix::fs::setxattr(&page, c"user.x", b"y", rustix::fs::XattrFlags::empty()).unwrap();
    broken(&["www/index.html has an attribute `user.x`, which is not in the layer"]);
    rustix::fs::removexattr(&page, c"user.x").unwrap();
    fs::write(tree.join("bin/stranger"), "").unwrap();
    broken(&["bin/stranger is not in the layer"]);
    fs::remove_file(tree.join("bin/stranger")).unwrap();
    fs::rename(tree.join("etc/group"), board.dir.path().join("group")).unwrap();
    broken(&["etc/group is missing"]);
    fs::rename(board.dir.path().join("group"), tree.join("etc/group")).unwrap();
    assert_eq!(check(&board).found, []);

    // What was written down of it.
    scratch(&tree.with_extension("record"));
    let (one, _) = found(&board);
    assert_eq!((one.digest, one.state), (layer, StoreState::Broken));
    fs::remove_file(tree.with_extension("record")).unwrap();
    let (one, faults) = found(&board);
    assert_eq!(one.state, StoreState::Unknown);
    assert_eq!(
        faults,
        [" nothing was written down of it while it was unpacked"]
    );
    // All of it.
    fs::rename(&tree, board.dir.path().join("gone")).unwrap();
    broken(&[" is missing"]);
}

#[test]
fn a_broken_blob_is_named() {
    let mut board = Board::start();
    let (web, image) = web(&board, "one");
    board.commit("1.0", vec![web]);
    scratch(&board.store_blob(image.config.digest));
    let (one, faults) = found(&board);
    assert_eq!(
        (one.digest, one.kind),
        (image.config.digest, StoreKind::Blob)
    );
    assert_eq!(one.needed_by, ["app `web` of the running set 1.0"]);
    assert!(
        faults[0].contains("has other bytes, those of sha256:"),
        "{faults:?}"
    );
    assert_eq!(one.need.unwrap().full, image.config);
}

#[test]
fn a_layer_is_made_anew_and_its_app_answers_again() {
    let mut board = Board::start();
    let (web, image) = web(&board, "the right page");
    let layer = image.layers[0].diff_id;
    board.commit("1.0", vec![web]);
    // Nothing is exchanged that was not found broken.
    let Answer::Failed { code, .. } = mend(&board, layer) else {
        panic!("a layer was made anew that is whole");
    };
    assert_eq!(code, "not-broken");

    let path = tree(&board, &image).join("www/index.html");
    scratch(&path);
    let before = board.app("web").unwrap().pid;
    let (one, _) = found(&board);
    assert_eq!(one.digest, layer);
    assert_eq!(mend(&board, layer), Answer::Done, "{}", board.log());
    let right = wait_for("the page", LONG, || page(&board));
    assert_eq!(right, "the right page");
    let after = wait_for("the app", LONG, || board.app("web")?.pid);
    assert_ne!(Some(after), before);
    assert_eq!(look(&board).found[0].state, StoreState::Mended);
    assert_eq!(check(&board).found, []);
    assert_eq!(fs::read(&path).unwrap(), b"the right page");

    // A whole layer that is gone comes back, too.
    assert_eq!(board.control("web", AppAction::Stop), Answer::Done);
    wait_for("its end", LONG, || {
        board.app("web")?.pid.is_none().then_some(())
    });
    fs::rename(tree(&board, &image), board.dir.path().join("gone")).unwrap();
    found(&board);
    assert_eq!(mend(&board, layer), Answer::Done);
    assert_eq!(check(&board).found, []);
    // Who stopped it wants it so.
    assert_eq!(board.app("web").unwrap().pid, None);
    wait_for("the old trees to go", LONG, || {
        fs::read_dir(board.state().join("staging"))
            .unwrap()
            .next()
            .is_none()
            .then_some(())
    });
}

#[test]
fn a_blob_that_is_broken_too_mends_nothing() {
    let mut board = Board::start();
    let (web, image) = web(&board, "one");
    let layer = image.layers[0].diff_id;
    board.commit("1.0", vec![web]);
    let path = tree(&board, &image).join("www/index.html");
    scratch(&path);
    let damaged = fs::read(&path).unwrap();
    found(&board);
    let before = board.app("web").unwrap().pid;
    fs::remove_file(board.store_blob(image.layers[0].digest)).unwrap();
    let code = |answer| match answer {
        Answer::Failed { code, .. } => code,
        other => panic!("{other:?}"),
    };
    assert_eq!(code(mend(&board, layer)), "no-blob");
    // As long as the right one, and another layer.
    let other = vec![7; image.layers[0].size as usize];
    fs::write(board.store_blob(image.layers[0].digest), other).unwrap();
    assert_eq!(code(mend(&board, layer)), "bad-layer");
    assert_eq!(fs::read(&path).unwrap(), damaged);
    assert_eq!(board.app("web").unwrap().pid, before);
    assert!(
        fs::read_dir(board.state().join("staging"))
            .unwrap()
            .all(|entry| {
                entry
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with("trash-")
            })
    );
}

/// The power goes while the app is being stopped for the new layer: the old one has the name, and the app runs.
#[test]
fn a_cut_before_the_exchange_leaves_the_old_layer() {
    let mut board = Board::start();
    let (mut web, image) = web(&board, "one");
    // One that takes its time.
    web.args[2] = "trap '' TERM; httpd -f -p 8080 -h /www & while :; do sleep 1; done".into();
    web.stop_grace_seconds = 60;
    let layer = image.layers[0].diff_id;
    board.commit("1.0", vec![web]);
    let path = tree(&board, &image).join("www/index.html");
    scratch(&path);
    found(&board);
    let mut client = board.client();
    client.send(Request::Store {
        action: StoreAction::Mend {
            diff_id: layer,
            from: LayerSource::Full,
        },
    });
    wait_for("the stop", LONG, || {
        board.log().contains("its apps end for it").then_some(())
    });
    // Nothing else begins meanwhile.
    assert!(
        matches!(ask(&board, StoreAction::Check), Answer::Failed { code, .. } if code == "busy")
    );
    assert!(path.exists());
    board.restart_supervisor();
    let (one, _) = found(&board);
    assert_eq!(one.digest, layer);
    wait_for("the app", LONG, || page(&board));
    assert_eq!(mend(&board, Sha256Digest::of(b"other")), {
        let text = format!(
            "the last check did not find layer {} broken; check first",
            Sha256Digest::of(b"other")
        );
        Answer::Failed {
            code: "not-broken".into(),
            reason: text,
        }
    });
}

#[test]
fn a_deployment_goes_first() {
    let mut board = Board::start();
    let (web, _) = web(&board, "one");
    board.commit("1.0", vec![web]);
    let (mut two, _) = self::web(&board, "two");
    two.trial_seconds = 600;
    let (release, deploy) = board.documents("2.0", vec![two]);
    let needs = board.needs("2.0", &release, &deploy);
    board.stage_all("2.0", &needs);
    assert_eq!(board.activate("2.0"), Answer::Done);
    wait_for("the trial", LONG, || {
        let Answer::Failed { code, reason } = ask(&board, StoreAction::Check) else {
            panic!("a check began in the middle of a deployment");
        };
        assert_eq!(code, "busy");
        reason.contains("a deployment is under way").then_some(())
    });
    assert_eq!(look(&board), StoreCheck::default());
}

//! Deltas that the console makes: once for each pair of layers, seen while it makes them, and never offered where the layer is smaller.

mod support;

use coracle_digest::Sha256Digest;
use coracle_images::build::Compression;
use serde_json::{Value, json};
use std::process::Command;
use support::{Board, Fleet, curl, noise, wait_for};

fn board(fleet: &Fleet, name: &str, layer: Sha256Digest) -> Board {
    let board = fleet.enrol(name);
    board.say_current(1, &[layer]);
    wait_for("what the board holds", 10, || {
        (!fleet.get(&format!("/api/v1/boards/{name}"))["current"].is_null()).then_some(())
    });
    board
}

fn progress(fleet: &Fleet, release: &Sha256Digest) -> Value {
    fleet.get(&format!("/api/v1/releases/{release}"))["deltas"].clone()
}

fn prepared(fleet: &Fleet, release: &Sha256Digest) -> Value {
    wait_for("the deltas", 120, || {
        let deltas = progress(fleet, release);
        (deltas["done"] == deltas["pairs"] && deltas["done"] != 0).then_some(deltas)
    })
}

fn offered(ordered: &Value) -> Vec<Value> {
    let boards = ordered["boards"].as_array().unwrap();
    boards.iter().map(|board| board["deltas"].clone()).collect()
}

/// How often the console made a delta.
fn made(fleet: &Fleet) -> usize {
    fleet.log().matches("delta made").count()
}

#[test]
fn a_delta_that_is_no_smaller_than_the_layer_is_not_offered() {
    let fleet = Fleet::start();
    // Nothing of the old layer is in the new one, and a few bytes are smaller than what names them.
    let (old, _) = fleet.release(1, &[("app", noise(5, 20_000))]);
    board(&fleet, "acme.b1", old.apps[0].image.layers[0].diff_id);
    let (new, release) = fleet.release_packed(2, &[("app", vec![7])], Compression::Zstd(19));
    assert_eq!(
        prepared(&fleet, &release),
        json!({"pairs": 1, "done": 1, "made": 0})
    );
    let ordered = fleet.deploy(&release, &["acme.b1"]);
    assert_eq!(offered(&ordered), [json!([])]);
    assert_eq!(made(&fleet), 0, "it was made of {:?}", new.apps[0].image);

    // One that was made for a layer that gzip packed badly serves nobody who gets the same from zstd.
    let page = noise(3, 20).repeat(15_000);
    let (gzip, release) = fleet.release(3, &[("page", page.clone())]);
    let packed = gzip.apps[0].image.layers[0].size;
    assert_eq!(prepared(&fleet, &release)["made"], 1);
    let delta = offered(&fleet.deploy(&release, &["acme.b1"]))[0][0].clone();
    assert_eq!(delta["full_size"], packed);
    let (zstd, release) = fleet.release_packed(4, &[("page", page)], Compression::Zstd(19));
    let layer = &zstd.apps[0].image.layers[0];
    assert_eq!(layer.diff_id, gzip.apps[0].image.layers[0].diff_id);
    let size = delta["size"].as_u64().unwrap();
    assert!(
        layer.size <= size && size < packed,
        "{} {size} {packed}",
        layer.size
    );
    assert_eq!(prepared(&fleet, &release)["made"], 0);
    let ordered = fleet.deploy(&release, &["acme.b1"]);
    assert_eq!(offered(&ordered), [json!([])]);
}

#[test]
fn a_pair_is_made_once_for_all_rollouts_and_after_a_restart() {
    let mut fleet = Fleet::start();
    let app = noise(5, 400_000);
    let mut next = app.clone();
    next[60_000..60_016].copy_from_slice(&[0; 16]);
    let (old, _) = fleet.release(1, &[("app", app)]);
    let held = old.apps[0].image.layers[0].diff_id;
    // Not held by anybody yet: nothing is prepared when the release comes, and the deployments ask for it themselves.
    let (new, release) = fleet.release(2, &[("app", next)]);
    let to = new.apps[0].image.layers[0].diff_id;
    let groups = ["acme.b1", "acme.b2", "acme.b3", "acme.b4"];
    for name in groups {
        board(&fleet, name, held);
    }
    assert_eq!(made(&fleet), 0);
    let answers: Vec<Value> = std::thread::scope(|scope| {
        let rollouts: Vec<_> = groups
            .chunks(2)
            .map(|group| scope.spawn(|| fleet.deploy(&release, group)))
            .collect();
        rollouts.into_iter().map(|it| it.join().unwrap()).collect()
    });
    let deltas: Vec<Value> = answers.iter().flat_map(offered).collect();
    assert_eq!(deltas.len(), groups.len());
    assert_eq!(deltas[0][0]["from"], json!(held));
    assert_eq!(deltas[0][0]["to"], json!(to));
    assert!(deltas.iter().all(|other| *other == deltas[0]), "{deltas:?}");
    assert_eq!(made(&fleet), 1, "{}", fleet.log());

    // Ended well, and not.
    fleet.stop_console();
    fleet.start_console();
    assert_eq!(offered(&fleet.deploy(&release, &groups)), deltas);
    fleet.kill_console();
    fleet.start_console();
    assert_eq!(offered(&fleet.deploy(&release, &groups)), deltas);
    assert_eq!(made(&fleet), 1, "{}", fleet.log());
}

#[test]
fn how_far_deltas_are_is_seen_while_they_are_made() {
    let fleet = Fleet::start();
    let app = noise(5, 3_000_000);
    let changed = |at: usize| {
        let mut app = app.clone();
        app[at..at + 16].copy_from_slice(&[0; 16]);
        app
    };
    for version in [1, 2] {
        let (release, _) = fleet.release(version, &[("app", changed(version as usize * 9000))]);
        let layer = release.apps[0].image.layers[0].diff_id;
        board(&fleet, &format!("acme.b{version}"), layer);
    }
    let base = format!("http://127.0.0.1:{}", fleet.http);
    let form = format!("token={}", fleet.token());
    let signed_in = curl(&["-d", &form, &format!("{base}/sign-in")]);
    let cookie = signed_in.header("set-cookie").unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let page = || {
        let page = curl(&["-b", &cookie, &format!("{base}/deployments")]);
        String::from_utf8_lossy(&page.body).into_owned()
    };
    let events = fleet.path("events");
    let mut listener = Command::new("curl")
        .args([
            "-sSN",
            "--max-time",
            "150",
            "-b",
            &cookie,
            &format!("{base}/events"),
        ])
        .stdout(std::fs::File::create(&events).unwrap())
        .spawn()
        .unwrap();
    let (_, release) = fleet.release(3, &[("app", changed(60_000))]);
    let (mut api, mut pages) = (Vec::new(), Vec::new());
    wait_for("both deltas", 120, || {
        let deltas = progress(&fleet, &release);
        let page = page();
        let line =
            |done: u32| page.contains(&format!("Making deltas for demo 3: {done} of 2 layers"));
        pages.extend([0, 1].into_iter().find(|done| line(*done)));
        let done = deltas["done"].as_u64()?;
        assert_eq!(deltas["pairs"], 2);
        api.push(done);
        (done == 2).then_some(())
    });
    assert!(api.is_sorted() && pages.is_sorted(), "{api:?} {pages:?}");
    assert!(api.contains(&1), "{api:?}");
    assert!(pages.contains(&1), "{pages:?}");
    assert_eq!(progress(&fleet, &release)["made"], 2);
    assert!(!page().contains("Making deltas"), "they are made");
    // That there are two to make, that one is done, and the other.
    let told = || std::fs::read_to_string(&events).unwrap();
    wait_for("open pages are told", 10, || {
        (told().matches("data: changed").count() >= 3).then_some(())
    });
    listener.kill().unwrap();
    listener.wait().unwrap();
}

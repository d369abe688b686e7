//! A daemon in foreign hands: whatever it offers, the supervisor looks at the documents itself.

#[path = "attacks/make.rs"]
mod attack_files;
mod board;

use board::attacks::{file as attack, folder, layer};
use board::{BOARD, Board, app, now, rootfs, sign};
use coracle_digest::Sha256Digest;
use coracle_images::layout::RunConfig;
use coracle_protocol::deploy::{DEPLOY_TYPE, Deploy, Target};
use coracle_protocol::dsse::Envelope;
use coracle_protocol::key::SigningKey;
use coracle_protocol::local::{Answer, LayerSource, Request};
use coracle_protocol::names::{AppName, BoardId, HardwareClass};
use coracle_protocol::release::{Agent, Blob, Layer, RELEASE_TYPE, Release, SignedRelease};
use coracle_protocol::report::Phase;
use std::collections::BTreeSet;

/// A board, and good documents for it.
fn good() -> (Board, Release, Deploy) {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "hi"), RunConfig::default());
    let (release, deploy) = board.documents("1", vec![app(&image, "exec sleep 1000")]);
    (board, release, deploy)
}

#[track_caller]
fn refused(board: &Board, answer: Answer, expected: &str) -> String {
    match answer {
        Answer::Refused { code, reason } if code == expected => {
            assert_eq!(board.status().current, None, "something runs");
            reason
        }
        other => panic!("{expected} was expected: {other:?}"),
    }
}

fn failed(answer: Answer) -> String {
    match answer {
        Answer::Failed { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

/// For a board on which something runs.
fn refused_with(answer: Answer) -> String {
    match answer {
        Answer::Refused { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn supervisor_refuses_unsigned() {
    let (board, release, deploy) = good();
    let signed_release = sign(RELEASE_TYPE, &release, &board.keys.release);
    let signed_deploy = sign(DEPLOY_TYPE, &deploy, &board.keys.deploy);
    let unsigned = |kind, bytes: Vec<u8>| Envelope::unsigned(kind, &bytes);
    let no_release = unsigned(RELEASE_TYPE, serde_json::to_vec(&release).unwrap());
    let no_deploy = unsigned(DEPLOY_TYPE, serde_json::to_vec(&deploy).unwrap());
    // The console's key must not do for the developers'.
    let by_console = sign(RELEASE_TYPE, &release, &board.keys.deploy);
    let stranger = SigningKey::generate().unwrap().0;
    let by_stranger = sign(DEPLOY_TYPE, &deploy, &stranger);
    for (release, deploy) in [
        (no_release, signed_deploy.clone()),
        (signed_release.clone(), no_deploy),
        (by_console, signed_deploy),
        (signed_release, by_stranger),
    ] {
        let answer = board.offer_signed("a", release, deploy);
        refused(&board, answer, "bad-signature");
    }

    // And what was never accepted cannot be activated.
    assert_eq!(failed(board.activate("a")), "no-offer");
    let layer = release.apps[0].image.layers[0].diff_id;
    assert_eq!(
        failed(board.stage("a", layer, LayerSource::Full)),
        "no-offer"
    );
}

#[test]
fn supervisor_refuses_tampered() {
    let (board, mut release, mut deploy) = good();
    let mut signed = sign(RELEASE_TYPE, &release, &board.keys.release);
    release.apps[0].args = vec!["/bin/sh".into(), "-c".into(), "echo owned".into()];
    let payload = serde_json::to_vec(&release).unwrap();
    let other = Envelope::unsigned(RELEASE_TYPE, &payload);
    signed.payload = other.payload;
    let as_was = sign(DEPLOY_TYPE, &deploy, &board.keys.deploy);
    refused(
        &board,
        board.offer_signed("a", signed, as_was),
        "bad-signature",
    );

    // A good release, and an assignment of another one.
    let signed = sign(RELEASE_TYPE, &release, &board.keys.release);
    let as_was = sign(DEPLOY_TYPE, &deploy, &board.keys.deploy);
    refused(
        &board,
        board.offer_signed("a", signed, as_was),
        "release-mismatch",
    );
    deploy.release.digest = Sha256Digest::of(b"another");
    refused(
        &board,
        board.offer("a", &release, &deploy),
        "release-mismatch",
    );
}

#[test]
fn supervisor_refuses_wrong_board_and_wrong_hardware() {
    let (board, mut release, deploy) = good();
    let other = Deploy {
        target: Target::Boards(BTreeSet::from([BoardId::new("acme.another").unwrap()])),
        ..deploy
    };
    let reason = refused(&board, board.offer("a", &release, &other), "wrong-board");
    assert!(
        reason.contains("acme.another") && reason.contains(BOARD),
        "{reason}"
    );

    release.hardware = BTreeSet::from([HardwareClass::new("toaster").unwrap()]);
    let deploy = board.deploy_of(&release, 9);
    refused(
        &board,
        board.offer("a", &release, &deploy),
        "wrong-hardware",
    );
}

#[test]
fn supervisor_refuses_another_name_for_the_board() {
    let board = Board::start();
    let name = |name| Request::Identity {
        board: BoardId::new(name).unwrap(),
    };
    assert_eq!(board.ask(name(BOARD)), Answer::Done);
    assert!(
        matches!(board.ask(name("acme.another")), Answer::Refused { code, .. } if code == "named")
    );
}

#[test]
fn supervisor_refuses_what_nobody_enrolled_it_for() {
    let mut board = Board::unenrolled();
    board.hardware = HardwareClass::new(&board.status().board.hardware).unwrap();
    let image = board.image(&rootfs(&board, "hi"), RunConfig::default());
    let (release, deploy) = board.documents("1", vec![app(&image, "exec sleep 1000")]);
    refused(&board, board.offer("a", &release, &deploy), "wrong-board");
}

#[test]
fn supervisor_refuses_more_than_the_board_has() {
    let (board, mut release, _) = good();
    release.apps[0].limits.memory_bytes = 1 << 50;
    release.apps[0].limits.pids = u32::MAX;
    let deploy = board.deploy_of(&release, 9);
    let reason = refused(&board, board.offer("a", &release, &deploy), "over-budget");
    assert!(
        reason.contains("memory") && reason.contains("processes"),
        "all at once: {reason}"
    );
}

#[test]
fn supervisor_refuses_expired_once_it_knows_the_time() {
    let (mut board, _, _) = good();
    let image = board.image(&rootfs(&board, "hi"), RunConfig::default());
    let apps = || vec![app(&image, "exec sleep 1000")];
    // Before the program was built: surely past.
    let (mut release, _) = board.documents("1", apps());
    release.issued_at = 1_000;
    release.expires = 1_600_000_000;
    let deploy = board.deploy_of(&release, 2);
    refused(&board, board.offer("a", &release, &deploy), "expired");

    // A verified document raises the bound of time, over a restart too.
    let (release, deploy) = board.documents("2", apps());
    assert_eq!(board.carry_out("2", &release, &deploy).0, Phase::Committed);
    board.restart_supervisor();
    let (mut release, _) = board.documents("3", apps());
    release.issued_at = now() - 7200;
    release.expires = now() - 3600;
    let deploy = board.deploy_of(&release, 50);
    assert_eq!(refused_with(board.offer("3", &release, &deploy)), "expired");
}

#[test]
fn supervisor_refuses_replayed_and_rolled_back() {
    let (mut board, _, _) = good();
    let image = board.image(&rootfs(&board, "hi"), RunConfig::default());
    let apps = || vec![app(&image, "exec sleep 1000")];
    let (old_release, old_deploy) = board.documents("1", apps());
    let (release, deploy) = board.documents("2", apps());
    assert_eq!(board.carry_out("2", &release, &deploy).0, Phase::Committed);
    let needs = board.needs("again", &release, &deploy);
    assert!(needs.already, "what runs is nothing to do");
    assert_eq!(
        refused_with(board.offer("a", &old_release, &old_deploy)),
        "old-assignment"
    );
    // A new assignment of the old release: the console's key cannot go back behind the developers'.
    let newer = board.deploy_of(&old_release, 99);
    assert_eq!(
        refused_with(board.offer("a", &old_release, &newer)),
        "old-release"
    );
    // Nor can a replay of what ran before.
    let (third, deploy_third) = board.documents("3", apps());
    let deploy_third = Deploy {
        seq: 120,
        ..deploy_third
    };
    assert_eq!(
        board.carry_out("3", &third, &deploy_third).0,
        Phase::Committed
    );
    assert_eq!(
        refused_with(board.offer("a", &release, &deploy)),
        "old-assignment"
    );
    // Not after a crash either.
    board.restart_supervisor();
    assert_eq!(
        refused_with(board.offer("a", &old_release, &old_deploy)),
        "old-assignment"
    );
    assert_eq!(board.status().current.unwrap().version, "3");
}

#[test]
fn both_counter_slots_torn_refuses_new_and_keeps_running() {
    let (mut board, release, deploy) = good();
    assert_eq!(board.carry_out("1", &release, &deploy).0, Phase::Committed);
    board.kill_supervisor();
    // One was cut off while it was written, and the other is as a power cut leaves a file that was made anew.
    let torn = |slot: &str| {
        attack(
            "both_counter_slots_torn_refuses_new_and_keeps_running",
            slot,
        )
    };
    for slot in ["seen.a", "seen.b"] {
        std::fs::write(board.state().join("trust").join(slot), torn(slot)).unwrap();
    }
    board.start_supervisor();
    assert!(board.app("web").unwrap().pid.is_some());
    let damage = board.status().trust.unwrap().damage.unwrap();
    assert!(damage.contains("no counter slot is whole"), "{damage}");
    let image = release.apps[0].image.clone();
    let (release, _) = board.documents("2", vec![app(&image, "exec sleep 1000")]);
    let deploy = board.deploy_of(&release, 77);
    assert_eq!(
        refused_with(board.offer("2", &release, &deploy)),
        "counters-damaged"
    );
}

#[test]
fn a_counter_file_restored_from_a_copy_is_noticed() {
    let (mut board, release, deploy) = good();
    assert_eq!(board.carry_out("1", &release, &deploy).0, Phase::Committed);
    let slots = ["seen.a", "seen.b"].map(|name| board.state().join("trust").join(name));
    let copies = slots.clone().map(|slot| std::fs::read(slot).unwrap());
    let image = release.apps[0].image.clone();
    let (second, deploy_second) = board.documents("2", vec![app(&image, "exec sleep 1000")]);
    assert_eq!(
        board.carry_out("2", &second, &deploy_second).0,
        Phase::Committed
    );
    board.kill_supervisor();
    for (slot, copy) in slots.iter().zip(copies) {
        std::fs::write(slot, copy).unwrap();
    }
    board.start_supervisor();
    assert!(board.log().contains("a copy was put in their place"));
    let trust = board.status().trust.unwrap();
    assert_eq!(trust.deploy.value, deploy_second.seq);
    assert_eq!(
        refused_with(board.offer("a", &release, &deploy)),
        "old-assignment"
    );
    let newer = board.deploy_of(&release, 50);
    assert_eq!(
        refused_with(board.offer("a", &release, &newer)),
        "old-release"
    );
}

#[test]
fn a_set_with_a_layer_missing_is_never_started() {
    let (board, mut release, _) = good();
    let image = board.image(&rootfs(&board, "second"), RunConfig::default());
    let mut second = app(&image, "exec sleep 1000");
    second.name = coracle_protocol::names::AppName::new("second").unwrap();
    release.apps.push(second);
    let deploy = board.deploy_of(&release, 9);
    let needs = board.needs("a", &release, &deploy);
    let first = release.apps[0].image.layers[0].diff_id;
    assert!(needs.layers.len() > 1);
    assert_eq!(board.stage("a", first, LayerSource::Full), Answer::Done);
    // Half of a bundle: whoever holds the other half back does not get it started.
    assert_eq!(failed(board.activate("a")), "not-staged");
    assert_eq!(board.status().current, None);
}

#[test]
fn what_only_the_image_says_is_found_before_the_old_set_is_stopped() {
    let (mut board, release, _) = good();
    let running = release.apps[0].clone();
    board.commit("1", vec![running.clone()]);
    let pid = board.app("web").unwrap().pid;
    let root = rootfs(&board, "second");
    let image = |config: RunConfig| board.image(&root, config);
    let of_user = |user: &str| RunConfig {
        user: user.into(),
        ..RunConfig::default()
    };
    let signal = RunConfig {
        stop_signal: Some("SIGNOPE".into()),
        ..RunConfig::default()
    };
    let mut own_users = app(&image(of_user("70000")), "exec sleep 1000");
    own_users.user_namespace = Some(true);
    let mut nothing = app(&image(RunConfig::default()), "");
    nothing.args.clear();
    let cases = [
        (
            app(&image(signal), "exec sleep 1000"),
            "stop signal `SIGNOPE`",
        ),
        (
            app(&image(of_user("nobody-here")), "exec sleep 1000"),
            "no user `nobody-here`",
        ),
        (own_users, "runs as user or group 70000"),
        (nothing, "says what to run"),
    ];
    // All of them are told at once.
    let names = ["signal", "user", "ids", "nothing"];
    let mut apps = vec![running];
    for ((app, _), name) in cases.iter().zip(names) {
        let mut app = app.clone();
        app.name = coracle_protocol::names::AppName::new(name).unwrap();
        apps.push(app);
    }
    let (release, deploy) = board.documents("2", apps);
    let needs = board.needs("b", &release, &deploy);
    board.stage_all("b", &needs);
    let Answer::Failed { code, reason } = board.activate("b") else {
        panic!("activated");
    };
    assert_eq!(code, "start-failed");
    for ((_, words), name) in cases.iter().zip(names) {
        let line = reason
            .lines()
            .find(|line| line.starts_with(&format!("app `{name}` ")));
        assert!(
            line.is_some_and(|line| line.contains(words)),
            "{words}: {reason}"
        );
    }
    assert!(!reason.contains("`web`"), "{reason}");
    // What runs was not touched, and no counter is used up by it.
    assert_eq!(board.app("web").unwrap().pid, pid);
    assert!(board.deploy("3", vec![release.apps[0].clone()]).0 == Phase::Committed);
}

#[test]
fn supervisor_refuses_more_than_the_boards_disk_carries() {
    let (mut board, mut release, _) = good();
    board.kill_supervisor();
    let site = "[storage.ceilings]\nwrite_bytes_per_second = 10_000_000\n\
        [network]\nparents = [\"eth?\"]\n";
    std::fs::write(board.config().with_file_name("board.toml"), site).unwrap();
    board.start_supervisor();
    let mut second = release.apps[0].clone();
    second.name = AppName::new("second").unwrap();
    second.limits.io_write_bytes_per_second = Some(7_000_000);
    second.limits.memory_bytes = 1 << 50;
    release.apps[0].limits.io_write_bytes_per_second = Some(4_000_000);
    release.apps.push(second);
    let deploy = board.deploy_of(&release, 9);
    let Answer::Refused { reason, .. } = board.offer("a", &release, &deploy) else {
        panic!("it was taken");
    };
    for part in [
        "bytes written: the apps ask for 11.00 MB/s, this board has 10.00 MB/s for apps, 1.00 MB/s too much (`second`",
        "memory: the apps ask for",
    ] {
        assert!(reason.contains(part), "`{part}` is not in {reason}");
    }
    release.apps[1].limits.io_write_bytes_per_second = Some(6_000_000);
    let deploy = board.deploy_of(&release, 10);
    let Answer::Refused { reason, .. } = board.offer("a", &release, &deploy) else {
        panic!("it was taken");
    };
    assert!(!reason.contains("bytes written"), "{reason}");
}

/// A board of 1000 MiB for apps, and a program of 2 GiB.
#[test]
fn the_boards_own_programs_are_counted_with_its_disk() {
    let (mut board, mut release, _) = good();
    board.kill_supervisor();
    let disk = rustix::fs::statvfs(board.state()).unwrap();
    let reserve = ((disk.f_blocks * disk.f_frsize) >> 20) - 1000;
    let site = format!("[reserve]\ndisk_mib = {reserve}\n");
    std::fs::write(board.config().with_file_name("board.toml"), site).unwrap();
    board.start_supervisor();
    let offered = |release: &Release, seq| {
        let deploy = board.deploy_of(release, seq);
        board.offer("a", release, &deploy)
    };
    assert!(matches!(offered(&release, 9), Answer::Needs(_)));
    let mut image = release.apps[0].image.clone();
    image.layers.truncate(1);
    image.layers[0].diff_id = Sha256Digest::of(b"another");
    image.layers[0].unpacked_size = 2 << 30;
    release.agent = Some(Agent {
        version: "2".into(),
        counter: 2,
        program: Blob {
            digest: Sha256Digest::of(b"program"),
            size: 7,
        },
        image,
    });
    let Answer::Refused { code, reason } = offered(&release, 10) else {
        panic!("it was taken");
    };
    assert_eq!(code, "over-budget");
    for part in [
        "disk: the apps ask for",
        "the board's own programs take 2048.0 MiB of the disk: 2048.0 are agent.image",
    ] {
        assert!(reason.contains(part), "`{part}` is not in {reason}");
    }
    // So is what the board has from a release before.
    release.agent = None;
    let name = Sha256Digest::of(b"older").hex();
    let older = std::fs::File::create(board.state().join("agent").join(name)).unwrap();
    older.set_len(3 << 30).unwrap();
    let deploy = board.deploy_of(&release, 11);
    let reason = refused(&board, board.offer("a", &release, &deploy), "over-budget");
    assert!(
        reason.contains("take 3072.0 MiB of the disk: 0.0 are"),
        "{reason}"
    );
}

#[test]
fn a_layer_of_a_type_that_nobody_signed_for_this_board_is_refused() {
    let board = Board::start();
    let name = "a_layer_of_a_type_that_nobody_signed_for_this_board_is_refused";
    let mut release: SignedRelease = serde_json::from_slice(&attack(name, "release.json")).unwrap();
    let deploy = board.deploy_of(&release, 9);
    let reason = refused(&board, board.offer("a", &release, &deploy), "over-budget");
    assert!(reason.contains("application/x-executable"), "{reason}");
    // Its type alone was wrong: the layer could be fetched.
    let layer = &mut release.apps[0].image.layers[0];
    layer.media_type = "application/vnd.oci.image.layer.v1.tar".into();
    let deploy = board.deploy_of(&release, 9);
    assert_eq!(board.needs("a", &release, &deploy).layers.len(), 1);
}

/// What lies in the folders is what the maker makes: nobody edited a fixture to pass a test.
/// `CORACLE_WRITE_GOLDEN=1` writes them anew.
#[test]
fn the_folders_are_as_made() {
    for (name, files) in attack_files::all() {
        if std::env::var_os("CORACLE_WRITE_GOLDEN").is_some() {
            let _ = std::fs::remove_dir_all(folder(name));
            std::fs::create_dir_all(folder(name)).unwrap();
            for (file, bytes) in &files {
                std::fs::write(folder(name).join(file), bytes).unwrap();
            }
        }
        let count = std::fs::read_dir(folder(name)).unwrap().count();
        assert_eq!(count, files.len(), "{name}");
        for (file, bytes) in files {
            assert!(attack(name, file) == bytes, "{name}/{file} is not as made");
        }
    }
}

/// A board, and documents for it whose only image is that layer.
fn of_one_layer(signed: &Layer) -> (Board, Release, Deploy) {
    let (mut board, release, _) = good();
    let mut image = release.apps[0].image.clone();
    image.layers = vec![signed.clone()];
    let (release, deploy) = board.documents("2", vec![app(&image, "exec sleep 1000")]);
    (board, release, deploy)
}

fn failed_with(answer: Answer) -> (String, String) {
    match answer {
        Answer::Failed { code, reason } => (code, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn bytes_after_a_layer_are_refused() {
    let name = "bytes_after_a_layer_are_refused";
    let tar = attack(name, "layer.tar");
    for (file, compression) in [
        ("layer.tar", ""),
        ("layer.tar.gz", "+gzip"),
        ("layer.tar.zst", "+zstd"),
    ] {
        let good = attack(name, file);
        let more = attack(name, &format!("{file}.more"));
        assert!(more.len() > good.len() && more.starts_with(&good));
        let signed = layer(&good, &tar, compression);
        let (board, release, deploy) = of_one_layer(&signed);
        board.needs("a", &release, &deploy);
        let blob = board.store_blob(signed.digest);
        let stage = |activity| board.stage(activity, signed.diff_id, LayerSource::Full);
        std::fs::write(&blob, &more).unwrap();
        let (code, reason) = failed_with(stage("a"));
        assert_eq!(code, "bad-layer", "{file}");
        assert!(reason.contains("the release says"), "{file}: {reason}");

        // As if they came once the size had been looked at: the digest over what was unpacked is left.
        let mut late = release.clone();
        let layer = &mut late.apps[0].image.layers[0];
        layer.size = more.len() as u64;
        layer.unpacked_size *= 2;
        layer.entries = None;
        let deploy = board.deploy_of(&late, 8);
        board.needs("b", &late, &deploy);
        let (code, reason) = failed_with(stage("b"));
        assert_eq!(code, "diff-id-mismatch", "{file}: {reason}");
        assert!(board.status().layers.is_empty());

        let deploy = board.deploy_of(&release, 9);
        board.needs("c", &release, &deploy);
        std::fs::write(&blob, &good).unwrap();
        assert_eq!(stage("c"), Answer::Done, "{file}");
    }
}

#[test]
fn a_layer_with_other_bytes_gets_no_name() {
    let name = "a_layer_with_other_bytes_gets_no_name";
    let good = attack(name, "signed.tar");
    let signed = layer(&good, &good, "");
    let (board, release, deploy) = of_one_layer(&signed);
    board.needs("a", &release, &deploy);
    let blob = board.store_blob(signed.digest);
    let stage = || board.stage("a", signed.diff_id, LayerSource::Full);
    assert_eq!(failed(stage()), "no-blob");
    for (file, expected) in [
        ("no-layer", "bad-layer"),
        ("another.tar", "diff-id-mismatch"),
        ("set-user-id.tar", "diff-id-mismatch"),
    ] {
        let bytes = attack(name, file);
        assert_eq!(bytes.len(), good.len(), "{file}");
        std::fs::write(&blob, bytes).unwrap();
        let (code, reason) = failed_with(stage());
        assert_eq!(code, expected, "{file}: {reason}");
        assert!(board.status().layers.is_empty(), "{file}");
        assert_eq!(failed(board.activate("a")), "not-staged");
    }
    std::fs::write(&blob, good).unwrap();
    assert_eq!(stage(), Answer::Done);
    assert_eq!(board.status().layers, [signed.diff_id]);
}

#[test]
fn garbage_on_the_socket_ends_that_connection_and_nothing_else() {
    let board = Board::start();
    for bytes in [
        &b"\xff\xff\xff\xff"[..],
        b"\0\0\0\x02{}",
        b"\0\0\0\x04null",
        b"GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut client = board.client();
        client.raw(bytes);
        assert!(client.message().is_none());
    }
    board.status();
}

#[test]
fn a_set_that_has_expired_runs_on_and_says_so() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "hi"), RunConfig::default());
    let runs = app(&image, "exec sleep 1000");
    let (release, mut deploy) = board.documents("1", vec![runs]);
    let expires = now() + 1800;
    deploy.expires = expires;
    assert_eq!(board.carry_out("a", &release, &deploy).0, Phase::Committed);
    let stale = |board: &Board| board.status().current.unwrap().stale_since;
    assert_eq!(stale(&board), None);

    // A newer one that does not stay has moved the time all the same.
    let (release, mut deploy) = board.documents("2", vec![app(&image, "exit 1")]);
    deploy.issued_at = now() + 3600;
    assert_eq!(board.carry_out("b", &release, &deploy).0, Phase::RolledBack);
    let set = board.status().current.unwrap();
    assert_eq!(
        (set.version.as_str(), set.stale_since),
        ("1", Some(expires))
    );

    // Neither a next supervisor nor the next boot stops it for that.
    let pid = board.app("web").unwrap().pid;
    board.restart_supervisor();
    assert_eq!(stale(&board), Some(expires));
    assert_eq!(board.app("web").unwrap().pid, pid);
    board.stop_all();
    board.start_supervisor();
    board::wait_for("the app", std::time::Duration::from_secs(20), || {
        board.app("web")?.pid
    });
    assert_eq!(stale(&board), Some(expires));

    // It is out of date for whoever offers it anew under another number.
    let (release, mut deploy) = board.documents("3", vec![app(&image, "exec sleep 1000")]);
    deploy.expires = expires;
    let refused = refused_with(board.offer("c", &release, &deploy));
    assert_eq!(refused, "expired");
}

#[test]
fn a_release_that_breaks_everything_is_told_all_of_it_and_nothing_changes() {
    let (mut board, release, _) = good();
    board.kill_supervisor();
    let site = "[storage.ceilings]\nwrite_bytes_per_second = 10_000_000\n\
        [network]\nparents = [\"eth?\"]\nmodes = [\"bridge\", \"none\"]\n";
    std::fs::write(board.config().with_file_name("board.toml"), site).unwrap();
    board.start_supervisor();
    let runs = release.apps[0].clone();
    board.commit("1", vec![runs.clone()]);
    let pid = board.app("web").unwrap().pid;
    // Journal, counters and keys by what is in them, layers by name.
    let state = board.state();
    let snapshot = || {
        let mut files = std::collections::BTreeMap::new();
        for folder in ["deployments", "trust", "layers", "staging"] {
            for entry in std::fs::read_dir(state.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                let bytes = path.is_file().then(|| std::fs::read(&path).unwrap());
                files.insert(path, bytes);
            }
        }
        files
    };
    let mut large = runs.clone();
    large.name = AppName::new("large").unwrap();
    large.limits.memory_bytes = 1 << 50;
    large.limits.cpu_millis = 1_000_000;
    large.limits.pids = u32::MAX;
    large.limits.disk_bytes = Some(1 << 40);
    large.limits.io_write_bytes_per_second = Some(20_000_000);
    let mut reaches = runs.clone();
    reaches.name = AppName::new("reaches").unwrap();
    let network = r#"{"networks": [{"name": "back"}, {"name": "wire"}],
        "ports": [{"host": 7053, "container": 53, "protocol": "udp"}]}"#;
    reaches.network = serde_json::from_str(network).unwrap();
    let mut whole = runs.clone();
    whole.name = AppName::new("whole").unwrap();
    whole.network = serde_json::from_str(r#"{"mode": "host"}"#).unwrap();
    whole.devices = vec![serde_json::from_str(r#"{"name": "lidar"}"#).unwrap()];
    let mut link = runs.clone();
    link.name = AppName::new("link").unwrap();
    link.network = serde_json::from_str(r#"{"interfaces": [{"name": "wlan7"}]}"#).unwrap();
    let _listener = board.listen_udp("0.0.0.0:7053");
    let networks = [
        r#"{"name": "back", "subnet": "172.31.5.0/24"}"#,
        r#"{"name": "wire", "driver": "macvlan", "parent": "usb0", "subnet": "10.99.0.0/24"}"#,
    ];
    let (mut release, _) = board.documents("2", vec![runs, large, reaches, whole, link]);
    release.networks = networks
        .map(|text| serde_json::from_str(text).unwrap())
        .to_vec();
    let deploy = board.deploy_of(&release, 9);

    let before = snapshot();
    let Answer::Refused { reason, .. } = board.offer("b", &release, &deploy) else {
        panic!("it was taken");
    };
    for part in [
        "memory: the apps ask for",
        "CPU: the apps ask for",
        "processes: the apps ask for",
        "disk: the apps ask for",
        "bytes written: the apps ask for",
        "`whole`: network mode `host` is not allowed",
        "network `wire`: `usb0` carries no networks on this board",
        "app `link`: `wlan7` is not given away",
        "network `back`: ",
        "app `reaches`: port 7053/udp is that of",
        "app `whole`: device `lidar` is not among those",
    ] {
        assert!(reason.contains(part), "`{part}` is not in {reason}");
    }
    assert_eq!(snapshot(), before);
    let status = board.status();
    assert_eq!(status.current.unwrap().version, "1");
    assert_eq!(board.app("web").unwrap().pid, pid);
    assert_eq!(failed(board.activate("b")), "no-offer");
}

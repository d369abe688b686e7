//! A release that makes something else of what is in a volume: copied before its apps start, put back when they do not stay,
//! gone when they do; never old apps with new data. Needs root.
//!
//! A few cuts; `CORACLE_CUTS=all` for every one, `CORACLE_CUTS=100` for a hundred.

mod board;
mod cut;
#[path = "cut/deployment.rs"]
mod deployment;

use board::{Board, quiet, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::{Answer, Event, Request, VolumeAction};
use coracle_protocol::names::VolumeName;
use coracle_protocol::release::{App, Image, Restart, Strategy, VolumeMount};
use coracle_protocol::report::{Phase, SetState};
use cut::Cut;
use cut::family::{Whose, cut_family};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const WAIT: Duration = Duration::from_secs(60);
/// Points where nobody says how many.
const SAMPLE: usize = 12;

fn volume(name: &str, size: Option<u64>) -> VolumeMount {
    VolumeMount {
        name: VolumeName::new(name).unwrap(),
        target: format!("/{name}"),
        read_only: false,
        size_bytes: size,
        inodes: None,
    }
}

/// One that runs on only where its volume holds what it can read: nothing, or what its own version or the one before has
/// written. It writes its own then.
fn of_version(image: &Image, version: u32, more: &str) -> App {
    let script = format!(
        "v={version}; was=$(cat /data/version 2>/dev/null || echo {version}); \
         echo {version} found $was; test $was -le {version} || exit 9; \
         echo {version} > /data/version; {more}; exec sleep 1000"
    );
    let mut app = quiet(image, "web", &script);
    app.volumes = vec![volume("data", Some(4 * MIB))];
    app.data_version = version;
    app.limits.disk_bytes = Some(MIB);
    app
}

fn image(board: &Board) -> Image {
    board.image(&rootfs(board, "data"), RunConfig::default())
}

fn said(board: &Board) -> String {
    let log = board.state().join("logs/web/json.log");
    std::fs::read_to_string(log).unwrap()
}

fn file(board: &Board, name: &str) -> PathBuf {
    board.state().join("volumes/data/room/data").join(name)
}

fn version(board: &Board) -> String {
    std::fs::read_to_string(file(board, "version")).unwrap()
}

/// What lies beside the volumes.
fn copies(board: &Board) -> Vec<String> {
    let entries = std::fs::read_dir(board.state().join("volumes")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.')).collect()
}

#[track_caller]
fn refused(answer: Answer, code: &str, words: &[&str]) {
    let Answer::Refused { code: got, reason } = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(got, code, "{reason}");
    for word in words {
        assert!(reason.contains(word), "no `{word}` in: {reason}");
    }
}

#[test]
fn data_come_back_with_the_version_that_can_read_them() {
    let mut board = Board::start();
    let image = image(&board);
    board.commit(
        "1",
        vec![of_version(
            &image,
            1,
            "echo old > /data/only; cat /data/only",
        )],
    );
    let mut bad = of_version(
        &image,
        2,
        "rm /data/only; echo x > /data/new; echo y > /more/new; exit 3",
    );
    bad.volumes.push(volume("more", None));
    bad.restart = Restart::No;
    let (phase, reason) = board.deploy("2", vec![bad.clone()]);
    assert_eq!(phase, Phase::RolledBack);
    let reason = reason.unwrap();
    for words in [
        "put back as of 20",
        "Z, what it wrote there is gone: volumes data; kept with what it wrote: volumes more",
    ] {
        assert!(reason.contains(words), "no `{words}` in: {reason}");
    }
    let text = said(&board);
    assert!(
        text.contains("2 found 1"),
        "the new one had the data: {text}"
    );
    wait_for("the old one to have them too", WAIT, || {
        (said(&board).matches("1 found 1").count() == 2).then_some(())
    });
    assert_eq!(version(&board).trim(), "1");
    assert!(file(&board, "only").exists() && !file(&board, "new").exists());
    assert_eq!(copies(&board), [""; 0]);

    // One that stays.
    board.commit("3", vec![of_version(&image, 2, "true")]);
    assert_eq!(version(&board).trim(), "2");
    assert!(said(&board).contains("2 found 1"));
    assert_eq!(copies(&board), [""; 0]);
    // The next one of that version is an update like any other, and leaves what it wrote.
    let (phase, reason) = board.deploy("4", vec![bad]);
    assert_eq!(phase, Phase::RolledBack);
    let reason = reason.unwrap();
    let words = "; kept with what it wrote: volumes data, more";
    assert!(reason.ends_with(words), "{reason}");

    // There is no way back to data that are no more, and it says what there is instead.
    let (release, deploy) = board.documents("5", vec![of_version(&image, 1, "true")]);
    let words = [
        "app `web`: volume `data` holds data of data_version 2",
        "the app has data_version = 1",
        "release it with data_version = 2",
        "data_version = 3",
    ];
    refused(board.offer("5", &release, &deploy), "newer-data", &words);
    board.restart_supervisor();
    let (release, deploy) = board.documents("6", vec![of_version(&image, 1, "true")]);
    refused(board.offer("6", &release, &deploy), "newer-data", &words);
    assert_eq!(board.status().current.unwrap().version, "3");
}

#[test]
fn what_is_converted_is_not_handed_over_and_has_room_for_its_copy() {
    let mut board = Board::start();
    let image = image(&board);
    let mut web = of_version(&image, 1, "true");
    web.strategy = Strategy::StartThenKill;
    web.both_write.insert(VolumeName::new("data").unwrap());
    board.commit("1", vec![web.clone()]);
    web.data_version = 2;
    let (release, deploy) = board.documents("2", vec![web.clone()]);
    let words = [
        "app `web`: strategy = `start-then-kill`",
        "volume `data`",
        "data_version 2",
        "kill-then-start",
    ];
    refused(
        board.offer("2", &release, &deploy),
        "cannot-overlap",
        &words,
    );

    // Nobody has room for so much twice.
    let held = board.state().join("volumes/data/room.ext4");
    let held = held.metadata().unwrap().len().to_string();
    let site = board.dir.path().join("etc/board.toml");
    let text = std::fs::read_to_string(&site).unwrap();
    let free = rustix::fs::statvfs(board.state()).unwrap();
    let all = (free.f_blocks * free.f_frsize) >> 20;
    // Room for what runs, and not for so much more.
    let less = format!(
        "{text}[reserve]\ndisk_mib = {}\n[quotas]\nlog_mib = 1\n",
        all - 20
    );
    std::fs::write(&site, less).unwrap();
    board.restart_supervisor();
    web.strategy = Strategy::default();
    web.both_write.clear();
    let (release, deploy) = board.documents("3", vec![web.clone()]);
    let words = [
        "disk: the apps ask for",
        "copies of the volumes that it converts",
        &held,
        "data",
    ];
    refused(board.offer("3", &release, &deploy), "over-budget", &words);
    // Without a copy there is room.
    web.data_version = 1;
    web.priority = 51;
    board.commit("4", vec![web]);
}

/// A person's backup is waited for, and none begins while the volume is copied.
#[test]
fn a_volume_that_is_backed_up_is_converted_afterwards() {
    let mut board = Board::start();
    let image = image(&board);
    board.commit("1", vec![of_version(&image, 1, "true")]);
    let name = VolumeName::new("data").unwrap();
    let action = VolumeAction::Backup { name };
    // Nobody comes for it, which is noticed after ten seconds.
    let answer = board.ask(Request::Volume { action, uid: 0 });
    assert!(matches!(answer, Answer::Transfer { .. }), "{answer:?}");
    let (release, deploy) = board.documents("2", vec![of_version(&image, 2, "true")]);
    let needs = board.needs("2", &release, &deploy);
    board.stage_all("2", &needs);
    let mut events = board.watch();
    assert_eq!(board.activate("2"), Answer::Done);
    let waiting = board.status().waiting.unwrap();
    assert_eq!(waiting.code, "backup");
    assert!(waiting.reason.contains("volume `data`"), "{waiting:?}");
    assert_eq!(board.end_of(&mut events, "2"), (Phase::Committed, None));
    assert_eq!(version(&board).trim(), "2");
}

/// Neither set runs meanwhile: whoever asks is told for what.
#[test]
fn volumes_that_cannot_be_put_back_yet_are_told_and_tried_again() {
    let mut board = Board::start();
    let image = image(&board);
    board.commit("1", vec![of_version(&image, 1, "true")]);
    let mut bad = of_version(&image, 2, "sleep 3; exit 3");
    bad.restart = Restart::No;
    bad.trial_seconds = 30;
    let (release, deploy) = board.documents("2", vec![bad]);
    let needs = board.needs("2", &release, &deploy);
    board.stage_all("2", &needs);
    let mut events = board.watch();
    assert_eq!(board.activate("2"), Answer::Done);
    wait_for("what the trial writes", WAIT, || {
        let text = std::fs::read_to_string(file(&board, "version")).ok()?;
        (text.trim() == "2").then_some(())
    });
    // What is a mount point cannot be moved away.
    let own = board.state().join("volumes/data");
    let run = |program: &str, paths: &[&PathBuf]| {
        let mut run = std::process::Command::new(program);
        assert!(run.args(paths).status().unwrap().success());
    };
    let bind = PathBuf::from("--bind");
    run("mount", &[&bind, &own, &own]);
    let waiting = wait_for("the reason", WAIT, || {
        let waiting = board.status().waiting?;
        waiting
            .reason
            .contains("cannot be put back")
            .then_some(waiting)
    });
    run("umount", &[&own]);
    assert_eq!(waiting.code, "switching");
    assert!(waiting.reason.contains("volumes/data"), "{waiting:?}");
    let (phase, _) = board.end_of(&mut events, "2");
    assert_eq!(phase, Phase::RolledBack);
    assert_eq!(version(&board).trim(), "1");
    assert_eq!(copies(&board), [""; 0]);
}

/// Volumes that a reset keeps are those of the set that was kept.
#[test]
fn a_reset_in_the_middle_of_a_trial_puts_back_what_was_there_before() {
    let mut board = Board::start();
    let image = image(&board);
    board.commit("1", vec![of_version(&image, 1, "touch /data/only")]);
    let mut next = of_version(&image, 2, "rm /data/only");
    next.trial_seconds = 60;
    let (release, deploy) = board.documents("2", vec![next]);
    let needs = board.needs("2", &release, &deploy);
    board.stage_all("2", &needs);
    assert_eq!(board.activate("2"), Answer::Done);
    wait_for("what the trial writes", WAIT, || {
        let text = std::fs::read_to_string(file(&board, "version")).ok()?;
        (text.trim() == "2").then_some(())
    });
    board.kill_supervisor();
    // As it is noted when it was accepted, and the power went then.
    let note = r#"{"reset_version":1,"decommission":false,"volumes":false}"#;
    std::fs::write(board.state().join("reset.json"), note).unwrap();
    board.start_supervisor();
    assert!(board.log().contains("reset: done"), "{}", board.log());
    assert!(board.status().current.is_none());
    assert_eq!(copies(&board), [""; 0]);
    // What it cannot read would be refused.
    let again = self::image(&board);
    board.commit("3", vec![of_version(&again, 1, "true")]);
    assert!(file(&board, "only").exists());
}

/// The set that runs once the board has come to rest, and what its app has found.
fn comes_to_rest(board: &Board, at: &str) -> u32 {
    let what = format!("one whole set after {at}");
    wait_for(&what, WAIT, || {
        let set = board.try_status()?.current?;
        let run = set
            .apps
            .first()
            .filter(|_| set.state == SetState::Committed)?;
        run.pid?;
        let (version, _) = run.args[2].strip_prefix("v=")?.split_once(';')?;
        let version: u32 = version.parse().ok()?;
        // An app that a cut ended can still be the one that is told, and its volume be on its way.
        let found = std::fs::read_to_string(file(board, "version")).ok()?;
        (found.trim() == version.to_string()).then_some(version)
    })
}

/// The supervisor with whatever it starts: the child that copies, and the new app.
fn cut_with_children(board: &mut Board, version: &str, app: App, n: usize) -> Cut {
    let (release, deploy) = board.documents(version, vec![app]);
    let needs = board.needs(version, &release, &deploy);
    board.stage_all(version, &needs);
    let (mut events, mut client) = (board.watch(), board.client());
    let over = Arc::new(AtomicBool::new(false));
    let ended = over.clone();
    let own = version.to_owned();
    let watcher = std::thread::spawn(move || {
        while let Some(event) = events.event() {
            // The end of the one before is told to the first who listens.
            if matches!(event, Event::Deployment { phase, activity, .. } if phase.is_end() && activity == own)
            {
                ended.store(true, Ordering::Relaxed);
                return;
            }
        }
    });
    let (pid, log) = (board.supervisor_pid(), board.log_path());
    let activity = version.to_owned();
    let cut = cut_family(pid, &log, Whose::All, n, &over, || {
        client.send(Request::Activate { activity });
    });
    if let Cut::Before(_) = cut {
        board.restart_supervisor();
    }
    watcher.join().unwrap();
    cut
}

/// Versions come one after the other, each deployment cut somewhere else.
fn cut_everywhere(cut: impl Fn(&mut Board, &str, App, usize) -> Cut) {
    let mut board = Board::start();
    let image = image(&board);
    board.commit("0", vec![of_version(&image, 1, "true")]);
    let Cut::Over(all) = cut(&mut board, "1", of_version(&image, 2, "true"), usize::MAX) else {
        panic!("it was cut where nobody cuts");
    };
    let wanted = match std::env::var("CORACLE_CUTS").unwrap_or_default().as_str() {
        "" => SAMPLE,
        "all" => all,
        number => number.parse().expect("CORACLE_CUTS is `all` or 7"),
    };
    let mut before = comes_to_rest(&board, "the first");
    assert_eq!(before, 2, "{}", board.log());
    let (mut stayed, mut came) = (0, 0);
    for n in (1..=all).step_by((all / wanted).max(1)) {
        let next = of_version(&image, before + 1, "true");
        let at = match cut(&mut board, &format!("{}", n + 1), next, n) {
            Cut::Before(call) => format!("cut {n}, {call}"),
            Cut::Over(_) => "nothing was cut".to_owned(),
        };
        let after = comes_to_rest(&board, &at);
        let text = said(&board);
        // No app has ever found what it cannot read.
        for line in text.lines().filter(|line| line.contains(" found ")) {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let words: Vec<&str> = line["log"].as_str().unwrap().split_whitespace().collect();
            let numbers = [words[0], words[2]].map(|word| word.parse::<u32>().unwrap());
            assert!(numbers[1] <= numbers[0], "{at}: {words:?}");
        }
        wait_for(&format!("no copy after {at}"), WAIT, || {
            copies(&board).is_empty().then_some(())
        });
        match after == before {
            true => stayed += 1,
            false => came += 1,
        }
        before = after;
    }
    eprintln!("{all} calls; the old set stayed {stayed} times, the new one came {came} times");
    assert!(stayed > 0, "no cut came before the new set was kept");
}

#[test]
fn a_supervisor_that_is_killed_at_any_call_leaves_no_app_with_data_of_a_later_one() {
    cut_everywhere(|board, version, app, n| deployment::cut(board, version, vec![app], n));
}

#[test]
fn neither_does_a_cut_of_all_that_it_has_started() {
    cut_everywhere(cut_with_children);
}

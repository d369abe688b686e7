//! Sticks that come as devices, at any moment and in any number, and what a board leaves on those that ask for it. Needs root and
//! loop devices.

mod daemon;
mod stick;

use coracle_protocol::dsse::Envelope;
use coracle_protocol::report::Phase;
use coracle_protocol::stick::BoardResult;
use daemon::Daemon;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use stick::hostile::{ATTACKS, Fat};
use stick::{
    APPLY, CONFIG, DELTA, Loop, OFFER, apply, blob, board_and_stick, committed, config, full,
    image_of, plug, put,
};

const ASK: &str = "POST /coracle/v1/stick/result";
const STATUS: &str = "GET /coracle/v1/status";

/// Has the stick's assignment ask for a result, and the daemon say of itself what a board says.
fn with_wish(daemon: &Daemon, stick: &std::path::Path) {
    let path = stick.join("coracle/stick.json");
    let mut index: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let deploy = json!({"spec_version": 1, "role": "offline-deploy", "target": {"boards": ["acme.b"]},
        "release": blob(b"r"), "epoch": 1, "seq": 7, "issued_at": 1, "expires": 2, "result": true});
    let release =
        json!({"product": "shop", "version": "2.0", "apps": [{"trial_seconds": 2}]}).to_string();
    index["deploy"] = json!(Envelope::unsigned("d", deploy.to_string().as_bytes()));
    index["release"] = json!(Envelope::unsigned("r", release.as_bytes()));
    std::fs::write(&path, index.to_string()).unwrap();
    let counter = |value: u64| json!({"epoch": 1, "value": value});
    let status = json!({"link": {"board": "acme.b"}, "board": {"hardware": "x", "agent": "0.1.0"},
        "current": {"product": "shop", "version": "1.0"},
        "trust": {"time": 1_700_000_000, "clock_kept": true, "deploy": counter(3),
            "offline_deploy": counter(6), "releases": {"shop": counter(4)}}});
    daemon
        .answer(STATUS, 200, status.to_string())
        .answer(ASK, 204, "");
}

/// A file of a vfat image, when it is there.
fn in_image(image: &std::path::Path, name: &str) -> Option<Vec<u8>> {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(image)
        .unwrap();
    let files = fatfs::FileSystem::new(file, fatfs::FsOptions::new()).unwrap();
    let mut bytes = Vec::new();
    let mut file = files.root_dir().open_file(name).ok()?;
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    Some(bytes)
}

fn result(bytes: &[u8]) -> BoardResult {
    BoardResult::parse(bytes).unwrap()
}

const RESULT: &str = "coracle/result-acme.b.json";

/// A board that takes a stick which asks for a result, the stick, and the board's coracle.toml.
fn board_with_a_wish() -> (Daemon, PathBuf, String) {
    let (daemon, stick) = board_and_stick(&[CONFIG, &full()]);
    with_wish(&daemon, &stick);
    daemon.answer(APPLY, 200, committed());
    let config = config(&daemon, "");
    (daemon, stick, config)
}

#[test]
fn a_result_is_left_on_a_stick_that_asks_for_it() {
    let (daemon, stick) = board_and_stick(&[CONFIG, DELTA]);
    with_wish(&daemon, &stick);
    daemon.answer(APPLY, 200, committed());
    let (code, out, err) = apply(&daemon, &stick);
    assert_eq!((code, err.as_str()), (0, ""));
    let says = "committed\nleft result-acme.b.json on the stick\n";
    assert!(out.ends_with(says), "{out}");
    let bytes = std::fs::read(stick.join(RESULT)).unwrap();
    let left = result(&bytes);
    assert_eq!((left.outcome, left.code), (Phase::Committed, None));
    assert_eq!((left.product, left.version), ("shop".into(), "2.0".into()));
    assert_eq!(
        (left.stick, left.runs.as_deref()),
        (7, Some("shop 1.0")),
        "{}",
        String::from_utf8_lossy(&bytes)
    );
    let counters = left.counters.unwrap();
    assert_eq!(counters.offline_deploy.value, 6);
    assert_eq!((left.time.at_least, left.time.kept), (1_700_000_000, true));
    let asked: Value = serde_json::from_slice(daemon.asked(ASK)[0].body.as_ref().unwrap()).unwrap();
    let index: Value =
        serde_json::from_slice(&std::fs::read(stick.join("coracle/stick.json")).unwrap()).unwrap();
    assert_eq!(asked["deploy"], index["deploy"]);

    // Refused, with its reason; and nothing that is there is written over, whatever it is.
    let refusal = r#"{"message":"counter 1.6 was seen","code":"old-assignment"}"#;
    daemon.answer(OFFER, 403, refusal);
    // The first answer to an offer is still that it is taken.
    assert_eq!(apply(&daemon, &stick).0, 0);
    std::fs::remove_file(stick.join("coracle/result-acme.b-2.json")).unwrap();
    let elsewhere = daemon.folder().join("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, stick.join("coracle/result-acme.b-2.json")).unwrap();
    let (code, out, _) = apply(&daemon, &stick);
    assert_eq!(code, 3, "{out}");
    assert!(out.contains("left result-acme.b-3.json"), "{out}");
    assert!(!elsewhere.exists(), "a link was followed");
    assert_eq!(std::fs::read(stick.join(RESULT)).unwrap(), bytes);
    let third = std::fs::read(stick.join("coracle/result-acme.b-3.json")).unwrap();
    let third = result(&third);
    assert_eq!(third.outcome, Phase::Refused);
    assert_eq!(third.code.as_deref(), Some("old-assignment"));
    assert_eq!(third.reason.as_deref(), Some("counter 1.6 was seen"));

    // One board does not fill a stick.
    for _ in 4..=9 {
        apply(&daemon, &stick);
    }
    let (code, out, _) = apply(&daemon, &stick);
    assert_eq!(code, 3);
    assert!(out.contains("holds 9 results of this board"), "{out}");
}

/// By who may not sign sticks, or not at all.
#[test]
fn nothing_is_written_to_a_stick_that_may_not_ask_for_it() {
    let (daemon, stick) = board_and_stick(&[CONFIG, DELTA]);
    daemon.answer(APPLY, 200, committed());
    let before = |image: &std::path::Path| std::fs::read(image).unwrap();
    let plain = image_of(&stick);
    let bytes = before(&plain);
    let (code, out, err) = apply(&daemon, &plain);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.ends_with("committed\n"), "{out}");
    assert!(bytes == before(&plain) && daemon.asked(ASK).is_empty());

    with_wish(&daemon, &stick);
    let forged = image_of(&stick);
    let bytes = before(&forged);
    let refusal = r#"{"message":"assignment: 0 of 1 signatures","code":"bad-signature"}"#;
    let refusing = Daemon::start();
    refusing
        .answer(STATUS, 200, json!({}).to_string())
        .answer(OFFER, 403, refusal)
        .answer(ASK, 403, refusal);
    let config = config(&refusing, "");
    let (code, out, _) = plug(&refusing, &config, &forged);
    assert_eq!(code, 3);
    assert!(out.contains("no result is left on the stick"), "{out}");
    assert!(bytes == before(&forged), "it was written to");
    assert_eq!(apply(&refusing, &stick).0, 3);
    let names = std::fs::read_dir(stick.join("coracle")).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(
        !names.any(|name| BoardResult::is_name(&name)),
        "a file was left"
    );
}

#[test]
fn a_plugged_stick_gets_its_result_from_the_boards_user() {
    let (daemon, stick, config) = board_with_a_wish();
    let image = image_of(&stick);
    let device = Loop::of(&image, &[]);
    let (code, out, err) = plug(&daemon, &config, &device.0);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(
        out.ends_with("committed\nleft result-acme.b.json on the stick\n"),
        "{out}"
    );
    drop(device);
    let left = result(&in_image(&image, RESULT).unwrap());
    assert_eq!(left.outcome, Phase::Committed);
    check_fat(&image);
}

/// The file system of an image is one that other systems take for sound.
fn check_fat(image: &std::path::Path) {
    let said = std::process::Command::new("fsck.vfat")
        .arg("-n")
        .arg(image)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    for bad in [
        "Dirty bit",
        "wrong",
        "differences",
        "Contains a free cluster",
        "Orphan",
    ] {
        assert!(!text.contains(bad), "{text}");
    }
}

#[test]
fn a_stick_that_takes_no_result_changes_nothing_of_the_update() {
    let (daemon, stick, config) = board_with_a_wish();

    // The switch against writing.
    let image = image_of(&stick);
    let device = Loop::of(&image, &["--read-only"]);
    let (code, out, err) = plug(&daemon, &config, &device.0);
    assert_eq!(code, 0, "{out}{err}");
    assert!(err.contains("it is write-protected"), "{err}");
    assert!(
        out.contains("committed\n") && out.contains("no result is left"),
        "{out}"
    );
    drop(device);

    // Full: not even a name is left behind.
    let image = image_of(&stick);
    fill(&image);
    let device = Loop::of(&image, &[]);
    let (code, out, err) = plug(&daemon, &config, &device.0);
    assert_eq!(code, 0, "{out}{err}");
    assert!(err.contains("No space left on device"), "{err}");
    drop(device);
    assert_eq!(in_image(&image, RESULT), None);
    check_fat(&image);

    // Another one in its place when it is to be written.
    let image = image_of(&stick);
    let other = image.clone();
    daemon.meanwhile(ASK, move || {
        let mut bytes = std::fs::read(&other).unwrap();
        let at = bytes
            .windows(13)
            .position(|w| w == b"stick_version")
            .unwrap();
        bytes[at] = b'S';
        std::fs::write(&other, bytes).unwrap();
    });
    let before = daemon.asked(ASK).len();
    let (code, out, err) = plug(&daemon, &config, &image);
    assert_eq!(code, 0, "{out}{err}");
    assert!(err.contains("another stick is in its place"), "{err}");
    assert_eq!(daemon.asked(ASK).len(), before + 1);
    assert_eq!(in_image(&image, RESULT), None);

    // Pulled out.
    let image = image_of(&stick);
    let gone = image.clone();
    daemon.meanwhile(ASK, move || std::fs::remove_file(gone).unwrap());
    let (code, out, err) = plug(&daemon, &config, &image);
    assert_eq!(code, 0, "{out}{err}");
    assert!(err.contains("cannot write to"), "{err}");
}

/// Takes each free cluster of an image.
fn fill(image: &std::path::Path) {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(image)
        .unwrap();
    let files = fatfs::FileSystem::new(file, fatfs::FsOptions::new()).unwrap();
    let mut file = files.root_dir().create_file("filler").unwrap();
    while std::io::Write::write(&mut file, &[7; 4096]).is_ok_and(|n| n > 0) {}
}

/// The result is written while its stick is mounted: the kernel would not know of it, and what is mounted could break.
#[test]
fn a_device_that_is_in_use_is_not_written_to() {
    let (daemon, stick, config) = board_with_a_wish();
    let image = image_of(&stick);
    let device = Loop::of(&image, &[]);
    // As a mount holds it.
    let held = std::os::unix::fs::OpenOptionsExt::custom_flags(
        std::fs::File::options().read(true),
        rustix::fs::OFlags::EXCL.bits() as i32,
    )
    .open(&device.0)
    .unwrap();
    let (code, out, err) = plug(&daemon, &config, &device.0);
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        err.contains("it is mounted, or used by another program"),
        "{err}"
    );
    drop(held);
    drop(device);
    assert_eq!(in_image(&image, RESULT), None);
}

fn lines(daemon: &Daemon) -> Vec<String> {
    let asked = daemon.asked("");
    let lines = asked.into_iter().map(|asked| asked.line);
    lines
        .filter(|line| *line != STATUS && *line != ASK)
        .collect()
}

#[test]
fn two_sticks_at_once_wait_for_each_other() {
    let (daemon, stick, config) = board_with_a_wish();
    let image = image_of(&stick);
    let second = daemon.folder().join("second.img");
    std::fs::copy(&image, &second).unwrap();
    let devices = [Loop::of(&image, &[]), Loop::of(&second, &[])];
    std::thread::scope(|scope| {
        let plugged = devices.each_ref().map(|device| {
            let (daemon, config) = (&daemon, &config);
            scope.spawn(move || plug(daemon, config, &device.0))
        });
        for plugged in plugged {
            let (code, out, err) = plugged.join().unwrap();
            assert_eq!((code, err.as_str()), (0, ""), "{out}");
            assert!(
                out.contains("left result-acme.b.json on the stick"),
                "{out}"
            );
        }
    });
    drop(devices);
    let put = put(&full());
    let config = stick::put(CONFIG);
    let one = [OFFER, &config, &put, APPLY];
    assert_eq!(lines(&daemon), [one, one].concat(), "one went in between");
    for image in [image, second] {
        let left = result(&in_image(&image, RESULT).unwrap());
        assert_eq!(left.outcome, Phase::Committed);
    }
}

#[test]
fn a_stick_for_another_board_or_of_yesterday_says_so_where_it_was_refused() {
    for (code, message) in [
        (
            "wrong-board",
            "the assignment is for acme.a; this board is acme.b",
        ),
        ("old-release", "release counter 1.1 of `shop` is below 1.4"),
        (
            "expired",
            "assignment: expired at 2; it is at least 1700000000",
        ),
    ] {
        let (_taking, stick) = board_and_stick(&[CONFIG, &full()]);
        let daemon = Daemon::start();
        with_wish(&daemon, &stick);
        let refusal = json!({"message": message, "code": code}).to_string();
        daemon.answer(OFFER, 403, refusal);
        let config = config(&daemon, "");
        let image = image_of(&stick);
        let device = Loop::of(&image, &[]);
        let (exit, out, err) = plug(&daemon, &config, &device.0);
        assert_eq!(exit, 3, "{out}{err}");
        assert!(err.contains(message), "{err}");
        assert_eq!(lines(&daemon), [OFFER], "something was sent");
        drop(device);
        let left = result(&in_image(&image, RESULT).unwrap());
        assert_eq!(
            (left.outcome, left.code.as_deref()),
            (Phase::Refused, Some(code))
        );
        assert_eq!(left.reason.as_deref(), Some(message));
        assert_eq!(left.runs.as_deref(), Some("shop 1.0"));
    }
}

/// Takes a device's bytes away while it is open: what is read from then on is an error, as of a stick that is pulled out.
fn pull_out(image: &std::path::Path, device: &std::path::Path) {
    let file = std::fs::File::options().write(true).open(image).unwrap();
    file.set_len(0).unwrap();
    for (program, option) in [("losetup", "--set-capacity"), ("blockdev", "--flushbufs")] {
        let done = std::process::Command::new(program)
            .arg(option)
            .arg(device)
            .status();
        assert!(done.unwrap().success(), "{program}");
    }
}

#[test]
fn a_stick_that_is_pulled_out_is_of_no_more_account_from_then_on() {
    let config_blob = put(CONFIG);
    let full_blob = put(&full());
    for (moment, takes) in [
        (OFFER, false),
        (config_blob.as_str(), false),
        // All of it is on the board.
        (full_blob.as_str(), true),
        (APPLY, true),
        (ASK, true),
    ] {
        let (daemon, stick, config) = board_with_a_wish();
        let image = image_of(&stick);
        let device = Loop::of(&image, &[]);
        let (pulled, node) = (image.clone(), device.0.clone());
        daemon.meanwhile(moment, move || pull_out(&pulled, &node));
        let (code, out, err) = plug(&daemon, &config, &device.0);
        assert_eq!(code == 0, takes, "{moment}: {out}{err}");
        assert_eq!(out.contains("committed\n"), takes, "{moment}: {out}{err}");
        assert!(
            out.contains("no result is left on the stick"),
            "{moment}: {out}{err}"
        );
        let whole: Vec<Vec<u8>> = daemon
            .asked("PUT")
            .into_iter()
            .filter_map(|put| put.body)
            .collect();
        let good = [CONFIG.to_vec(), full()];
        assert!(
            whole.iter().all(|bytes| good.contains(bytes)),
            "{moment}: what is no blob went out whole"
        );
        assert_eq!(daemon.asked(APPLY).len(), usize::from(takes), "{moment}");
    }
}

/// Loops, names that lead elsewhere or have no end, files that are none: told within a time for which the next stick can wait.
#[test]
fn a_stick_with_a_hostile_file_system_is_told_and_nothing_of_it_is_taken() {
    for attack in &ATTACKS {
        let (daemon, stick) = board_and_stick(&[CONFIG, DELTA, &full()]);
        daemon.answer(APPLY, 200, committed());
        let config = config(&daemon, "");
        let image = image_of(&stick);
        let mut bytes = std::fs::read(&image).unwrap();
        (attack.spoil)(&mut Fat::of(&mut bytes));
        std::fs::write(&image, &bytes).unwrap();
        let device = Loop::of(&image, &[]);
        let start = Instant::now();
        let (code, out, err) = plug(&daemon, &config, &device.0);
        let (name, took, said) = (attack.name, start.elapsed(), out + &err);
        assert!(said.contains(attack.says), "{name}: {code}, {said}");
        assert_eq!(code, 1, "{name}: {said}");
        assert!(took < Duration::from_secs(60), "{name}: {took:?}");
        assert!(daemon.asked(APPLY).is_empty(), "{name}: it was applied");
        let put = daemon.asked("PUT").into_iter();
        let put: Vec<_> = put.filter(|put| put.body.is_some()).collect();
        assert!(put.is_empty(), "{name}: {} went out whole", put.len());
        drop(device);
        assert!(
            std::fs::read(&image).unwrap() == bytes,
            "{name}: written to"
        );
    }
}

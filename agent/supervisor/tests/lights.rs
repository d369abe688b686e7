//! The board's lights under the real supervisor: files of the test in the place of /sys/class/leds.

mod board;

use board::{Board, app, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::{Answer, Request, StickWord};
use coracle_protocol::release::{App, Image, NetworkMode, Restart};
use coracle_protocol::report::Phase;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);

fn folder(board: &Board) -> PathBuf {
    board
        .dir
        .path()
        .join("hardware/sys/class/leds/board:green:act")
}

/// `timer 100`, `heartbeat`, `none 1`: what drives the light, and how.
fn light(board: &Board) -> String {
    let file = |name| fs::read_to_string(folder(board).join(name)).unwrap();
    match file("trigger").as_str() {
        "timer" => format!("timer {}", file("delay_on")),
        "none" => format!("none {}", file("brightness")),
        other => other.to_owned(),
    }
}

fn shows(board: &Board, what: &str) {
    wait_for(&format!("the light to be {what}"), WAIT, || {
        (light(board) == what).then_some(())
    });
}

fn board() -> Board {
    let mut board = Board::start();
    board.kill_supervisor();
    let site = "leds = [\
        { name = \"board:green:act\", running = \"heartbeat\", updating = \"fast-blink\", trial = \"off\", \
          failed = \"slow-blink\", stick_refused = \"on\" }, \
        { name = \"not:there\", running = \"on\" }]\n";
    fs::write(board.config().with_file_name("board.toml"), site).unwrap();
    fs::create_dir_all(folder(&board)).unwrap();
    for (name, text) in [
        ("trigger", "none [mmc0] timer heartbeat\n"),
        ("brightness", "0"),
        ("max_brightness", "1"),
        ("delay_on", "0"),
        ("delay_off", "0"),
    ] {
        fs::write(folder(&board).join(name), text).unwrap();
    }
    let root = board.dir.path().join("hardware");
    let text = fs::read_to_string(board.config()).unwrap();
    let root = format!("[agent]\nhardware_root = \"{}\"\n", root.display());
    fs::write(board.config(), text.replacen("[agent]\n", &root, 1)).unwrap();
    board.start_supervisor();
    board
}

fn quiet(image: &Image, script: &str) -> App {
    let mut app = app(image, script);
    app.network.mode = NetworkMode::None;
    app.stop_grace_seconds = 0;
    app
}

fn stick(board: &Board, word: StickWord) {
    assert_eq!(board.ask(Request::Stick { word }), Answer::Done);
}

#[test]
fn a_light_tells_how_the_board_is_and_is_given_back() {
    let mut board = board();
    shows(&board, "heartbeat");
    let image = board.image(&rootfs(&board, "lights"), RunConfig::default());
    let mut web = quiet(&image, "exec sleep 1000");
    web.trial_seconds = 3;
    let (release, deploy) = board.documents("1", vec![web]);
    let needs = board.needs("1", &release, &deploy);
    shows(&board, "timer 100");
    board.stage_all("1", &needs);
    let mut events = board.watch();
    assert_eq!(board.activate("1"), Answer::Done);
    shows(&board, "none 0");
    assert_eq!(board.end_of(&mut events, "1").0, Phase::Committed);
    shows(&board, "heartbeat");

    // One that does not stay, and then one that does.
    let mut bad = quiet(&image, "exit 3");
    bad.restart = Restart::No;
    assert_eq!(board.deploy("2", vec![bad]).0, Phase::RolledBack);
    shows(&board, "timer 1000");
    // A next supervisor still tells it.
    board.kill_supervisor();
    fs::write(folder(&board).join("trigger"), "none timer [heartbeat]\n").unwrap();
    board.start_supervisor();
    shows(&board, "timer 1000");
    board.commit("3", vec![quiet(&image, "exec sleep 1001")]);
    shows(&board, "heartbeat");

    // A crash leaves it as it is; the next supervisor still knows how it was.
    board.kill_supervisor();
    fs::write(
        folder(&board).join("trigger"),
        "none mmc0 timer [heartbeat]\n",
    )
    .unwrap();
    board.start_supervisor();
    shows(&board, "heartbeat");
    let pid = Pid::from_raw(board.supervisor_pid() as i32).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    shows(&board, "mmc0");
    assert!(
        !board.log().contains("a light does not do it"),
        "{}",
        board.log()
    );
}

#[test]
fn a_light_tells_what_becomes_of_a_stick() {
    let board = board();
    shows(&board, "heartbeat");
    for (word, shown) in [
        (StickWord::Reading, "timer 100"),
        (StickWord::Refused, "none 1"),
        (StickWord::Done, "heartbeat"),
    ] {
        stick(&board, word);
        shows(&board, shown);
    }
}

#[test]
fn an_app_that_is_down_is_seen_from_afar() {
    let mut board = board();
    let image = board.image(&rootfs(&board, "lights"), RunConfig::default());
    let mut web = quiet(&image, "sleep 3; exit 1");
    web.restart = Restart::No;
    board.commit("1", vec![web]);
    shows(&board, "timer 1000");
}

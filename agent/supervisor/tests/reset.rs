//! A critical app that is down for good, and a supervisor that hangs, on a machine whose watchdog really resets it: a virtual board
//! with a disk on `/kept` that outlives that (docs/boards.md). Each boot runs this program from its beginning, and goes on where the disk says. On a machine
//! without such a disk the test says so.

mod board;

use board::{Board, app, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::release::{NetworkMode, Restart};
use coracle_protocol::report::AppState;
use rustix::process::{Pid, Signal, kill_process};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

const NAMES: [&str; 2] = [
    "a_critical_app_resets_the_machine_twice_and_no_more",
    "a_supervisor_that_hangs_has_the_machine_reset",
];
const KEPT: &str = "/kept";
const WAIT: Duration = Duration::from_secs(60);
/// On the disk once the supervisor was made to hang.
const HUNG: &str = "hung";
/// The watchdog's, and how long a board that is to stay up is watched.
const TIMEOUT: Duration = Duration::from_secs(9);
/// Once less than the harness expects it (`tests/src/bin/boards/board.rs`): the supervisor hangs once.
const RESETS: &str = "2";

fn main() -> ExitCode {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let is_here = mounts.lines().any(|line| line.contains(" /kept "));
    let (verdict, code) = match is_here {
        false => ("not here: no disk is mounted on /kept", ExitCode::SUCCESS),
        true if std::panic::catch_unwind(boot).is_ok() => ("ok", ExitCode::SUCCESS),
        true => ("FAILED", ExitCode::FAILURE),
    };
    for name in NAMES {
        println!("test {name} ... {verdict}");
    }
    code
}

/// One boot. Only the last one returns.
fn boot() {
    let Some(mut board) = Board::after_reset(Path::new(KEPT)) else {
        return first();
    };
    let before = resets(&board);
    board.start_supervisor();
    wait_for("the app after a reset", WAIT, || {
        board.app("web")?.started_at
    });
    match before.as_str() {
        RESETS if Path::new(KEPT).join(HUNG).exists() => last(board),
        RESETS => hang(board),
        "1" => until_the_reset(),
        other => panic!("{other:?} resets were counted before this boot"),
    }
}

/// The release comes, and its app fails for good.
fn first() {
    let site = format!(
        "[reserve]\ndisk_mib = 1\n[quotas]\nlog_mib = 1\n\
         [watchdog]\ndevice = \"/dev/watchdog0\"\ntimeout_seconds = {}\nresets_per_day = {RESETS}\n",
        TIMEOUT.as_secs()
    );
    let mut board = Board::start_on(Path::new(KEPT), &site);
    board.kill_supervisor();
    let config = std::fs::File::options().append(true).open(board.config());
    let feed = b"[watchdog]\nfeed = true\n";
    config.unwrap().write_all(feed).unwrap();
    board.start_supervisor();
    let image = board.image(&rootfs(&board, "critical"), RunConfig::default());
    let mut app = app(&image, "sleep 4; exit 1");
    app.network.mode = NetworkMode::None;
    app.limits.disk_bytes = Some(1 << 20);
    app.restart = Restart::No;
    app.critical = true;
    board.commit("1", vec![app]);
    until_the_reset();
}

fn until_the_reset() {
    std::thread::sleep(WAIT);
    panic!("the machine was not reset");
}

/// No reset is left: the board stays up without its app. Then nobody feeds the watchdog.
fn hang(board: Board) {
    wait_for("the app's end", WAIT, || {
        (board.app("web")?.state == AppState::Exited).then_some(())
    });
    std::thread::sleep(2 * TIMEOUT);
    assert_eq!(resets(&board), RESETS);
    assert_eq!(
        watchdog(),
        "active",
        "it is fed, and would reset the machine"
    );
    std::fs::write(Path::new(KEPT).join(HUNG), []).unwrap();
    rustix::fs::sync();
    tell(&board, Signal::STOP);
    until_the_reset();
}

/// That it hung is held against no app.
fn last(board: Board) {
    wait_for("the app's end", WAIT, || {
        (board.app("web")?.state == AppState::Exited).then_some(())
    });
    assert_eq!(
        (resets(&board).as_str(), watchdog().as_str()),
        (RESETS, "active")
    );
    tell(&board, Signal::TERM);
    wait_for("a watchdog that is disarmed", WAIT, || {
        (watchdog() == "inactive").then_some(())
    });
}

fn tell(board: &Board, signal: Signal) {
    let pid = Pid::from_raw(board.supervisor_pid() as i32).unwrap();
    kill_process(pid, signal).unwrap();
}

fn resets(board: &Board) -> String {
    std::fs::read_to_string(board.state().join("deployments/resets")).unwrap()
}

fn watchdog() -> String {
    let state = std::fs::read_to_string("/sys/class/watchdog/watchdog0/state");
    state.unwrap().trim().to_owned()
}

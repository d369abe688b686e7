//! The watchdog hangs on the supervisor's own loop: fed while it goes round, hungry when it stands
//! still or dies, disarmed when it is ended on purpose. The node is a plain file that keeps each byte.

mod board;

use board::{Board, app, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::names::AppName;
use coracle_protocol::release::{NetworkMode, Restart};
use coracle_protocol::report::AppState;
use rustix::process::{Pid, Signal, kill_process};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);

fn meals(node: &Path) -> Vec<u8> {
    std::fs::read(node).unwrap()
}

fn signal(board: &Board, signal: Signal) {
    let pid = Pid::from_raw(board.supervisor_pid() as i32).unwrap();
    kill_process(pid, signal).unwrap();
}

/// A board whose own file names `node`, fed every second (a third of 3 s).
fn board_with(node: &Path) -> Board {
    board_that_resets(node, 4)
}

/// The same, which resets itself so many times a day for a critical app.
fn board_that_resets(node: &Path, resets: u32) -> Board {
    let mut board = Board::start();
    board.kill_supervisor();
    let site = format!(
        "[watchdog]\ndevice = \"{}\"\ntimeout_seconds = 3\nresets_per_day = {resets}\n",
        node.display()
    );
    std::fs::write(board.config().with_file_name("board.toml"), site).unwrap();
    let mut config = std::fs::File::options()
        .append(true)
        .open(board.config())
        .unwrap();
    config.write_all(b"[watchdog]\nfeed = true\n").unwrap();
    board.start_supervisor();
    board
}

#[test]
fn it_is_fed_by_the_loop_and_only_by_the_loop() {
    let folder = tempfile::tempdir().unwrap();
    let node = folder.path().join("watchdog0");
    std::fs::write(&node, b"").unwrap();
    let mut board = board_with(&node);
    let at_least = |count| {
        let what = format!("{count} meals");
        wait_for(&what, WAIT, || (meals(&node).len() >= count).then_some(()));
    };
    at_least(3);

    // A loop that stands still feeds nothing, whatever else of the process is there.
    signal(&board, Signal::STOP);
    let before = meals(&node).len();
    std::thread::sleep(Duration::from_millis(3500));
    assert_eq!(meals(&node).len(), before, "fed while it stood still");
    signal(&board, Signal::CONT);
    at_least(before + 1);

    // A crash leaves it armed, and the next supervisor feeds on.
    board.kill_supervisor();
    assert!(!meals(&node).contains(&b'V'), "a crash disarmed it");
    std::fs::write(&node, b"").unwrap();
    board.start_supervisor();
    at_least(2);

    signal(&board, Signal::TERM);
    wait_for("the V of an end on purpose", WAIT, || {
        (meals(&node).last() == Some(&b'V')).then_some(())
    });
}

#[test]
fn it_is_left_alone_unless_coracle_toml_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let node = folder.path().join("watchdog0");
    std::fs::write(&node, b"").unwrap();
    let mut board = board_with(&node);
    board.kill_supervisor();
    let text = std::fs::read_to_string(board.config()).unwrap();
    let off = text.replace("feed = true", "feed = false");
    std::fs::write(board.config(), off).unwrap();
    std::fs::write(&node, b"").unwrap();
    board.start_supervisor();
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(meals(&node), b"");
}

#[test]
fn a_critical_app_that_is_down_for_good_lets_the_board_be_reset_a_few_times() {
    let folder = tempfile::tempdir().unwrap();
    let node = folder.path().join("watchdog0");
    std::fs::write(&node, b"").unwrap();
    let mut board = board_that_resets(&node, 1);
    let image = board.image(&rootfs(&board, "page"), RunConfig::default());
    let app = |name: &str, critical| {
        let mut app = app(&image, "sleep 4; exit 1");
        app.name = AppName::new(name).unwrap();
        app.network.mode = NetworkMode::None;
        app.restart = Restart::No;
        app.critical = critical;
        app
    };
    let resets = board.state().join("deployments/resets");
    let hungry = |board: &Board| {
        wait_for("the verdict", WAIT, || {
            board
                .log()
                .contains("the watchdog is no longer fed")
                .then_some(())
        });
        let before = meals(&node).len();
        std::thread::sleep(Duration::from_millis(3500));
        meals(&node).len() == before
    };
    let down = |board: &Board| {
        wait_for("its end", WAIT, || {
            (board.app("pump")?.state == AppState::Exited).then_some(())
        });
    };
    // One that is not critical is nobody's death.
    board.commit("1", vec![app("pump", false)]);
    down(&board);
    let before = meals(&node).len();
    wait_for("meals", WAIT, || {
        (meals(&node).len() >= before + 3).then_some(())
    });
    assert!(!resets.exists());

    board.commit("2", vec![app("pump", true)]);
    down(&board);
    assert!(hungry(&board));
    assert_eq!(std::fs::read_to_string(&resets).unwrap(), "1");

    // After the reset, of which nothing in /run is left, it fails again, and the board stays up.
    board.kill_supervisor();
    std::fs::remove_file(board.dir.path().join("run/supervisor/apps.json")).unwrap();
    std::fs::write(board.dir.path().join("log"), "").unwrap();
    board.start_supervisor();
    wait_for("the app", WAIT, || {
        (board.app("pump")?.state == AppState::Running).then_some(())
    });
    down(&board);
    let before = meals(&node).len();
    wait_for("meals", WAIT, || {
        (meals(&node).len() >= before + 3).then_some(())
    });
    assert_eq!(std::fs::read_to_string(&resets).unwrap(), "1");

    // A count that cannot be read is no reason to begin anew.
    board.kill_supervisor();
    std::fs::write(&resets, "many").unwrap();
    board.start_supervisor();
    down(&board);
    let before = meals(&node).len();
    wait_for("meals", WAIT, || {
        (meals(&node).len() >= before + 3).then_some(())
    });
}

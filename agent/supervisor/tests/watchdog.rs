//! The watchdog hangs on the supervisor's own loop: fed while it goes round, hungry when it stands
//! still or dies, disarmed when it is ended on purpose. The node is a plain file that keeps each byte.

mod board;

use board::{Board, wait_for};
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
    let mut board = Board::start();
    board.kill_supervisor();
    let site = format!(
        "[watchdog]\ndevice = \"{}\"\ntimeout_seconds = 3\n",
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

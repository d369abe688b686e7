//! A board whose clock is wrong, and jumps while it runs: the real console with its broker, the real daemon and the real supervisor.

mod fleet;

use fleet::engineer::Engineer;
use fleet::{Board, Fleet, Supervisor, until};

const NAME: &str = "acme.b1";
/// As a board without a battery starts.
const IN_1970: &str = "@1970-01-01 00:00:10";

#[test]
fn a_clock_that_is_wrong_and_jumps_both_ways_keeps_no_board_from_its_console() {
    assert!(nix::unistd::geteuid().is_root(), "run this test as root");
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(dir.path(), &[]);
    let board = Board::in_folder(dir.path());
    board.set_clock(IN_1970);
    let mut supervisor = Supervisor::start(&board);
    let mut daemon = board.start();
    let engineer = Engineer::of(dir.path(), &fleet, &board, NAME);
    // Its clock is what it was told to be.
    let since = || board.status().unwrap()["link"]["since"].as_u64().unwrap();
    assert!(since() < 86_400, "since {}", since());
    let deploy = |version: u64| {
        let release = ("shop", &*version.to_string(), version);
        engineer.bring("shop", release, 1000, "");
        engineer.done("deploy --board acme.b1 --wait shop.json");
    };
    deploy(1);
    let bound = board.status().unwrap()["trust"]["time"].as_u64().unwrap();

    let year = 365 * 86_400;
    for (version, words) in [(2, "+10y"), (3, IN_1970), (4, "+10y"), (5, "+0")] {
        let connects = board.status().unwrap()["link"]["connects"].clone();
        board.set_clock(words);
        // The link that stands goes on, and what is deployed over it is taken.
        deploy(version);
        let status = board.status().unwrap();
        assert_eq!(status["link"]["connects"], connects, "{words}");
        assert_eq!(status["current"]["version"], version.to_string(), "{words}");
        // Nobody keeps this clock, so that it moves no bound, and makes nothing stale.
        assert_eq!(status["trust"]["clock_kept"], false);
        let moved = status["trust"]["time"].as_u64().unwrap() - bound;
        assert!(moved < 3600, "{words}: by {moved} s");
        assert!(status["current"].get("stale_since").is_none(), "{status}");

        // So do new connections of a next daemon and a next supervisor.
        daemon.stop().unwrap();
        supervisor.kill();
        supervisor.go_on();
        daemon = board.start();
        until("the link under another clock", || {
            let up = |status: serde_json::Value| status["link"]["connected"] == true;
            board.status().is_ok_and(up) && fleet.online(NAME)
        });
        let since = board.status().unwrap()["link"]["since"].as_u64().unwrap();
        let right = match words {
            "+10y" => since > bound + 9 * year,
            IN_1970 => since < 86_400,
            _ => since.abs_diff(bound) < 3600,
        };
        assert!(right, "{words}: since {since}");
    }
}

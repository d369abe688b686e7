//! A board whose clock is wrong, and jumps while it runs: the real console with its broker, the real daemon and the real supervisor.

mod fleet;

use fleet::{Board, Fleet, Supervisor, program, until};
use serde_json::json;
use std::path::Path;

const NAME: &str = "acme.b1";
/// As a board without a battery starts.
const IN_1970: &str = "@1970-01-01 00:00:10";

/// `coracle-release` with these words, in the fleet's folder.
fn release(dir: &Path, fleet: &Fleet, line: &str) {
    let output = program("coracle-release")
        .current_dir(dir)
        .env(
            "CORACLE_CONSOLE",
            format!("http://127.0.0.1:{}", fleet.http),
        )
        .env("CORACLE_TOKEN_FILE", dir.join("console/admin.token"))
        .args(line.split_whitespace())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).unwrap();
    assert!(output.status.success(), "{line}: {said}");
}

/// The image of the one app.
fn image(dir: &Path, fleet: &Fleet) {
    let folder = dir.join("still");
    std::fs::create_dir(&folder).unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"];
    let busybox = busybox.into_iter().find(|path| Path::new(path).exists());
    let busybox = busybox.expect("busybox-static is needed: apt-get install busybox-static");
    std::fs::copy(busybox, folder.join("busybox")).unwrap();
    release(
        dir,
        fleet,
        "image build --rootfs still --platform linux/amd64 --entrypoint /busybox --output images --tag still:1",
    );
}

#[test]
fn a_clock_that_is_wrong_and_jumps_both_ways_keeps_no_board_from_its_console() {
    assert!(nix::unistd::geteuid().is_root(), "run this test as root");
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(dir.path(), &[]);
    let board = Board::in_folder(dir.path());
    board.set_clock(IN_1970);
    let mut supervisor = Supervisor::start(&board);
    let mut daemon = board.start();
    until("docker.sock", || board.status().is_ok());
    let file = fleet.ask("/enrolments", Some(json!({"board": NAME})));
    board.ask("enrol", Some(&file.to_string())).unwrap();
    until("the board is online", || fleet.online(NAME));
    // Its clock is what it was told to be.
    let since = || board.status().unwrap()["link"]["since"].as_u64().unwrap();
    assert!(since() < 86_400, "since {}", since());
    let hardware = board.status().unwrap()["board"]["hardware"].clone();
    let hardware = hardware.as_str().unwrap().to_owned();
    image(dir.path(), &fleet);
    let deploy = |version: u32| {
        let text = format!(
            "product = \"shop\"\nversion = \"{version}\"\nrelease_counter = {version}\nexpires = \"90d\"\n\
             hardware = [\"{hardware}\"]\n[[apps]]\nname = \"still\"\nimage = \"still:1\"\n\
             args = [\"/busybox\", \"sleep\", \"1000\"]\ninit = true\ntrial_seconds = 1\n\
             [apps.limits]\nmemory = \"8MiB\"\ncpu_millis = 100\npids = 8\n[apps.network]\nmode = \"none\"\n"
        );
        std::fs::write(dir.path().join("shop.toml"), text).unwrap();
        for line in [
            "release create shop.toml --images images --key release --platform linux/amd64 --output shop.json",
            "push --images images shop.json",
            "deploy --board acme.b1 --wait shop.json",
        ] {
            release(dir.path(), &fleet, line);
        }
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

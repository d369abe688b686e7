//! A board whose root file system cannot be written, as it ships (`images/boards`): only the state folder, `/run` and the
//! kernel's own file systems can.

mod board;

use board::{Board, app, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::names::{AppName, VolumeName};
use coracle_protocol::release::{App, Image, NetworkMode, VolumeMount};
use coracle_protocol::report::Phase;
use std::process::Command;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(30);

fn web(image: &Image, version: &str, then: &str) -> App {
    let script = format!("echo {version} > /data/version && echo {version} > /own && {then}");
    let mut app = app(image, &script);
    app.limits.disk_bytes = Some(1 << 20);
    app.volumes = vec![VolumeMount {
        name: VolumeName::new("data").unwrap(),
        target: "/data".into(),
        read_only: false,
        size_bytes: Some(2 << 20),
        inodes: None,
    }];
    app
}

fn host(image: &Image) -> App {
    let mut app = app(image, "exec sleep 1000");
    app.name = AppName::new("host").unwrap();
    app.network.mode = NetworkMode::Host;
    app
}

/// What a file of the app holds.
fn own(board: &Board, file: &str) -> String {
    wait_for(file, WAIT, || {
        let (well, text) = board.run_in("web", &["cat", file]);
        well.then(|| text.trim().to_owned())
    })
}

#[test]
fn a_board_with_a_read_only_root_deploys_takes_back_and_starts_again() {
    let mut board = Board::start();
    board.kill_supervisor();
    board.read_only_root = true;
    board.start_supervisor();
    // The supervisor really cannot: it shares its mounts with this shell.
    let pid = board.supervisor_pid().to_string();
    let write = Command::new("nsenter")
        .args(["-t", &pid, "--mount", "--", "touch", "/etc/coracle-test"])
        .output()
        .unwrap();
    let why = String::from_utf8_lossy(&write.stderr).into_owned();
    assert!(why.contains("Read-only file system"), "{why}");

    let image = board.image(&rootfs(&board, "one"), RunConfig::default());
    board.commit("1", vec![web(&image, "1", "exec sleep 1000"), host(&image)]);
    assert_eq!(own(&board, "/data/version"), "1");
    let next = board.image(&rootfs(&board, "two"), RunConfig::default());
    let (phase, why) = board.deploy("2", vec![web(&next, "2", "exit 1")]);
    assert_eq!(phase, Phase::RolledBack, "{why:?}");
    assert_eq!(own(&board, "/own"), "1");
    board.commit("3", vec![web(&next, "3", "exec sleep 1000")]);
    assert_eq!(own(&board, "/data/version"), "3");

    board.restart_supervisor();
    let before = board.app("web").unwrap().pid;
    assert!(before.is_some(), "{}", board.log());
    assert_eq!(own(&board, "/own"), "3");
    assert!(!board.log().contains("os error 30"), "{}", board.log());
    board.stop_all();
}

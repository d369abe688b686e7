//! Limits that a release leaves to the board: one signed release, and each board keeps it within its own.

mod board;

use board::{Board, app, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::Answer;
use coracle_protocol::names::AppName;
use coracle_protocol::release::{NetworkMode, SignedRelease};
use coracle_protocol::report::Phase;
use serde_json::{Value, json};
use std::time::Duration;

const MIB: u64 = 1 << 20;
const WAIT: Duration = Duration::from_secs(30);

/// The board comes back with these limits of its own.
fn with_quotas(board: &mut Board, memory_mib: u64, cpu_millis: u32, pids: u32) {
    board.kill_supervisor();
    let site =
        format!("[quotas]\nmemory_mib = {memory_mib}\ncpu_millis = {cpu_millis}\npids = {pids}\n");
    std::fs::write(board.config().with_file_name("board.toml"), site).unwrap();
    board.start_supervisor();
}

/// A release with apps that have these limits, and no others.
fn release(board: &mut Board, version: &str, apps: &[(&str, Value)]) -> SignedRelease {
    let image = board.image(&rootfs(board, "hi"), RunConfig::default());
    let all = apps.iter().map(|(name, _)| {
        let mut app = app(&image, "exec sleep 1000");
        app.name = AppName::new(name).unwrap();
        app.network.mode = NetworkMode::None;
        app.stop_grace_seconds = 0;
        app
    });
    let (release, _) = board.documents(version, all.collect());
    let mut document = serde_json::to_value(release).unwrap();
    for (at, (_, limits)) in apps.iter().enumerate() {
        document["apps"][at]["limits"] = limits.clone();
    }
    serde_json::from_value(document).unwrap()
}

/// Memory and processes as the kernel has them.
fn kept(board: &Board, app: &str) -> (Option<u64>, Option<u64>) {
    let number = |names: [&str; 2]| {
        let folders = board.cgroups();
        let mut files = folders
            .iter()
            .flat_map(|folder| names.map(|name| folder.join(app).join(name)));
        let text = files.find_map(|file| std::fs::read_to_string(file).ok())?;
        text.trim().parse().ok()
    };
    (
        number(["memory.max", "memory.limit_in_bytes"]),
        number(["pids.max", "pids.max"]),
    )
}

fn told(board: &Board, app: &str) -> (u64, u32, u32) {
    let limits = board.app(app).unwrap().limits;
    (limits.memory_bytes, limits.cpu_millis, limits.pids)
}

#[test]
fn one_signed_release_runs_within_each_boards_own_limits() {
    let mut board = Board::start();
    with_quotas(&mut board, 24, 150, 20);
    let apps = [
        ("web", json!({})),
        ("own", json!({ "memory_bytes": 16 * MIB, "pids": 9 })),
    ];
    let release = release(&mut board, "1", &apps);
    let deploy = board.deploy_of(&release, 50);
    let ended = board.carry_out("one", &release, &deploy);
    assert_eq!(ended, (Phase::Committed, None), "{}", board.log());
    assert_eq!(told(&board, "web"), (24 * MIB, 150, 20));
    assert_eq!(kept(&board, "web"), (Some(24 * MIB), Some(20)));
    assert_eq!(
        told(&board, "own"),
        (16 * MIB, 150, 9),
        "what it names stays"
    );
    assert_eq!(kept(&board, "own"), (Some(16 * MIB), Some(9)));

    // On a board that gives more. What runs is taken over, within its limits of now.
    let pid = board.app("web").unwrap().pid;
    with_quotas(&mut board, 40, 250, 31);
    assert_eq!(told(&board, "web"), (40 * MIB, 250, 31));
    wait_for("the board's limits of now", WAIT, || {
        (kept(&board, "web") == (Some(40 * MIB), Some(31))).then_some(())
    });
    assert_eq!(board.app("web").unwrap().pid, pid);
    let deploy = board.deploy_of(&release, 51);
    let ended = board.carry_out("two", &release, &deploy);
    assert_eq!(ended, (Phase::Committed, None), "{}", board.log());
    assert_eq!(kept(&board, "web"), (Some(40 * MIB), Some(31)));
    assert_eq!(kept(&board, "own"), (Some(16 * MIB), Some(9)));
}

#[test]
fn a_release_whose_left_out_limits_do_not_fit_is_refused_with_whose_they_are() {
    let mut board = Board::start();
    with_quotas(&mut board, 1 << 20, 150, 20);
    let apps = [
        ("web", json!({})),
        ("own", json!({ "memory_bytes": 16 * MIB })),
    ];
    let signed = release(&mut board, "1", &apps);
    let deploy = board.deploy_of(&signed, 50);
    let Answer::Refused { code, reason } = board.offer("a", &signed, &deploy) else {
        panic!("it was taken");
    };
    assert_eq!(code, "over-budget");
    for part in [
        "memory: the apps ask for 1048592.0 MiB",
        "the release leaves `memory_mib` to this board for `web`: 1048576 in [quotas] of its profile",
    ] {
        assert!(reason.contains(part), "`{part}` is not in {reason}");
    }

    // And one whose own words do not go with the board's number.
    with_quotas(&mut board, 4, 150, 20);
    let promised = [("web", json!({ "memory_reservation_bytes": 8 * MIB }))];
    let signed = release(&mut board, "2", &promised);
    let deploy = board.deploy_of(&signed, 51);
    let Answer::Refused { reason, .. } = board.offer("b", &signed, &deploy) else {
        panic!("it was taken");
    };
    for part in [
        "with the limits that the release leaves to this board ([quotas] of its profile)",
        "app `web`: limits.memory_reservation_bytes is 8388608, more than the app may use: limits.memory_bytes is 4194304",
    ] {
        assert!(reason.contains(part), "`{part}` is not in {reason}");
    }
    with_quotas(&mut board, 16, 150, 20);
    let deploy = board.deploy_of(&signed, 52);
    let ended = board.carry_out("c", &signed, &deploy);
    assert_eq!(ended, (Phase::Committed, None), "{}", board.log());
}

/// What two apps get that name no rates comes to no more than the disk carries.
#[test]
fn apps_without_rates_share_what_the_disk_carries() {
    let mut board = Board::start();
    board.kill_supervisor();
    let site = "[storage.ceilings]\nwrite_bytes_per_second = 9_000_000\n\
        [quotas]\nio_write_bytes_per_second = 8_000_000\n";
    std::fs::write(board.config().with_file_name("board.toml"), site).unwrap();
    board.start_supervisor();
    let small = json!({ "memory_bytes": 16 * MIB, "cpu_millis": 100, "pids": 9 });
    let mut named = small.clone();
    named["io_write_bytes_per_second"] = json!(3_000_000);
    let apps = [("a", small.clone()), ("b", small), ("c", named)];
    let signed = release(&mut board, "1", &apps);
    let deploy = board.deploy_of(&signed, 50);
    let ended = board.carry_out("a", &signed, &deploy);
    assert_eq!(ended, (Phase::Committed, None), "{}", board.log());
    let rate = |app: &str| {
        let folders = board.cgroups().into_iter();
        let files = folders.flat_map(|folder| {
            ["io.max", "blkio.throttle.write_bps_device"].map(|name| folder.join(app).join(name))
        });
        let text: String = files
            .filter_map(|file| std::fs::read_to_string(file).ok())
            .collect();
        let is_there = |rate: &&str| text.contains(*rate);
        ["3000000", "8000000"].into_iter().find(is_there)
    };
    for app in ["a", "b", "c"] {
        assert_eq!(rate(app), Some("3000000"), "{app}");
    }
}

//! What each app more costs the board beside its own memory: the supervisor's records, its share of the process that writes
//! logs and of those that answer for names.

mod board;

use board::{Board, app, rootfs};
use coracle_images::layout::RunConfig;
use coracle_protocol::names::AppName;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// In KiB of PSS.
const BUDGET: u64 = 100;

fn pss_kib(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let number = line.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}

/// The supervisor and those of its children that run its own program.
fn ours_kib(board: &Board) -> u64 {
    let pid = board.supervisor_pid();
    let program = |pid: u32| -> Option<PathBuf> { fs::read_link(format!("/proc/{pid}/exe")).ok() };
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let children = children.split_whitespace().map(|pid| pid.parse().unwrap());
    let own: Vec<u32> = children
        .filter(|child| program(*child) == program(pid))
        .collect();
    assert!(own.len() <= 3, "{own:?}: a process for each app");
    pss_kib(pid) + own.into_iter().map(pss_kib).sum::<u64>()
}

#[test]
fn an_app_more_takes_little_of_the_boards_memory() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "memory"), RunConfig::default());
    let mut with = |count: u64| {
        let apps = (0..count).map(|number| {
            let mut app = app(&image, "echo up; exec sleep 1000");
            app.name = AppName::new(&format!("app{number}")).unwrap();
            app.limits.memory_bytes = 4 << 20;
            app.limits.cpu_millis = 10;
            app.limits.disk_bytes = Some(1 << 20);
            app
        });
        board.commit(&count.to_string(), apps.collect());
        // What a deployment takes for a moment is given back.
        std::thread::sleep(Duration::from_secs(2));
        ours_kib(&board)
    };
    let (few, many) = (with(2), with(14));
    let each = many.saturating_sub(few) / 12;
    assert!(each <= BUDGET, "{few} KiB for 2 apps, {many} KiB for 14");
}

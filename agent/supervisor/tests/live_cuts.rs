//! SIGKILL of the supervisor before the system calls that change the board while a release changes nothing but limits of an app.
//! The next start leaves the old set or the new one, its process with the limits of that one, and it is the same process all
//! along. Needs root and ptrace(2).
//!
//! A few points; `CORACLE_CUTS=all` for every one, `CORACLE_CUTS=100` for a hundred.

mod board;
mod cut;
#[path = "cut/deployment.rs"]
mod deployment;

use board::{Board, quiet, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::release::{App, Image};
use coracle_protocol::report::SetState;
use cut::Cut;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(60);
/// Points where nobody says how many.
const SAMPLE: usize = 10;
const PIDS: [u32; 2] = [20, 30];

fn web(image: &Image, pids: u32) -> App {
    let mut web = quiet(image, "web", "exec sleep 1000");
    web.limits.pids = pids;
    web.limits.memory_bytes = u64::from(pids) << 20;
    web
}

/// The other limits come, and are cut there.
fn change(board: &mut Board, version: &str, app: App, n: usize) -> Cut {
    deployment::cut(board, version, vec![app], n)
}

/// What runs, once it has come to rest: its limit, which is the one of its set, and its process.
fn comes_to_rest(board: &Board, at: &str) -> (u32, u32) {
    let what = format!("one whole set after {at}");
    wait_for(&what, WAIT, || {
        let set = board.try_status()?.current?;
        let run = set.apps.first()?;
        let pid = run.pid.filter(|_| set.state == SetState::Committed)?;
        let limits = &run.limits;
        let memory = board.cgroup_file("web", &["memory.max", "memory.limit_in_bytes"])?;
        let held = board.cgroup_file("web", &["pids.max"])? == limits.pids.to_string()
            && memory == limits.memory_bytes.to_string();
        // The writable layer is that set's, for the next start of the app.
        let layer = board.state().join("containers/web/set");
        let stamp = std::fs::read_to_string(layer).ok()?;
        (held && stamp == set.deployment.hex()).then_some((limits.pids, pid))
    })
}

#[test]
fn a_supervisor_that_is_killed_at_any_call_of_a_change_leaves_one_process_with_its_sets_limits() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "one"), RunConfig::default());
    board.commit("0", vec![web(&image, PIDS[0])]);
    let first = board.app("web").unwrap().pid.unwrap();
    let Cut::Over(all) = change(&mut board, "1", web(&image, PIDS[1]), usize::MAX) else {
        panic!("it was cut where nobody cuts");
    };
    let wanted = match std::env::var("CORACLE_CUTS").unwrap_or_default().as_str() {
        "" => SAMPLE,
        "all" => all,
        number => number.parse().expect("CORACLE_CUTS is `all` or 7"),
    };
    let mut before = comes_to_rest(&board, "the first change");
    assert_eq!(before, (PIDS[1], first));
    let (mut stayed, mut came) = (0, 0);
    let step = (all / wanted).max(1);
    for n in (1..=all).step_by(step) {
        let other = if before.0 == PIDS[0] {
            PIDS[1]
        } else {
            PIDS[0]
        };
        let cut = change(&mut board, &format!("{}", n + 1), web(&image, other), n);
        let at = match cut {
            Cut::Before(call) => format!("cut {n}, {call}"),
            Cut::Over(_) => "nothing was cut".to_owned(),
        };
        let after = comes_to_rest(&board, &at);
        assert_eq!(after.1, first, "{at}: another process");
        match after.0 == before.0 {
            true => stayed += 1,
            false => came += 1,
        }
        before = after;
    }
    eprintln!("{all} calls; the old set stayed {stayed} times, the new one came {came} times");
    assert!(stayed > 0, "no cut came before the new set was kept");
}

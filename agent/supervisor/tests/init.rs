//! Apps whose container has a small init of the board's as its process 1.

mod board;

use board::{Board, app, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::{Answer, AppAction};
use coracle_protocol::release::{App, Health, Probe, Restart};
use coracle_protocol::report::AppState;
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(20);

fn with_init(board: &Board, script: &str) -> App {
    let image = board.image(&rootfs(board, "x"), RunConfig::default());
    let mut app = app(&image, script);
    app.init = true;
    app.restart = Restart::No;
    app.stop_grace_seconds = 15;
    app
}

fn proc(pid: u32, what: &str) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/{what}")).unwrap()
}

fn exit_code(board: &Board) -> Option<i32> {
    let over = wait_for("its end", WAIT, || {
        board.app("web").filter(|app| app.state == AppState::Exited)
    });
    over.exit_code
}

#[test]
fn an_app_with_an_init_ends_at_once_is_reaped_and_keeps_its_exit_code() {
    let mut board = Board::start();
    let mut web = with_init(
        &board,
        "(sleep 0.1 &); (sleep 0.1 &); echo started as $$; exec sleep 1000",
    );
    // A probe is one more process of the container, whose parent is no init.
    web.health = Some(Health {
        probe: Probe::Exec {
            argv: vec![
                "/bin/busybox".into(),
                "grep".into(),
                "-q".into(),
                "coracle-init".into(),
                "/proc/1/comm".into(),
            ],
        },
        interval_ms: 200,
        timeout_ms: 2000,
        retries: 3,
        start_period_ms: 1000,
    });
    board.commit("1", vec![web]);
    let before = board.app("web").unwrap();
    assert!(before.init && before.healthy == Some(true), "{before:?}");
    let pid = before.pid.unwrap();
    assert_eq!(proc(pid, "comm"), "coracle-init\n");
    let log = board.state().join("logs/web/json.log");
    wait_for("its log", WAIT, || {
        let log = std::fs::read_to_string(&log).ok()?;
        log.contains("started as 2\\n").then_some(())
    });

    // What the two subshells left is gone: only the app itself is a child of the init.
    std::thread::sleep(Duration::from_millis(500));
    let children = proc(pid, &format!("task/{pid}/children"));
    let own: u32 = children.trim().parse().expect("one child");
    assert_eq!(proc(own, "comm"), "sleep\n");
    // Neither is the supervisor's copy that it was before.
    let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert_eq!(exe.to_str(), Some("/memfd:coracle-init (deleted)"));
    let data = proc(pid, "statm");
    let pages: u64 = data.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(pages <= 64, "{data}");

    // `sleep` has no handler for SIGTERM; as process 1 it would be killed after 15 s.
    let asked = Instant::now();
    assert_eq!(board.control("web", AppAction::Stop), Answer::Done);
    assert_eq!(exit_code(&board), Some(143));
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "{:?}",
        asked.elapsed()
    );

    // A code of its own, also to a supervisor that comes while it runs and is not its parent.
    let mut web = with_init(
        &board,
        "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done",
    );
    web.env.insert("RUN".into(), "2".into());
    board.commit("2", vec![web]);
    wait_for("its trap", WAIT, || {
        let log = std::fs::read_to_string(&log).ok()?;
        log.contains("ready").then_some(())
    });
    assert_eq!(board.control("web", AppAction::Stop), Answer::Done);
    assert_eq!(exit_code(&board), Some(7));
}

#[test]
fn out_of_memory_is_told_of_an_app_with_an_init_too() {
    let mut board = Board::start();
    let mut greedy = with_init(&board, "sleep 2; x=x; while true; do x=$x$x; done");
    greedy.limits.memory_bytes = 8 << 20;
    board.commit("1", vec![greedy]);
    assert_eq!(exit_code(&board), Some(137));
    assert!(board.app("web").unwrap().oom_killed);
}

#[test]
fn a_missing_program_is_told_by_its_name() {
    let mut board = Board::start();
    let mut missing = with_init(&board, "");
    missing.args = vec!["/bin/no-such-program".into()];
    let (_, reason) = board.deploy("1", vec![missing]);
    let reason = reason.expect("a reason");
    assert!(
        reason.contains("/bin/no-such-program: No such file or directory"),
        "{reason}"
    );
}

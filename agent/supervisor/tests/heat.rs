//! A hot board under the real supervisor: a zone that the test writes, and the quotas that the kernel has.

mod board;

use board::{Board, app, kill, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::{Answer, AppAction, Event};
use coracle_protocol::names::AppName;
use coracle_protocol::release::{App, Image, NetworkMode};
use coracle_protocol::report::{AppState, HeatState};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(30);

fn zone(board: &Board) -> PathBuf {
    board
        .dir
        .path()
        .join("hardware/sys/class/thermal/thermal_zone0")
}

fn heat(board: &Board, millidegrees: &str) {
    fs::write(zone(board).join("temp"), millidegrees).unwrap();
}

/// Slowed from 75 °C, given back below 68 °C, by half at each look.
fn board() -> Board {
    let mut board = Board::start();
    board.kill_supervisor();
    let site = "[thermal]\ninterval_seconds = 2\nstep_percent = 50\nfloor_percent = 20\n\
        zones = [{ zone = \"cpu-thermal\", throttle_celsius = 75, restore_celsius = 68 }]\n";
    fs::write(board.config().with_file_name("board.toml"), site).unwrap();
    fs::create_dir_all(zone(&board)).unwrap();
    fs::write(zone(&board).join("type"), "cpu-thermal\n").unwrap();
    heat(&board, "70000\n");
    let root = board.dir.path().join("hardware");
    let text = fs::read_to_string(board.config()).unwrap();
    let root = format!("[agent]\nhardware_root = \"{}\"\n", root.display());
    fs::write(board.config(), text.replacen("[agent]\n", &root, 1)).unwrap();
    board.start_supervisor();
    board
}

fn quiet(image: &Image, name: &str, priority: u8) -> App {
    let mut app = app(image, "exec sleep 1000");
    app.name = AppName::new(name).unwrap();
    app.network.mode = NetworkMode::None;
    app.priority = priority;
    app.stop_grace_seconds = 0;
    app
}

/// Thousandths of a core, as the kernel has them.
fn quota(board: &Board, app: &str) -> u64 {
    let mut values = board.cgroups().into_iter().filter_map(|folder| {
        let folder = folder.join(app);
        let text = fs::read_to_string(folder.join("cpu.cfs_quota_us"))
            .or_else(|_| fs::read_to_string(folder.join("cpu.max")));
        text.ok()?.split_whitespace().next()?.parse::<u64>().ok()
    });
    // Of a period of 100 ms.
    values.next().expect("a quota of its CPU") / 100
}

fn becomes(board: &Board, app: &str, millis: u64) {
    wait_for(&format!("{millis} for {app}"), WAIT, || {
        (quota(board, app) == millis).then_some(())
    });
}

fn pid(board: &Board, app: &str) -> Option<u32> {
    board
        .app(app)
        .filter(|app| app.state == AppState::Running)?
        .pid
}

#[test]
fn apps_of_low_priority_lose_cpu_first_and_get_it_back() {
    let mut board = board();
    let image = board.image(&rootfs(&board, "heat"), RunConfig::default());
    board.commit(
        "1",
        vec![quiet(&image, "pump", 90), quiet(&image, "web", 10)],
    );
    assert_eq!((quota(&board, "pump"), quota(&board, "web")), (300, 300));
    let mut events = board.watch();

    heat(&board, "76200\n");
    becomes(&board, "web", 150);
    assert_eq!(quota(&board, "pump"), 300, "web has more to give");
    let what = loop {
        match events.event().expect("the events go on") {
            Event::AppChanged { app, what } if app.as_str() == "web" => break what,
            _ => {}
        }
    };
    assert_eq!(what, "has 50 % of its CPU: cpu-thermal is at 76.2 °C");
    becomes(&board, "web", 60);
    becomes(&board, "pump", 150);
    heat(&board, "70000\n");
    let status = wait_for("the look", WAIT, || {
        let status = board.status();
        (status.heat.as_ref()?.state == HeatState::Between).then_some(status)
    });
    let hottest = status.heat.unwrap();
    assert_eq!(
        (hottest.zone.as_str(), hottest.millidegrees),
        ("cpu-thermal", 70_000)
    );
    assert_eq!(board.app("web").unwrap().cpu_percent, Some(20));
    // Between the two thresholds nothing changes, and a restart changes nothing either.
    let before = pid(&board, "web");
    kill(before.unwrap());
    wait_for("web", WAIT, || {
        pid(&board, "web").filter(|pid| Some(*pid) != before)
    });
    assert_eq!(quota(&board, "web"), 60);

    heat(&board, "60000\n");
    becomes(&board, "pump", 300);
    becomes(&board, "web", 300);
    assert_eq!(board.app("web").unwrap().cpu_percent, None);
    assert!(board.log().contains("has all of its CPU again"));
}

#[test]
fn how_hot_it_was_is_not_told_when_nobody_looks_any_more() {
    let mut board = board();
    let image = board.image(&rootfs(&board, "heat"), RunConfig::default());
    board.commit("1", vec![quiet(&image, "web", 10)]);
    let told = wait_for("the look", WAIT, || board.status().heat);
    assert_eq!(told.millidegrees, 70_000);
    let own = board.status().own_memory_bytes.unwrap();
    assert!((100 << 10..100 << 20).contains(&own), "{own}");
    assert_eq!(board.control("web", AppAction::Stop), Answer::Done);
    wait_for("its end", WAIT, || {
        board.app("web").filter(|app| app.state == AppState::Exited)
    });
    wait_for("no word of heat", WAIT, || {
        board.status().heat.is_none().then_some(())
    });
}

#[test]
fn a_next_supervisor_gives_back_what_the_one_before_took() {
    let mut board = board();
    let image = board.image(&rootfs(&board, "heat"), RunConfig::default());
    board.commit("1", vec![quiet(&image, "web", 10)]);
    heat(&board, "80000\n");
    becomes(&board, "web", 60);
    board.kill_supervisor();
    heat(&board, "70000\n");
    board.start_supervisor();
    becomes(&board, "web", 300);
}

#[test]
fn a_sensor_that_fails_while_the_board_is_hot_gives_nothing_back_and_the_log_says_so() {
    let mut board = board();
    let image = board.image(&rootfs(&board, "heat"), RunConfig::default());
    board.commit("1", vec![quiet(&image, "web", 10)]);
    heat(&board, "80000\n");
    becomes(&board, "web", 60);
    heat(&board, "broken\n");
    wait_for("a word of it", WAIT, || {
        let log = board.log();
        log.contains("can be read: apps stay slowed").then_some(())
    });
    assert_eq!(quota(&board, "web"), 60);
    assert!(!board.log().contains("apps are not slowed"));
    assert_eq!(board.app("web").unwrap().cpu_percent, Some(20));
}

#[test]
fn a_board_whose_zones_are_not_there_runs_its_apps_and_says_so() {
    let mut board = board();
    fs::remove_dir_all(zone(&board)).unwrap();
    let image = board.image(&rootfs(&board, "heat"), RunConfig::default());
    board.commit("1", vec![quiet(&image, "web", 10)]);
    assert_eq!(quota(&board, "web"), 300);
    assert_eq!(board.status().heat, None);
    assert!(board.log().contains("no zone of [thermal] can be read"));
}

/// How often the supervisor's one thread went to sleep, which is how often it woke up.
fn sleeps(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn an_idle_supervisor_wakes_up_less_than_once_a_second() {
    let mut board = board();
    heat(&board, "45000\n");
    let image = board.image(&rootfs(&board, "heat"), RunConfig::default());
    board.commit("1", vec![quiet(&image, "web", 10)]);
    std::thread::sleep(Duration::from_secs(2));
    let (pid, start) = (board.supervisor_pid(), Instant::now());
    let before = sleeps(pid);
    std::thread::sleep(Duration::from_secs(15));
    let woken = sleeps(pid) - before;
    let seconds = start.elapsed().as_secs();
    assert!(woken < seconds, "{woken} in {seconds} s");
}

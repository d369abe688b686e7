//! Apps that people pause, and apps that they send signals to, through the real supervisor and the kernel's own freezer.

mod board;

use board::{Board, app, http_health, quiet, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::{Answer, AppAction, Request};
use coracle_protocol::names::AppName;
use coracle_protocol::release::{App, Image, Probe};
use coracle_protocol::report::{AppState, AppStatus};
use std::process::Command;
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(20);

fn image(board: &Board) -> Image {
    board.image(&rootfs(board, "x"), RunConfig::default())
}

/// Says so when it is told to end, and has CPU to do so.
fn busy(image: &Image) -> App {
    let script = "trap 'echo bye; exit 7' TERM; echo began; while :; do :; done";
    let mut busy = quiet(image, "web", script);
    busy.stop_grace_seconds = 10;
    busy
}

fn web(board: &Board) -> AppStatus {
    board.app("web").expect("it is of the set")
}

fn log(board: &Board) -> String {
    std::fs::read_to_string(board.state().join("logs/web/json.log")).unwrap_or_default()
}

/// Its trap is set by then.
fn wait_for_begin(board: &Board, times: usize) {
    wait_for("it to begin", WAIT, || {
        (log(board).matches("began").count() == times).then_some(())
    });
}

fn signal(board: &Board, signal: &str) -> Answer {
    board.ask(Request::Signal {
        app: AppName::new("web").unwrap(),
        signal: signal.to_owned(),
        uid: 0,
    })
}

#[track_caller]
fn fails(answer: Answer, with: &str) {
    assert!(
        matches!(&answer, Answer::Failed { code, .. } if code == with),
        "{with}: {answer:?}"
    );
}

#[track_caller]
fn pause(board: &Board) {
    assert_eq!(board.control("web", AppAction::Pause), Answer::Done);
    assert!(web(board).paused);
}

fn wait_for_end(board: &Board) -> AppStatus {
    wait_for("its end", WAIT, || {
        board.app("web").filter(|app| app.state == AppState::Exited)
    })
}

/// Microseconds of CPU in the next two seconds.
fn used_in_two_seconds(board: &Board) -> u64 {
    // What was under way when it was frozen is counted by then.
    std::thread::sleep(Duration::from_millis(200));
    let before = web(board).cpu_usage_us.unwrap();
    std::thread::sleep(Duration::from_secs(2));
    web(board).cpu_usage_us.unwrap() - before
}

#[track_caller]
fn stands_still(board: &Board) {
    let used = used_in_two_seconds(board);
    assert!(used < 2_000, "{used} µs in two seconds");
    assert!(web(board).paused);
}

#[track_caller]
fn runs_on(board: &Board) {
    let used = used_in_two_seconds(board);
    assert!(used > 50_000, "{used} µs in two seconds");
    assert!(!web(board).paused);
}

#[test]
fn a_paused_app_uses_no_cpu_and_nobody_asks_for_its_health() {
    let mut board = Board::start();
    let image = image(&board);
    let script = "httpd -f -p 8080 -h /www & while :; do :; done";
    let mut app = app(&image, script);
    app.health = Some(http_health(8080));
    board.commit("1", vec![app]);
    let before = web(&board);
    pause(&board);
    // Three failed probes in a row, 200 ms apart, would start it anew.
    stands_still(&board);
    let after = web(&board);
    assert_eq!(
        (after.pid, after.restarts, after.healthy, after.state),
        (before.pid, 0, Some(true), AppState::Running)
    );
    fails(board.control("web", AppAction::Pause), "paused");
    fails(board.control("web", AppAction::Start), "paused");

    assert_eq!(board.control("web", AppAction::Resume), Answer::Done);
    runs_on(&board);
    let after = web(&board);
    assert_eq!(
        (after.pid, after.restarts, after.healthy),
        (before.pid, 0, Some(true))
    );
    let ip = after.ip.unwrap();
    let page = board.get(&format!("http://{ip}:8080/"));
    assert_eq!(page.as_deref(), Some("x"));
    fails(board.control("web", AppAction::Resume), "not-paused");
    assert_eq!(board.control("web", AppAction::Stop), Answer::Done);
    wait_for_end(&board);
    fails(board.control("web", AppAction::Pause), "not-running");
    fails(board.control("absent", AppAction::Pause), "no-app");
    let app = AppName::new("web").unwrap();
    fails(board.ask(Request::Processes { app }), "not-running");
}

/// Those that run, by number.
fn probes(board: &Board) -> Vec<String> {
    let app = AppName::new("web").unwrap();
    let Answer::Processes { rows, .. } = board.ask(Request::Processes { app }) else {
        return Vec::new();
    };
    let probes = rows.into_iter().filter(|row| row[4] == "sleep 4000");
    probes.map(|row| row[1].clone()).collect()
}

#[test]
fn a_probe_that_a_pause_breaks_off_is_gone_when_the_app_goes_on() {
    let mut board = Board::start();
    let image = image(&board);
    let mut app = quiet(&image, "web", "exec sleep 100000");
    let mut health = http_health(1);
    // The first says that it is well, the others take their time.
    let script = "test ! -e /tmp/asked || exec sleep 4000; : > /tmp/asked";
    health.probe = Probe::Exec {
        argv: ["/bin/sh", "-c", script].map(String::from).into(),
    };
    (health.interval_ms, health.timeout_ms) = (1000, 60_000);
    app.health = Some(health);
    board.commit("1", vec![app]);
    let probe = wait_for("a probe", WAIT, || {
        Some(probes(&board)).filter(|all| !all.is_empty())
    });
    pause(&board);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(board.control("web", AppAction::Resume), Answer::Done);
    let next = wait_for("the next probe alone", WAIT, || {
        let all = probes(&board);
        (!all.is_empty() && !all.contains(&probe[0])).then_some(all)
    });
    assert_eq!(next.len(), 1, "{next:?}");
}

/// Keeps its memory for itself: one thread writes to a page of a disk that stands still, another waits for that one.
const KEEPS_ITS_MEMORY: &str = "
import ctypes, sys, threading, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
file = open(sys.argv[1], 'r+b')
page = libc.mmap(None, ctypes.c_size_t(4096), 3, 1, file.fileno(), ctypes.c_long(0))
threading.Thread(target=lambda: libc.memset(ctypes.c_void_p(page), 1, 1)).start()
time.sleep(0.5)
threading.Thread(target=lambda: libc.munmap(ctypes.c_void_p(page), ctypes.c_size_t(4096))).start()
time.sleep(1000)
";

/// A disk in a file that stands still, until it is dropped.
struct StandingDisk(std::path::PathBuf);

impl StandingDisk {
    fn new(board: &Board) -> Self {
        let (image, at) = (board.dir.path().join("image"), board.dir.path().join("at"));
        std::fs::create_dir(&at).unwrap();
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(8 << 20).unwrap();
        let (image, text) = (image.to_str().unwrap(), at.to_str().unwrap());
        run(&["mkfs.ext4", "-q", image]);
        run(&["mount", "-o", "loop", image, text]);
        std::fs::write(at.join("page"), [0; 4096]).unwrap();
        run(&["fsfreeze", "--freeze", text]);
        Self(at)
    }
}

impl Drop for StandingDisk {
    fn drop(&mut self) {
        let at = self.0.to_str().unwrap();
        run(&["fsfreeze", "--unfreeze", at]);
        // Whoever waits for it may not have ended yet.
        run(&["umount", "--lazy", at]);
    }
}

fn run(command: &[&str]) {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

#[test]
fn a_process_that_keeps_its_command_line_from_everybody_holds_nobody_up() {
    let mut board = Board::start();
    let image = image(&board);
    board.commit("1", vec![quiet(&image, "web", "exec sleep 100000")]);
    let disk = StandingDisk::new(&board);
    let mut python = Command::new("python3");
    let python = python
        .args(["-c", KEEPS_ITS_MEMORY])
        .arg(disk.0.join("page"));
    let mut python = python.spawn().unwrap();
    // As if it were the app's.
    let pid = python.id().to_string();
    for folder in board.cgroups() {
        let file = folder.join("web/cgroup.procs");
        if file.exists() {
            std::fs::write(file, &pid).unwrap();
        }
    }
    // One of its threads waits for the disk, with the lock of its memory the other one.
    wait_for("two threads that wait", WAIT, || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let stats = threads
            .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("stat")).ok());
        let waits = stats.filter(|stat| stat.contains(") D "));
        (waits.count() >= 2).then_some(())
    });
    let mut client = board.watch();
    let app = AppName::new("web").unwrap();
    client.send(Request::Processes { app });
    std::thread::sleep(Duration::from_millis(200));
    let asked = Instant::now();
    board.status();
    let took = asked.elapsed();
    let answer = client.answer();
    let listed = asked.elapsed();
    assert!(
        took < listed / 2,
        "it answered after {took:?} of {listed:?}"
    );
    let Answer::Processes { rows, .. } = &answer else {
        panic!("{answer:?}");
    };
    let row = rows.iter().find(|row| row[1] == pid).unwrap();
    assert!(row[4].starts_with("[python3"), "{row:?}");
    drop(disk);
    python.kill().unwrap();
    python.wait().unwrap();
}

#[test]
fn it_stays_paused_while_the_supervisor_dies_and_while_it_is_executed_anew() {
    let mut board = Board::start();
    let image = image(&board);
    board.commit("1", vec![busy(&image)]);
    let pid = web(&board).pid;
    pause(&board);
    board.kill_supervisor();
    board.start_supervisor();
    stands_still(&board);
    let ready = board.log().matches("ready socket=").count();
    let supervisor = rustix::process::Pid::from_raw(board.supervisor_pid() as i32).unwrap();
    rustix::process::kill_process(supervisor, rustix::process::Signal::HUP).unwrap();
    wait_for("the next program", WAIT, || {
        (board.log().matches("ready socket=").count() > ready).then_some(())
    });
    stands_still(&board);
    assert_eq!(web(&board).pid, pid);
    assert_eq!(board.control("web", AppAction::Resume), Answer::Done);
    runs_on(&board);
    assert_eq!(web(&board).pid, pid);
}

#[test]
fn a_paused_app_ends_in_its_own_way_when_it_is_stopped_or_replaced() {
    let mut board = Board::start();
    let image = image(&board);
    board.commit("1", vec![busy(&image)]);
    wait_for_begin(&board, 1);
    pause(&board);
    assert_eq!(board.control("web", AppAction::Stop), Answer::Done);
    // By its own trap, which it got to.
    assert_eq!(wait_for_end(&board).exit_code, Some(7));

    assert_eq!(board.control("web", AppAction::Start), Answer::Done);
    wait_for_begin(&board, 2);
    let first = web(&board).pid;
    pause(&board);
    assert_eq!(board.control("web", AppAction::Restart), Answer::Done);
    wait_for_begin(&board, 3);
    let second = web(&board);
    assert!(second.pid.is_some() && second.pid != first && !second.paused);

    let processes = board.ask(Request::Processes {
        app: AppName::new("web").unwrap(),
    });
    let Answer::Processes { titles, rows } = processes else {
        panic!("{processes:?}");
    };
    assert_eq!(titles, ["UID", "PID", "PPID", "TIME", "CMD"]);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0][1], second.pid.unwrap().to_string());
    assert!(rows[0][4].starts_with("/bin/sh -c trap"), "{rows:?}");

    // Adopted by a supervisor that finds it paused and half stopped.
    pause(&board);
    board.kill_supervisor();
    board.start_supervisor();
    assert_eq!(board.control("web", AppAction::Stop), Answer::Done);
    wait_for_end(&board);
    assert_eq!(log(&board).matches("bye").count(), 3);
    assert_eq!(board.control("web", AppAction::Start), Answer::Done);
    wait_for_begin(&board, 4);

    // A release that changes a limit alone lets well apps go on. One that is paused ends, and the new one runs.
    let before = web(&board).pid;
    pause(&board);
    let mut more = busy(&image);
    more.limits.memory_bytes += 4 << 20;
    board.commit("2", vec![more]);
    let after = web(&board);
    assert!(after.pid.is_some() && after.pid != before && !after.paused);
    assert_eq!(log(&board).matches("bye").count(), 4);
    wait_for_begin(&board, 5);

    pause(&board);
    board.stop_all();
    wait_for("its last word", WAIT, || {
        (log(&board).matches("bye").count() == 5).then_some(())
    });
}

#[test]
fn nobody_is_paused_while_a_deployment_is_under_way() {
    let mut board = Board::start();
    let image = image(&board);
    let mut long = busy(&image);
    long.trial_seconds = 600;
    let (release, deploy) = board.documents("1", vec![long]);
    let needs = board.needs("1", &release, &deploy);
    board.stage_all("1", &needs);
    assert_eq!(board.activate("1"), Answer::Done);
    wait_for_begin(&board, 1);
    fails(board.control("web", AppAction::Pause), "busy");
    fails(signal(&board, "HUP"), "busy");
    assert!(!web(&board).paused);
}

#[test]
fn signals_reach_the_first_process_and_those_that_stop_it_leave_it_stopped() {
    let mut board = Board::start();
    let image = image(&board);
    let script = "trap 'echo hup' HUP; trap 'echo bye; exit 7' TERM; trap 'exit 3' USR1; echo began; \
                  while :; do sleep 0.05; done";
    board.commit("1", vec![quiet(&image, "web", script)]);
    wait_for_begin(&board, 1);
    let pid = web(&board).pid;
    for (times, name) in [(1, "SIGHUP"), (2, "hup"), (3, "1")] {
        assert_eq!(signal(&board, name), Answer::Done, "{name}");
        wait_for(name, WAIT, || {
            (log(&board).matches("hup").count() == times).then_some(())
        });
    }
    assert_eq!((web(&board).pid, web(&board).restarts), (pid, 0));
    for name in ["SIGNOPE", "0", "65", ""] {
        fails(signal(&board, name), "bad-signal");
    }

    // An end that comes of another signal is the restart policy's.
    assert_eq!(signal(&board, "USR1"), Answer::Done);
    wait_for_begin(&board, 2);
    assert_eq!(web(&board).restarts, 1);

    // Its stop signal, while it is paused: it moves for it, and stays down.
    pause(&board);
    assert_eq!(signal(&board, "SIGTERM"), Answer::Done);
    let ended = wait_for_end(&board);
    assert_eq!((ended.exit_code, ended.paused), (Some(7), false));
    fails(signal(&board, "TERM"), "not-running");
    board.restart_supervisor();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(web(&board).state, AppState::Exited);

    // And SIGKILL, which nobody hears.
    assert_eq!(board.control("web", AppAction::Start), Answer::Done);
    wait_for_begin(&board, 3);
    pause(&board);
    assert_eq!(signal(&board, "KILL"), Answer::Done);
    assert_eq!(wait_for_end(&board).exit_code, Some(137));
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(web(&board).state, AppState::Exited);
    assert_eq!(log(&board).matches("bye").count(), 1);
}

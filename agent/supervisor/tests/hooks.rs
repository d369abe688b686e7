//! Hooks of apps in real containers: before and after a start, and before a stop.

mod board;

use board::{Board, app, kill, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::{Answer, AppAction, Event};
use coracle_protocol::names::VolumeName;
use coracle_protocol::release::{App, Hook, Image, NetworkMode, VolumeMount};
use coracle_protocol::report::{AppState, AppStatus, Phase, SetState};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(20);

fn hook(script: &str, seconds: u32) -> Option<Hook> {
    Some(Hook {
        argv: ["/bin/sh", "-c", script].map(String::from).into(),
        timeout_seconds: Some(seconds),
    })
}

fn board() -> (Board, Image) {
    let board = Board::start();
    let image = board.image(&rootfs(&board, "x"), RunConfig::default());
    (board, image)
}

/// Says when it begins and when it is told to end.
fn web(image: &Image) -> App {
    let script = "echo begins; trap 'echo told; exit 0' TERM; while :; do sleep 0.1; done";
    let mut web = app(image, script);
    web.network.mode = NetworkMode::None;
    web.stop_grace_seconds = 10;
    web
}

/// Lines of the app's log.
fn said(board: &Board) -> Vec<String> {
    let log = board.state().join("logs/web/json.log");
    let log = std::fs::read_to_string(log).unwrap_or_default();
    // The last one may be half written.
    let log = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = log.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["log"].as_str().unwrap().trim_end().to_owned()
    });
    lines.collect()
}

fn count(board: &Board, words: &str) -> usize {
    said(board).iter().filter(|line| *line == words).count()
}

fn up(board: &Board) -> Option<AppStatus> {
    let app = board.app("web")?;
    (app.state == AppState::Running && app.waiting_for.is_none()).then_some(app)
}

fn pid(board: &Board) -> Option<u32> {
    board.app("web")?.pid
}

fn waits(board: &Board, what: &str) {
    wait_for(what, WAIT, || {
        let app = board.app("web")?;
        (app.waiting_for.as_deref() == Some(what)).then_some(())
    });
}

/// Activates a release, and does not wait for its end.
fn begin(board: &mut Board, version: &str, app: App) {
    let (release, deploy) = board.documents(version, vec![app]);
    let needs = board.needs(version, &release, &deploy);
    board.stage_all(version, &needs);
    assert_eq!(board.activate(version), Answer::Done, "{}", board.log());
}

/// What is told of the app until `last` is.
fn told(events: &mut board::Client, last: &str) -> Vec<String> {
    let mut told = Vec::new();
    while told.last().map(String::as_str) != Some(last) {
        if let Event::AppChanged { what, .. } = events.event().expect("an event") {
            told.push(what);
        }
    }
    told
}

#[test]
fn hooks_run_around_the_start_and_the_stop_in_the_apps_own_container() {
    let mut board = Board::start();
    let config = RunConfig {
        user: "web".into(),
        ..RunConfig::default()
    };
    let image = board.image(&rootfs(&board, "x"), config);
    let mut web = web(&image);
    web.network.mode = NetworkMode::Bridge;
    web.volumes = vec![VolumeMount {
        name: VolumeName::new("data").unwrap(),
        target: "/data".into(),
        read_only: false,
        size_bytes: None,
        inodes: None,
    }];
    web.hooks.pre_start = hook(
        "echo prepares $GREETING as $(id -u); ip -4 -o addr show eth0 || exit 9; : > /data/prepared",
        10,
    );
    // The first process is the app's, and what the hook before the start wrote is there.
    let script = "sleep 1; test -f /data/prepared && cat /proc/1/comm; echo settles > /dev/stderr; : > /data/settled";
    web.hooks.post_start = hook(script, 10);
    web.hooks.pre_stop = hook("sleep 1; test -f /data/settled && echo drains", 9);
    let mut events = board.watch();
    let begun = Instant::now();
    begin(&mut board, "1", web);
    let start = told(&mut events, "post_start has ended");
    assert_eq!(
        start,
        [
            "pre_start runs",
            "pre_start has ended",
            "started",
            "post_start runs",
            "post_start has ended"
        ]
    );
    let (phase, reason) = board.end_of(&mut events, "1");
    assert_eq!(phase, Phase::Committed, "{reason:?}");
    assert!(begun.elapsed() < WAIT);

    assert_eq!(board.control("web", AppAction::Stop), Answer::Done);
    assert_eq!(
        told(&mut events, "stopped"),
        ["pre_stop runs", "pre_stop has ended", "stopped"]
    );
    let said = wait_for("its last words", WAIT, || {
        Some(said(&board)).filter(|said| said.last().is_some_and(|line| line == "told"))
    });
    let address = said[1].clone();
    assert!(address.contains("172.31."), "{address}");
    let expected = [
        "prepares hello as 1000",
        &address,
        "begins",
        "sh",
        "settles",
        "drains",
        "told",
    ];
    assert_eq!(said, expected);
    assert_eq!(board.app("web").unwrap().restarts, 0);
}

#[test]
fn a_hook_around_the_start_that_fails_sends_the_set_back_with_its_last_words() {
    let (mut board, image) = board();
    board.commit("0", vec![web(&image)]);
    let fails = "echo one; echo two >&2; exit 3";
    let endless = "while :; do echo nonsense; done";
    let stops_itself = "echo tries; kill -STOP $$";
    for (number, pre, post, phase, words) in [
        (
            1,
            hook(fails, 9),
            None,
            Phase::Failed,
            "pre_start `/bin/sh -c echo one; echo two >&2; exit 3` exited with 3; it said: one | two",
        ),
        (
            2,
            None,
            hook(fails, 9),
            Phase::RolledBack,
            "post_start `/bin/sh -c echo one; echo two >&2; exit 3` exited with 3; it said: one | two",
        ),
        (
            3,
            hook(endless, 1),
            None,
            Phase::Failed,
            "did not end within 1 s; it said: nonsense | nonsense",
        ),
        (
            4,
            None,
            hook(endless, 1),
            Phase::RolledBack,
            "did not end within 1 s; it said: nonsense | nonsense",
        ),
        (
            5,
            None,
            hook(stops_itself, 1),
            Phase::RolledBack,
            "did not end within 1 s; it said: tries",
        ),
    ] {
        let mut next = web(&image);
        (next.hooks.pre_start, next.hooks.post_start) = (pre, post);
        let (ended, reason) = board.deploy(&number.to_string(), vec![next]);
        let reason = reason.unwrap();
        assert!(reason.contains(words), "{number}: {reason}");
        assert!(
            reason.starts_with("app `web`: p") && reason.len() < 400,
            "{reason}"
        );
        assert_eq!(ended, phase, "{number}: {reason}");
        wait_for("the old set", WAIT, || up(&board));
        assert_eq!(board.status().current.unwrap().version, "0");
    }
    let mut none = web(&image);
    none.hooks.post_start = hook("", 5);
    none.hooks.post_start.as_mut().unwrap().argv = vec!["/bin/not-there".into()];
    let (_, reason) = board.deploy("6", vec![none]);
    let reason = reason.unwrap();
    assert!(
        reason.contains("post_start `/bin/not-there` could not be executed"),
        "{reason}"
    );
}

#[test]
fn a_hook_before_the_stop_that_fails_or_is_late_is_told_and_stops_nothing() {
    let (mut board, image) = board();
    for (number, script, words) in [
        (1, "echo oh; exit 5", "exited with 5; it said: oh"),
        (
            2,
            "echo zzz; sleep 100",
            "did not end within 1 s; it said: zzz",
        ),
    ] {
        let mut web = web(&image);
        web.hooks.pre_stop = hook(script, 1);
        board.commit(&number.to_string(), vec![web]);
        let mut events = board.watch();
        let begun = Instant::now();
        assert_eq!(board.control("web", AppAction::Stop), Answer::Done);
        let told = told(&mut events, "stopped");
        assert!(begun.elapsed() < Duration::from_secs(8), "within the grace");
        assert!(
            told[1].starts_with("pre_stop `") && told[1].contains(words),
            "{told:?}"
        );
        assert_eq!(count(&board, "told"), number, "by its signal, not killed");
        // The next set replaces one that was stopped by a person.
    }
}

#[test]
fn the_board_is_not_kept_waiting_while_hooks_run() {
    let (mut board, image) = board();
    let mut web = web(&image);
    web.hooks.pre_start = hook("sleep 3", 30);
    web.hooks.post_start = hook("sleep 3", 30);
    let mut events = board.watch();
    begin(&mut board, "1", web);
    for what in ["pre_start runs", "post_start runs"] {
        waits(&board, what);
        let asked = Instant::now();
        let app = board.app("web").unwrap();
        assert!(asked.elapsed() < Duration::from_secs(2));
        assert_eq!(app.waiting_for.as_deref(), Some(what));
        assert_eq!(app.state == AppState::Running, what.starts_with("post"));
    }
    let (phase, reason) = board.end_of(&mut events, "1");
    assert_eq!(phase, Phase::Committed, "{reason:?}");
    assert!(
        up(&board).is_some(),
        "its trial lasts until its hook has ended"
    );
}

#[test]
fn an_app_that_crashed_has_its_hooks_again() {
    let (mut board, image) = board();
    let mut web = web(&image);
    web.hooks.pre_start = hook("echo prepares", 5);
    // Ill from the third time on.
    let script = "echo settles; test ! -f /tmp/two || exit 4; test -f /tmp/one && : > /tmp/two; : > /tmp/one";
    web.hooks.post_start = hook(script, 5);
    board.commit("1", vec![web]);
    kill(pid(&board).unwrap());
    wait_for("a restart", WAIT, || {
        up(&board).filter(|app| app.restarts == 1)
    });
    wait_for("both hooks again", WAIT, || {
        let both = ["prepares", "settles"].map(|words| count(&board, words));
        (both == [2, 2]).then_some(())
    });
    // After the trial a hook that fails is a crash: it is tried again, later and later.
    kill(pid(&board).unwrap());
    wait_for("a failed hook", WAIT, || {
        let app = board.app("web")?;
        let text = app.health_text?;
        (app.restarts >= 3
            && text.contains("post_start `/bin/sh")
            && text.contains("it said: settles"))
        .then_some(())
    });
    assert_eq!(board.status().current.unwrap().version, "1");
}

#[test]
fn a_supervisor_that_starts_while_hooks_run_begins_the_start_anew_or_goes_on_with_them() {
    let (mut board, image) = board();
    let mut web = web(&image);
    let script = "test -f /tmp/$0 && sleep 3; : > /tmp/$0; echo $0 ends";
    let named = |name: &str| {
        let mut hook = hook(script, 9);
        hook.as_mut().unwrap().argv.push(name.into());
        hook
    };
    web.hooks.pre_start = named("prepare");
    web.hooks.post_start = named("settle");
    web.hooks.pre_stop = hook("sleep 3; echo drain ends", 9);
    board.commit("1", vec![web]);
    assert_eq!(count(&board, "prepare ends"), 1);

    for is_killed in [true, false] {
        let next = |board: &mut Board| match is_killed {
            true => board.restart_supervisor(),
            false => {
                let readies = board.log().matches("ready socket=").count();
                let supervisor = rustix::process::Pid::from_raw(board.supervisor_pid() as i32);
                let again = rustix::process::Signal::HUP;
                rustix::process::kill_process(supervisor.unwrap(), again).unwrap();
                wait_for("the next program", WAIT, || {
                    (board.log().matches("ready socket=").count() > readies).then_some(())
                });
            }
        };
        let before =
            ["prepare", "settle", "drain"].map(|name| count(&board, &format!("{name} ends")));
        kill(pid(&board).unwrap());
        waits(&board, "pre_start runs");
        next(&mut board);
        waits(&board, "pre_start runs");
        waits(&board, "post_start runs");
        let settling = pid(&board);
        next(&mut board);
        waits(&board, "post_start runs");
        let app = wait_for("the app", WAIT, || up(&board));
        assert_eq!(app.pid, settling, "it runs on");
        // What a hook says comes into the log by way of the writer.
        wait_for("what it said", WAIT, || {
            (count(&board, "settle ends") > before[1]).then_some(())
        });
        let after =
            ["prepare", "settle", "drain"].map(|name| count(&board, &format!("{name} ends")));
        // Each once to its end: the first one's container was ended, the second one was waited for. How that ended a supervisor
        // that is not its parent learns from some kernels, when its new parent is quick; else it runs once more.
        let again = after[1] - before[1];
        assert_eq!((after[0] - before[0], after[2] - before[2]), (1, 0));
        assert!(again == 1 || (is_killed && again == 2), "{}", board.log());

        let told_before = count(&board, "told");
        let settled = count(&board, "settle ends");
        assert_eq!(board.control("web", AppAction::Restart), Answer::Done);
        waits(&board, "pre_stop runs");
        next(&mut board);
        waits(&board, "pre_stop runs");
        assert_eq!(
            (pid(&board), count(&board, "told")),
            (settling, told_before)
        );
        wait_for("another run", WAIT, || {
            up(&board).filter(|app| app.pid != settling)
        });
        assert_eq!(count(&board, "drain ends"), before[2] + 1);
        assert_eq!(count(&board, "told"), told_before + 1);
        // Before the next round counts.
        wait_for("what its hook said", WAIT, || {
            (count(&board, "settle ends") > settled).then_some(())
        });
    }
}

/// `PIDFD_GET_INFO` (linux/pidfd.h), by which kernels from 6.15 on tell the end of a process that is no child.
const PIDFD_GET_INFO: u32 = 0xc040_ff0b;

#[test]
fn a_hook_whose_end_nobody_saw_runs_again() {
    let (mut board, image) = board();
    board.without_requests = vec![PIDFD_GET_INFO];
    board.restart_supervisor();
    let mut web = web(&image);
    web.hooks.post_start = hook("sleep 2; echo settles", 9);
    board.commit("1", vec![web]);
    kill(pid(&board).unwrap());
    waits(&board, "post_start runs");
    let settling = pid(&board);
    board.restart_supervisor();
    wait_for("its hook twice more", WAIT, || {
        (count(&board, "settles") == 3).then_some(())
    });
    assert_eq!(wait_for("the app", WAIT, || up(&board)).pid, settling);
}

/// Whoever is cut off while a hook of a new set runs has the old set, whole.
#[test]
fn a_cut_while_a_hook_runs_goes_back() {
    let (mut board, image) = board();
    board.commit("0", vec![web(&image)]);
    for (number, before) in [(1, true), (2, false)] {
        let mut next = web(&image);
        let long = hook("sleep 30", 60);
        match before {
            true => next.hooks.pre_start = long,
            false => next.hooks.post_start = long,
        }
        begin(&mut board, &number.to_string(), next);
        waits(
            &board,
            ["post_start runs", "pre_start runs"][usize::from(before)],
        );
        board.restart_supervisor();
        let set = wait_for("the old set", WAIT, || {
            let set = board.status().current?;
            (set.state == SetState::Committed && set.version == "0").then_some(set)
        });
        assert_eq!(set.apps.len(), 1);
        wait_for("the old app", WAIT, || up(&board));
        assert!(!board.state().join("deployments/trial.json").exists());
        // Nothing of the new set is left in the app's cgroup: its first process, and what that waits with.
        let app = board.app("web").unwrap();
        assert!(app.pids.unwrap() <= 2, "{app:?}");
    }
}

/// Who has the app's log open: its writer.
fn log_writer(board: &Board) -> u32 {
    let log = board.state().join("logs/web/json.log");
    let has_it_open = |pid: u32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd"));
        let mut files = files.into_iter().flatten().flatten();
        files.any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to == log))
    };
    wait_for("the writer of the log", WAIT, || {
        let mut all = std::fs::read_dir("/proc").unwrap().flatten();
        all.find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            has_it_open(pid).then_some(pid)
        })
    })
}

#[test]
fn a_log_that_stands_still_is_no_fault_of_a_hook() {
    use rustix::process::{Pid, Signal, kill_process};
    let (mut board, image) = board();
    let mut web = web(&image);
    let talk =
        "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo a line of some length, number $i; done";
    web.hooks.pre_start = hook(&format!("test ! -f /tmp/1 || {{ {talk}; }}; : > /tmp/1"), 9);
    web.hooks.post_start = hook(&format!("test ! -f /tmp/2 || {{ {talk}; }}; : > /tmp/2"), 9);
    web.hooks.pre_stop = hook(&format!("{talk}; echo drained"), 9);
    board.commit("1", vec![web]);
    let first = pid(&board);
    struct Held(Pid);
    impl Drop for Held {
        fn drop(&mut self) {
            let _ = kill_process(self.0, Signal::CONT);
        }
    }
    let writer = Held(Pid::from_raw(log_writer(&board) as i32).unwrap());
    kill_process(writer.0, Signal::STOP).unwrap();
    let mut events = board.watch();
    assert_eq!(board.control("web", AppAction::Restart), Answer::Done);
    let heard: Vec<String> = ["pre_stop", "pre_start", "post_start"]
        .iter()
        .flat_map(|hook| told(&mut events, &format!("{hook} has ended")))
        .collect();
    drop(writer);
    let app = wait_for("the app", WAIT, || up(&board));
    assert_ne!(app.pid, first, "{heard:?}");
    // And the log goes on.
    assert_eq!(board.control("web", AppAction::Restart), Answer::Done);
    wait_for("the last word before the stop", WAIT, || {
        (count(&board, "drained") > 0).then_some(())
    });
}

/// Neither a supervisor nor a writer is there: what the hook says nobody hears, and it goes on all the same.
#[test]
fn a_hook_outlives_whoever_reads_the_log() {
    let (mut board, image) = board();
    let mut web = web(&image);
    web.hooks.post_start = hook(
        "test -f /tmp/1 || { : > /tmp/1; exit 0; }; sleep 1; echo one; sleep 1; echo two; : > /tmp/settled",
        30,
    );
    board.commit("1", vec![web]);
    kill(pid(&board).unwrap());
    waits(&board, "post_start runs");
    let app = pid(&board).unwrap();
    let writer = log_writer(&board);
    board.kill_supervisor();
    kill(writer);
    wait_for("the end of the hook", WAIT, || {
        let root = std::path::PathBuf::from(format!("/proc/{app}/root"));
        root.join("tmp/settled").exists().then_some(())
    });
    board.start_supervisor();
    assert_eq!(wait_for("the app", WAIT, || up(&board)).pid, Some(app));
}

//! Real containers: what was signed runs, what does not prove healthy goes back, and a supervisor that
//! dies takes nothing with it.

mod board;

use board::{Board, app, attacks, http_health, kill, rootfs, wait_for};
use coracle_digest::Sha256Digest;
use coracle_images::layout::RunConfig;
use coracle_protocol::deploy::{Delta, Deploy};
use coracle_protocol::local::{Answer, AppAction, DID_NOT_STAY, LayerSource, Request};
use coracle_protocol::names::{AppName, VolumeName};
use coracle_protocol::release::{
    App, Image, LogMode, Logs, NetworkMode, Port, Probe, Release, Restart, VolumeMount,
};
use coracle_protocol::report::{AppState, AppUsers, Phase, SetState};
use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(20);

fn web(image: &Image, port: u16) -> App {
    let mut web = app(
        image,
        "echo started $GREETING as $(id -u); exec httpd -f -p 8080 -h /www",
    );
    web.network.ports = vec![Port {
        host: port,
        container: 8080,
        protocol: Default::default(),
        host_ip: None,
    }];
    web.health = Some(http_health(8080));
    web
}

fn image(board: &Board, page: &str) -> Image {
    let config = RunConfig {
        user: "web".into(),
        ..RunConfig::default()
    };
    board.image(&rootfs(board, page), config)
}

/// A board on which `web` runs with that page.
fn running(page: &str) -> (Board, Image) {
    let mut board = Board::start();
    let image = image(&board, page);
    board.commit("1", vec![web(&image, 8081)]);
    (board, image)
}

fn page(board: &Board) -> Option<String> {
    let ip = board.app("web")?.ip?;
    board.get(&format!("http://{ip}:8080/"))
}

fn wait_for_page(board: &Board, expected: &str) {
    wait_for(expected, WAIT, || {
        page(board).filter(|page| page == expected)
    });
}

#[test]
fn a_signed_release_runs_with_its_limits_network_and_log() {
    let mut board = Board::start();
    let image = image(&board, "page one");
    let ended = board.deploy("1", vec![web(&image, 8081)]);
    assert_eq!(ended, (Phase::Committed, None));

    let status = board.status();
    let set = status.current.clone().unwrap();
    assert_eq!(
        (set.version.as_str(), set.state),
        ("1", SetState::Committed)
    );
    let app = &set.apps[0];
    assert_eq!((app.state, app.healthy), (AppState::Running, Some(true)));
    assert!(app.memory_bytes.unwrap() > 0 && app.pids.unwrap() > 0);
    assert_eq!(page(&board).as_deref(), Some("page one"));
    // Through the published port, from the board itself.
    assert_eq!(
        board.get("http://127.0.0.1:8081/").as_deref(),
        Some("page one")
    );

    let pid = app.pid.unwrap();
    let status_file = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    // 1000 inside, of the ids that the app has of the board's.
    let Some(AppUsers::Own { first, .. }) = app.users else {
        panic!("{:?}", app.users);
    };
    let uid = first + 1000;
    assert!(first > 1_000_000, "{first}");
    assert!(
        status_file.contains(&format!("Uid:\t{uid}\t{uid}")),
        "{status_file}"
    );
    assert!(status_file.contains("NoNewPrivs:\t1") && status_file.contains("Seccomp:\t2"));
    let own = |kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
    let host = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
    for kind in ["pid", "mnt", "net", "uts", "ipc", "user"] {
        assert_ne!(own(kind), host(kind), "{kind}");
    }
    let root = |path: &str| std::fs::read_to_string(format!("/proc/{pid}/root{path}")).unwrap();
    assert_eq!(root("/etc/hostname"), "web\n");
    assert!(root("/etc/hosts").contains(&app.ip.unwrap().to_string()));
    // They lie beside the writable layer: no limit holds what is written there.
    for file in ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"] {
        let write = format!("echo x >> {file}");
        assert!(!board.run_in("web", &["sh", "-c", &write]).0, "{file}");
    }

    let log_file = board.state().join("logs/web/json.log");
    let log = wait_for("the log", WAIT, || {
        std::fs::read_to_string(&log_file)
            .ok()
            .filter(|log| log.contains("started"))
    });
    let line: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(line["log"], "started hello as 1000\n");
    assert_eq!(line["stream"], "stdout");
}

#[test]
fn an_update_replaces_and_cleans_and_a_failing_one_goes_back() {
    let (mut board, first) = running("page one");
    let second = image(&board, "page two");
    board.commit("2", vec![web(&second, 8081)]);
    assert_eq!(page(&board).as_deref(), Some("page two"));
    let third = image(&board, "page three");
    board.commit("3", vec![web(&third, 8081)]);
    let status = board.status();
    assert_eq!(status.previous.as_ref().unwrap().1, "2");
    assert!(
        !status.layers.contains(&first.layers[0].diff_id),
        "the first set's layer stays"
    );
    assert_eq!(status.layers.len(), 2);

    // Never answers.
    let fourth = image(&board, "page four");
    let mut sick = web(&fourth, 8081);
    sick.args = vec!["/bin/sleep".into(), "1000".into()];
    let (phase, reason) = board.deploy("4", vec![sick]);
    let reason = reason.unwrap();
    assert_eq!(phase, Phase::RolledBack, "{reason}");
    assert!(
        reason.contains("unhealthy") && reason.contains("refused"),
        "{reason}"
    );
    let status = board.status();
    assert_eq!(status.current.unwrap().version, "3");
    assert!(
        !status.layers.contains(&fourth.layers[0].diff_id),
        "what went back keeps its room"
    );
    wait_for_page(&board, "page three");
    assert!(board.status().last_failure.unwrap().contains("unhealthy"));

    // Ends again and again.
    let mut dies = web(&third, 8081);
    dies.health = None;
    dies.trial_seconds = 30;
    dies.args = vec!["/bin/false".into()];
    let (phase, reason) = board.deploy("5", vec![dies]);
    let reason = reason.unwrap();
    assert_eq!(phase, Phase::RolledBack);
    assert!(reason.contains("exited with 1"), "{reason}");

    // Cannot even be started.
    let mut absent = web(&third, 8081);
    absent.args = vec!["/bin/absent".into()];
    let (phase, reason) = board.deploy("6", vec![absent]);
    assert_eq!(phase, Phase::Failed);
    assert!(reason.unwrap().contains("/bin/absent"));
    wait_for_page(&board, "page three");
}

#[test]
fn a_killed_supervisor_takes_nothing_with_it() {
    let mut board = Board::start();
    let image = image(&board, "page one");
    let mut web = web(&image, 8081);
    web.args[2] =
        "while true; do echo tick; sleep 0.1; done & exec httpd -f -p 8080 -h /www".into();
    board.commit("1", vec![web]);
    let before = board.app("web").unwrap();
    board.kill_supervisor();
    let ip = before.ip.unwrap();
    assert_eq!(
        board.get(&format!("http://{ip}:8080/")).as_deref(),
        Some("page one")
    );
    let log = board.state().join("logs/web/json.log");
    let length = || std::fs::metadata(&log).map_or(0, |log| log.len());
    let written = length();
    wait_for("its log to go on without a supervisor", WAIT, || {
        (length() > written).then_some(())
    });

    board.start_supervisor();
    let after = board.app("web").unwrap();
    assert_eq!(
        (after.pid, after.ip, after.started_at),
        (before.pid, before.ip, before.started_at)
    );
    assert_eq!(after.state, AppState::Running);
    assert_eq!(
        board.get("http://127.0.0.1:8081/").as_deref(),
        Some("page one")
    );
    wait_for("its health", WAIT, || {
        board.app("web").filter(|app| app.healthy == Some(true))
    });

    // The end of an adopted app is noticed, and it is started again.
    kill(before.pid.unwrap());
    let again = wait_for("a new process", WAIT, || {
        board
            .app("web")
            .filter(|app| app.pid.is_some() && app.pid != before.pid)
    });
    assert_eq!(again.restarts, 1);
    wait_for("the page", WAIT, || page(&board));
}

/// A log whose disk is stalled: whoever opens it waits until somebody reads.
#[test]
fn an_app_that_does_not_wait_for_its_log_ends_while_the_disk_stalls() {
    let mut board = Board::start();
    let image = image(&board, "x");
    let log = board.state().join("logs/web/json.log");
    let folder = log.parent().unwrap();
    std::fs::create_dir_all(folder).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &log, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    // Some 400 KB: more than the pipes and the buffer hold.
    let script = "i=0; while [ $i -lt 20000 ]; do echo this is line $i; i=$((i+1)); done; exit 0";
    let mut loud = app(&image, script);
    loud.restart = Restart::No;
    loud.limits.cpu_millis = 1000;
    loud.logs = Logs {
        mode: LogMode::NonBlocking,
        max_buffer_bytes: Some(1 << 16),
    };
    let (release, deploy) = board.documents("1", vec![loud]);
    let outcome = board.carry_out("1", &release, &deploy).0;
    let over = board.app("web");
    // The disk is there again.
    let text = std::fs::read_to_string(&log).unwrap();
    assert_eq!(outcome, Phase::Committed);
    assert_eq!(over.unwrap().exit_code, Some(0));
    assert!(text.contains("this is line 0\\n"), "{text}");
    assert!(text.contains("bytes were dropped here"), "{text}");
    board.stop_all();
}

fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// As after an upgrade: the program that lies there now, in the same process. Nothing of the apps is lost, on any kernel: they
/// are its children still.
#[test]
fn a_supervisor_that_is_executed_anew_keeps_apps_exit_codes_and_logs() {
    use rustix::process::Signal;
    let mut board = Board::start();
    let image = image(&board, "page one");
    let mut web = web(&image, 8081);
    web.health = None;
    web.restart = Restart::No;
    web.args[2] = "trap 'echo bye; exit 7' TERM; httpd -p 8080 -h /www; while true; do echo tick; sleep 0.05; done".into();
    let (release, deploy) = board.documents("1", vec![web]);
    for ends_meanwhile in [false, true] {
        if ends_meanwhile {
            assert_eq!(board.control("web", AppAction::Start), Answer::Done);
            wait_for("the start", WAIT, || board.app("web")?.pid);
        } else {
            assert_eq!(board.carry_out("1", &release, &deploy).0, Phase::Committed);
        }
        let before = board.app("web").unwrap();
        let supervisor = board.supervisor_pid();
        let pid = before.pid.unwrap();
        let log = board.state().join("logs/web/json.log");
        let length = || std::fs::metadata(&log).map_or(0, |log| log.len());
        let goes_on = || {
            let written = length();
            wait_for("the log to go on", WAIT, || {
                (length() > written + 500).then_some(())
            });
        };
        // Its trap is set by then.
        goes_on();
        let readies = board.log().matches("ready socket=").count();
        if ends_meanwhile {
            // Both at once: it may be told of the end before it goes, or only the next program is.
            signal(supervisor, Signal::STOP);
            signal(pid, Signal::TERM);
            wait_for("the app's end", WAIT, || {
                let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                stat.contains(") Z ").then_some(())
            });
            signal(supervisor, Signal::HUP);
            signal(supervisor, Signal::CONT);
        } else {
            signal(supervisor, Signal::HUP);
        }
        wait_for("the next program", WAIT, || {
            (board.log().matches("ready socket=").count() > readies).then_some(())
        });
        assert_eq!(board.supervisor_pid(), supervisor);
        if !ends_meanwhile {
            let after = board.app("web").unwrap();
            assert_eq!((after.pid, after.ip), (before.pid, before.ip));
            assert_eq!(after.started_at, before.started_at);
            wait_for_page(&board, "page one");
            goes_on();
            signal(pid, Signal::TERM);
        }
        let over = wait_for("its end", WAIT, || {
            board.app("web").filter(|app| app.state == AppState::Exited)
        });
        assert_eq!(over.exit_code, Some(7));
    }
    let log = std::fs::read_to_string(board.state().join("logs/web/json.log")).unwrap();
    assert_eq!(log.matches("bye").count(), 2, "{log}");
    let left = std::fs::read_to_string(format!(
        "/proc/{0}/task/{0}/children",
        board.supervisor_pid()
    ));
    let left = left.unwrap();
    assert!(
        left.split_whitespace().count() <= 2,
        "{left}: nobody waited for"
    );
    // How it ended, and that it stays so, outlives a crash too.
    board.restart_supervisor();
    std::thread::sleep(Duration::from_millis(500));
    let over = board.app("web").unwrap();
    assert_eq!((over.state, over.exit_code), (AppState::Exited, Some(7)));
}

/// Whoever wrote the file is not there to mend it.
#[test]
fn a_reload_takes_a_good_file_and_refuses_one_that_would_keep_it_down() {
    let mut board = Board::start();
    let image = image(&board, "x");
    let mut runs = app(&image, "exec sleep 1000");
    runs.network.mode = NetworkMode::None;
    board.commit("1", vec![runs]);
    let pid = board.app("web").unwrap().pid;
    let good = std::fs::read_to_string(board.config()).unwrap();
    let reload = |board: &Board, text: &str, words: &str| {
        std::fs::write(board.config(), text).unwrap();
        let said = board.log().matches(words).count();
        signal(board.supervisor_pid(), rustix::process::Signal::HUP);
        wait_for(words, WAIT, || {
            (board.log().matches(words).count() > said).then_some(())
        });
    };
    for (text, words) in [
        (good.replace("[log]", "[lok]"), "unknown field `lok`"),
        (
            good.replace("[agent]", "[agent]\nboard_profile = \"not-there\""),
            "not-there",
        ),
        (
            good.replace("state_dir = \"", "state_dir = \"/elsewhere"),
            "agent.state_dir is another; that takes",
        ),
    ] {
        let ready = board.log().matches("ready socket=").count();
        reload(&board, &text, words);
        assert_eq!(board.status().current.unwrap().version, "1");
        assert_eq!(board.log().matches("ready socket=").count(), ready);
        assert!(board.log().contains("this one goes on"));
    }
    // A newer agent's file, which the one before it finds.
    let newer = format!("config_version = 2\n{good}[radio]\nband = 868\n");
    reload(&board, &newer, "ready socket=");
    let log = board.log();
    assert!(
        log.contains("passed over") && log.contains("radio.band"),
        "{log}"
    );
    assert_eq!(board.app("web").unwrap().pid, pid);
}

/// An older one on the root file system, below one that a release brought; or a newer one, after an upgrade.
#[test]
fn a_reload_asks_the_program_that_is_executed_next() {
    let mut board = Board::start();
    board.kill_supervisor();
    let [program, next] = ["coracle-supervisor", "next"].map(|name| board.dir.path().join(name));
    let whole = board::supervisor();
    std::fs::copy(&whole, &program).unwrap();
    board.start_supervisor_of(&program);
    wait_for("it", WAIT, || board.try_status());
    let replace = |text: &[u8]| {
        std::fs::write(&next, text).unwrap();
        std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(&next, &program).unwrap();
    };
    let reload = |board: &Board, words: &str| {
        let said = board.log().matches(words).count();
        signal(board.supervisor_pid(), rustix::process::Signal::HUP);
        wait_for(words, WAIT, || {
            (board.log().matches(words).count() > said).then_some(())
        });
    };
    let ready = || board.log().matches("ready socket=").count();
    let before = ready();
    replace(b"#!/bin/sh\necho coracle.toml:7: not known to this one >&2\n[ $1 = check ] && exit 1\nexit 3\n");
    reload(&board, "this one goes on");
    assert!(
        board
            .log()
            .contains("coracle.toml:7: not known to this one")
    );
    assert_eq!((ready(), board.status().current), (before, None));
    // What does not know the question is no worse than this one, whose answer it was before; here it is whole.
    replace(&std::fs::read(&whole).unwrap());
    reload(&board, "ready socket=");
}

#[test]
fn a_reload_waits_for_the_end_of_a_trial() {
    let mut board = Board::start();
    let image = image(&board, "x");
    let mut runs = app(&image, "exec sleep 1000");
    runs.network.mode = NetworkMode::None;
    runs.trial_seconds = 4;
    let (release, deploy) = board.documents("1", vec![runs]);
    let needs = board.needs("1", &release, &deploy);
    board.stage_all("1", &needs);
    assert_eq!(board.activate("1"), Answer::Done);
    wait_for("the trial", WAIT, || {
        let set = board.status().current?;
        (set.state == SetState::Trial).then_some(())
    });
    let ready = board.log().matches("ready socket=").count();
    signal(board.supervisor_pid(), rustix::process::Signal::HUP);
    wait_for("its answer", WAIT, || {
        let words = "once the deployment has ended";
        board.log().contains(words).then_some(())
    });
    wait_for("the next program", WAIT, || {
        (board.log().matches("ready socket=").count() > ready).then_some(())
    });
    assert!(board.log().contains("phase=Committed"));
    assert_eq!(board.status().current.unwrap().state, SetState::Committed);
}

#[test]
fn an_app_that_died_with_the_supervisor_is_started_again() {
    let (mut board, _) = running("page one");
    let before = board.app("web").unwrap().pid.unwrap();
    board.kill_supervisor();
    kill(before);
    board.start_supervisor();
    wait_for("a new process", WAIT, || {
        board
            .app("web")
            .filter(|app| app.pid.is_some_and(|pid| pid != before))
    });
    wait_for("the page", WAIT, || page(&board));
}

/// Version 2 is up, and its trial will not end by itself.
fn in_a_long_trial(board: &mut Board) -> (Release, Deploy) {
    let second = image(board, "page two");
    let mut long = web(&second, 8081);
    long.trial_seconds = 600;
    let (release, deploy) = board.documents("2", vec![long]);
    let needs = board.needs("2", &release, &deploy);
    board.stage_all("2", &needs);
    assert_eq!(board.activate("2"), Answer::Done);
    wait_for_page(board, "page two");
    (release, deploy)
}

#[test]
fn a_cut_in_the_trial_goes_back_and_says_so() {
    let (mut board, _) = running("page one");
    let (release, deploy) = in_a_long_trial(&mut board);
    assert_eq!(board.status().current.unwrap().state, SetState::Trial);
    board.restart_supervisor();
    // Nobody was there to hear it: whoever watches first is told.
    let mut events = board.watch();
    let (phase, reason) = board.end_of(&mut events, "2");
    assert_eq!(phase, Phase::RolledBack);
    assert!(reason.unwrap().contains("restarted"));
    wait_for_page(&board, "page one");
    let answer = board.offer("2", &release, &deploy);
    assert!(
        matches!(&answer, Answer::Refused { reason, .. } if reason.contains("did not stay")),
        "{answer:?}"
    );
    // A daemon that asks again learns how its deployment ended, not that somebody replays it.
    assert!(
        matches!(&answer, Answer::Refused { code, reason } if code == DID_NOT_STAY && reason.contains("interrupted")),
        "{answer:?}"
    );
}

#[test]
fn a_cut_between_a_trial_s_record_and_its_counters_goes_back_and_says_so() {
    let (mut board, _) = running("page one");
    let counters = board.state().join("trust");
    let slots = || -> Vec<_> {
        let files = std::fs::read_dir(&counters).unwrap().flatten();
        let slots = files.filter(|f| f.file_name().to_string_lossy().starts_with("seen."));
        slots
            .map(|f| (f.path(), std::fs::read(f.path()).unwrap()))
            .collect()
    };
    let before = slots();
    assert!(!before.is_empty());
    let (release, deploy) = in_a_long_trial(&mut board);
    // What the disk has when the power goes after the trial's record, and before the counters'.
    board.kill_supervisor();
    for (path, bytes) in before {
        std::fs::write(path, bytes).unwrap();
    }
    board.start_supervisor();
    let mut events = board.watch();
    assert_eq!(board.end_of(&mut events, "2").0, Phase::RolledBack);
    wait_for_page(&board, "page one");
    let answer = board.offer("2", &release, &deploy);
    assert!(
        matches!(&answer, Answer::Refused { code, .. } if code == DID_NOT_STAY),
        "{answer:?}"
    );
}

#[test]
fn memory_beyond_the_limit_is_an_oom_kill_that_is_told() {
    let mut board = Board::start();
    let image = image(&board, "x");
    let mut greedy = app(&image, "sleep 2; x=x; while true; do x=$x$x; done");
    greedy.restart = Restart::No;
    greedy.limits.memory_bytes = 8 << 20;
    board.commit("1", vec![greedy]);
    let dead = wait_for("the OOM kill", WAIT, || {
        board.app("web").filter(|app| app.state == AppState::Exited)
    });
    assert!(dead.oom_killed, "{dead:?}");
    assert_eq!(dead.exit_code, Some(137));
}

#[test]
fn people_stop_start_and_restart_an_app() {
    let (mut board, _) = running("page one");
    let first = board.app("web").unwrap().pid;
    assert_eq!(board.control("web", AppAction::Restart), Answer::Done);
    let second = wait_for("the restart", WAIT, || {
        board
            .app("web")
            .filter(|app| app.pid.is_some() && app.pid != first)
    });
    assert_eq!(
        second.restarts, 0,
        "a person's restart is no mark against the app"
    );
    assert_eq!(board.control("web", AppAction::Stop), Answer::Done);
    wait_for("the stop", WAIT, || {
        board.app("web").filter(|app| app.state == AppState::Exited)
    });
    // It stays so over a restart of the supervisor.
    board.restart_supervisor();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(board.app("web").unwrap().state, AppState::Exited);
    assert_eq!(board.control("web", AppAction::Start), Answer::Done);
    wait_for("the page", WAIT, || page(&board));
    assert!(matches!(
        board.control("absent", AppAction::Stop),
        Answer::Failed { .. }
    ));
}

#[test]
fn volumes_outlive_updates_and_probes_run_inside() {
    let mut board = Board::start();
    let image = image(&board, "x");
    let mut keeper = app(
        &image,
        "test -f /data/x || echo first > /data/x; cat /data/x; exec sleep 1000",
    );
    keeper.network.mode = NetworkMode::None;
    keeper.read_only_root = true;
    keeper.volumes = vec![VolumeMount {
        name: VolumeName::new("data").unwrap(),
        target: "/data".into(),
        read_only: false,
        size_bytes: None,
        inodes: None,
    }];
    let mut health = http_health(1);
    health.probe = Probe::Exec {
        argv: vec!["/bin/test".into(), "-f".into(), "/data/x".into()],
    };
    keeper.health = Some(health);
    assert_eq!(
        board.deploy("1", vec![keeper.clone()]),
        (Phase::Committed, None)
    );
    let file = board.state().join("volumes/data/room/data/x");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "first\n");
    keeper.args[2] = "echo second > /data/x; exec sleep 1000".into();
    board.commit("2", vec![keeper]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "second\n");
}

#[test]
fn a_roll_back_keeps_volumes_and_says_which() {
    let mut board = Board::start();
    let image = image(&board, "x");
    let volume = |name: &str, read_only| VolumeMount {
        name: VolumeName::new(name).unwrap(),
        target: format!("/{name}"),
        read_only,
        size_bytes: None,
        inodes: None,
    };
    let mut keeper = app(&image, "cat /data/x; echo first > /data/x; exec sleep 1000");
    keeper.network.mode = NetworkMode::None;
    keeper.volumes = vec![volume("data", false)];
    board.commit("1", vec![keeper.clone()]);
    keeper.args[2] = "echo second > /data/x; echo new > /more/x; exit 3".into();
    keeper.volumes = vec![
        volume("more", false),
        volume("data", false),
        volume("seen", true),
    ];
    let (phase, reason) = board.deploy("2", vec![keeper]);
    assert_eq!(phase, Phase::RolledBack);
    let reason = reason.unwrap();
    assert!(
        reason.ends_with("; kept with what it wrote: volumes data, more"),
        "{reason}"
    );
    // Said again to whoever asks later, and true.
    let failure = board.status().last_failure.unwrap();
    assert!(failure.ends_with(&reason), "{failure}");
    board.restart_supervisor();
    assert_eq!(board.status().last_failure.unwrap(), failure);
    let log = board.state().join("logs/web/json.log");
    let said = std::fs::read_to_string(log).unwrap();
    assert!(said.contains("second"), "the one before finds it: {said}");
    let more = board.state().join("volumes/more/room/data/x");
    assert_eq!(std::fs::read_to_string(more).unwrap(), "new\n");

    // What has no volumes has nothing to say.
    let mut plain = app(&image, "exit 3");
    plain.network.mode = NetworkMode::None;
    let (phase, reason) = board.deploy("3", vec![plain]);
    assert_eq!(phase, Phase::RolledBack);
    let reason = reason.unwrap();
    assert!(!reason.contains("kept"), "{reason}");
}

/// A probe's process stands among the app's until it is executed, and the app may stop all of them.
#[test]
fn an_app_that_stops_its_own_probes_does_not_stop_the_supervisor() {
    let mut board = Board::start();
    let image = image(&board, "x");
    let mut hostile = app(&image, "while :; do kill -STOP -1; done");
    hostile.network.mode = NetworkMode::None;
    hostile.trial_seconds = 6;
    let mut health = http_health(1);
    health.probe = Probe::Exec {
        argv: vec!["/bin/true".into()],
    };
    (health.interval_ms, health.timeout_ms) = (100, 300);
    (health.retries, health.start_period_ms) = (10, 10_000);
    hostile.health = Some(health);
    let (release, deploy) = board.documents("1", vec![hostile]);
    let needs = board.needs("a", &release, &deploy);
    board.stage_all("a", &needs);
    assert_eq!(board.activate("a"), Answer::Done);
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        let asked = Instant::now();
        board.status();
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(1), "it answered after {took:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_a_probe_started_ends_with_it_at_its_time_limit() {
    let mut board = Board::start();
    let image = image(&board, "x");
    let mut web = app(&image, "exec sleep 1000");
    web.network.mode = NetworkMode::None;
    web.trial_seconds = 30;
    let mut health = http_health(1);
    health.probe = Probe::Exec {
        argv: ["/bin/sh", "-c", "sleep 777; :"].map(String::from).into(),
    };
    (health.interval_ms, health.timeout_ms) = (100, 300);
    (health.retries, health.start_period_ms) = (10, 30_000);
    web.health = Some(health);
    let (release, deploy) = board.documents("1", vec![web]);
    let needs = board.needs("a", &release, &deploy);
    board.stage_all("a", &needs);
    assert_eq!(board.activate("a"), Answer::Done);
    let started = || -> BTreeSet<i32> {
        let files = board.cgroups().into_iter();
        let lists =
            files.filter_map(|at| std::fs::read_to_string(at.join("web/cgroup.procs")).ok());
        let pids = lists.flat_map(|list| {
            list.lines()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        });
        let is_its = |pid: &i32| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
            line.is_ok_and(|line| line.starts_with("sleep\x00777"))
        };
        pids.filter(is_its).collect()
    };
    let mut all: BTreeSet<i32> = BTreeSet::new();
    wait_for("six probes", WAIT, || {
        let now = started();
        all.extend(&now);
        // One that is killed may be seen beside the next.
        assert!(now.len() <= 2, "{now:?}");
        (all.len() >= 6).then_some(())
    });
}

#[test]
fn two_apps_find_each_other_by_name() {
    let mut board = Board::start();
    let image = image(&board, "page one");
    let mut asks = app(&image, "exec sleep 1000");
    asks.name = coracle_protocol::names::AppName::new("asks").unwrap();
    let mut health = http_health(1);
    health.probe = Probe::Exec {
        argv: ["/bin/wget", "-q", "-O", "/dev/null", "http://web:8080/"]
            .map(String::from)
            .into(),
    };
    asks.health = Some(health);
    assert_eq!(
        board.deploy("1", vec![asks, web(&image, 8081)]),
        (Phase::Committed, None)
    );
    // The same apps again, one of them adopted.
    board.restart_supervisor();
    wait_for("a probe inside an adopted app", WAIT, || {
        board.app("asks").filter(|app| app.healthy == Some(true))
    });
}

#[test]
fn nothing_is_left_after_stop_all() {
    let (mut board, _) = running("page one");
    let pid = board.app("web").unwrap().pid.unwrap();
    assert!(board.links().contains("cor0") && board.tables().contains("coracle"));
    assert!(!board.cgroups().is_empty());
    board.stop_all();
    // The number may be a zombie's still, until whoever inherited it has looked.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
    assert!(!board.links().contains("cor0"), "{}", board.links());
    assert!(!board.tables().contains("coracle"), "{}", board.tables());
    assert_eq!(board.cgroups(), Vec::<std::path::PathBuf>::new());
    // And everything comes back.
    board.start_supervisor();
    wait_for("the page", WAIT, || page(&board));
}

#[test]
fn a_delta_makes_the_layer_and_a_bad_one_does_not() {
    let name = "a_delta_makes_the_layer_and_a_bad_one_does_not";
    let mut board = Board::start();
    let programs = image(&board, "no page");
    // The page is in a layer of its own.
    let with_page = |file| {
        let tar = attacks::file(name, file);
        let layer = attacks::layer(&tar, &tar, "");
        (attacks::with_layer(&board, &programs, layer), tar)
    };
    let (first, tar) = with_page("old.tar");
    let (second, _) = with_page("new.tar");
    std::fs::write(board.store_blob(first.layers[1].digest), tar).unwrap();
    board.commit("1", vec![web(&first, 8081)]);
    let expected = |text: &str| Some(text.repeat(40));
    assert_eq!(page(&board), expected("page one "));

    // Only deltas are there.
    let (old, new) = (first.layers[1].diff_id, second.layers[1].diff_id);
    let (release, mut deploy) = board.documents("2", vec![web(&second, 8081)]);
    let mut offered = Vec::new();
    let mut delta = |from, file| {
        let bytes = attacks::file(name, file);
        let digest = Sha256Digest::of(&bytes);
        std::fs::write(board.store_blob(digest), &bytes).unwrap();
        deploy.deltas.push(Delta {
            from,
            to: new,
            media_type: coracle_images::delta::MEDIA_TYPE.into(),
            digest,
            size: bytes.len() as u64,
        });
        offered.push((bytes.len(), digest));
        digest
    };
    let bad = [
        "nonsense.delta",
        "cut.delta",
        "bit.delta",
        "makes-another.delta",
        "of-another-base.delta",
    ]
    .map(|file| (file, delta(old, file)));
    let good = delta(old, "good.delta");
    offered.sort();
    deploy.deltas.push(Delta {
        from: Sha256Digest::of(b"not here"),
        size: 1,
        ..deploy.deltas[0].clone()
    });
    let needs = board.needs("2", &release, &deploy);
    assert_eq!(needs.layers.len(), 1);
    let sizes: Vec<usize> = offered.iter().map(|(size, _)| *size).collect();
    let told = &needs.layers[0].deltas;
    assert!(
        told.iter().map(|blob| blob.size as usize).eq(sizes),
        "the smallest first, and none without its base: {told:?}"
    );
    let code = |answer| match answer {
        Answer::Failed { code, .. } => code,
        other => panic!("{other:?}"),
    };
    for (file, digest) in bad {
        let answer = code(board.stage("2", new, LayerSource::Delta(digest)));
        // What can be decoded and makes other bytes is found by the digest over them.
        let other_bytes = file.starts_with("of-") || file.starts_with("makes-");
        let expected = ["bad-delta", "diff-id-mismatch"];
        assert!(
            expected[usize::from(other_bytes)..].contains(&&*answer),
            "{file}: {answer}"
        );
    }
    assert_eq!(code(board.stage("2", new, LayerSource::Full)), "no-blob");
    assert!(!board.status().layers.contains(&new));
    assert_eq!(
        board.stage("2", new, LayerSource::Delta(good)),
        Answer::Done
    );
    let mut events = board.watch();
    assert_eq!(board.activate("2"), Answer::Done);
    assert_eq!(board.end_of(&mut events, "2").0, Phase::Committed);
    assert_eq!(page(&board), expected("page two "));
}

/// Facts and bytes of a file of an image's layer on the board.
fn on_disk(board: &Board, image: &Image, name: &str) -> ((u64, u64), u32, Vec<u8>) {
    let layers = board.state().join("layers");
    let file = layers.join(image.layers[0].diff_id.hex()).join(name);
    let facts = file.symlink_metadata().unwrap();
    let bytes = std::fs::read(file).unwrap();
    ((facts.dev(), facts.ino()), facts.mode(), bytes)
}

fn is_shared(board: &Board, [one, other]: [&Image; 2], name: &str) -> bool {
    on_disk(board, one, name).0 == on_disk(board, other, name).0
}

#[test]
fn unchanged_files_of_the_next_version_are_the_old_ones() {
    let mut board = Board::start();
    let image = |board: &Board, page: &str| board.image(&rootfs(board, page), RunConfig::default());
    // It writes to what it shares with the version before.
    let web = |image: &Image| {
        let mut web = web(image, 8081);
        let change = "echo more >> /etc/group && chmod 600 /etc/passwd && echo x > /bin/busybox2";
        web.args[2] = format!("{change}; exec httpd -f -p 8080 -h /www");
        web
    };
    let first = image(&board, "page one");
    board.commit("1", vec![web(&first)]);
    let files = ["bin/busybox", "etc/group", "etc/passwd"];
    let look = |board: &Board, image: &Image| files.map(|name| on_disk(board, image, name));
    let before = look(&board, &first);
    let second = image(&board, "page two");
    board.commit("2", vec![web(&second)]);
    for name in files {
        assert!(is_shared(&board, [&first, &second], name), "{name}");
    }
    assert!(!is_shared(&board, [&first, &second], "www/index.html"));
    assert!(
        board
            .run_in("web", &["cat", "/etc/group"])
            .1
            .contains("more")
    );
    assert!(look(&board, &first) == before && look(&board, &second) == before);

    // The third one replaces the second, and the first one's layer goes.
    let third = image(&board, "page three");
    board.commit("3", vec![web(&third)]);
    assert!(!board.status().layers.contains(&first.layers[0].diff_id));
    assert!(look(&board, &third) == before);
    assert!(is_shared(&board, [&second, &third], "bin/busybox"));
    wait_for_page(&board, "page three");

    // Where the site says so, each has its own.
    let config = board.config();
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains("[agent]"), "{text}");
    std::fs::write(
        &config,
        text.replace("[agent]", "[agent]\nshare_files = false"),
    )
    .unwrap();
    board.restart_supervisor();
    let fourth = image(&board, "page four");
    board.commit("4", vec![web(&fourth)]);
    assert!(!is_shared(&board, [&third, &fourth], "bin/busybox"));
}

/// SIGKILL at eight moments between the activation and its end: old or new, whole, and it says which.
#[test]
fn a_kill_at_any_moment_leaves_one_whole_set() {
    let mut board = Board::start();
    let images: Vec<_> = (0..2)
        .map(|n| image(&board, &format!("page {n}")))
        .collect();
    let app = |n: usize| {
        let mut app = web(&images[n % 2], 8081);
        app.stop_grace_seconds = 0;
        app
    };
    board.commit("0", vec![app(0)]);
    let mut outcomes = Vec::new();
    let mut committed = 0;
    for round in 1..=8_usize {
        let version = round.to_string();
        let next = committed + 1;
        let (release, deploy) = board.documents(&version, vec![app(next)]);
        let needs = board.needs(&version, &release, &deploy);
        board.stage_all(&version, &needs);
        let mut client = board.client();
        client.send(Request::Activate {
            activity: version.clone(),
        });
        std::thread::sleep(Duration::from_millis(round as u64 * round as u64 * 25));
        board.restart_supervisor();
        let set = wait_for("a committed set", WAIT, || {
            board
                .status()
                .current
                .filter(|set| set.state == SetState::Committed)
        });
        let is_new = set.version == version;
        if is_new {
            committed = next;
        }
        let expected = format!("page {}", committed % 2);
        wait_for_page(&board, &expected);
        assert!(!board.state().join("deployments/trial.json").exists());
        outcomes.push(is_new);
    }
    assert!(
        outcomes.contains(&false) && outcomes.contains(&true),
        "{outcomes:?}"
    );
}

/// Number of each app's log writer, as the supervisor has it on record.
fn log_writers(board: &Board) -> Vec<u32> {
    let text = std::fs::read_to_string(board.dir.path().join("run/supervisor/apps.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&text).unwrap();
    let apps = state["apps"].as_array().unwrap().iter();
    apps.filter_map(|app| Some(app["log_writer"]["pid"].as_u64()? as u32))
        .collect()
}

#[test]
fn one_process_writes_the_logs_of_all_apps() {
    let mut board = Board::start();
    let image = image(&board, "x");
    let names = ["one", "two", "three", "four"];
    let ticker = |name: &str| {
        let mut ticker = app(&image, "while true; do echo tick; sleep 0.05; done");
        ticker.name = AppName::new(name).unwrap();
        ticker.network.mode = NetworkMode::None;
        ticker
    };
    board.commit("1", names.iter().map(|name| ticker(name)).collect());
    let of_all = |board: &Board| {
        let writers = log_writers(board);
        let first = *writers.first()?;
        let is_one = writers.iter().all(|writer| *writer == first);
        (is_one && writers.len() == names.len()).then_some(first)
    };
    let first = of_all(&board).expect("one process");
    let goes_on = |board: &Board| {
        for name in names {
            let log = board.state().join(format!("logs/{name}/json.log"));
            let length = || std::fs::metadata(&log).map_or(0, |log| log.len());
            let written = length();
            wait_for("the log to go on", WAIT, || {
                (length() > written + 500).then_some(())
            });
        }
    };
    goes_on(&board);
    // The next supervisor finds it, and gives it what starts anew.
    board.restart_supervisor();
    assert_eq!(board.control("two", AppAction::Restart), Answer::Done);
    let pid = board.app("two").unwrap().pid;
    wait_for("the restart", WAIT, || {
        let now = board.app("two")?.pid;
        (now.is_some() && now != pid).then_some(())
    });
    assert_eq!(of_all(&board), Some(first));
    goes_on(&board);
    // All of its apps get a new one.
    kill(first);
    let second = wait_for("a new writer", WAIT, || {
        of_all(&board).filter(|writer| *writer != first)
    });
    goes_on(&board);
    // With the last app it ends.
    board.stop_all();
    wait_for("its end", WAIT, || {
        let stat = std::fs::read_to_string(format!("/proc/{second}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z "))
            .then_some(())
    });
}

#[test]
fn a_killed_log_writer_is_replaced_and_the_app_does_not_notice() {
    let mut board = Board::start();
    let image = image(&board, "x");
    let ticker = app(&image, "while true; do echo tick; sleep 0.05; done");
    board.commit("1", vec![ticker]);
    let before = board.app("web").unwrap();
    for adopted in [false, true] {
        if adopted {
            board.restart_supervisor();
        }
        let text =
            std::fs::read_to_string(board.dir.path().join("run/supervisor/apps.json")).unwrap();
        let state: serde_json::Value = serde_json::from_str(&text).unwrap();
        let writer = state["apps"][0]["log_writer"]["pid"].as_i64().unwrap();
        kill(writer as u32);
        wait_for("a new writer", WAIT, || {
            board.log().contains("a new one goes on").then_some(())
        });
        let log = board.state().join("logs/web/json.log");
        let length = || std::fs::metadata(&log).map_or(0, |log| log.len());
        let written = length();
        wait_for("the log to go on", WAIT, || {
            (length() > written + 500).then_some(())
        });
    }
    assert_eq!(board.app("web").unwrap().pid, before.pid);
}

/// KiB of the supervisor's own file that it has on its page tables.
fn program_kib(board: &Board) -> u64 {
    let smaps = std::fs::read_to_string(format!("/proc/{}/smaps", board.supervisor_pid())).unwrap();
    let (mut inside, mut kib) = (false, 0);
    for line in smaps.lines() {
        match line.split_once(char::is_whitespace) {
            Some((key, _)) if !key.ends_with(':') => inside = line.ends_with("coracle-supervisor"),
            Some(("Rss:", value)) if inside => {
                kib += value.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            }
            _ => {}
        }
    }
    kib
}

#[test]
fn the_supervisor_gives_back_what_a_deployment_took() {
    let mut board = Board::start();
    let image = image(&board, "page");
    let mut sleeper = app(&image, "exec sleep 1000");
    sleeper.network.mode = NetworkMode::None;
    board.commit("1", vec![sleeper]);
    let busy = program_kib(&board);
    wait_for("a rest", WAIT, || {
        (program_kib(&board) < busy * 3 / 4).then_some(())
    });
    assert!(board.app("web").unwrap().pid.is_some());
}

#[test]
fn a_supervisor_that_is_killed_early_leaves_what_it_found() {
    let mut board = Board::start();
    let image = image(&board, "x");
    let named = |name: &str| {
        let mut sleeper = app(&image, "exec sleep 1000");
        sleeper.name = AppName::new(name).unwrap();
        sleeper.network.mode = NetworkMode::None;
        sleeper
    };
    board.commit("1", ["one", "two", "three"].map(named).into());
    assert_eq!(board.control("three", AppAction::Stop), Answer::Done);
    wait_for("its end", WAIT, || {
        (board.app("three")?.state == AppState::Exited).then_some(())
    });
    let pid = |board: &Board, name: &str| board.app(name).unwrap().pid;
    let before = ["one", "two"].map(|name| pid(&board, name));
    let writer = log_writers(&board)[0];
    board.kill_supervisor();
    kill(writer);
    // The first answers, and has a new writer for those that run.
    board.start_supervisor();
    board.status();
    assert!(log_writers(&board).iter().all(|now| *now != writer));
    board.restart_supervisor();
    assert_eq!(["one", "two"].map(|name| pid(&board, name)), before);
    assert_eq!(pid(&board, "three"), None);
    assert_eq!(board.app("three").unwrap().state, AppState::Exited);
}

#[test]
fn a_log_without_a_writer_is_tried_again() {
    let mut board = Board::start();
    let image = image(&board, "x");
    let mut ticker = app(&image, "while true; do echo tick; sleep 0.05; done");
    ticker.network.mode = NetworkMode::None;
    board.commit("1", vec![ticker]);
    let before = board.app("web").unwrap().pid;
    let (logs, aside) = (board.state().join("logs"), board.state().join("aside"));
    std::fs::rename(&logs, &aside).unwrap();
    std::fs::write(&logs, "in the way").unwrap();
    kill(log_writers(&board)[0]);
    wait_for("word of it", WAIT, || {
        board.log().contains("its log waits").then_some(())
    });
    std::fs::remove_file(&logs).unwrap();
    std::fs::rename(&aside, &logs).unwrap();
    let length = || std::fs::metadata(logs.join("web/json.log")).map_or(0, |log| log.len());
    let written = length();
    wait_for("the log to go on", WAIT, || {
        (length() > written + 500).then_some(())
    });
    assert_eq!(board.app("web").unwrap().pid, before);
}

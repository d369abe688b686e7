//! A release whose layers are here and whose time has not come: the old set runs on, whole, until it has.

mod board;

use board::{Board, Client, app, kill, now, rootfs, wait_for};
use coracle_digest::Sha256Digest;
use coracle_images::layout::RunConfig;
use coracle_protocol::deploy::Deploy;
use coracle_protocol::local::{Answer, Event, Request};
use coracle_protocol::names::ProductName;
use coracle_protocol::release::{App, Image, NetworkMode, Release, Restart, UpdateLock};
use coracle_protocol::report::{AppState, Phase, SetState};
use coracle_protocol::trust_state::TrustState;
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(20);
const LOCK: &str = "/run/coracle/update-lock";

fn plain(image: &Image, script: &str) -> App {
    let mut app = app(image, script);
    app.network.mode = NetworkMode::None;
    app.stop_grace_seconds = 0;
    app
}

/// Holds its lock as soon as it runs, as a user without rights.
fn locking(image: &Image, seconds: u32) -> App {
    let script = "test $(id -u) = 1000 && : > /run/coracle/update-lock; exec sleep 1000";
    let mut app = plain(image, script);
    app.update_lock = Some(UpdateLock {
        max_defer_seconds: seconds,
    });
    app
}

fn with_lock(seconds: u32) -> (Board, Image) {
    let mut board = Board::start();
    let config = RunConfig {
        user: "web".into(),
        ..RunConfig::default()
    };
    let image = board.image(&rootfs(&board, "x"), config);
    board.commit("1", vec![locking(&image, seconds)]);
    wait_for("the lock", WAIT, || {
        board.run_in("web", &["test", "-f", LOCK]).0.then_some(())
    });
    (board, image)
}

/// Offers, stages and activates; the deployment is under way then.
fn begin(board: &mut Board, version: &str, apps: Vec<App>) -> (Client, Release, Deploy) {
    let (release, deploy) = board.documents(version, apps);
    let needs = board.needs(version, &release, &deploy);
    board.stage_all(version, &needs);
    let events = board.watch();
    assert_eq!(board.activate(version), Answer::Done, "{}", board.log());
    (events, release, deploy)
}

/// The next word about a deployment.
fn heard(events: &mut Client) -> (String, Phase, String) {
    loop {
        match events.event().expect("an event") {
            Event::Deployment {
                activity,
                phase,
                reason,
                ..
            } => return (activity, phase, reason.unwrap_or_default()),
            _ => continue,
        }
    }
}

fn waits_for(board: &Board) -> Option<String> {
    board.status().waiting.map(|set| set.code)
}

fn version(board: &Board) -> Option<String> {
    let set = board.status().current?;
    (set.state == SetState::Committed).then_some(set.version)
}

#[test]
fn a_release_waits_for_an_app_s_lock_over_a_restart_and_goes_on_when_it_is_gone() {
    let (mut board, image) = with_lock(600);
    let pid = board.app("web").unwrap().pid;
    let next = plain(&image, "exec sleep 1000");
    let (mut events, release, deploy) = begin(&mut board, "2", vec![next]);
    let (activity, phase, reason) = heard(&mut events);
    assert_eq!((activity.as_str(), phase), ("2", Phase::Waiting));
    assert_eq!(reason, "app `web` holds the update lock, for at most 600 s");
    let waiting = board.status().waiting.unwrap();
    assert_eq!(
        (waiting.version.as_str(), waiting.code.as_str()),
        ("2", "update-lock")
    );
    assert_eq!(version(&board).as_deref(), Some("1"));

    // Parked: a next supervisor knows it, and has the old set.
    board.restart_supervisor();
    wait_for("the wait to go on", WAIT, || {
        waits_for(&board).filter(|code| code == "update-lock")
    });
    assert_eq!(board.app("web").unwrap().pid, pid);
    // Its daemon begins anew too, and calls it otherwise: it hears for what it waits.
    let needs = board.needs("again", &release, &deploy);
    assert_eq!(needs.layers, []);
    let mut events = board.watch();
    assert_eq!(board.activate("again"), Answer::Done);
    let (activity, phase, _) = heard(&mut events);
    assert_eq!((activity.as_str(), phase), ("again", Phase::Waiting));

    assert!(board.run_in("web", &["rm", LOCK]).0);
    assert_eq!(board.end_of(&mut events, "again"), (Phase::Committed, None));
    assert_eq!(version(&board).as_deref(), Some("2"));
    assert!(!board.state().join("deployments/waiting.json").exists());
    // The new one asked for no lock and has no folder for one.
    assert!(!board.run_in("web", &["test", "-e", "/run/coracle"]).0);
}

/// What the board has seen is counted on from there, and not from nothing: other products, the other role, time.
#[test]
fn a_set_that_waited_over_a_restart_takes_no_counter_back() {
    let (mut board, image) = with_lock(600);
    let (mut other, _) = board.documents("other", vec![locking(&image, 600)]);
    other.product = ProductName::new("other").unwrap();
    other.release_counter = 70;
    let deploy = Deploy {
        issued_at: now() + 3600,
        ..board.deploy_of(&other, 2)
    };
    assert!(board.run_in("web", &["rm", LOCK]).0);
    assert_eq!(board.carry_out("o", &other, &deploy).0, Phase::Committed);
    wait_for("the lock", WAIT, || {
        board.run_in("web", &["test", "-f", LOCK]).0.then_some(())
    });
    let before = board.status().trust.unwrap();
    let (mut release, _) = board.documents("2", vec![plain(&image, "exec sleep 1000")]);
    release.release_counter = 9;
    let deploy = Deploy {
        issued_at: now() + 3601,
        ..board.deploy_of(&release, 3)
    };
    let needs = board.needs("2", &release, &deploy);
    board.stage_all("2", &needs);
    assert_eq!(board.activate("2"), Answer::Done);
    board.restart_supervisor();
    let mut events = board.watch();
    assert!(board.run_in("web", &["rm", LOCK]).0);
    assert_eq!(board.end_of(&mut events, "2"), (Phase::Committed, None));
    let after = board.status().trust.unwrap();
    assert_eq!(after.deploy.value, 3);
    let counters = |trust: &TrustState, product| {
        let product = ProductName::new(product).unwrap();
        trust.releases.get(&product).map(|counter| counter.value)
    };
    assert_eq!(counters(&after, "other"), Some(70));
    assert_eq!(counters(&after, "shop"), Some(9));
    assert!(after.time >= before.time, "{after:?}");
}

#[test]
fn a_lock_puts_a_release_off_no_longer_than_the_running_release_says() {
    let (mut board, image) = with_lock(4);
    let began = Instant::now();
    let next = plain(&image, "exec sleep 1000");
    let (mut events, ..) = begin(&mut board, "2", vec![next]);
    assert_eq!(heard(&mut events).1, Phase::Waiting);
    assert_eq!(heard(&mut events).1, Phase::Switching);
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(4), "{waited:?}");
    assert_eq!(board.end_of(&mut events, "2").0, Phase::Committed);
}

#[test]
fn an_app_that_has_ended_holds_no_lock() {
    let (mut board, image) = with_lock(600);
    let mut once = locking(&image, 600);
    once.restart = Restart::No;
    assert!(board.run_in("web", &["rm", LOCK]).0);
    board.commit("2", vec![once]);
    let next = plain(&image, "exec sleep 1000");
    let (mut events, ..) = begin(&mut board, "3", vec![next]);
    assert_eq!(heard(&mut events).1, Phase::Waiting);
    kill(board.app("web").unwrap().pid.unwrap());
    assert_eq!(board.end_of(&mut events, "3"), (Phase::Committed, None));
}

#[test]
fn a_newer_assignment_takes_the_place_of_the_one_that_waits() {
    let (mut board, image) = with_lock(600);
    let second = plain(&image, "echo second; exec sleep 1000");
    let (mut events, ..) = begin(&mut board, "2", vec![second]);
    assert_eq!(heard(&mut events).1, Phase::Waiting);

    let third = plain(&image, "echo third; exec sleep 1000");
    let (release, deploy) = board.documents("3", vec![third]);
    let needs = board.needs("3", &release, &deploy);
    let (activity, phase, reason) = heard(&mut events);
    assert_eq!((activity.as_str(), phase), ("2", Phase::Failed));
    assert!(reason.contains("came while it waited"), "{reason}");
    assert_eq!(waits_for(&board), None);
    assert!(!board.state().join("deployments/waiting.json").exists());
    assert_eq!(version(&board).as_deref(), Some("1"));

    board.stage_all("3", &needs);
    assert_eq!(board.activate("3"), Answer::Done, "{}", board.log());
    assert_eq!(
        heard(&mut events),
        ("3".into(), Phase::Waiting, reason_of_lock())
    );
    assert!(board.run_in("web", &["rm", LOCK]).0);
    assert_eq!(board.end_of(&mut events, "3"), (Phase::Committed, None));
}

/// A release whose app holds its lock, under the assignment with this number, which runs.
fn runs(board: &mut Board, image: &Image, seq: u64) -> (Release, Deploy) {
    let (release, _) = board.documents("runs", vec![locking(image, 600)]);
    let deploy = board.deploy_of(&release, seq);
    assert!(board.run_in("web", &["rm", LOCK]).0);
    let end = board.carry_out("runs", &release, &deploy);
    assert_eq!(end, (Phase::Committed, None), "{}", board.log());
    wait_for("the lock", WAIT, || {
        board.run_in("web", &["test", "-f", LOCK]).0.then_some(())
    });
    (release, deploy)
}

/// The assignment of what runs, once more under this number.
fn once_more(runs: &Deploy, seq: u64) -> Deploy {
    Deploy {
        seq,
        issued_at: now(),
        ..runs.clone()
    }
}

fn refused(answer: Answer) -> String {
    match answer {
        Answer::Refused { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

/// The signed way to take back what waits, and what somebody who has the broker can send instead.
#[test]
fn what_waits_is_taken_back_by_a_newer_assignment_of_what_runs_and_by_no_older_message() {
    let (mut board, image) = with_lock(600);
    let (release, first) = runs(&mut board, &image, 10);
    let pid = board.app("web").unwrap().pid;
    let (next, _) = board.documents("2", vec![plain(&image, "exec sleep 1000")]);
    let next_deploy = board.deploy_of(&next, 20);
    let needs = board.needs("2", &next, &next_deploy);
    board.stage_all("2", &needs);
    let mut events = board.watch();
    assert_eq!(board.activate("2"), Answer::Done, "{}", board.log());
    assert_eq!(heard(&mut events).1, Phase::Waiting);

    // The message of what runs, once more; one that was signed before what waits, and that the board never saw.
    assert!(board.needs("replay", &release, &first).already);
    let older = once_more(&first, 19);
    let answer = board.offer("older", &release, &older);
    assert_eq!(refused(answer), "old-assignment");
    let (other, _) = board.documents("other", vec![plain(&image, "exec sleep 999")]);
    let older = board.deploy_of(&other, 18);
    let answer = board.offer("older", &other, &older);
    assert_eq!(refused(answer), "old-assignment");
    assert_eq!(waits_for(&board).as_deref(), Some("update-lock"));

    // Cancelled while it waits: nothing is stopped for it, nor started.
    let cancel = once_more(&first, 21);
    assert!(board.needs("cancel", &release, &cancel).already);
    let (activity, code, reason) = loop {
        match events.event().expect("an event") {
            Event::Deployment {
                activity,
                code,
                reason,
                ..
            } => break (activity, code, reason.unwrap_or_default()),
            _ => continue,
        }
    };
    assert_eq!(
        (activity.as_str(), code.as_deref()),
        ("2", Some("cancelled"))
    );
    assert!(reason.ends_with("version runs stays"), "{reason}");
    assert_eq!(waits_for(&board), None);
    assert!(!board.state().join("deployments/waiting.json").exists());
    assert_eq!(board.status().trust.unwrap().deploy.value, 21);

    // It is over for good, for the next supervisor too; and who did not hear that it was taken may ask again.
    for _ in 0..2 {
        let answer = board.offer("2-again", &next, &next_deploy);
        assert_eq!(refused(answer), "old-assignment");
        assert!(board.needs("cancel-again", &release, &cancel).already);
        let other = board.deploy_of(&next, 21);
        let answer = board.offer("another-21", &next, &other);
        assert_eq!(refused(answer), "old-assignment");
        assert_eq!(board.app("web").unwrap().pid, pid);
        let set = board.status().current.unwrap();
        assert_eq!(
            (set.version.as_str(), set.state),
            ("runs", SetState::Committed)
        );
        board.restart_supervisor();
    }
    // One that is to hold for longer than what runs is a deployment like any other, and so is the next release.
    let longer = Deploy {
        expires: first.expires + 1,
        ..once_more(&first, 22)
    };
    assert!(!board.needs("longer", &release, &longer).already);
    let deploy = board.deploy_of(&next, 23);
    assert!(board.run_in("web", &["rm", LOCK]).0);
    assert_eq!(
        board.carry_out("3", &next, &deploy),
        (Phase::Committed, None)
    );
}

#[test]
fn what_is_being_fetched_is_taken_back_too_and_what_has_switched_is_not() {
    let (mut board, image) = with_lock(600);
    let (release, first) = runs(&mut board, &image, 10);
    let pid = board.app("web").unwrap().pid;
    let mut slow = plain(&image, "exec sleep 1000");
    slow.trial_seconds = 6;
    let (next, _) = board.documents("2", vec![slow]);
    let deploy = board.deploy_of(&next, 20);
    assert!(!board.needs("2", &next, &deploy).already);
    let cancel = once_more(&first, 21);
    assert!(board.needs("cancel", &release, &cancel).already);
    match board.activate("2") {
        Answer::Failed { code, .. } => assert_eq!(code, "no-offer"),
        other => panic!("{other:?}"),
    }
    assert_eq!(board.app("web").unwrap().pid, pid);

    // In its trial it is not what runs, yet: the assignment of the old set is one like any other, and comes too late.
    assert!(board.run_in("web", &["rm", LOCK]).0);
    let deploy = board.deploy_of(&next, 22);
    let needs = board.needs("3", &next, &deploy);
    board.stage_all("3", &needs);
    let mut events = board.watch();
    assert_eq!(board.activate("3"), Answer::Done, "{}", board.log());
    loop {
        match heard(&mut events).1 {
            Phase::Trial => break,
            phase => assert!(!phase.is_end(), "{phase:?}"),
        }
    }
    let cancel = once_more(&first, 23);
    assert_eq!(
        refused(board.offer("late", &release, &cancel)),
        "old-release"
    );
    assert_eq!(board.end_of(&mut events, "3"), (Phase::Committed, None));
    assert_eq!(
        refused(board.offer("late", &release, &cancel)),
        "old-release"
    );
    assert_eq!(version(&board).as_deref(), Some("2"));
}

/// A version that did not stay has raised the counter of releases above that of what runs. What comes next is taken back all the
/// same, and nothing else gets by that counter.
#[test]
fn what_runs_may_stay_after_a_version_that_did_not_and_nothing_of_it_may_change() {
    let (mut board, image) = with_lock(600);
    let (release, first) = runs(&mut board, &image, 10);
    assert!(board.run_in("web", &["rm", LOCK]).0);
    let mut bad = plain(&image, "sleep 0.5; exit 3");
    bad.restart = Restart::No;
    let (tried, _) = board.documents("bad", vec![bad]);
    let deploy = board.deploy_of(&tried, 20);
    assert_eq!(board.carry_out("bad", &tried, &deploy).0, Phase::RolledBack);
    wait_for("the lock", WAIT, || {
        let app = board.app("web")?;
        (app.state == AppState::Running && board.run_in("web", &["test", "-f", LOCK]).0)
            .then_some(())
    });
    let pid = board.app("web").unwrap().pid;
    let counters = |board: &Board| board.status().trust.unwrap().releases;
    let before = counters(&board);

    let (next, _) = board.documents("2", vec![plain(&image, "exec sleep 1000")]);
    let deploy = board.deploy_of(&next, 30);
    let needs = board.needs("2", &next, &deploy);
    board.stage_all("2", &needs);
    let mut events = board.watch();
    assert_eq!(board.activate("2"), Answer::Done, "{}", board.log());
    assert_eq!(heard(&mut events).1, Phase::Waiting);

    // For longer than what runs: that would be a new life for an old release. And one that was signed before what waits.
    let longer = Deploy {
        expires: first.expires + 1,
        ..once_more(&first, 31)
    };
    let answer = board.offer("longer", &release, &longer);
    assert_eq!(refused(answer), "old-release");
    let answer = board.offer("older", &release, &once_more(&first, 29));
    assert_eq!(refused(answer), "old-assignment");
    // Another release of the same counter.
    let (mut other, _) = board.documents("other", vec![plain(&image, "exec sleep 999")]);
    other.release_counter = release.release_counter;
    let deploy = board.deploy_of(&other, 31);
    assert_eq!(
        refused(board.offer("other", &other, &deploy)),
        "old-release"
    );
    assert_eq!(waits_for(&board).as_deref(), Some("update-lock"));

    let cancel = once_more(&first, 31);
    assert!(board.needs("cancel", &release, &cancel).already);
    let (activity, phase, reason) = heard(&mut events);
    assert_eq!((activity.as_str(), phase), ("2", Phase::Failed));
    assert!(reason.ends_with("version runs stays"), "{reason}");
    assert_eq!(waits_for(&board), None);
    assert_eq!(board.app("web").unwrap().pid, pid);
    assert_eq!(board.status().trust.unwrap().deploy.value, 31);
    assert_eq!(counters(&board), before);
    // So it is after a restart, and what did not stay is still below nothing.
    board.restart_supervisor();
    assert_eq!(counters(&board), before);
    assert_eq!(version(&board).as_deref(), Some("runs"));
    let deploy = board.deploy_of(&release, 32);
    let again = Deploy {
        expires: first.expires + 1,
        ..deploy
    };
    assert_eq!(
        refused(board.offer("again", &release, &again)),
        "old-release"
    );
}

fn reason_of_lock() -> String {
    "app `web` holds the update lock, for at most 600 s".into()
}

/// The board comes back with so much memory for its apps.
fn with_memory(board: &mut Board, mib: u64) {
    board.kill_supervisor();
    let facts = std::fs::read_to_string("/proc/meminfo").unwrap();
    let all = facts
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
    let all: u64 = all.unwrap().parse().unwrap();
    let all = all / 1024;
    let site = format!(
        "memory_mib = {all}\n[reserve]\nmemory_mib = {}\n",
        all - mib
    );
    std::fs::write(board.config().with_file_name("board.toml"), site).unwrap();
    board.start_supervisor();
}

#[test]
fn a_board_that_gets_smaller_drops_what_waits_and_runs_on_with_what_it_has() {
    let (mut board, image) = with_lock(600);
    let pid = board.app("web").unwrap().pid;
    let mut next = plain(&image, "exec sleep 1000");
    next.limits.memory_bytes = 256 << 20;
    let (mut events, ..) = begin(&mut board, "2", vec![next]);
    assert_eq!(heard(&mut events).1, Phase::Waiting);
    drop(events);

    with_memory(&mut board, 100);
    let (activity, phase, reason) = heard(&mut board.watch());
    assert_eq!((activity.as_str(), phase), ("2", Phase::Failed));
    assert!(reason.starts_with("memory: the apps ask for"), "{reason}");
    let status = board.status();
    assert_eq!(status.waiting, None);
    assert!(!board.state().join("deployments/waiting.json").exists());
    let words = status.last_failure.unwrap();
    assert!(
        words.starts_with("2 does not fit any more (over-budget: memory"),
        "{words}"
    );
    assert_eq!(status.over_budget, None);
    assert_eq!(board.app("web").unwrap().pid, pid);

    // Not even for the set that runs, which has 32.
    with_memory(&mut board, 20);
    let over = board.status().over_budget.unwrap();
    assert!(over.starts_with("memory: the apps ask for"), "{over}");
    assert!(board.log().contains("does not fit this board any more"));
    assert_eq!(board.app("web").unwrap().pid, pid);
    // It is the one to go back to as well.
    assert!(board.run_in("web", &["rm", LOCK]).0);
    let mut bad = plain(&image, "sleep 0.5; exit 3");
    bad.restart = Restart::No;
    bad.limits.memory_bytes = 8 << 20;
    let (phase, _) = board.deploy("3", vec![bad]);
    assert_eq!(phase, Phase::RolledBack);
    wait_for("the app of before", WAIT, || {
        board
            .app("web")
            .filter(|app| app.state == AppState::Running)
    });
    assert!(board.status().over_budget.is_some());

    with_memory(&mut board, 500);
    assert_eq!(board.status().over_budget, None);
}

/// SIGKILL around the instant at which the lock goes: old or new, whole, and the wait is not lost.
#[test]
fn a_kill_while_it_waits_or_begins_leaves_one_whole_set() {
    let (mut board, image) = with_lock(600);
    for (round, millis) in [0_u64, 300, 700, 1000, 1100, 1300].into_iter().enumerate() {
        let before = version(&board).unwrap();
        let next = (round + 2).to_string();
        drop(begin(&mut board, &next, vec![locking(&image, 600)]));
        wait_for("it to wait", WAIT, || waits_for(&board));
        assert!(board.run_in("web", &["rm", LOCK]).0);
        std::thread::sleep(Duration::from_millis(millis));
        board.restart_supervisor();
        let none = |name: &str| {
            let file = format!("deployments/{name}.json");
            !board.state().join(file).exists()
        };
        let now = wait_for("an end", WAIT, || {
            (none("waiting") && none("trial")).then(|| version(&board))?
        });
        assert!(now == before || now == next, "{now}");
        wait_for("its app", WAIT, || {
            board
                .app("web")
                .filter(|app| app.state == AppState::Running)
        });
        // One that ran on all the while has given its lock away. One that had been asked to end is adopted, ends, and is
        // started again.
        let lock = format!(": > {LOCK}");
        wait_for("its lock", WAIT, || {
            let pid = |board: &Board| board.app("web").and_then(|app| app.pid);
            let before = pid(&board)?;
            let held = board.run_in("web", &["sh", "-c", &lock]).0;
            (held && pid(&board) == Some(before)).then_some(())
        });
    }
}

/// Whoever asks at that moment sees the old set, and that it is not the end.
#[test]
fn a_set_that_the_old_one_is_stopped_for_is_told_as_such() {
    let mut board = Board::start();
    let image = board.image(&rootfs(&board, "x"), RunConfig::default());
    let mut slow = plain(
        &image,
        "trap 'sleep 2; exit 0' TERM; while :; do sleep 0.1; done",
    );
    slow.stop_grace_seconds = 10;
    board.commit("1", vec![slow]);
    let next = plain(&image, "exec sleep 1000");
    let (mut events, _, deploy) = begin(&mut board, "2", vec![next]);
    let status = board.status();
    let set = status.waiting.unwrap();
    assert_eq!(
        (set.code.as_str(), set.activity.as_str()),
        ("switching", "2")
    );
    assert_eq!(
        set.deployment,
        Sha256Digest::of(&serde_json::to_vec(&deploy).unwrap())
    );
    assert_eq!(status.current.unwrap().version, "1");
    assert_eq!(board.end_of(&mut events, "2"), (Phase::Committed, None));
    assert_eq!(board.status().waiting, None);
}

/// `[deploy]` of a board whose clock is right.
fn set_window(board: &Board, from: u64, to: u64) {
    let clock = |hour: u64| {
        let minutes = (now() / 60 + hour * 60) % 1440;
        format!("{:02}:{:02}", minutes / 60, minutes % 60)
    };
    let text = std::fs::read_to_string(board.config()).unwrap();
    let text = text.split("[deploy]").next().unwrap();
    let deploy = format!(
        "window = [\"{}-{}\"]\nclock_is_right = true\n",
        clock(from),
        clock(to)
    );
    std::fs::write(board.config(), format!("{text}[deploy]\n{deploy}")).unwrap();
}

#[test]
fn a_release_waits_for_its_window_and_a_lock_s_time_begins_with_it() {
    let (mut board, image) = with_lock(3);
    set_window(&board, 2, 3);
    board.restart_supervisor();
    let next = plain(&image, "exec sleep 1000");
    let (mut events, ..) = begin(&mut board, "2", vec![next]);
    let (_, phase, reason) = heard(&mut events);
    assert_eq!(phase, Phase::Waiting);
    let both = "UTC; app `web` holds the update lock, for at most 3 s";
    assert!(reason.starts_with("the maintenance window is "), "{reason}");
    assert!(reason.ends_with(both), "{reason}");
    // Outside of the window no time of the lock goes by.
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(waits_for(&board).as_deref(), Some("window"));

    // Open since an hour; over midnight, at some hours of the day.
    set_window(&board, 23, 25);
    board.restart_supervisor();
    wait_for("the lock alone", WAIT, || {
        waits_for(&board).filter(|code| code == "update-lock")
    });
    wait_for("the new set", WAIT, || {
        version(&board).filter(|version| version == "2")
    });
}

/// The power goes, and the board starts once more as `boot`: what is in memory is gone, and the clock is not set.
fn reboot(board: &mut Board, boot: &str, cut: impl Fn(&Board)) {
    cut(board);
    board.kill_supervisor();
    std::fs::remove_file(board.dir.path().join("run/supervisor/apps.json")).unwrap();
    let folder = board.dir.path().join("hardware/proc/sys/kernel/random");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("boot_id"), boot).unwrap();
    board.start_supervisor();
}

/// What is written of a wait.
fn spent(board: &Board) -> Option<serde_json::Value> {
    let bytes = std::fs::read(board.state().join("deployments/waited.json")).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[test]
fn a_board_without_a_clock_that_restarts_each_day_comes_to_the_end_of_its_wait() {
    let mut board = Board::start();
    set_window(&board, 2, 3);
    let text = std::fs::read_to_string(board.config()).unwrap();
    let root = format!(
        "[agent]\nhardware_root = \"{}/hardware\"\n",
        board.dir.path().display()
    );
    let text = text.replacen("[agent]\n", &root, 1);
    let text = text.replace("clock_is_right = true", "time_unknown_hours = 48");
    std::fs::write(board.config(), text).unwrap();
    // A kernel that says nothing of its clock.
    board.without_calls = [libc::SYS_adjtimex, libc::SYS_clock_adjtime]
        .map(|call| call as u32)
        .into();
    let image = board.image(&rootfs(&board, "x"), RunConfig::default());
    reboot(&mut board, "monday", |_| ());
    let next = plain(&image, "exec sleep 1000");
    let (mut events, ..) = begin(&mut board, "1", vec![next]);
    let (_, phase, reason) = heard(&mut events);
    assert_eq!(phase, Phase::Waiting);
    assert!(reason.ends_with("until it was up for 48 hours"), "{reason}");
    let first = wait_for("the first note", WAIT, || spent(&board));
    assert_eq!(first["boot"], "monday");

    // Cut off, and up again: seconds of a day that nobody counted are not made up, those that were count.
    reboot(&mut board, "tuesday", |_| ());
    let second = wait_for("a note of this start", WAIT, || {
        spent(&board).filter(|spent| spent["boot"] == "tuesday")
    });
    assert!(
        second["seconds"].as_u64() >= first["seconds"].as_u64(),
        "{second}"
    );

    // A supervisor that is ended writes how far it is, between the notes.
    let before = second["seconds"].as_u64().unwrap();
    std::thread::sleep(Duration::from_secs(3));
    board.end_supervisor();
    let third = spent(&board).unwrap()["seconds"].as_u64().unwrap();
    assert!(third >= before + 2, "{third} after {before}");
    board.start_supervisor();

    // As if the days before had been long.
    reboot(&mut board, "wednesday", |board| {
        let mut spent = spent(board).unwrap();
        spent["seconds"] = (48 * 3600 - 4).into();
        let file = board.state().join("deployments/waited.json");
        std::fs::write(file, spent.to_string()).unwrap();
    });
    assert_eq!(waits_for(&board).as_deref(), Some("window"));
    wait_for("the new set", WAIT, || {
        version(&board).filter(|version| version == "1")
    });
    assert_eq!(spent(&board), None);
}

#[test]
fn a_release_waits_for_consent_which_is_of_that_one_and_outlives_a_restart() {
    let (mut board, image) = with_lock(600);
    let text = std::fs::read_to_string(board.config()).unwrap();
    std::fs::write(board.config(), format!("{text}[deploy]\nconsent = true\n")).unwrap();
    board.restart_supervisor();
    let accept = |board: &Board, deployment| board.ask(Request::Accept { deployment, uid: 0 });
    let next = plain(&image, "exec sleep 1000");
    let (mut events, ..) = begin(&mut board, "2", vec![next]);
    assert_eq!(heard(&mut events).1, Phase::Waiting);
    let waiting = board.status().waiting.unwrap();
    assert_eq!(waiting.code, "consent");
    assert!(
        waiting.reason.contains("`coracle update accept`"),
        "{}",
        waiting.reason
    );

    let other = Sha256Digest::of(b"another assignment");
    match accept(&board, other) {
        Answer::Failed { code, .. } => assert_eq!(code, "not-waiting"),
        answer => panic!("{answer:?}"),
    }
    assert_eq!(waits_for(&board).as_deref(), Some("consent"));
    assert_eq!(accept(&board, waiting.deployment), Answer::Done);
    wait_for("the lock alone", WAIT, || {
        waits_for(&board).filter(|code| code == "update-lock")
    });
    // A power cut between the word and the switch: nobody is asked again.
    board.restart_supervisor();
    wait_for("the wait to go on", WAIT, || {
        waits_for(&board).filter(|code| code == "update-lock")
    });
    assert!(board.run_in("web", &["rm", LOCK]).0);
    wait_for("the new set", WAIT, || {
        version(&board).filter(|version| version == "2")
    });
    let word = board.state().join("deployments/accepted.json");
    wait_for("no word to be left", WAIT, || {
        (!word.exists()).then_some(())
    });

    // The next one is asked for anew.
    drop(begin(
        &mut board,
        "3",
        vec![plain(&image, "exec sleep 999")],
    ));
    wait_for("the next question", WAIT, || {
        waits_for(&board).filter(|code| code == "consent")
    });
}

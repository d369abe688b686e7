//! Apps that start after others, once these are as they have to be; and apps that run once.

mod board;

use board::{Board, app, http_health, kill, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::{Answer, AppAction, Event};
use coracle_protocol::names::AppName;
use coracle_protocol::release::{App, Condition, Image, Probe, Restart};
use coracle_protocol::report::{AppState, AppStatus, Phase, SetState};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);

fn named(image: &Image, name: &str, script: &str, after: &[(&str, Condition)]) -> App {
    let mut app = app(image, script);
    app.name = AppName::new(name).unwrap();
    app.network.mode = coracle_protocol::release::NetworkMode::None;
    app.stop_grace_seconds = 0;
    for (other, condition) in after {
        let other = AppName::new(other).unwrap();
        app.depends_on.insert(other, *condition);
    }
    app
}

/// Is healthy so many seconds after each start.
fn db(image: &Image, seconds: u32) -> App {
    let script =
        format!("echo begins; rm -f /tmp/ready; sleep {seconds}; : > /tmp/ready; exec sleep 1000");
    let mut db = named(image, "db", &script, &[]);
    let mut health = http_health(1);
    health.probe = Probe::Exec {
        argv: ["/bin/test", "-f", "/tmp/ready"].map(String::from).into(),
    };
    (health.interval_ms, health.start_period_ms) = (100, 60_000);
    db.health = Some(health);
    db.trial_seconds = 8;
    db
}

fn migrate(image: &Image, code: u8) -> App {
    let after = [("db", Condition::Healthy)];
    let mut migrate = named(
        image,
        "migrate",
        &format!("echo begins; exit {code}"),
        &after,
    );
    migrate.restart = Restart::No;
    migrate
}

/// Takes a second to end, unlike the others.
fn web(image: &Image) -> App {
    let script = "trap 'sleep 1; exit 0' TERM; echo begins; while :; do sleep 0.1; done";
    let after = [
        ("db", Condition::Healthy),
        ("migrate", Condition::Completed),
    ];
    let mut web = named(image, "web", script, &after);
    web.stop_grace_seconds = 10;
    web
}

fn board() -> (Board, Image) {
    let board = Board::start();
    let image = board.image(&rootfs(&board, "x"), RunConfig::default());
    (board, image)
}

fn stages(image: &Image) -> Vec<App> {
    vec![web(image), migrate(image, 0), db(image, 2)]
}

/// What happens to apps from an activation to its end.
fn told(board: &mut Board, version: &str, apps: Vec<App>) -> (Vec<String>, Phase, String) {
    let (release, deploy) = board.documents(version, apps);
    let needs = board.needs(version, &release, &deploy);
    board.stage_all(version, &needs);
    let mut events = board.watch();
    assert_eq!(board.activate(version), Answer::Done, "{}", board.log());
    let mut told = Vec::new();
    loop {
        match events.event().expect("an end") {
            Event::AppChanged { app, what } => told.push(format!("{app} {what}")),
            Event::Deployment { phase, reason, .. } if phase.is_end() => {
                return (told, phase, reason.unwrap_or_default());
            }
            _ => {}
        }
    }
}

fn starts(board: &Board, app: &str) -> usize {
    let log = board.state().join("logs").join(app).join("json.log");
    let log = std::fs::read_to_string(log).unwrap_or_default();
    log.matches("begins").count()
}

fn waits(board: &Board, app: &str) -> Option<String> {
    board.app(app)?.waiting_for
}

fn pid(board: &Board, app: &str) -> Option<u32> {
    board.app(app)?.pid
}

fn running(board: &Board, app: &str) -> Option<AppStatus> {
    board.app(app).filter(|app| app.state == AppState::Running)
}

#[test]
fn apps_start_once_what_they_depend_on_is_ready_and_stop_before_it() {
    let (mut board, image) = board();
    let apps = stages(&image);
    let (events, phase, reason) = told(&mut board, "1", apps);
    assert_eq!(phase, Phase::Committed, "{reason}");
    assert_eq!(
        events,
        [
            "db started",
            "migrate waiting for db: healthy",
            "web waiting for db: healthy, migrate: completed",
            "db healthy",
            "migrate started",
            "web waiting for migrate: completed",
            "migrate it exited with 0",
            "web started",
        ]
    );
    // One that ran once and ended well is no fault, and the trial's window came after it.
    let once = board.app("migrate").unwrap();
    assert_eq!((once.state, once.exit_code), (AppState::Exited, Some(0)));

    // The next set has none of them: who depends on others ends first, although it takes longer.
    let only = named(&image, "only", "exec sleep 1000", &[]);
    let (events, phase, reason) = told(&mut board, "2", vec![only]);
    assert_eq!(phase, Phase::Committed, "{reason}");
    assert_eq!(events[..2], ["web stopped", "db stopped"]);
}

#[test]
fn one_that_is_not_ready_in_time_sends_the_set_back_and_says_what_was_waited_for() {
    let (mut board, image) = board();
    board.commit("1", vec![named(&image, "old", "exec sleep 1000", &[])]);
    let mut late = db(&image, 600);
    late.trial_seconds = 2;
    let (events, phase, reason) =
        told(&mut board, "2", vec![web(&image), late, migrate(&image, 0)]);
    assert_eq!(phase, Phase::Failed);
    let expected = "app `migrate` waits for `db` to be healthy, which it was not within its trial_seconds of 2: `/bin/test -f /tmp/ready`";
    assert!(reason.starts_with(expected), "{reason}");
    let started: Vec<_> = events
        .iter()
        .filter(|told| told.ends_with("started"))
        .collect();
    assert_eq!(started, ["db started", "old started"]);

    let apps = vec![db(&image, 0), migrate(&image, 3), web(&image)];
    let (_, phase, reason) = told(&mut board, "3", apps);
    assert_eq!(phase, Phase::Failed);
    assert!(
        reason.contains("`migrate` does not stay up: it exited with 3"),
        "{reason}"
    );
    assert_eq!(board.status().current.unwrap().version, "1");
    wait_for("the old set", WAIT, || running(&board, "old"));
}

/// Whoever is cut off while apps wait has the old set, whole.
#[test]
fn a_cut_while_apps_wait_goes_back() {
    let (mut board, image) = board();
    board.commit("1", vec![named(&image, "old", "exec sleep 1000", &[])]);
    let (release, deploy) = board.documents("2", vec![db(&image, 600), migrate(&image, 0)]);
    let needs = board.needs("2", &release, &deploy);
    board.stage_all("2", &needs);
    assert_eq!(board.activate("2"), Answer::Done);
    let held = wait_for("an app that waits", WAIT, || waits(&board, "migrate"));
    assert_eq!(held, "waiting for db: healthy");
    assert_eq!(board.app("migrate").unwrap().state, AppState::Created);
    board.restart_supervisor();
    let set = wait_for("the old set", WAIT, || {
        let set = board.status().current?;
        (set.state == SetState::Committed && set.version == "1").then_some(set)
    });
    assert_eq!(set.apps.len(), 1);
    wait_for("the old app", WAIT, || running(&board, "old"));
    assert!(!board.state().join("deployments/trial.json").exists());
}

#[test]
fn who_runs_stays_up_while_what_it_depends_on_restarts_and_who_starts_again_waits() {
    let (mut board, image) = board();
    board.commit("1", stages(&image));
    let (web, first_db) = (pid(&board, "web"), pid(&board, "db").unwrap());
    kill(first_db);
    wait_for("another db", WAIT, || {
        running(&board, "db").filter(|app| app.pid != Some(first_db))
    });
    assert_eq!(pid(&board, "web"), web);

    // It ends by itself while the other is not ready yet.
    kill(web.unwrap());
    let held = wait_for("web to wait", WAIT, || waits(&board, "web"));
    assert_eq!(held, "waiting for db: healthy");
    wait_for("web again", WAIT, || running(&board, "web"));
    assert_eq!(waits(&board, "web"), None);

    // A next supervisor adopts them, and runs nothing again that has ended well.
    let before = ["db", "web"].map(|app| pid(&board, app));
    assert_eq!(starts(&board, "migrate"), 1);
    board.restart_supervisor();
    assert_eq!(["db", "web"].map(|app| pid(&board, app)), before);
    let once = board.app("migrate").unwrap();
    assert_eq!((once.state, once.exit_code), (AppState::Exited, Some(0)));
    kill(before[1].unwrap());
    wait_for("web after a one-shot that stays ended", WAIT, || {
        running(&board, "web").filter(|app| app.pid != before[1])
    });
    assert_eq!(starts(&board, "migrate"), 1);

    // What a person stopped is waited for.
    assert_eq!(board.control("db", AppAction::Stop), Answer::Done);
    assert_eq!(board.control("web", AppAction::Restart), Answer::Done);
    wait_for("web to wait", WAIT, || waits(&board, "web"));
    assert_eq!(board.control("db", AppAction::Start), Answer::Done);
    wait_for("web again", WAIT, || running(&board, "web"));
}

#[test]
fn one_that_crashed_is_not_started_again_while_its_set_ends() {
    let (mut board, image) = board();
    let crashes = named(&image, "crashes", "exec sleep 1000", &[]);
    let script = "trap 'sleep 4; exit 0' TERM; while :; do sleep 0.1; done";
    let mut web = named(&image, "web", script, &[("crashes", Condition::Started)]);
    web.stop_grace_seconds = 20;
    board.commit("1", vec![crashes, web]);
    let only = named(&image, "only", "exec sleep 1000", &[]);
    let (release, deploy) = board.documents("2", vec![only]);
    let needs = board.needs("2", &release, &deploy);
    board.stage_all("2", &needs);
    // It would be started again after a second, and the other takes four to end.
    kill(pid(&board, "crashes").unwrap());
    wait_for("its end", WAIT, || {
        board.app("crashes")?.pid.is_none().then_some(())
    });
    let mut events = board.watch();
    assert_eq!(board.activate("2"), Answer::Done);
    let mut told = Vec::new();
    while told.last().map(String::as_str) != Some("only started") {
        if let Event::AppChanged { app, what } = events.event().expect("the new set") {
            told.push(format!("{app} {what}"));
        }
    }
    assert_eq!(told, ["web stopped", "only started"]);
}

#[test]
fn a_guest_waits_for_a_host_that_waits_itself() {
    let (mut board, image) = board();
    let db = named(&image, "db", "exec sleep 1000", &[]);
    let after = [("db", Condition::Started)];
    let host = named(&image, "host", "exec sleep 1000", &after);
    let mut guest = named(&image, "guest", "exec sleep 1000", &[]);
    guest.network.mode = coracle_protocol::release::NetworkMode::Container;
    guest.network.container = Some(AppName::new("host").unwrap());
    board.commit("1", vec![db, host, guest]);
    assert_eq!(board.control("db", AppAction::Stop), Answer::Done);
    kill(pid(&board, "host").unwrap());
    let held = wait_for("the guest to wait", WAIT, || waits(&board, "guest"));
    assert_eq!(held, "waiting for host: started");
    assert_eq!(waits(&board, "host").unwrap(), "waiting for db: started");
    assert_eq!(board.control("db", AppAction::Start), Answer::Done);
    wait_for("the host", WAIT, || running(&board, "host"));
    wait_for("the guest", WAIT, || running(&board, "guest"));
}

/// `PIDFD_GET_INFO` (linux/pidfd.h), by which kernels from 6.15 on tell the end of a process that is no child.
const PIDFD_GET_INFO: u32 = 0xc040_ff0b;

#[test]
fn a_one_shot_whose_end_the_kernel_does_not_tell_runs_again_for_those_that_wait_for_it() {
    let (mut board, image) = board();
    board.without_requests = vec![PIDFD_GET_INFO];
    board.restart_supervisor();
    let mut once = named(&image, "migrate", "echo begins; sleep 3", &[]);
    once.restart = Restart::No;
    once.trial_seconds = 10;
    let after = [("migrate", Condition::Completed)];
    let web = named(&image, "web", "exec sleep 1000", &after);
    board.commit("1", vec![once, web]);
    assert_eq!(board.control("migrate", AppAction::Start), Answer::Done);
    wait_for("another run", WAIT, || running(&board, "migrate"));
    board.restart_supervisor();
    let first = pid(&board, "web");
    assert!(running(&board, "migrate").is_some(), "{}", board.log());
    kill(first.unwrap());
    wait_for("web again", WAIT, || {
        running(&board, "web").filter(|app| app.pid != first)
    });
    assert_eq!(starts(&board, "migrate"), 3);
    let log = board.log();
    assert!(log.contains("it ended, and nobody saw how"), "{log}");
}

#[test]
fn an_order_that_cannot_be_is_refused_on_the_board_too() {
    let (mut board, image) = board();
    let one = named(&image, "one", "true", &[("two", Condition::Started)]);
    let two = named(&image, "two", "true", &[("one", Condition::Started)]);
    let (release, deploy) = board.documents("1", vec![one, two]);
    match board.offer("1", &release, &deploy) {
        Answer::Refused { reason, .. } => {
            assert!(reason.contains("`one` → `two` → `one`"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
}

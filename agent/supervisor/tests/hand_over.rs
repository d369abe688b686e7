//! Apps that are handed over (`strategy = "start-then-kill"`): the version that runs serves on until the new one is ready.

mod board;

use board::{Board, app, http_health, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::Answer;
use coracle_protocol::names::AppName;
use coracle_protocol::release::{App, NetworkMode, Port, Probe, Release, Strategy};
use coracle_protocol::report::{AppStatus, Phase, SetState};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(20);

/// A server that says `page` behind port 8080 of the board, so many seconds after its start.
fn web(board: &Board, page: &str, seconds: u32) -> App {
    let image = board.image(&rootfs(board, page), RunConfig::default());
    let script = format!(
        "test -f /tmp/mark && echo marked; : > /tmp/mark; echo {page} begins; sleep {seconds}; exec httpd -f -p 80 -h /www"
    );
    let mut web = app(&image, &script);
    web.network.ports = vec![Port {
        host: 8080,
        container: 80,
        protocol: Default::default(),
        host_ip: None,
    }];
    web.health = Some(http_health(80));
    web.health.as_mut().unwrap().start_period_ms = 10_000;
    web.strategy = Strategy::StartThenKill;
    web.trial_seconds = 4;
    web
}

/// Runs, and is not what its check asks for, which has so long.
fn never_ready(board: &Board, page: &str, start_period_ms: u32, trial_seconds: u32) -> App {
    let mut web = web(board, page, 0);
    let health = web.health.as_mut().unwrap();
    health.probe = Probe::Exec {
        argv: ["/bin/test", "-f", "/tmp/ready"].map(String::from).into(),
    };
    health.start_period_ms = start_period_ms;
    health.interval_ms = 100;
    web.trial_seconds = trial_seconds;
    web
}

/// Asks the board's port 8080 over and over, each time on a connection of its own.
struct Asking {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl Asking {
    fn begin(board: &Board) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (told, path) = (over.clone(), format!("/run/netns/{}", board.netns()));
        let thread = std::thread::spawn(move || {
            let netns = std::fs::File::open(path).unwrap();
            let kind = Some(rustix::thread::LinkNameSpaceType::Network);
            rustix::thread::move_into_link_name_space(netns.as_fd(), kind).unwrap();
            let mut answers = Vec::new();
            while !told.load(Ordering::Relaxed) {
                answers.push(ask().unwrap_or_else(|error| format!("refused: {error}")));
                std::thread::sleep(Duration::from_millis(2));
            }
            answers
        });
        Self { over, thread }
    }

    /// What was answered, each change once.
    fn end(self) -> Vec<String> {
        self.over.store(true, Ordering::Relaxed);
        let mut answers = self.thread.join().unwrap();
        assert!(answers.len() > 50, "{} answers", answers.len());
        answers.dedup();
        answers
    }
}

fn ask() -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", 8080))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, page) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok(page.to_owned())
}

fn status(board: &Board) -> AppStatus {
    board.app("web").expect("it is there")
}

/// What the board has of containers: folders, cgroups, interfaces.
fn containers(board: &Board) -> (Vec<String>, Vec<String>, usize) {
    let names = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let folders = entries.filter_map(|entry| {
            let entry = entry.unwrap();
            let is_folder = entry.file_type().unwrap().is_dir();
            is_folder.then(|| entry.file_name().into_string().unwrap())
        });
        folders.collect::<Vec<_>>()
    };
    let mut folders = names(&board.state().join("containers"));
    folders.sort();
    let cgroups = board.cgroups();
    let mut cgroups: Vec<_> = cgroups.iter().flat_map(|path| names(path)).collect();
    cgroups.sort();
    cgroups.dedup();
    (folders, cgroups, board.links().matches("vcor").count())
}

fn only(slot: &str) -> (Vec<String>, Vec<String>, usize) {
    (vec![slot.to_owned()], vec![slot.to_owned()], 1)
}

/// The kernel takes an interface down in its own time.
fn comes_to(board: &Board, slot: &str) {
    let expected = only(slot);
    let end = std::time::Instant::now() + WAIT;
    while containers(board) != expected {
        assert!(
            std::time::Instant::now() < end,
            "{:?}, and not {expected:?}",
            containers(board)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn starts(board: &Board, text: &str) -> usize {
    let log = board.state().join("logs/web/json.log");
    let log = std::fs::read_to_string(log).unwrap_or_default();
    log.matches(text).count()
}

fn begin(board: &mut Board, version: &str, apps: Vec<App>) {
    let (release, deploy) = board.documents(version, apps);
    let needs = board.needs(version, &release, &deploy);
    board.stage_all(version, &needs);
    assert_eq!(board.activate(version), Answer::Done, "{}", board.log());
}

#[test]
fn nobody_who_asks_while_an_app_is_handed_over_is_refused() {
    let mut board = Board::start();
    let one = web(&board, "one", 0);
    board.commit("1", vec![one]);
    comes_to(&board, "web");
    let asking = Asking::begin(&board);
    let two = web(&board, "two", 2);
    board.commit("2", vec![two]);
    comes_to(&board, "web~");
    let three = web(&board, "three", 1);
    board.commit("3", vec![three]);
    assert_eq!(asking.end(), ["one", "two", "three"]);
    comes_to(&board, "web");
    assert_eq!(status(&board).restarts, 0);

    // What was said meanwhile is in the one log, and whoever runs is found there after a restart of the board's program.
    for page in ["one begins", "two begins", "three begins"] {
        assert_eq!(starts(&board, page), 1, "{page}");
    }
    let pid = status(&board).pid;
    board.restart_supervisor();
    assert_eq!(status(&board).pid, pid);
}

#[test]
fn the_second_container_of_an_app_is_its_own_until_the_next_hand_over() {
    let mut board = Board::start();
    let one = web(&board, "one", 0);
    board.commit("1", vec![one]);
    let two = web(&board, "two", 0);
    board.commit("2", vec![two]);
    comes_to(&board, "web~");
    let pid = status(&board).pid;
    assert!(status(&board).cgroup.unwrap().ends_with("/web~"));
    board.restart_supervisor();
    assert_eq!(status(&board).pid, pid);
    // As after a power cut: no app runs, and what they wrote is there.
    board.stop_all();
    board.start_supervisor();
    wait_for("the app", WAIT, || board.get("http://127.0.0.1:8080/"));
    assert_eq!(starts(&board, "marked"), 1);
    comes_to(&board, "web~");
    // Without the strategy: ended, and started where it was first.
    let mut three = web(&board, "three", 0);
    three.strategy = Strategy::KillThenStart;
    board.commit("3", vec![three]);
    comes_to(&board, "web");
}

#[test]
fn one_that_never_becomes_ready_leaves_the_one_before_it_serving() {
    let mut board = Board::start();
    let one = web(&board, "one", 0);
    board.commit("1", vec![one]);
    let before = status(&board);
    let asking = Asking::begin(&board);
    // By its check, by its time, and because it does not stay up.
    let unhealthy = never_ready(&board, "two", 500, 60);
    let late = never_ready(&board, "two", 60_000, 2);
    let mut ends = web(&board, "two", 0);
    ends.args[2] = "exit 3".into();
    ends.health = None;
    for (version, new, why) in [
        ("2", unhealthy, "app `web` is unhealthy"),
        (
            "3",
            late,
            "the new version was not ready within its trial_seconds of 2, and the one before it serves on: app `web`: ",
        ),
        ("4", ends, "app `web` does not stay up"),
    ] {
        let (phase, reason) = board.deploy(version, vec![new]);
        let reason = reason.unwrap();
        assert!(reason.contains(why), "{reason}");
        assert_eq!(phase, Phase::RolledBack, "{reason}");
        let after = status(&board);
        assert_eq!((after.pid, after.restarts), (before.pid, 0));
        assert_eq!(after.started_at, before.started_at);
        comes_to(&board, "web");
    }
    assert_eq!(asking.end(), ["one"]);
    assert_eq!(starts(&board, "marked"), 0);
}

#[test]
fn others_find_the_version_that_serves_by_name() {
    let mut board = Board::start();
    board.networks = vec![serde_json::from_value(serde_json::json!({ "name": "front" })).unwrap()];
    let on_front = |mut app: App| {
        let on = serde_json::json!([{ "name": "front" }]);
        app.network.networks = serde_json::from_value(on).unwrap();
        app
    };
    let one = on_front(web(&board, "one", 0));
    let mut peer = on_front(app(&one.image, "exec sleep 1000"));
    peer.name = AppName::new("peer").unwrap();
    peer.strategy = Strategy::StartThenKill;
    let ask = |board: &Board| {
        let (found, page) = board.run_in(
            "peer",
            &["timeout", "2", "/bin/wget", "-q", "-O", "-", "http://web/"],
        );
        found.then_some(page)
    };
    board.commit("1", vec![one, peer.clone()]);
    assert_eq!(ask(&board).as_deref(), Some("one"));
    let looked_up = |board: &Board| {
        let (found, words) = board.run_in("peer", &["nslookup", "-type=a", "web"]);
        let asked = || board.run_in("peer", &["cat", "/etc/resolv.conf"]).1;
        assert!(found, "{words}{}", asked());
        words
    };
    let old = status(&board).ip.expect("an address").to_string();
    assert!(looked_up(&board).contains(&old));
    let mut two = on_front(never_ready(&board, "two", 60_000, 60));
    two.args[2] = two.args[2].replace("exec httpd", "(sleep 8; : > /tmp/ready) & exec httpd");
    begin(&mut board, "2", vec![two, peer]);
    wait_for("both", WAIT, || {
        (starts(&board, "two begins") == 1).then_some(())
    });
    wait_for("the new peer", WAIT, || board.app("peer")?.pid);
    // It is of the new set, and beside it web's are both there.
    let new = status(&board).ip.expect("an address").to_string();
    for _ in 0..10 {
        assert_eq!(ask(&board).as_deref(), Some("one"));
        let words = looked_up(&board);
        assert!(words.contains("web") && !words.contains(&new), "{words}");
    }
    wait_for("the new one", WAIT, || {
        ask(&board).filter(|page| page == "two")
    });
    let words = looked_up(&board);
    assert!(words.contains(&new), "{words}");
    let hosts = board.run_in("peer", &["cat", "/etc/hosts"]).1;
    assert_eq!(hosts.matches("\tweb\n").count(), 1, "{hosts}");
}

#[test]
fn a_supervisor_that_is_killed_meanwhile_leaves_one_whole_set() {
    let mut board = Board::start();
    let one = web(&board, "one", 0);
    board.commit("1", vec![one]);
    let before = status(&board);
    let asking = Asking::begin(&board);
    let two = never_ready(&board, "two", 60_000, 60);
    begin(&mut board, "2", vec![two]);
    wait_for("both", WAIT, || {
        (starts(&board, "two begins") == 1).then_some(())
    });
    assert_eq!(containers(&board).1, ["web", "web~"]);
    board.kill_supervisor();
    board.start_supervisor();
    let settled = || {
        let set = board.try_status()?.current?;
        (set.version == "1" && set.state == SetState::Committed).then_some(())
    };
    wait_for("the set before", WAIT, settled);
    comes_to(&board, "web");
    let after = status(&board);
    assert_eq!((after.pid, after.restarts), (before.pid, 0));
    assert_eq!(asking.end(), ["one"]);
    // And the board goes on.
    let (phase, reason) = board.end_of(&mut board.watch(), "2");
    assert_eq!(phase, Phase::RolledBack, "{reason:?}");
    let three = web(&board, "three", 0);
    board.commit("3", vec![three]);
    assert_eq!(
        board.get("http://127.0.0.1:8080/").as_deref(),
        Some("three")
    );
    comes_to(&board, "web~");
}

/// Version one serves again, with what it had written, and nothing of the other is left.
#[track_caller]
fn goes_back_to_one(board: &Board) {
    wait_for("the one before", WAIT, || {
        board
            .get("http://127.0.0.1:8080/")
            .filter(|page| page == "one")
    });
    assert_eq!(starts(board, "marked"), 1);
    comes_to(board, "web");
}

/// Of a board that loses its power nothing runs on, and of the new version nothing stays.
#[test]
fn a_power_cut_meanwhile_ends_with_the_version_before() {
    let mut board = Board::start();
    let one = web(&board, "one", 0);
    board.commit("1", vec![one]);
    let two = never_ready(&board, "two", 60_000, 60);
    begin(&mut board, "2", vec![two]);
    wait_for("both", WAIT, || {
        (starts(&board, "two begins") == 1).then_some(())
    });
    board.stop_all();
    board.start_supervisor();
    goes_back_to_one(&board);
}

#[test]
fn both_are_told_to_end_when_everything_stops() {
    let mut board = Board::start();
    let talks = |mut web: App| {
        web.args[2] = format!(
            "trap 'echo told; exit 0' TERM; {}",
            web.args[2].replace(
                "exec httpd -f -p 80 -h /www",
                "httpd -p 80 -h /www; while :; do sleep 0.1; done"
            )
        );
        web
    };
    let one = talks(web(&board, "one", 0));
    board.commit("1", vec![one]);
    let two = talks(never_ready(&board, "two", 60_000, 60));
    begin(&mut board, "2", vec![two]);
    // One that speaks may not have been written down yet, and is ended as nobody's then.
    wait_for("both", WAIT, || {
        let waits = board.log().matches("state=HandingOver").count() == 2;
        (waits && starts(&board, "two begins") == 1).then_some(())
    });
    board.stop_all();
    wait_for("both words", WAIT, || {
        (starts(&board, "told") == 2).then_some(())
    });
}

/// Both have been told their parts by then: the set before is started again, as after a cut in any trial.
#[test]
fn a_supervisor_that_is_killed_while_the_relieved_ends_goes_back_to_it() {
    let mut board = Board::start();
    let mut one = web(&board, "one", 0);
    // A shell that is process 1 and has no handler does not hear SIGTERM.
    one.args[2] = "httpd -p 80 -h /www; while :; do sleep 1; done".into();
    one.stop_grace_seconds = 4;
    board.commit("1", vec![one]);
    let two = web(&board, "two", 0);
    begin(&mut board, "2", vec![two]);
    wait_for("the new one", WAIT, || {
        board
            .get("http://127.0.0.1:8080/")
            .filter(|page| page == "two")
    });
    assert_eq!(containers(&board).1, ["web", "web~"]);
    board.kill_supervisor();
    board.start_supervisor();
    let settled = || {
        let set = board.try_status()?.current?;
        (set.version == "1" && set.state == SetState::Committed).then_some(())
    };
    wait_for("the set before", WAIT, settled);
    wait_for("its app", WAIT, || {
        board
            .get("http://127.0.0.1:8080/")
            .filter(|page| page == "one")
    });
    comes_to(&board, "web");
}

/// The trial is over by then, and the record still says of whoever comes back that another has its ports.
#[test]
fn one_that_comes_back_without_its_ports_is_started_again() {
    let mut board = Board::start();
    let one = web(&board, "one", 0);
    board.commit("1", vec![one]);
    let before = status(&board).pid;
    board.kill_supervisor();
    let record = board.dir.path().join("run/supervisor/apps.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let mut state: serde_json::Value = serde_json::from_str(&text).unwrap();
    state["set"] = format!("sha256:{}", "0".repeat(64)).into();
    state["apps"][0]["outgoing"] = true.into();
    let endpoint = &mut state["apps"][0]["places"][0]["endpoint"];
    assert_eq!(endpoint["ports"].as_array().unwrap().len(), 1);
    endpoint["ports"] = serde_json::json!([]);
    endpoint["relieved"] = true.into();
    std::fs::write(&record, state.to_string()).unwrap();
    board.start_supervisor();
    wait_for("the app", WAIT, || board.get("http://127.0.0.1:8080/"));
    assert_ne!(status(&board).pid, before);
    comes_to(&board, "web");
}

#[test]
fn a_fault_in_the_trial_starts_the_one_before_again_with_what_it_wrote() {
    let mut board = Board::start();
    let one = web(&board, "one", 0);
    board.commit("1", vec![one]);
    let mut two = web(&board, "two", 0);
    two.args[2] = "httpd -p 80 -h /www; sleep 3; exit 1".into();
    two.restart = coracle_protocol::release::Restart::No;
    two.trial_seconds = 20;
    let (phase, reason) = board.deploy("2", vec![two]);
    assert_eq!(phase, Phase::RolledBack, "{reason:?}");
    goes_back_to_one(&board);
}

/// It has the other slot, whose room its successor needs; and goes back to it.
#[test]
fn one_that_was_handed_over_and_is_ended_first_gives_its_layer_up() {
    let mut board = Board::start();
    for page in ["one", "two"] {
        let web = web(&board, page, 0);
        board.commit(page, vec![web]);
    }
    comes_to(&board, "web~");
    let layer = board.state().join("containers/web~/layer");
    assert!(layer.exists());
    let mut three = never_ready(&board, "three", 3000, 60);
    three.strategy = Strategy::KillThenStart;
    begin(&mut board, "three", vec![three]);
    wait_for("the new one", WAIT, || {
        (starts(&board, "three begins") == 1).then_some(())
    });
    assert!(!layer.exists());
    wait_for("the one before", WAIT, || {
        board
            .get("http://127.0.0.1:8080/")
            .filter(|page| page == "two")
    });
    assert_eq!(starts(&board, "marked"), 0);
    comes_to(&board, "web~");
}

fn refused(board: &Board, release: &Release, seq: u64) -> (String, String) {
    let deploy = board.deploy_of(release, seq);
    match board.offer("refused", release, &deploy) {
        Answer::Refused { code, reason } => (code, reason),
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_versions_have_to_fit_the_board_at_once() {
    let mut board = Board::start();
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let total = total
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse::<u64>()
        .unwrap()
        * 1024;
    let mut one = web(&board, "one", 0);
    one.limits.memory_bytes = total / 10 * 6;
    board.commit("1", vec![one.clone()]);
    let pid = status(&board).pid;
    let (mut release, _) = board.documents("2", vec![one]);
    let (code, reason) = refused(&board, &release, 9);
    assert_eq!(code, "over-budget", "{reason}");
    for part in ["memory: the apps ask for", "too much", "`web"] {
        assert!(reason.contains(part), "`{part}` is not in {reason}");
    }
    // One after the other fit, and so does a smaller one beside it.
    release.apps[0].strategy = Strategy::KillThenStart;
    let deploy = board.deploy_of(&release, 10);
    board.needs("later", &release, &deploy);
    release.apps[0].strategy = Strategy::StartThenKill;
    release.apps[0].limits.memory_bytes = 32 << 20;
    let deploy = board.deploy_of(&release, 11);
    board.needs("smaller", &release, &deploy);
    assert_eq!(status(&board).pid, pid);
}

#[test]
fn what_cannot_be_there_twice_is_refused_before_anything_changes() {
    let mut board = Board::start();
    let mut one = web(&board, "one", 0);
    one.strategy = Strategy::KillThenStart;
    one.network.ports.clear();
    one.network.mode = NetworkMode::Host;
    board.commit("1", vec![one.clone()]);
    let pid = status(&board).pid;
    one.strategy = Strategy::StartThenKill;
    let (mut release, _) = board.documents("2", vec![one]);
    let (_, reason) = refused(&board, &release, 9);
    assert!(
        reason.contains("app `web`: strategy = `start-then-kill` and network.mode = `host`: "),
        "{reason}"
    );
    // The new one could, and the one that runs cannot.
    release.apps[0].network.mode = NetworkMode::Bridge;
    let (code, reason) = refused(&board, &release, 10);
    assert_eq!(code, "cannot-overlap");
    assert_eq!(
        reason,
        "app `web`: strategy = `start-then-kill`: the version that runs has network.mode = `host`: its ports are the board's own, and nobody else can have them; deploy this one with strategy = `kill-then-start`"
    );
    assert_eq!(status(&board).pid, pid);
}

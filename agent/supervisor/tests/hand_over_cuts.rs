//! SIGKILL of the supervisor before the system calls that change the board while an app is handed over. The next start leaves the old
//! version or the new one, and of the other nothing; and while it is the same process that serves, nobody was refused. Needs root
//! and ptrace(2).
//!
//! A few points; `CORACLE_CUTS=all` for every one, `CORACLE_CUTS=100` for a hundred.

mod board;
mod cut;
#[path = "cut/deployment.rs"]
mod deployment;

use board::{Board, app, http_health, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::release::{App, Image, Port, Strategy};
use coracle_protocol::report::SetState;
use cut::Cut;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(60);
/// Points where nobody says how many.
const SAMPLE: usize = 6;

fn web(image: &Image) -> App {
    let mut web = app(image, "exec httpd -f -p 80 -h /www");
    web.network.ports = vec![Port {
        host: 8080,
        container: 80,
        protocol: Default::default(),
        host_ip: None,
    }];
    let mut health = http_health(80);
    (health.interval_ms, health.start_period_ms) = (100, 10_000);
    web.health = Some(health);
    web.strategy = Strategy::StartThenKill;
    web.trial_seconds = 2;
    web.stop_grace_seconds = 1;
    web
}

/// The other version takes over, and is cut there.
fn hand_over(board: &mut Board, version: &str, image: &Image, n: usize) -> Cut {
    deployment::cut(board, version, vec![web(image)], n)
}

/// What runs, once it has come to rest: its version, its process.
fn comes_to_rest(board: &Board) -> (String, u32) {
    wait_for("one whole set", WAIT, || {
        let set = board.try_status()?.current?;
        let is_settled = set.state == SetState::Committed;
        let pid = set.apps.first()?.pid.filter(|_| is_settled)?;
        let page = board.get("http://127.0.0.1:8080/")?;
        // Whoever served when it was asked may have been about to end.
        let is_same = board.app("web")?.pid == Some(pid);
        (is_same && set.version.ends_with(&page)).then_some((set.version, pid))
    })
}

fn folders(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

/// One container, whichever it is, and what belongs to it.
fn is_alone(board: &Board) -> Option<()> {
    let own = folders(&board.state().join("containers"));
    let cgroups: Vec<_> = board
        .cgroups()
        .iter()
        .map(|cgroup| folders(cgroup))
        .collect();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let layers = format!("{}/containers/", board.state().display());
    let mounted: Vec<_> = mounts
        .lines()
        .filter(|line| line.contains(&layers))
        .collect();
    (own.len() == 1
        && cgroups.iter().all(|names| *names == own)
        && mounted
            .iter()
            .all(|line| line.contains(&format!("{layers}{}/", own[0])))
        && board.links().matches("vcor").count() == 1)
        .then_some(())
}

/// Asks until it is told to end; how often nobody answered.
fn asking(board: &Board, over: Arc<AtomicBool>) -> std::thread::JoinHandle<usize> {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    let path = format!("/run/netns/{}", board.netns());
    let ask = || -> std::io::Result<bool> {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", 8080))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.contains(" 200 "))
    };
    std::thread::spawn(move || {
        let netns = std::fs::File::open(path).unwrap();
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(netns.as_fd(), kind).unwrap();
        let mut refused = 0;
        while !over.load(Ordering::Relaxed) {
            refused += usize::from(!ask().unwrap_or(false));
            std::thread::sleep(Duration::from_millis(10));
        }
        refused
    })
}

#[test]
fn a_supervisor_that_is_killed_at_any_call_of_a_hand_over_leaves_one_version_alone() {
    let mut board = Board::start();
    let images =
        ["one", "two"].map(|page| board.image(&rootfs(&board, page), RunConfig::default()));
    board.commit("0-one", vec![web(&images[0])]);
    let Cut::Over(all) = hand_over(&mut board, "1-two", &images[1], usize::MAX) else {
        panic!("it was cut where nobody cuts");
    };
    let wanted = match std::env::var("CORACLE_CUTS").unwrap_or_default().as_str() {
        "" => SAMPLE,
        "all" => all,
        number => number.parse().expect("CORACLE_CUTS is `all` or 7"),
    };
    let (mut before, mut went_back, mut stayed) = (comes_to_rest(&board), 0, 0);
    let step = (all / wanted).max(1);
    for n in (1..=all).step_by(step) {
        let (page, image) = match before.0.ends_with("one") {
            true => ("two", &images[1]),
            false => ("one", &images[0]),
        };
        let over = Arc::new(AtomicBool::new(false));
        let asks = asking(&board, over.clone());
        let cut = hand_over(&mut board, &format!("{}-{page}", n + 1), image, n);
        let after = comes_to_rest(&board);
        over.store(true, Ordering::Relaxed);
        let refused = asks.join().unwrap();
        let same = after == before;
        let at = match cut {
            Cut::Before(call) => format!("cut {n}, {call}"),
            Cut::Over(_) => "nothing was cut".to_owned(),
        };
        if same || at == "nothing was cut" {
            assert_eq!(refused, 0, "{at}: so many were refused");
        }
        wait_for(&format!("one alone after {at}"), WAIT, || is_alone(&board));
        (went_back, stayed) = match (after.0 == before.0, same) {
            (true, false) => (went_back + 1, stayed),
            (_, true) => (went_back, stayed + 1),
            _ => (went_back, stayed),
        };
        before = after;
    }
    eprintln!(
        "{all} calls; the same process served on {stayed} times, the version was started again {went_back} times"
    );
    assert!(stayed > 0, "no cut came before the old one was relieved");
}

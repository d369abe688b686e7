//! A board at rest is at rest: with an app that waits, no process of ours wakes up more often than once a second, neither
//! with its link up nor while nobody is there to be linked to.

mod fleet;

use fleet::{Board, Fleet, Supervisor, program, until};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

const NAME: &str = "acme.b1";
const WINDOW: Duration = Duration::from_secs(20);

/// The processes below `pid`, itself among them, that run the program which it runs: those that write logs and the like.
fn ours(pid: u32) -> Vec<u32> {
    let exe = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let (mut found, mut next) = (Vec::new(), vec![pid]);
    while let Some(at) = next.pop() {
        if exe(at) == exe(pid) {
            found.push(at);
        }
        let path = format!("/proc/{at}/task/{at}/children");
        let children = fs::read_to_string(path).unwrap_or_default();
        next.extend(
            children
                .split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    found
}

/// How often its threads went to sleep, which is how often they woke up; `None` when it has ended.
fn sleeps(pid: u32) -> Option<u64> {
    let mut all = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let text = fs::read_to_string(thread.ok()?.path().join("status")).ok()?;
        let mut lines = text.lines();
        let line = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        all += line.trim().parse::<u64>().unwrap();
    }
    Some(all)
}

/// How often each woke up meanwhile. What still goes on after a deployment, or after the link broke, may take the first windows.
fn at_rest(when: &str, processes: &[(&str, u32)]) {
    let mut told = Vec::new();
    for _ in 0..3 {
        let before: BTreeMap<u32, u64> = processes
            .iter()
            .flat_map(|(_, pid)| ours(*pid))
            .filter_map(|pid| Some((pid, sleeps(pid)?)))
            .collect();
        assert!(before.len() >= processes.len(), "{before:?}");
        let start = Instant::now();
        sleep(WINDOW);
        let woken: Vec<(u32, u64)> = before
            .iter()
            // Threads that end take their count with them.
            .filter_map(|(pid, before)| Some((*pid, sleeps(*pid)?.saturating_sub(*before))))
            .collect();
        let seconds = start.elapsed().as_secs();
        println!("{when}: {processes:?} woke up {woken:?} in {seconds} s");
        if woken.iter().all(|(_, woken)| *woken <= seconds) {
            return;
        }
        told.push((woken, seconds));
    }
    panic!("{when}: {processes:?} woke up more than once a second: {told:?}");
}

#[test]
fn no_process_of_a_board_at_rest_wakes_up_more_than_once_a_second() {
    assert!(nix::unistd::geteuid().is_root(), "run this test as root");
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(dir.path(), &[]);
    let board = Board::in_folder(dir.path());
    let supervisor = Supervisor::start(&board);
    let daemon = board.start();
    until("docker.sock", || board.status().is_ok());
    let file = fleet.ask("/enrolments", Some(json!({"board": NAME})));
    board.ask("enrol", Some(&file.to_string())).unwrap();
    until("the board is online", || fleet.online(NAME));

    let hardware = board.status().unwrap()["board"]["hardware"].clone();
    fs::create_dir(dir.path().join("still")).unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"];
    let busybox = busybox.into_iter().find(|path| Path::new(path).exists());
    let busybox = busybox.expect("busybox-static is needed: apt-get install busybox-static");
    fs::copy(busybox, dir.path().join("still/busybox")).unwrap();
    let text = format!(
        "product = \"shop\"\nversion = \"1\"\nrelease_counter = 1\nexpires = \"90d\"\nhardware = [{hardware}]\n\
         [[apps]]\nname = \"still\"\nimage = \"still:1\"\nargs = [\"/busybox\", \"sleep\", \"1000\"]\ninit = true\n\
         trial_seconds = 1\n[apps.limits]\nmemory = \"8MiB\"\ncpu_millis = 100\npids = 8\n[apps.network]\nmode = \"none\"\n"
    );
    fs::write(dir.path().join("shop.toml"), text).unwrap();
    for line in [
        "image build --rootfs still --platform linux/amd64 --entrypoint /busybox --output images --tag still:1",
        "release create shop.toml --images images --key release --platform linux/amd64 --output shop.json",
        "push --images images shop.json",
        "deploy --board acme.b1 --wait shop.json",
    ] {
        let output = program("coracle-release")
            .current_dir(dir.path())
            .env(
                "CORACLE_CONSOLE",
                format!("http://127.0.0.1:{}", fleet.http),
            )
            .env("CORACLE_TOKEN_FILE", dir.path().join("console/admin.token"))
            .args(line.split_whitespace())
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
    }

    let processes = [("supervisor", supervisor.pid()), ("coracled", daemon.pid())];
    assert!(fleet.online(NAME));
    at_rest("its link up", &processes);
    assert!(fleet.online(NAME), "the link was not up all the time");

    drop(fleet);
    until("the board misses its console", || {
        board.status().unwrap()["link"]["connected"] == false
    });
    at_rest("its link away", &processes);
}

//! SIGKILL before every system call that changes something while a board is updated, from the console's message to the end of the trial: of
//! coracled, which fetches, and of the supervisor with all that it started, which unpacks and switches. The board comes to the end of that
//! update by itself, or goes back and takes it when it is assigned anew; all that it keeps is read again after each. Console, broker, coracled and
//! supervisor are the real ones. Needs root and ptrace(2).
//!
//! A few of the moments; `CORACLE_CUTS=all` for every one, `CORACLE_CUTS=100` for a hundred.

#[path = "../../agent/supervisor/tests/cut/mod.rs"]
mod cut;
mod fleet;

use coracle_tests::service::{Service, wait_for};
use cut::Cut;
use cut::family::{Whose, cut_family};
use fleet::engineer::Engineer;
use fleet::{Board, Fleet, Supervisor};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const NAME: &str = "acme.b1";
/// Moments that are tried where nobody says how many.
const SAMPLE: usize = 6;
/// Of a layer that no older one has: some dozens of writes, as a blob or as a delta.
const NEW_BYTES: usize = 300_000;

/// Who ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    Daemon,
    Supervisor,
}

struct Scene<'a> {
    engineer: Engineer<'a>,
    board: &'a Board,
    supervisor: Supervisor<'a>,
    daemon: Option<Service>,
}

fn patiently<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    wait_for(what, Duration::from_secs(180), || Ok(look())).unwrap()
}

/// Bytes that do not compress (xorshift, Marsaglia 2003).
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..NEW_BYTES).map(|_| next()).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

impl Scene<'_> {
    /// A release whose one layer nobody has yet, at the console, and the deltas to it made.
    fn bring(&self, version: u64) {
        let place = &self.engineer;
        std::fs::write(place.dir.join("still/data"), noise(version)).unwrap();
        place.done("image build --rootfs still --platform linux/amd64 --entrypoint /busybox --output images --tag still:1");
        let name = version.to_string();
        place.bring(&name, ("shop", &name, version), 1000, "");
        patiently("its deltas", || {
            let releases = place.fleet.ask("/releases", None);
            let is_it = |release: &&Value| release["version"] == name;
            let deltas = &releases.as_array()?.iter().find(is_it)?["deltas"];
            (deltas["done"] == deltas["pairs"]).then_some(())
        });
    }

    /// Ordered, and its name.
    fn deploy(&self, version: u64) -> String {
        let line = format!("deploy --board {NAME} {version}.json");
        let said = self.engineer.done(&line);
        let name = said
            .lines()
            .find_map(|line| line.strip_prefix("deployment "));
        name.unwrap().to_owned()
    }

    /// With which phase it ended, once it has.
    fn end(&self, deployment: &str) -> Option<String> {
        let seen = self
            .engineer
            .fleet
            .ask(&format!("/deployments/{deployment}"), None);
        let line = &seen["boards"][0];
        (line["end"] == true).then(|| line["phase"].as_str().unwrap().to_owned())
    }

    /// The version that runs, once it runs for good.
    fn runs(&self, at: &str) -> String {
        patiently(&format!("a whole set after {at}"), || {
            let set = self.board.status().ok()?["current"].clone();
            let pid = set["apps"][0]["pid"].as_u64()?;
            let is_there = Path::new(&format!("/proc/{pid}")).exists();
            let version = set["version"].as_str()?.to_owned();
            (is_there && set["state"] == "committed").then_some(version)
        })
    }

    /// Nothing is broken, half fetched or half unpacked.
    fn is_clean(&self, at: &str) {
        let look = || self.board.ask("store/check", None).ok();
        let check = "curl -sS --fail-with-body -X POST --unix-socket \"$0\" http://board/coracle/v1/store/check";
        let socket = self.board.dir.join("run/docker.sock");
        let mut ask = std::process::Command::new("sh");
        coracle_tests::service::run(ask.args(["-c", check]).arg(socket)).unwrap();
        let said = patiently("the end of the check", || {
            look().filter(|said| said["running"] != true)
        });
        assert_eq!(said["found"], serde_json::json!([]), "{at}: {said}");
        assert!(said["done"].as_u64() > Some(0), "{at}: {said}");
        assert_eq!(said["done"], said["of"], "{at}: {said}");
        let state = self.board.dir.join("state");
        patiently(&format!("nothing half unpacked after {at}"), || {
            names(&state.join("staging")).is_empty().then_some(())
        });
        let kept = names(&state.join("store/blobs/sha256"));
        let is_part = |name: &String| name.ends_with(".part");
        assert!(!kept.iter().any(is_part), "{at}: {kept:?}");
    }

    /// The release is deployed, and that is cut before the n-th call; whoever was killed is started again.
    fn cut_at(&mut self, version: u64, victim: Victim, n: usize) -> (Cut, String) {
        let (pid, log) = match victim {
            Victim::Daemon => (self.daemon.as_ref().unwrap().pid(), "coracled.log"),
            Victim::Supervisor => (self.supervisor.pid(), "supervisor.log"),
        };
        let log = self.board.dir.join(log);
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let (begin, begun) = std::sync::mpsc::channel();
        let looking = std::thread::spawn(move || {
            let begin = || begin.send(()).unwrap();
            cut_family(pid, &log, Whose::All, n, &ended, begin)
        });
        begun.recv().unwrap();
        let deployment = self.deploy(version);
        patiently("the cut, or the end", || {
            (looking.is_finished() || self.end(&deployment).is_some()).then_some(())
        });
        over.store(true, Ordering::Relaxed);
        let cut = looking.join().unwrap();
        if let Cut::Before(_) = cut {
            match victim {
                Victim::Daemon => {
                    self.daemon.take().unwrap().kill().unwrap();
                    self.daemon = Some(self.board.start());
                }
                Victim::Supervisor => {
                    self.supervisor.kill();
                    self.supervisor.go_on();
                }
            }
        }
        (cut, deployment)
    }
}

/// Cuts an update off at each moment that is tried.
fn walk(victim: Victim) {
    assert!(nix::unistd::geteuid().is_root(), "run this test as root");
    let dir = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(dir.path(), &[]);
    let board = Board::in_folder(dir.path());
    let supervisor = Supervisor::start(&board);
    let daemon = Some(board.start());
    let mut scene = Scene {
        engineer: Engineer::of(dir.path(), &fleet, &board, NAME),
        board: &board,
        supervisor,
        daemon,
    };
    let mut version = 1;
    scene.bring(version);
    let first = scene.deploy(version);
    let end = patiently("the first release", || scene.end(&first));
    assert_eq!(end, "committed");

    version += 1;
    scene.bring(version);
    let (Cut::Over(all), whole) = scene.cut_at(version, victim, usize::MAX) else {
        panic!("it has no end");
    };
    assert_eq!(scene.runs("nothing"), version.to_string());
    assert!(all > 20, "{all}");
    let seen = fleet.ask(&format!("/deployments/{whole}"), None);
    let deltas = &seen["boards"][0]["deltas"];
    assert_eq!(deltas.as_array().map(Vec::len), Some(1), "{seen}");
    let wanted = match std::env::var("CORACLE_CUTS").as_deref() {
        Ok("all") => all,
        Ok(number) => number.parse().unwrap(),
        Err(_) => SAMPLE,
    };
    eprintln!("{victim:?}: {all} moments");
    let (mut cuts, mut came, mut went_back) = (0, 0, 0);
    for k in 0..wanted.min(all) {
        let n = 1 + k * all / wanted.min(all);
        let old = version.to_string();
        version += 1;
        scene.bring(version);
        let (cut, deployment) = scene.cut_at(version, victim, n);
        let at = match cut {
            Cut::Before(call) => {
                cuts += 1;
                format!("call {n} of {all}: {call}")
            }
            Cut::Over(seen) => format!("its end, after {seen} calls"),
        };
        let end = patiently(&format!("the end of the update after {at}"), || {
            scene.end(&deployment)
        });
        eprintln!("cut before {at}: {end}");
        match end.as_str() {
            "committed" => came += 1,
            _ => {
                went_back += 1;
                assert_eq!(scene.runs(&at), old, "{at}: {end}");
                let again = scene.deploy(version);
                let end = patiently("the end of the next try", || scene.end(&again));
                assert_eq!(end, "committed", "{at}: and the next try");
            }
        }
        assert_eq!(scene.runs(&at), version.to_string(), "{at}");
        scene.is_clean(&at);
    }
    eprintln!("{victim:?}: {cuts} cuts; {came} updates went on, {went_back} went back");
    assert!(cuts > 0, "nothing was cut");
    assert!(came > 0, "no update went on by itself");
}

#[test]
fn an_update_whose_daemon_is_cut_off_goes_on_to_its_end() {
    walk(Victim::Daemon);
}

#[test]
fn an_update_whose_supervisor_is_cut_off_goes_on_or_comes_the_next_time() {
    walk(Victim::Supervisor);
}

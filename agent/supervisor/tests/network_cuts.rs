//! SIGKILL of the supervisor before every system call that changes the board: while a set takes another one's place, while the
//! supervisor itself starts, and while everything is stopped. The next start leaves the old set or the new one with its network,
//! and of the other nothing. Needs root and ptrace(2).
//!
//! A few points of each walk; `CORACLE_CUTS=all` for every one, `CORACLE_CUTS=100` for a hundred, `CORACLE_CUTS=100..` from the hundredth on.

mod board;
mod cut;

use board::{Board, Client, app, rootfs, wait_for};
use coracle_images::layout::RunConfig;
use coracle_protocol::local::{Answer, Event, Request};
use coracle_protocol::names::AppName;
use coracle_protocol::release::{App, Image};
use coracle_protocol::report::{AppState, Phase, SetState, SetStatus};
use cut::{Cut, Traced};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const WAIT: Duration = Duration::from_secs(30);
/// Namespaces and what lies in them go a moment after their last process.
const SETTLE: Duration = Duration::from_secs(15);
/// Points of each walk where nobody says how many.
const SAMPLE: usize = 5;
/// A link of the board that an app of the one set has.
const LENT: &str = "lan0";

/// One of two sets that take each other's place: nothing of a network is the same in both, and the first has a link of the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Front,
    Back,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Front => Self::Back,
            Self::Back => Self::Front,
        }
    }
    fn name(self) -> &'static str {
        match self {
            Self::Front => "front",
            Self::Back => "back",
        }
    }
    fn port(self) -> u16 {
        match self {
            Self::Front => 8081,
            Self::Back => 8082,
        }
    }
    fn subnets(self) -> [&'static str; 2] {
        match self {
            Self::Front => ["10.77.0.0/24", "fd00:77::/64"],
            Self::Back => ["10.78.0.0/24", "fd00:78::/64"],
        }
    }
}

/// The board, what it looks like with each set while nothing happens, and how many sets it was offered.
struct Subject {
    board: Board,
    image: Image,
    offered: usize,
    at_rest: BTreeMap<Side, Rest>,
}

type Rest = BTreeMap<&'static str, String>;

impl Subject {
    fn new() -> Self {
        let board = Board::start();
        board.ip(&format!("link add {LENT} type veth peer name far0"));
        let image = board.image(&rootfs(&board, "here"), RunConfig::default());
        let mut subject = Self {
            board,
            image,
            offered: 0,
            at_rest: BTreeMap::new(),
        };
        for side in [Side::Front, Side::Back] {
            let activity = subject.offer(side);
            let mut events = subject.board.watch();
            assert_eq!(subject.board.activate(&activity), Answer::Done);
            assert_eq!(
                subject.board.end_of(&mut events, &activity).0,
                Phase::Committed
            );
            subject.works(side);
            let mut rest = subject.look();
            // What is on its way still.
            wait_for("the board to come to rest", SETTLE, || {
                std::thread::sleep(Duration::from_millis(500));
                let last = std::mem::replace(&mut rest, subject.look());
                (last == rest).then_some(())
            });
            subject.at_rest.insert(side, rest);
        }
        subject
    }

    fn apps(&self, side: Side) -> Vec<App> {
        let script = "trap 'exit 0' TERM; httpd -f -p 8080 -h /www & wait";
        let mut web = app(&self.image, script);
        web.trial_seconds = 0;
        let network = json!({
            "networks": [{"name": side.name()}],
            "ports": [{"host": side.port(), "container": 8080}],
            "egress": ["mqtt.example:8883"],
            "rates": {"ingress_bytes_per_second": 1_000_000, "egress_bytes_per_second": 2_000_000}
        });
        web.network = serde_json::from_value(network).unwrap();
        let mut bus = web.clone();
        bus.name = AppName::new("bus").unwrap();
        let link = json!({"mode": "none", "interfaces": [{"name": LENT}]});
        bus.network = serde_json::from_value(link).unwrap();
        match side {
            Side::Front => vec![web, bus],
            Side::Back => vec![web],
        }
    }

    /// Everything up to its activation, of that name.
    fn offer(&mut self, side: Side) -> String {
        self.offered += 1;
        let activity = format!("{}-{}", side.name(), self.offered);
        let [subnet, subnet6] = side.subnets();
        let network = json!({"name": side.name(), "subnet": subnet, "ipv6_subnet": subnet6});
        self.board.networks = vec![serde_json::from_value(network).unwrap()];
        let apps = self.apps(side);
        let (release, deploy) = self.board.documents(&activity, apps);
        let needs = self.board.needs(&activity, &release, &deploy);
        self.board.stage_all(&activity, &needs);
        activity
    }

    fn commit(&mut self, side: Side) {
        let activity = self.offer(side);
        let mut events = self.board.watch();
        assert_eq!(self.board.activate(&activity), Answer::Done);
        assert_eq!(end_of(&mut events, &activity), Some(Phase::Committed));
    }

    /// The set that runs whole, with nothing that is still to be done.
    fn side(&self) -> Option<Side> {
        let status = self.board.status();
        let is_kept = |set: &SetStatus| set.state == SetState::Committed;
        let current = status.current.filter(is_kept)?;
        let runs = current
            .apps
            .iter()
            .all(|app| app.state == AppState::Running);
        let side = match current.version.starts_with(Side::Front.name()) {
            true => Side::Front,
            false => Side::Back,
        };
        let networks: Vec<_> = current.apps.iter().flat_map(|app| &app.networks).collect();
        let placed = networks.len() == 1 && networks[0].network.as_str() == side.name();
        (runs && placed).then_some(side)
    }

    fn page(&self, side: Side) -> Option<String> {
        self.board
            .get(&format!("http://127.0.0.1:{}/", side.port()))
    }

    /// It answers by its own port alone, and its network's resolver knows it.
    fn works(&self, side: Side) {
        let page = wait_for("its page", WAIT, || self.page(side));
        assert_eq!(page, "here");
        assert_eq!(self.page(side.other()), None);
        self.has_its_link(side);
        wait_for("its name", WAIT, || {
            let asked = self.board.run_in("web", &["nslookup", "-type=a", "web"]);
            let place = self.board.app("web")?.networks.into_iter().next()?;
            (asked.0 && asked.1.contains(&place.ip.to_string())).then_some(())
        });
    }

    fn has_its_link(&self, side: Side) {
        if side == Side::Front {
            let (found, text) = self.board.run_in("bus", &["ip", "link", "show", LENT]);
            assert!(found, "{text}");
        }
    }

    /// After a start: one of the sets runs and works, and nothing else is on the board.
    fn comes_to_rest(&self, cut: &str) -> Side {
        let end = Instant::now() + WAIT;
        let side = loop {
            if let Some(side) = self.side() {
                break side;
            }
            assert!(
                Instant::now() < end,
                "no set runs after {cut}: {:?}",
                self.board.status().current
            );
            std::thread::sleep(Duration::from_millis(50));
        };
        self.works(side);
        let end = Instant::now() + SETTLE;
        let clean = &self.at_rest[&side];
        loop {
            let now = self.look();
            if now == *clean {
                return side;
            }
            if Instant::now() > end {
                for (what, was) in clean.iter().filter(|(what, was)| now[*what] != **was) {
                    eprintln!("{what}:\n{}", difference(was, &now[what]));
                }
                panic!(
                    "{} with set {side:?}: the board is not as it was after {cut}",
                    self.board.name
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// All that a network leaves on a board, by kind, with names that depend on what came before replaced.
    fn look(&self) -> Rest {
        let board = &self.board;
        let plain = |text: String| self.plain(&text);
        let netns = format!("--net=/run/netns/{}", board.netns());
        let ruleset = run(&["nsenter", &netns, "--", "nft", "-s", "list", "ruleset"]);
        let web = board
            .app("web")
            .and_then(|app| app.pid)
            .unwrap_or_default()
            .to_string();
        let inside = |what: &str| run(&["nsenter", "-t", &web, "--net", "--", "sh", "-c", what]);
        let list_of = |folder: &std::path::Path| {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let mut names: Vec<String> = entries
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect();
            names.sort();
            names.join("\n")
        };
        let files = list_of(&board.state());
        let files = files.lines().filter(|name| name.starts_with("network"));
        let files = files.collect::<Vec<_>>().join("\n");
        let supervisor = board.supervisor_pid();
        let mounts = std::fs::read_to_string(format!("/proc/{supervisor}/mountinfo")).unwrap();
        let place = board.dir.path().to_str().unwrap();
        let mounts: Vec<&str> = mounts.lines().filter(|line| line.contains(place)).collect();
        let mounts = mounts.iter().filter_map(|line| line.split(' ').nth(4));
        let mut mounts: Vec<&str> = mounts.collect();
        mounts.sort_unstable();
        let cgroups = board.cgroups();
        let cgroups: Vec<String> = cgroups.iter().map(|folder| list_folders(folder)).collect();
        let switches = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding";
        BTreeMap::from([
            ("links", plain(sorted(&board.ip("-br link"), 1))),
            (
                "addresses",
                plain(sorted(&board.ip("-br addr show scope global"), usize::MAX)),
            ),
            ("routes", plain(board.ip("route").replace(" linkdown", ""))),
            (
                "routes of IPv6",
                plain(sorted(&board.ip("-6 route show proto kernel"), 3)),
            ),
            ("rules", board.ip("rule") + &board.ip("-6 rule")),
            ("tables", plain(chains(&ruleset))),
            ("queues", plain(board.queues())),
            (
                "switches",
                run(&["nsenter", &netns, "--", "sh", "-c", switches]),
            ),
            (
                "inside",
                sorted(
                    &inside("ip -br addr show scope global; ip route"),
                    usize::MAX,
                ),
            ),
            // Other namespaces that a link of this one leads to, whoever holds them.
            (
                "namespaces",
                board.ip("netns list-id").lines().count().to_string(),
            ),
            (
                "held namespaces",
                list_of(&board.dir.path().join("run/supervisor/netns")),
            ),
            ("processes", processes_in(board.netns())),
            ("mounts", mounts.join("\n")),
            ("cgroups", cgroups.join("\n")),
            ("files", plain(files)),
        ])
    }

    /// The bridge of the set's network has the first number that is free, and so have its links.
    fn plain(&self, text: &str) -> String {
        let networks = self.board.status().networks;
        let declared = networks
            .iter()
            .find(|network| network.bridge.starts_with("cor-n"));
        let Some(number) = declared.and_then(|network| network.bridge.strip_prefix("cor-n")) else {
            return text.to_owned();
        };
        text.replace(&format!("cor-n{number}"), "BRIDGE")
            .replace(&format!("vn{number}-"), "VETH-")
    }

    /// This set takes the other's place, and is cut there.
    fn change_to(&mut self, side: Side, n: usize) -> Cut {
        if self.side() == Some(side) {
            self.commit(side.other());
        }
        let activity = self.offer(side);
        let mut events = self.board.watch();
        let mut client = self.board.client();
        let socket = self.board.socket();
        let log = self.board.log_path();
        let traced = Traced::seize(self.board.supervisor_pid(), &log);
        client.send(Request::Activate {
            activity: activity.clone(),
        });
        let over = Arc::new(AtomicBool::new(false));
        let ended = over.clone();
        let watcher = std::thread::spawn(move || {
            if end_of(&mut events, &activity).is_some() {
                // What follows the end is part of it.
                std::thread::sleep(Duration::from_millis(700));
                ended.store(true, Ordering::Relaxed);
                // Whatever wakes it.
                let _ = UnixStream::connect(&socket);
            }
        });
        let cut = traced.run_to(n, &over);
        if let Cut::Before(_) = cut {
            self.board.restart_supervisor();
        }
        watcher.join().unwrap();
        cut
    }

    /// The supervisor starts, and is cut there.
    fn start(&mut self, n: usize) -> Cut {
        let mut child = self.board.held_program(&[]);
        let log = self.board.log_path();
        let traced = Traced::seize(child.id(), &log);
        writeln!(child.stdin.take().unwrap(), "go").unwrap();
        self.board.take_supervisor(child);
        let over = Arc::new(AtomicBool::new(false));
        let cut_off = Arc::new(AtomicBool::new(false));
        let (ended, given_up) = (over.clone(), cut_off.clone());
        let socket = self.board.socket();
        let watcher = std::thread::spawn(move || {
            while !given_up.load(Ordering::Relaxed) && UnixStream::connect(&socket).is_err() {
                std::thread::sleep(Duration::from_millis(20));
            }
            // The apps start after that.
            std::thread::sleep(Duration::from_millis(700));
            ended.store(true, Ordering::Relaxed);
            let _ = UnixStream::connect(&socket);
        });
        let cut = traced.run_to(n, &over);
        cut_off.store(true, Ordering::Relaxed);
        if let Cut::Before(_) = cut {
            self.board.restart_supervisor();
        }
        watcher.join().unwrap();
        cut
    }

    /// Everything is stopped, and that is cut there.
    fn stop(&mut self, n: usize) -> Cut {
        self.board.kill_supervisor();
        let mut child = self.board.held_program(&["stop-all"]);
        let log = self.board.log_path();
        let traced = Traced::seize(child.id(), &log);
        writeln!(child.stdin.take().unwrap(), "go").unwrap();
        let cut = traced.run_to(n, &AtomicBool::new(false));
        if let Cut::Before(_) = cut {
            child.kill().unwrap();
        }
        // One that came to its end has been waited for.
        let _ = child.wait();
        self.board.start_supervisor();
        cut
    }
}

/// How this one ended; none when the supervisor did first. Ends that nobody had heard of are told before.
fn end_of(events: &mut Client, of: &str) -> Option<Phase> {
    loop {
        match events.event()? {
            Event::Deployment {
                activity, phase, ..
            } if activity == of && phase.is_end() => return Some(phase),
            _ => {}
        }
    }
}

/// Lines that are in one of them alone.
fn difference(before: &str, after: &str) -> String {
    let only = |of: &str, other: &str, sign: &str| {
        let lines = of
            .lines()
            .filter(|line| !other.lines().any(|one| one == *line));
        lines
            .map(|line| format!("{sign} {line}\n"))
            .collect::<String>()
    };
    only(before, after, "-") + &only(after, before, "+")
}

fn run(command: &[&str]) -> String {
    let output = Command::new(command[0])
        .args(&command[1..])
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8(text).unwrap()
}

/// So many words of each line, without the other end of a link.
fn sorted(text: &str, words: usize) -> String {
    let line = |line: &str| {
        let words = line.split_whitespace().take(words);
        let words: Vec<&str> = words.map(|word| word.split('@').next().unwrap()).collect();
        words.join(" ")
    };
    let mut lines: Vec<String> = text.lines().map(line).collect();
    lines.sort();
    lines.join("\n")
}

/// Chains, maps and sets with the table that they are in, in an order that does not depend on what was made first.
fn chains(ruleset: &str) -> String {
    let (mut table, mut block, mut all) = (String::new(), String::new(), Vec::new());
    for line in ruleset.lines() {
        match line.starts_with('\t') {
            false if line.starts_with("table") => table = line.to_owned(),
            false => {}
            true => block = block + line + "\n",
        }
        if line == "\t}" {
            all.push(format!("{table}\n{}", std::mem::take(&mut block)));
        }
    }
    all.sort();
    all.concat()
}

fn list_folders(folder: &std::path::Path) -> String {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<_> = folders
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    format!("{}: {}", folder.display(), names.join(" "))
}

/// Names and users of all processes whose network is the board's.
fn processes_in(netns: &str) -> String {
    use std::os::unix::fs::MetadataExt;
    let board = std::fs::metadata(format!("/run/netns/{netns}"))
        .unwrap()
        .ino();
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let path = process.path();
        let Ok(network) = std::fs::metadata(path.join("ns/net")) else {
            continue;
        };
        let Ok(name) = std::fs::read_to_string(path.join("comm")) else {
            continue;
        };
        let user = std::fs::metadata(&path).map_or(0, |process| process.uid());
        if network.ino() == board {
            found.push(format!("{} of {user}", name.trim()));
        }
    }
    found.sort();
    found.join("\n")
}

/// Walks one kind of cut; how many there are.
fn walk(what: &str, subject: &mut Subject, cut: fn(&mut Subject, usize) -> Cut) {
    let Cut::Over(mut all) = cut(subject, usize::MAX) else {
        unreachable!("no such point");
    };
    subject.comes_to_rest(&format!("{what} without a cut"));
    let wanted = std::env::var("CORACLE_CUTS").unwrap_or_default();
    // Some calls depend on what the cut before left.
    let whole = all + all / 2;
    let number = |text: &str| text.parse().expect("CORACLE_CUTS is `all`, 7 or 7..");
    let (points, from) = match wanted.as_str() {
        "" => (SAMPLE, 0),
        "all" => (whole, 0),
        range if range.ends_with("..") => (whole, number(range.trim_end_matches('.')) - 1),
        count => (number(count), 0),
    };
    let is_whole = points >= all;
    let (mut cuts, began) = (0, Instant::now());
    for point in from..points {
        let n = match is_whole {
            true => point + 1,
            false => (2 * point + 1) * all / (2 * points) + 1,
        };
        match cut(subject, n) {
            Cut::Before(call) => {
                cuts += 1;
                subject.comes_to_rest(&format!("{what}, cut {n} of {all}, before {call}"));
            }
            Cut::Over(fewer) => {
                subject.comes_to_rest(&format!("{what}, which was over before cut {n}"));
                if is_whole {
                    break;
                }
                // What is tried again each millisecond makes many calls where the machine is slow.
                all = all.min(fewer);
            }
        }
    }
    println!(
        "{what}: {cuts} of {all} points cut in {:?}",
        began.elapsed()
    );
    assert!(
        all > 20 && cuts > 0,
        "{what}: {cuts} of {all} points were cut"
    );
}

#[test]
fn a_supervisor_that_is_killed_while_a_set_takes_anothers_place_leaves_one_of_them_alone() {
    walk(
        "to the set without a link",
        &mut Subject::new(),
        |subject, n| subject.change_to(Side::Back, n),
    );
}

#[test]
fn a_supervisor_that_is_killed_while_a_set_with_a_link_comes_leaves_one_of_them_alone() {
    walk(
        "to the set with a link",
        &mut Subject::new(),
        |subject, n| subject.change_to(Side::Front, n),
    );
}

#[test]
fn a_supervisor_that_is_killed_while_it_starts_is_started_again_by_the_next() {
    let adopts = |subject: &mut Subject, n| {
        subject.board.kill_supervisor();
        subject.start(n)
    };
    let mut subject = Subject::new();
    walk("start beside apps that run", &mut subject, adopts);
    let makes = |subject: &mut Subject, n| {
        subject.board.stop_all();
        subject.start(n)
    };
    walk("start on an empty board", &mut subject, makes);
}

#[test]
fn what_a_cut_stop_left_is_in_order_after_the_next_start() {
    walk("stop", &mut Subject::new(), Subject::stop);
}

//! SIGKILL at every system call of setting up and tearing down, then a start: nothing of it is left, nothing is doubled.
//! Needs root and ptrace(2).
//!
//! The one that is killed is this very program, started again with only the test `the_victim`.

mod support;

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use coracle_network::lent::{lend, take_back};
use coracle_network::{
    Attachment, BoardPolicy, DEFAULT_NETWORK, EgressRule, EgressTo, Namespace, NetworkRequest,
    Networks, Offload, PublishedPort, Rates, Station, Underlay, Wanted,
};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use support::*;

const STATE: &str = "CORACLE_CUT_STATE";
const CONTAINER: &str = "CORACLE_CUT_CONTAINER";
/// More system calls than the victim makes; beyond it something runs in circles.
const TOO_MANY: usize = 5000;
/// So many boards are cut at the same time.
const WALKERS: usize = 4;

/// A link of the board that networks lie on, and one that is lent.
const PARENT: &str = "plant0";
const LENT: &str = "lan0";
/// What the container has on the wire: it is in its namespace alone.
const ON_WIRE: &str = "wire0";

fn declared() -> [NetworkRequest; 2] {
    let front = NetworkRequest {
        name: "front".into(),
        ..NetworkRequest::default()
    };
    let plant = NetworkRequest {
        name: "plant".into(),
        subnet: Some("192.168.7.0/24".parse().unwrap()),
        underlay: Some(Underlay {
            parent: PARENT.into(),
            vlan: None,
            station: Station::MacvlanBridge,
            listens: false,
        }),
        ..NetworkRequest::default()
    };
    [front, plant]
}

/// The board's own switches are touched too.
fn policy() -> BoardPolicy {
    let of = |link: &str| match link {
        PARENT => vec![(Offload::TxChecksum, false), (Offload::RxChecksum, false)],
        _ => Vec::new(),
    };
    BoardPolicy {
        bridge_nf_off: true,
        offloads_of: Some(Arc::new(of)),
        ..BoardPolicy::default()
    }
}

fn open(state: &Path) -> Result<Networks, coracle_network::NetworkError> {
    Ok(Networks::open(config(), state)?.with_policy(policy()))
}

/// Everything that changes a board: networks, places with ports and limits on each kind of them, a link that is lent, and all
/// of it taken away again, by each of the ways there are.
async fn whole_life(state: &Path, container: u32) {
    let mut networks = open(state).unwrap();
    networks.reconcile(&[]).await.unwrap();
    assert!(networks.arrange(&declared()).await.is_empty());
    let ports = PublishedPort::parse("8080-8081:80-81").unwrap();
    let rates = Rates {
        ingress_bytes_per_second: Some(1 << 20),
        egress_bytes_per_second: Some(1 << 20),
    };
    let egress = [EgressRule {
        to: EgressTo::Name("mqtt.example".into()),
        protocol: None,
        ports: None,
    }];
    let wanted = Wanted {
        ports: &ports,
        rates,
        egress: Some(&egress),
        ..Wanted::default()
    };
    let space = Namespace::Pid(container);
    let held = std::fs::File::open(format!("/proc/{container}/ns/net")).unwrap();
    lend(LENT, space).unwrap();
    let place = networks
        .connect(DEFAULT_NETWORK, "web", space, &wanted)
        .await
        .unwrap();
    let found = [std::net::Ipv4Addr::new(192, 0, 2, 1).into()];
    networks
        .admit_answer(
            DEFAULT_NETWORK,
            place.ip,
            "mqtt.example",
            &found,
            Duration::ZERO,
        )
        .await
        .unwrap();
    let second = Wanted {
        interface: Some("eth1"),
        no_default_route: true,
        ..Wanted::default()
    };
    networks
        .connect_running("front", "web", space, &second)
        .await
        .unwrap();
    let on_wire = Wanted {
        interface: Some(ON_WIRE),
        ..second.clone()
    };
    networks
        .connect("plant", "web", space, &on_wire)
        .await
        .unwrap();
    networks.disconnect("front", "web").await.unwrap();
    networks.disconnect("plant", "web").await.unwrap();
    assert!(take_back(held.as_fd(), &[LENT.to_owned()]).is_empty());
    networks.ended("web").await.unwrap();
    assert!(networks.follow().await.restart.is_empty());
    // What is declared changes: one of them goes, another is made anew.
    let [mut front, _] = declared();
    front.subnet = Some("10.99.0.0/24".parse().unwrap());
    assert!(networks.arrange(&[front]).await.is_empty());
    assert!(networks.arrange(&[]).await.is_empty());
    networks.destroy().await.unwrap();
}

/// Lives only where the test below asks for it.
#[test]
fn the_victim() {
    let (Ok(state), Ok(container)) = (std::env::var(STATE), std::env::var(CONTAINER)) else {
        return;
    };
    let container = container.parse().unwrap();
    ptrace::traceme().unwrap();
    raise(Signal::SIGSTOP).unwrap();
    block_on(whole_life(Path::new(&state), container));
    raise(Signal::SIGSTOP).unwrap();
}

/// Ends with the walker, also with one that fails.
struct Resident(std::process::Child);

impl Drop for Resident {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the victim until its n-th system call is about to be made, and kills it there. False when it came to its end before.
fn cut(n: usize, state: &Path, container: u32) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["the_victim", "--exact", "--test-threads=1", "--quiet"])
        .env(STATE, state)
        .env(CONTAINER, container.to_string())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Whichever thread of it stops, but no child of another walker.
    let ours = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    // The test runner has a thread for each test: the one to trace is not the process's first.
    let first = waitpid(None, Some(ours)).unwrap();
    let WaitStatus::Stopped(victim, Signal::SIGSTOP) = first else {
        panic!("the victim of cut {n} does not wait: {first:?}");
    };
    let wait = || waitpid(victim, Some(ours)).unwrap();
    ptrace::setoptions(victim, ptrace::Options::PTRACE_O_TRACESYSGOOD).unwrap();
    let mut entries = 0;
    let mut entering = true;
    let came_to_end = loop {
        ptrace::syscall(victim, None).unwrap();
        match wait() {
            WaitStatus::PtraceSyscall(_) => {
                entries += usize::from(entering);
                entering = !entering;
                if entries == n && !entering {
                    break false;
                }
                assert!(entries < TOO_MANY);
            }
            WaitStatus::Stopped(_, Signal::SIGSTOP) => break true,
            other => panic!("the victim of cut {n} ended by itself: {other:?}"),
        }
    };
    child.kill().unwrap();
    wait();
    child.wait().unwrap();
    !came_to_end
}

fn state_of_the_board() -> (BTreeSet<String>, String, String, [String; 4]) {
    let links = ip("-br link");
    let links = links.lines().filter_map(|l| l.split_whitespace().next());
    let name = |l: &str| l.split('@').next().unwrap().to_owned();
    let switch = |s: &str| std::fs::read_to_string(format!("/proc/sys/net/{s}")).unwrap();
    let switches = [
        switch("ipv4/ip_forward"),
        switch("ipv6/conf/all/forwarding"),
        switch("bridge/bridge-nf-call-iptables"),
        output("ethtool", &["-k", PARENT]),
    ];
    // Set and cleared by the kernel when it gets to it.
    let routes = ip("route").replace(" linkdown", "");
    (links.map(name).collect(), routes, nft_list(), switches)
}

#[test]
fn killed_at_any_system_call_nothing_is_left_after_the_next_start() {
    let walkers: Vec<_> = (1..=WALKERS)
        .map(|first| std::thread::spawn(move || walk(first)))
        .collect();
    // All of them end before one that failed is told of, so that each cleans up.
    let ends: Vec<_> = walkers.into_iter().map(|w| w.join()).collect();
    let last = ends.into_iter().map(|end| end.unwrap()).min().unwrap();
    assert!(last > 200, "the victim made only {last} system calls");
    println!("{last} cut points");
}

/// Every `WALKERS`-th cut point on a board of its own; the first one that the victim does not come to.
fn walk(first: usize) -> usize {
    let _client = board();
    std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "0").unwrap();
    std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1").unwrap();
    for link in [PARENT, LENT] {
        ip(&format!("link add {link} type veth peer name {link}-far"));
    }
    // A network brings its link up, and it stays so.
    ip(&format!("link set {PARENT} up"));
    let space = Netns::new();
    // A process that lives in the container's namespace.
    let resident = Resident(space.run(|| Command::new("sleep").arg("900").spawn().unwrap()));
    let clean = state_of_the_board();
    let inside = space.run(|| ip("-br link"));
    // What a start without apps leads to, on a board that was never cut.
    let fresh = tempfile::tempdir().unwrap();
    let started = block_on(async {
        let mut networks = open(fresh.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        let started = state_of_the_board();
        networks.destroy().await.unwrap();
        started
    });
    assert_eq!(state_of_the_board(), clean);

    let mut n = first;
    loop {
        let state = tempfile::tempdir().unwrap();
        if !cut(n, state.path(), resident.0.id()) {
            break;
        }
        block_on(async {
            let mut networks =
                open(state.path()).unwrap_or_else(|e| panic!("open after cut {n}: {e}"));
            let live: [(String, Vec<Attachment>); 0] = [];
            networks
                .reconcile(&live)
                .await
                .unwrap_or_else(|e| panic!("reconcile after cut {n}: {e}"));
            // As a supervisor does that finds an app's network held and no app.
            let held = std::fs::File::open(format!("/proc/{}/ns/net", resident.0.id())).unwrap();
            let faults = take_back(held.as_fd(), &[LENT.to_owned()]);
            assert!(faults.is_empty(), "cut {n}: {faults:?}");
            // Made or not made, never half.
            let faults = networks.arrange(&[]).await;
            assert!(faults.is_empty(), "cut {n}: {faults:?}");
            // It goes with the container, which ends with the supervisor that was about to start it; this one does not.
            space.run(|| {
                if ip("-br link").contains(ON_WIRE) {
                    ip(&format!("link del {ON_WIRE}"));
                }
            });
            let (links, routes, tables, switches) = state_of_the_board();
            assert_eq!(
                (&links, &routes, &tables),
                (&started.0, &started.1, &started.2),
                "cut {n}"
            );
            for at in [0, 2, 3] {
                assert_eq!(switches[at], started.3[at], "cut {n}");
            }
            assert_eq!(space.run(|| ip("-br link")), inside, "cut {n}");
            networks
                .destroy()
                .await
                .unwrap_or_else(|e| panic!("destroy after cut {n}: {e}"));
        });
        assert_eq!(state_of_the_board(), clean, "cut {n}");
        let files: Vec<_> = std::fs::read_dir(state.path()).unwrap().collect();
        assert!(files.is_empty(), "cut {n} leaves {files:?}");
        n += WALKERS;
    }
    n
}

//! The network part of a launch, apart from the rest: how long the supervisor's side takes, the container's own, and the end.
//! Needs root; runs in a network namespace of its own. Prints medians in microseconds.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use coracle_network::{
    Attachment, DEFAULT_NETWORK, Namespace, NetworkConfig, Networks, PublishedPort, Wanted,
    configure_inside,
};
use nix::sched::{CloneFlags, setns, unshare};

const ROUNDS: usize = 50;

struct Resident(Child);

impl Drop for Resident {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process in a network namespace of its own, in which this thread stays.
fn resident() -> Resident {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: this needs root");
    Resident(Command::new("sleep").arg("60").spawn().expect("sleep"))
}

fn main() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: this needs root");
    let board = std::fs::File::open("/proc/self/ns/net").expect("our own namespace");
    let home = || setns(&board, CloneFlags::CLONE_NEWNET).expect("home");
    let state = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let config = NetworkConfig::new("cor0", "172.30.0.0/16".parse().expect("a subnet"));
    let ports = PublishedPort::parse("8080:80").expect("a port");
    let wanted = Wanted {
        ports: &ports,
        ..Wanted::default()
    };
    let mut times: [Vec<Duration>; 4] = Default::default();
    runtime.block_on(async {
        let mut networks = Networks::open(config, state.path()).expect("sockets");
        let live: [(String, Vec<Attachment>); 0] = [];
        networks.reconcile(&live).await.expect("a bridge");
        for round in 0..ROUNDS {
            let app = resident();
            let inside = std::fs::File::open(format!("/proc/{}/ns/net", app.0.id())).expect("it");
            home();
            let mut time = |index: usize, since: Instant| times[index].push(since.elapsed());
            let begun = Instant::now();
            let place = networks
                .connect(DEFAULT_NETWORK, "web", Namespace::Pid(app.0.id()), &wanted)
                .await
                .expect("a place");
            time(0, begun);
            setns(&inside, CloneFlags::CLONE_NEWNET).expect("the container's");
            let begun = Instant::now();
            configure_inside(&place).expect("its side");
            time(1, begun);
            home();
            drop(inside);
            drop(app);
            let begun = Instant::now();
            match round % 2 {
                0 => networks.ended("web").await.expect("its end"),
                _ => networks.detach("web").await.expect("its end"),
            }
            time(2 + round % 2, begun);
            std::thread::sleep(Duration::from_millis(100));
        }
        networks.destroy().await.expect("the end");
    });
    let names = ["attach", "inside", "ended", "detach"];
    for (name, mut all) in names.iter().zip(times) {
        all.sort();
        println!("{name} {}", all[all.len() / 2].as_micros());
    }
}

//! A bridge network in this network namespace with one container on it, for others to measure through. Prints the number of a
//! process in the container, and takes everything away when its input ends. Needs root.

use std::io::Read;
use std::process::{Child, Command};

use coracle_network::{
    DEFAULT_NETWORK, Namespace, NetworkConfig, Networks, Wanted, configure_inside,
};
use nix::sched::{CloneFlags, setns, unshare};

struct Resident(Child);

impl Drop for Resident {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let board = std::fs::File::open("/proc/self/ns/net").expect("our own namespace");
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace: this needs root");
    let container = Resident(Command::new("sleep").arg("3600").spawn().expect("sleep"));
    let inside = std::fs::File::open("/proc/self/ns/net").expect("the container's");
    setns(&board, CloneFlags::CLONE_NEWNET).expect("home");
    let state = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let config = NetworkConfig::new("cor0", "172.30.0.0/16".parse().expect("a subnet"));
        let mut networks = Networks::open(config, state.path()).expect("sockets");
        networks.reconcile(&[]).await.expect("a bridge");
        let space = Namespace::Pid(container.0.id());
        let place = networks
            .connect(DEFAULT_NETWORK, "one", space, &Wanted::default())
            .await
            .expect("a place");
        setns(&inside, CloneFlags::CLONE_NEWNET).expect("the container's");
        configure_inside(&place).expect("its side");
        setns(&board, CloneFlags::CLONE_NEWNET).expect("home");
        println!("{}", container.0.id());
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        networks.detach("one").await.expect("its end");
        networks.destroy().await.expect("the end");
    });
}

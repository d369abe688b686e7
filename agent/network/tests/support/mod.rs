//! Throw-away network namespaces: each lives on a thread of its own and ends with it.

#![allow(dead_code)] // each test file uses its part

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use coracle_network::{
    DEFAULT_NETWORK, Endpoint, Namespace, Network, NetworkConfig, Networks, Protocol,
    PublishedPort, Wanted, configure_inside,
};
use nix::sched::{CloneFlags, unshare};

pub mod capture;
pub mod dns;
pub mod frame;
pub mod lists;
pub mod router;

pub const BOARD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const PATIENCE: Duration = Duration::from_secs(3);
/// How long to wait for something that must not come.
const SILENCE: Duration = Duration::from_millis(400);

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace; closures run inside it.
#[derive(Debug)]
pub struct Netns {
    file: File,
    jobs: Option<Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Netns {
    pub fn new() -> Self {
        let (jobs, inbox) = channel::<Job>();
        let (ready, file) = channel();
        let thread = thread::spawn(move || {
            enter_new();
            ready.send(own_namespace()).unwrap();
            for job in inbox {
                job();
            }
        });
        Self {
            file: file.recv().expect("a network namespace"),
            jobs: Some(jobs),
            thread: Some(thread),
        }
    }

    pub fn namespace(&self) -> Namespace<'_> {
        Namespace::Fd(self.file.as_fd())
    }

    pub fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, result) = channel();
        let job: Job = Box::new(move || answer.send(job()).unwrap());
        self.jobs.as_ref().unwrap().send(job).unwrap();
        result.recv().expect("the job to end well")
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.jobs = None;
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.unwrap();
        }
    }
}

fn own_namespace() -> File {
    File::open("/proc/thread-self/ns/net").expect("open our own network namespace")
}

/// Moves this thread into a new network namespace with loopback up.
pub fn enter_new() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests make network namespaces, which takes root"
    );
    unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
    ip("link set lo up");
}

/// This thread becomes the board, with an outside client on `wan0`.
pub fn board() -> Netns {
    for program in ["ip", "nft"] {
        let found = Command::new(program).arg("-V").output();
        assert!(
            found.is_ok(),
            "the tests check with `{program}`: apt-get install iproute2 nftables"
        );
    }
    enter_new();
    // New namespaces may inherit the machine's switch.
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
    let client = Netns::new();
    ip("link add wan0 type veth peer name out0");
    // A link moves to the namespace of a process.
    let mut resident = client.run(|| Command::new("sleep").arg("9").spawn().unwrap());
    ip(&format!("link set out0 netns {}", resident.id()));
    resident.kill().unwrap();
    resident.wait().unwrap();
    ip("addr add 198.51.100.1/24 dev wan0");
    ip("link set wan0 up");
    client.run(|| {
        ip("addr add 198.51.100.2/24 dev out0");
        ip("link set out0 up");
    });
    client
}

pub fn config() -> NetworkConfig {
    NetworkConfig::new("cor0", "172.30.0.0/16".parse().unwrap())
}

/// The network as the supervisor has it after its start.
pub async fn started(state: &Path) -> Network {
    let mut network = Network::open(config(), state).unwrap();
    network.reconcile(&[]).await.unwrap();
    network
}

/// A container on the network, and its place there.
pub async fn attached(
    network: &mut Network,
    app: &str,
    ports: &[PublishedPort],
) -> (Netns, Endpoint) {
    let container = Netns::new();
    let endpoint = network
        .attach(app, container.namespace(), ports)
        .await
        .unwrap();
    let inside = endpoint.clone();
    container.run(move || configure_inside(&inside).unwrap());
    (container, endpoint)
}

/// As [`attached`], with a server on port 80.
pub async fn serving(
    network: &mut Network,
    app: &str,
    ports: &[PublishedPort],
) -> (Netns, Endpoint) {
    let (container, endpoint) = attached(network, app, ports).await;
    container.run(|| serve(80));
    (container, endpoint)
}

pub fn port(
    host_ip: Option<Ipv4Addr>,
    host: u16,
    container: u16,
    protocol: Protocol,
) -> PublishedPort {
    PublishedPort {
        host_ip: host_ip.map(Into::into),
        host_port: host,
        container_port: container,
        protocol,
    }
}

/// On the default network, a server at datagram port 53 that says its name.
pub async fn named_by_datagram(
    networks: &mut Networks,
    name: &'static str,
    ports: &[PublishedPort],
) -> Netns {
    let space = Netns::new();
    let wanted = Wanted {
        ports,
        ..Wanted::default()
    };
    let place = networks.connect(DEFAULT_NETWORK, name, space.namespace(), &wanted);
    let place = place.await.unwrap();
    space.run(move || {
        configure_inside(&place).unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
        std::thread::spawn(move || {
            while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
                let _ = socket.send_to(name.as_bytes(), from);
            }
        });
    });
    space
}

/// Runs `ip` in this thread's namespace.
pub fn ip(arguments: &str) -> String {
    output("ip", &arguments.split(' ').collect::<Vec<_>>())
}

/// `nft list ruleset` of this thread's namespace.
pub fn nft_list() -> String {
    output("nft", &["-s", "list", "ruleset"])
}

pub fn output(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program).args(arguments).output().unwrap();
    assert!(
        out.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).unwrap()
}

/// Answers every TCP connection and UDP datagram with the peer's address, until the test process ends.
pub fn serve(port: u16) {
    let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    // Threads take over the namespace of the one that makes them.
    thread::spawn(move || {
        while let Ok((mut stream, peer)) = tcp.accept() {
            let _ = stream.write_all(peer.ip().to_string().as_bytes());
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(peer.ip().to_string().as_bytes(), peer);
        }
    });
}

/// What a server of `serve` at that place says: our address as it sees it.
pub fn ask_tcp(ip: Ipv4Addr, port: u16) -> std::io::Result<String> {
    tcp(ip, port, PATIENCE)
}

fn tcp(ip: Ipv4Addr, port: u16, wait: Duration) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((ip, port)), wait)?;
    stream.set_read_timeout(Some(wait))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

pub fn ask_udp(ip: Ipv4Addr, port: u16) -> std::io::Result<String> {
    udp(ip, port, PATIENCE)
}

fn udp(ip: Ipv4Addr, port: u16, wait: Duration) -> std::io::Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(wait))?;
    socket.send_to(b"who am I", (ip, port))?;
    let mut buffer = [0; 64];
    let (length, _) = socket.recv_from(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Who sends the next datagram to this port, if somebody does so soon.
pub fn listen_udp(port: u16) -> Option<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    socket.set_read_timeout(Some(2 * SILENCE)).unwrap();
    let received = socket.recv_from(&mut [0; 64]);
    received.ok().map(|(_, peer)| peer.ip().to_string())
}

/// Sends a few datagrams while the caller goes on to listen.
pub fn send_udp_soon(ip: Ipv4Addr, port: u16) {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    thread::spawn(move || {
        for _ in 0..4 {
            thread::sleep(SILENCE / 4);
            // Refused while nobody listens yet.
            let _ = socket.send_to(b"hello", (ip, port));
        }
    });
}

/// Neither TCP nor UDP gets an answer.
pub fn assert_silent(ip: Ipv4Addr, port: u16) {
    assert!(tcp(ip, port, SILENCE).is_err(), "TCP {ip}:{port} answered");
    assert!(udp(ip, port, SILENCE).is_err(), "UDP {ip}:{port} answered");
}

/// Runs the future on this thread, which stays in its namespace.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

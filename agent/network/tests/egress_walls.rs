//! Ways around a list of places to go. Needs root.

mod support;

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use coracle_network::{
    Endpoint, Ipv6, NetworkConfig, NetworkRequest, Networks, Protocol, Rates, Wanted,
};
use support::frame::{datagram, send_soon};
use support::lists::*;
use support::*;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// An address of the subnet that nobody has.
const NOBODY: Ipv4Addr = Ipv4Addr::new(172, 30, 9, 9);
/// IEEE 802.1Q with VLAN 0, which says a priority alone.
const TAG: [u8; 4] = [0x81, 0, 0, 0];

/// What `ip -o` says of it behind that word.
fn word_after(arguments: &str, word: &str) -> String {
    let text = ip(arguments);
    let mut words = text.split_whitespace();
    words.find(|w| *w == word).unwrap();
    words.next().unwrap().to_owned()
}

fn bridges_mac() -> [u8; 6] {
    let text = word_after("-o link show cor0", "link/ether");
    let bytes: Vec<u8> = text
        .split(':')
        .map(|two| u8::from_str_radix(two, 16).unwrap())
        .collect();
    bytes.try_into().unwrap()
}

#[test]
fn no_frame_borrows_an_address_that_nobody_has() {
    let client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = opened(dual_stack(), &state).await;
        let mac = bridges_mac();
        let sends = |space: &Netns, tags: usize, from: Ipv4Addr| {
            let tags = TAG.repeat(tags);
            space.run(move || send_soon("eth0", datagram(mac, &tags, (from, CLIENT), 7005)));
            let heard = client.run(|| listen_udp(7005));
            // The rest of what was sent goes by.
            std::thread::sleep(Duration::from_millis(400));
            heard
        };
        let (open, place) = confined(&mut networks, "open", None).await;
        // Such frames do arrive, where nobody has a list.
        for tags in 0..3 {
            assert_eq!(sends(&open, tags, NOBODY), Some(BOARD.to_string()));
        }
        let (evil, confined_at) = confined(&mut networks, "evil", Some(&[])).await;
        for tags in 0..3 {
            assert_eq!(sends(&evil, tags, NOBODY), None, "{tags} tags");
            assert_eq!(sends(&evil, tags, place.ip), None, "{tags} tags");
        }
        // Who has no list has its own address, and no other that might be anybody's: it asks the resolver as itself.
        assert_eq!(sends(&open, 0, place.ip), Some(BOARD.to_string()));
        assert_eq!(sends(&open, 0, NOBODY), None);
        let asks = |from: Ipv4Addr| {
            open.run(move || send_soon("eth0", datagram(mac, &[], (from, GATEWAY), 53)));
            let heard = listen_udp(53);
            std::thread::sleep(Duration::from_millis(400));
            heard
        };
        assert_eq!(asks(place.ip), Some(place.ip.to_string()));
        assert_eq!(asks(confined_at.ip), None);
    });
}

/// Says something to whoever sends a datagram there.
fn answer_udp6(port: u16, what: &'static [u8]) {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(what, peer);
        }
    });
}

/// Whether anybody answers who is asked from this address.
fn asks6(from: Ipv6Addr, to: Ipv6Addr, port: u16) -> bool {
    let eth0 = ip("-o link show eth0");
    let scope = eth0.split(':').next().unwrap().parse().unwrap();
    let socket = UdpSocket::bind((from, 0)).unwrap();
    let wait = Some(Duration::from_millis(200));
    socket.set_read_timeout(wait).unwrap();
    // A neighbour is looked for first.
    (0..5).any(|_| {
        let sent = socket.send_to(b"?", SocketAddrV6::new(to, port, 0, scope));
        sent.is_ok() && socket.recv(&mut [0; 64]).is_ok()
    })
}

fn link_local_of(link: &str) -> Ipv6Addr {
    let text = word_after(&format!("-o -6 addr show dev {link} scope link"), "inet6");
    text.split('/').next().unwrap().parse().unwrap()
}

#[test]
fn the_board_is_not_reached_by_its_link_local_address() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let config = NetworkConfig {
            allow_host_access: true,
            ..dual_stack()
        };
        let mut networks = opened(config, &state).await;
        let back = NetworkRequest {
            name: "back".into(),
            ipv6: Ipv6::Auto,
            ..NetworkRequest::default()
        };
        networks.create(&back).await.unwrap();
        let published = [port(None, 7008, 7009, Protocol::Udp)];
        let wanted = Wanted {
            ports: &published,
            ..Wanted::default()
        };
        let (behind, _) = connected(&mut networks, "back", "behind", &wanted).await;
        behind.run(|| answer_udp6(7009, b"behind"));
        answer_udp6(7003, b"board");
        let (open, open_at) = confined(&mut networks, "open", None).await;
        let bridge = link_local_of("cor0");
        let six = |place: &Endpoint| place.ipv6.unwrap().ip;
        let own = six(&open_at);
        // Where nobody has a list.
        open.run(move || {
            assert!(asks6(own, bridge, 7003));
            assert!(asks6(own, bridge, 7008));
        });
        let (evil, place) = confined(&mut networks, "evil", Some(&[])).await;
        let own = six(&place);
        let subnet = dual_stack().subnet6.unwrap().network();
        evil.run(move || {
            assert!(!asks6(own, bridge, 7003), "a service of the board");
            assert!(!asks6(own, bridge, 7008), "another network's app");
            assert!(!asks6(Ipv6Addr::UNSPECIFIED, bridge, 7003));
            assert!(!asks6(own, subnet, 7003), "the routers' anycast address");
            let all_nodes = "ff02::1".parse().unwrap();
            assert!(!asks6(own, all_nodes, 7003));
        });
        // Neighbours are found all the same.
        let neighbour = six(&open_at);
        open.run(|| answer_udp6(7010, b"open"));
        evil.run(move || assert!(asks6(own, neighbour, 7010)));
        // Those without a list talk among themselves by whatever address.
        let (third, _) = confined(&mut networks, "third", None).await;
        let near = open.run(|| link_local_of("eth0"));
        third.run(move || assert!(asks6(Ipv6Addr::UNSPECIFIED, near, 7010)));
        // Nor by what everyone on the subnet hears.
        let board_hears = |to: Ipv4Addr| {
            evil.run(move || {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
                socket.set_broadcast(true).unwrap();
                std::thread::spawn(move || {
                    for _ in 0..4 {
                        std::thread::sleep(Duration::from_millis(100));
                        let _ = socket.send_to(b"hello", (to, 7011));
                    }
                });
            });
            listen_udp(7011)
        };
        for to in [[172, 30, 255, 255], [172, 30, 0, 0], [255; 4]] {
            assert_eq!(board_hears(to.into()), None, "{to:?}");
        }
    });
}

/// What was done to nftables meanwhile, a text for each step that was one to the kernel.
struct Monitor(std::process::Child);

impl Monitor {
    fn start() -> Self {
        let mut command = Command::new("nft");
        let child = command.arg("monitor").stdout(Stdio::piped()).spawn();
        let child = child.unwrap();
        std::thread::sleep(Duration::from_millis(300));
        Self(child)
    }

    fn steps(mut self) -> Vec<String> {
        std::thread::sleep(Duration::from_millis(300));
        self.0.kill().unwrap();
        let output = self.0.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split("# new generation").map(str::to_owned).collect()
    }
}

#[test]
fn a_next_supervisor_leaves_no_moment_without_walls() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = opened(dual_stack(), &state).await;
        let (_web, _) = confined(&mut networks, "web", Some(&[])).await;
        let text = serde_json::to_string(&networks.attachments("web")).unwrap();
        drop(networks);
        let mut networks = Networks::open(dual_stack(), state.path()).unwrap();
        let live = [("web".to_owned(), serde_json::from_str(&text).unwrap())];
        let monitor = Monitor::start();
        networks.reconcile(&live).await.unwrap();
        let mut removed = 0;
        for step in monitor.steps() {
            for table in ["netdev coracle-cor0", "inet coracle-cor0-egress"] {
                if step.contains(&format!("delete table {table}\n")) {
                    removed += 1;
                    assert!(step.contains(&format!("add table {table}\n")), "{step}");
                }
            }
        }
        assert_eq!(removed, 2, "both are made anew");
    });
}

#[test]
fn a_published_port_53_does_not_take_the_resolvers_place() {
    let client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = opened(dual_stack(), &state).await;
        let udp = UdpSocket::bind((GATEWAY, 53)).unwrap();
        std::thread::spawn(move || {
            while let Ok((_, peer)) = udp.recv_from(&mut [0; 64]) {
                let _ = udp.send_to(b"resolver", peer);
            }
        });
        let tcp = std::net::TcpListener::bind((GATEWAY, 53)).unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = tcp.accept() {
                let _ = stream.write_all(b"resolver");
            }
        });
        let back = NetworkRequest {
            name: "back".into(),
            ..NetworkRequest::default()
        };
        networks.create(&back).await.unwrap();
        let published = [
            port(None, 53, 80, Protocol::Udp),
            port(None, 53, 80, Protocol::Tcp),
        ];
        let wanted = Wanted {
            ports: &published,
            ..Wanted::default()
        };
        for network in ["bridge", "back"] {
            let (hole, _) = connected(&mut networks, network, "hole", &wanted).await;
            hole.run(|| serve(80));
            let (web, _) = confined(&mut networks, "web", Some(&[])).await;
            let (open, _) = confined(&mut networks, "open", None).await;
            for space in [&web, &open] {
                space.run(|| {
                    assert_eq!(ask_udp(GATEWAY, 53).unwrap(), "resolver");
                    assert_eq!(ask_tcp(GATEWAY, 53).unwrap(), "resolver");
                });
            }
            // By the board's own address, and for the world, the app is what answers.
            open.run(|| assert_ne!(ask_udp(BOARD, 53).unwrap(), "resolver"));
            client.run(|| ask_udp(BOARD, 53)).unwrap();
            for app in ["hole", "web", "open"] {
                networks.detach(app).await.unwrap();
            }
        }
    });
}

#[test]
fn walls_that_somebody_removed_come_back() {
    let client = board();
    client.run(|| serve(7000));
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = opened(dual_stack(), &state).await;
        let list = [rule(
            "198.51.100.2",
            Some(Protocol::Tcp),
            Some((7000, 7000)),
        )];
        let wanted = Wanted {
            egress: Some(&list),
            rates: Rates {
                egress_bytes_per_second: Some(125_000),
                ..Rates::default()
            },
            ..Wanted::default()
        };
        let (web, _) = connected(&mut networks, "bridge", "web", &wanted).await;
        assert!(networks.mend().await.is_empty());
        let tables = || {
            let text = nft_list();
            let mut tables: Vec<String> = text.split("\ntable ").map(str::to_owned).collect();
            for table in &mut tables {
                *table = table.trim().trim_start_matches("table ").to_owned();
            }
            tables.sort();
            tables
        };
        let before = tables();
        output("nft", &["flush", "ruleset"]);
        assert_eq!(networks.mend().await, ["bridge"]);
        assert_eq!(tables(), before);
        web.run(|| {
            ask_tcp(CLIENT, 7000).unwrap();
            assert!(ask_udp(CLIENT, 7000).is_err());
        });
        for table in [
            "inet coracle-cor0-egress",
            "netdev coracle-cor0",
            "ip coracle-cor0",
        ] {
            let (family, name) = table.split_once(' ').unwrap();
            output("nft", &["delete", "table", family, name]);
            assert_eq!(networks.mend().await, ["bridge"], "{table}");
            assert_eq!(tables(), before);
        }
        assert!(networks.mend().await.is_empty());
    });
}

/// Runs this with this thread's right to change networks taken away.
async fn without_rights<T>(job: impl Future<Output = T>) -> T {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let all = capabilities(None).unwrap();
    let mut fewer = all;
    fewer.effective.remove(CapabilitySet::NET_ADMIN);
    set_capabilities(None, fewer).unwrap();
    let done = job.await;
    set_capabilities(None, all).unwrap();
    done
}

#[test]
fn an_app_whose_link_stays_keeps_its_walls_and_its_address() {
    let client = board();
    client.run(|| serve(7000));
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = opened(dual_stack(), &state).await;
        let (web, place) = confined(&mut networks, "web", Some(&[])).await;
        let before = nft_list();
        without_rights(networks.detach("web")).await.unwrap_err();
        assert_eq!(nft_list(), before);
        web.run(|| assert_silent(CLIENT, 7000));
        let (_other, elsewhere) = confined(&mut networks, "other", None).await;
        assert_ne!(elsewhere.ip, place.ip);
        networks.detach("other").await.unwrap();
        // Tried again, and by its next start.
        assert!(networks.mend().await.is_empty());
        assert!(!nft_list().contains("egress"), "{}", nft_list());
        let (_web, place) = confined(&mut networks, "web", Some(&[])).await;
        without_rights(networks.detach("web")).await.unwrap_err();
        let (_web, again) = confined(&mut networks, "web", None).await;
        assert_eq!(again.ip, place.ip);
        assert!(!nft_list().contains("egress"), "{}", nft_list());
    });
}

#[test]
fn what_the_kernel_refused_is_opened_the_next_time() {
    let client = board();
    client.run(|| serve(7000));
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = opened(dual_stack(), &state).await;
        let list = [rule("mqtt.example", None, None)];
        let (web, place) = confined(&mut networks, "web", Some(&list)).await;
        let found = [CLIENT.into()];
        let ttl = Duration::from_secs(300);
        let admit = networks.admit_answer("bridge", place.ip, "mqtt.example", &found, ttl);
        without_rights(admit).await.unwrap_err();
        web.run(|| assert_silent(CLIENT, 7000));
        let admit = networks.admit_answer("bridge", place.ip, "mqtt.example", &found, ttl);
        assert_eq!(admit.await.unwrap(), found);
        web.run(|| ask_tcp(CLIENT, 7000)).unwrap();
    });
}

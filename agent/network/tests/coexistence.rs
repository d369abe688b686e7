//! Other programs' rules on the same board: what they stop, what opens it, and that neither side touches the other's. Needs
//! root.

mod support;

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use coracle_network::{Network, NetworkConfig, Protocol};
use support::*;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);

/// What works of a network: out to the world, in by a published port, to the resolver.
#[derive(Debug, PartialEq, Eq)]
struct Works {
    out: bool,
    published: bool,
    resolver: bool,
    neighbour: bool,
    /// What must never be: another port of the board.
    board: bool,
}

const ALL: Works = Works {
    out: true,
    published: true,
    resolver: true,
    neighbour: true,
    board: false,
};

/// Loads the rules of others, makes a network, looks what works; then lets `open` open the others' rules, and looks again.
fn beside(load: fn(), others: fn() -> String, open: fn()) -> (Works, Works) {
    let client = board();
    client.run(|| serve(7000));
    serve(7001);
    load();
    let before = others();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let config = NetworkConfig {
            resolver: true,
            ..config()
        };
        let mut network = Network::open(config, state.path()).unwrap();
        network.reconcile(&[]).await.unwrap();
        let resolver = UdpSocket::bind((GATEWAY, 53)).unwrap();
        std::thread::spawn(move || {
            while let Ok((_, from)) = resolver.recv_from(&mut [0; 64]) {
                let _ = resolver.send_to(b"here", from);
            }
        });
        let ports = [port(None, 8080, 80, Protocol::Tcp)];
        let (web, place) = serving(&mut network, "web", &ports).await;
        let (other, _) = attached(&mut network, "other", &[]).await;
        let look = || {
            let inside = other.run(move || {
                let quick = |to, port| reaches(to, port);
                let resolver = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
                let wait = Some(Duration::from_millis(500));
                resolver.set_read_timeout(wait).unwrap();
                resolver.send_to(b"?", (GATEWAY, 53)).unwrap();
                (
                    quick(CLIENT, 7000),
                    quick(place.ip, 80),
                    quick(BOARD, 7001) || quick(GATEWAY, 7001),
                    resolver.recv(&mut [0; 64]).is_ok(),
                )
            });
            Works {
                out: inside.0,
                published: client.run(|| reaches(BOARD, 8080)),
                neighbour: inside.1,
                board: inside.2,
                resolver: inside.3,
            }
        };
        // Links take a moment to come up.
        std::thread::sleep(Duration::from_millis(1200));
        let first = look();
        open();
        let opened = others();
        let second = look();
        assert_eq!(others(), opened);
        drop(web);
        network.destroy().await.unwrap();
        // What is theirs stays; what was opened names our bridge, and stays too.
        assert!(opened.len() >= before.len());
        assert_eq!(others(), opened);
        assert!(!nft_list().contains("coracle"));
        (first, second)
    })
}

/// Whether this thread's board asks its IP rules for what stays on a bridge too: with br_netfilter, which Docker loads.
fn asks_for_bridged_packets() -> bool {
    let switch = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    std::fs::read_to_string(switch).is_ok_and(|on| on.trim() == "1")
}

fn reaches(to: Ipv4Addr, port: u16) -> bool {
    let at = std::net::SocketAddr::from((to, port));
    std::net::TcpStream::connect_timeout(&at, Duration::from_millis(500)).is_ok()
}

fn nft(text: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    output("nft", &["-f", file.path().to_str().unwrap()]);
}

/// Everything that is not ours.
fn nft_of_others() -> String {
    let all = nft_list();
    let tables = all.trim_end().split("\ntable ").map(str::to_owned);
    let theirs: Vec<String> = tables.filter(|table| !table.contains("coracle-")).collect();
    theirs.join("\ntable ")
}

fn legacy(arguments: &str) -> String {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    output("iptables-legacy", &arguments)
}

#[test]
fn beside_docker_forwarding_has_to_be_allowed_in_its_user_chain() {
    let load = || {
        ip("link add docker0 type bridge");
        ip("addr add 172.17.0.1/16 dev docker0");
        nft(include_str!("coexistence/docker.nft"));
    };
    let open = || {
        nft("add rule ip filter DOCKER-USER iifname \"cor0\" accept\n\
             add rule ip filter DOCKER-USER oifname \"cor0\" accept\n");
    };
    let (first, second) = beside(load, nft_of_others, open);
    let closed = Works {
        out: false,
        published: false,
        neighbour: !asks_for_bridged_packets(),
        ..ALL
    };
    assert_eq!((first, second), (closed, ALL));
}

#[test]
fn beside_ufw_the_bridge_has_to_be_allowed_in_and_through() {
    let load = || nft(include_str!("coexistence/ufw.nft"));
    let open = || {
        nft(
            "add rule ip filter ufw-user-forward iifname \"cor0\" accept\n\
             add rule ip filter ufw-user-forward oifname \"cor0\" accept\n\
             add rule ip filter ufw-user-input iifname \"cor0\" udp dport 53 accept\n",
        );
    };
    let (first, second) = beside(load, nft_of_others, open);
    let closed = Works {
        out: false,
        published: false,
        resolver: false,
        neighbour: !asks_for_bridged_packets(),
        ..ALL
    };
    assert_eq!((first, second), (closed, ALL));
}

#[test]
fn beside_firewalld_published_ports_work_and_the_bridge_belongs_in_a_zone() {
    let load = || nft(include_str!("coexistence/firewalld.nft"));
    let open = || {
        nft(
            "add rule inet firewalld filter_FWD_zones iifname \"cor0\" accept\n\
             add rule inet firewalld filter_IN_zones iifname \"cor0\" accept\n",
        );
    };
    let (first, second) = beside(load, nft_of_others, open);
    let closed = Works {
        out: false,
        resolver: false,
        neighbour: !asks_for_bridged_packets(),
        ..ALL
    };
    assert_eq!((first, second), (closed, ALL));
}

#[test]
fn beside_legacy_iptables_forwarding_has_to_be_allowed_there() {
    let load = || {
        for rule in [
            "-P FORWARD DROP",
            "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "-A INPUT -p tcp --dport 22 -j ACCEPT",
        ] {
            legacy(rule);
        }
    };
    let open = || {
        legacy("-A FORWARD -i cor0 -j ACCEPT");
        legacy("-A FORWARD -o cor0 -j ACCEPT");
    };
    let (first, second) = beside(load, || legacy("-S"), open);
    let closed = Works {
        out: false,
        published: false,
        neighbour: !asks_for_bridged_packets(),
        ..ALL
    };
    assert_eq!((first, second), (closed, ALL));
}

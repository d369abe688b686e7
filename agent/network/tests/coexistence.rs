//! Other programs' rules on the same board: what they stop, what opens it, and that neither side touches the other's. Needs
//! root.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use coracle_network::{Network, NetworkConfig, Protocol};
use support::*;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
const BOARD6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 2);

/// What works of a network in one of the families: out to the world, in by a published port.
#[derive(Debug, PartialEq, Eq)]
struct Works {
    out: bool,
    published: bool,
    neighbour: bool,
    /// What must never be: another port of the board.
    board: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    four: Works,
    six: Works,
    /// Is asked by IPv4.
    resolver: bool,
}

const ALL: Works = Works {
    out: true,
    published: true,
    neighbour: true,
    board: false,
};
const OPEN: Seen = Seen {
    four: ALL,
    six: ALL,
    resolver: true,
};

/// Loads the rules of others, makes a network, looks what works; then lets `open` open the others' rules, and looks again.
fn beside(load: fn(), others: fn() -> String, open: fn()) -> (Seen, Seen) {
    let client = board();
    ip("-6 addr add 2001:db8:77::1/64 dev wan0 nodad");
    client.run(|| {
        ip("-6 addr add 2001:db8:77::2/64 dev out0 nodad");
        accept(7000);
    });
    accept(7001);
    load();
    let before = others();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let config = NetworkConfig {
            resolver: true,
            subnet6: Some("fd00:77::/64".parse().unwrap()),
            ..config()
        };
        let gateway6 = config.gateway6(config.subnet6.unwrap());
        let mut network = Network::open(config, state.path()).unwrap();
        network.reconcile(&[]).await.unwrap();
        let resolver = UdpSocket::bind((GATEWAY, 53)).unwrap();
        std::thread::spawn(move || {
            while let Ok((_, from)) = resolver.recv_from(&mut [0; 64]) {
                let _ = resolver.send_to(b"here", from);
            }
        });
        let ports = [port(None, 8080, 80, Protocol::Tcp)];
        let (web, place) = attached(&mut network, "web", &ports).await;
        web.run(|| accept(80));
        let web6 = place.ipv6.expect("an address of IPv6").ip;
        let (other, _) = attached(&mut network, "other", &[]).await;
        let works = |outside: IpAddr, board: IpAddr, web: IpAddr, gateway: IpAddr| {
            let inside = other.run(move || {
                let board = reaches(board, 7001) || reaches(gateway, 7001);
                (reaches(outside, 7000), reaches(web, 80), board)
            });
            Works {
                out: inside.0,
                published: client.run(move || reaches(board, 8080)),
                neighbour: inside.1,
                board: inside.2,
            }
        };
        let look = || Seen {
            four: works(CLIENT.into(), BOARD.into(), place.ip.into(), GATEWAY.into()),
            six: works(CLIENT6.into(), BOARD6.into(), web6.into(), gateway6.into()),
            resolver: other.run(asks_the_resolver),
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

/// Takes connections of both families.
fn accept(port: u16) {
    let tcp = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
    std::thread::spawn(move || while tcp.accept().is_ok() {});
}

fn asks_the_resolver() -> bool {
    let resolver = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let wait = Some(Duration::from_millis(500));
    resolver.set_read_timeout(wait).unwrap();
    resolver.send_to(b"?", (GATEWAY, 53)).unwrap();
    resolver.recv(&mut [0; 64]).is_ok()
}

fn reaches(to: IpAddr, port: u16) -> bool {
    let at = SocketAddr::from((to, port));
    TcpStream::connect_timeout(&at, Duration::from_millis(500)).is_ok()
}

/// A firewall that says nothing of the bridge, in both families: these are closed.
fn closed(published: bool, resolver: bool) -> Seen {
    let closed = |neighbour| Works {
        out: false,
        published,
        neighbour,
        ..ALL
    };
    Seen {
        four: closed(!asks_for_bridged_packets("iptables")),
        six: closed(!asks_for_bridged_packets("ip6tables")),
        resolver,
    }
}

/// Whether this thread's board asks its IP rules for what stays on a bridge too: with br_netfilter, which Docker loads.
fn asks_for_bridged_packets(whose: &str) -> bool {
    let switch = format!("/proc/sys/net/bridge/bridge-nf-call-{whose}");
    std::fs::read_to_string(switch).is_ok_and(|on| on.trim() == "1")
}

fn nft(text: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    output("nft", &["-f", file.path().to_str().unwrap()]);
}

/// What iptables-save said.
fn restore(program: &str, rules: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules).unwrap();
    output(
        &format!("{program}-nft-restore"),
        &[file.path().to_str().unwrap()],
    );
}

/// Everything that is not ours.
fn nft_of_others() -> String {
    let all = nft_list();
    let all = all.trim_end().trim_start_matches("table ");
    let tables = all.split("\ntable ").map(str::to_owned);
    let theirs: Vec<String> = tables.filter(|table| !table.contains("coracle-")).collect();
    theirs.join("\ntable ")
}

/// In both families.
fn legacy(arguments: &str) -> String {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    output("iptables-legacy", &arguments) + &output("ip6tables-legacy", &arguments)
}

#[test]
fn beside_docker_forwarding_has_to_be_allowed_in_its_user_chain() {
    let load = || {
        ip("link add docker0 type bridge");
        ip("addr add 172.17.0.1/16 dev docker0");
        ip("-6 addr add fd00:d0::1/64 dev docker0");
        nft(include_str!("coexistence/docker.nft"));
    };
    let open = || {
        for family in ["ip", "ip6"] {
            nft(&format!(
                "add rule {family} filter DOCKER-USER iifname \"cor0\" accept\n\
                 add rule {family} filter DOCKER-USER oifname \"cor0\" accept\n"
            ));
        }
    };
    let (first, second) = beside(load, nft_of_others, open);
    assert_eq!((first, second), (closed(false, true), OPEN));
}

#[test]
fn beside_ufw_the_bridge_has_to_be_allowed_in_and_through() {
    let load = || {
        restore("iptables", include_str!("coexistence/ufw.rules"));
        restore("ip6tables", include_str!("coexistence/ufw6.rules"));
    };
    // What `ufw route allow in on cor0`, `… out on cor0` and `ufw allow in on cor0 to any port 53` add.
    let open = || {
        for (program, ufw) in [("iptables", "ufw"), ("ip6tables", "ufw6")] {
            for rule in [
                "user-forward -i cor0",
                "user-forward -o cor0",
                "user-input -i cor0 -p tcp -m tcp --dport 53",
                "user-input -i cor0 -p udp -m udp --dport 53",
            ] {
                let rule = format!("-A {ufw}-{rule} -j ACCEPT");
                let arguments: Vec<&str> = rule.split(' ').collect();
                output(&format!("{program}-nft"), &arguments);
            }
        }
    };
    let (first, second) = beside(load, nft_of_others, open);
    assert_eq!((first, second), (closed(false, false), OPEN));
}

#[test]
fn beside_firewalld_published_ports_work_and_the_bridge_belongs_in_a_zone() {
    const OPENED: &str = include_str!("coexistence/firewalld.nft");
    let load = || {
        let lines = OPENED.lines().filter(|line| !line.contains("\"cor0\""));
        nft(&lines.collect::<Vec<_>>().join("\n"));
    };
    // Firewalld makes its table anew with each change.
    let open = || nft(&format!("delete table inet firewalld\n{OPENED}"));
    let (first, second) = beside(load, nft_of_others, open);
    assert_eq!((first, second), (closed(true, false), OPEN));
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
    assert_eq!((first, second), (closed(false, true), OPEN));
}

//! What really arrives outside and in between, packet by packet: with boards on both ends of a cable, in IPv4 and IPv6. Needs
//! root.

mod support;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use coracle_network::{
    DEFAULT_NETWORK, Endpoint, Ipv6, NetworkRequest, Networks, Protocol, Wanted, configure_inside,
};
use support::capture::{Capture, Flow};
use support::*;

const TCP: u8 = 6;
const UDP: u8 = 17;
const BOARD6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 2);

/// A board and its client that speak IPv6 too.
fn board_of_both() -> Netns {
    let client = board();
    ip("-6 addr add 2001:db8:77::1/64 dev wan0 nodad");
    client.run(|| {
        ip("-6 addr add 2001:db8:77::2/64 dev out0 nodad");
    });
    client
}

async fn networks(state: &Path) -> Networks {
    let mut networks = Networks::open(config(), state).unwrap();
    networks.reconcile(&[]).await.unwrap();
    networks
}

async fn joined(
    networks: &mut Networks,
    network: &str,
    app: &str,
    wanted: Wanted<'_>,
) -> (Netns, Endpoint) {
    let space = Netns::new();
    let place = networks.connect(network, app, space.namespace(), &wanted);
    let place = place.await.unwrap();
    let inside = place.clone();
    space.run(move || configure_inside(&inside).unwrap());
    (space, place)
}

fn request(name: &str, internal: bool) -> NetworkRequest {
    NetworkRequest {
        name: name.into(),
        internal,
        ipv6: Ipv6::Auto,
        ..NetworkRequest::default()
    }
}

/// Answers each connection and datagram with the address of who sent it, in IPv6.
fn serve6(port: u16) {
    let tcp = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = tcp.accept() {
            let _ = stream.write_all(peer.ip().to_canonical().to_string().as_bytes());
        }
    });
}

/// Who an address says that we are.
fn ask(at: SocketAddr, wait: u64) -> std::io::Result<String> {
    let wait = Duration::from_millis(wait);
    let mut stream = TcpStream::connect_timeout(&at, wait)?;
    stream.set_read_timeout(Some(wait))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Says something from an address that the container has given itself, if it can.
fn say_as(from: IpAddr, to: IpAddr, port: u16) {
    let socket = UdpSocket::bind((from, 0)).unwrap();
    let _ = socket.send_to(b"mine", (to, port));
}

fn between(flows: &BTreeSet<Flow>, protocol: u8, from: IpAddr, to: IpAddr, port: u16) -> bool {
    flows
        .iter()
        .any(|flow| (flow.protocol, flow.from, flow.to, flow.to_port) == (protocol, from, to, port))
}

#[test]
fn nothing_but_the_boards_own_addresses_is_ever_seen_outside() {
    let client = board_of_both();
    client.run(|| {
        serve(7000);
        serve6(7001);
    });
    let capture = client.run(|| Capture::start().unwrap());
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = networks(state.path()).await;
        networks.create(&request("front", false)).await.unwrap();
        networks.create(&request("inner", true)).await.unwrap();
        let ports = [
            port(None, 8080, 80, Protocol::Tcp),
            port(None, 8053, 53, Protocol::Udp),
        ];
        let doors = Wanted {
            ports: &ports,
            ..Wanted::default()
        };
        let (web, web_at) = joined(&mut networks, "front", "web", doors).await;
        let (db, _) = joined(&mut networks, "inner", "db", Wanted::default()).await;
        let six = web_at.ipv6.unwrap().ip;
        web.run(move || {
            // Out, over both.
            assert_eq!(ask_tcp(CLIENT, 7000).unwrap(), BOARD.to_string());
            assert_eq!(ask_udp(CLIENT, 7000).unwrap(), BOARD.to_string());
            assert_eq!(
                ask((CLIENT6, 7001).into(), 3000).unwrap(),
                BOARD6.to_string()
            );
            serve(80);
            serve(53);
            // As somebody else.
            ip("addr add 10.66.0.1/32 dev eth0");
            ip("-6 addr add 2001:db8:66::1/128 dev eth0 nodad");
            say_as(Ipv4Addr::new(10, 66, 0, 1).into(), CLIENT.into(), 7666);
            say_as("2001:db8:66::1".parse().unwrap(), CLIENT6.into(), 7666);
            // To somebody who is not there.
            let _ = ask((Ipv4Addr::new(198, 51, 100, 77), 7000).into(), 200);
            // By the board's own address, which leads back in.
            ask_tcp(BOARD, 8080).unwrap();
        });
        db.run(move || {
            for to in [IpAddr::from(CLIENT), CLIENT6.into(), BOARD.into()] {
                let at = SocketAddr::new(to, 7002);
                let _ = ask(at, 200);
                let any: IpAddr = match to {
                    IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                say_as(any, to, 7002);
            }
        });
        // In, by published ports of both; and straight to a container's address.
        client.run(move || {
            assert_eq!(ask_tcp(BOARD, 8080).unwrap(), CLIENT.to_string());
            assert_eq!(ask_udp(BOARD, 8053).unwrap(), CLIENT.to_string());
            ip("route add 10.89.0.0/24 via 198.51.100.1");
            ip(&format!("-6 route add {six} via 2001:db8:77::1"));
            assert!(ask((web_at.ip, 80).into(), 300).is_err());
            assert!(ask((six, 80).into(), 300).is_err());
        });
        std::thread::sleep(Duration::from_millis(200));
        let flows = client.run(move || capture.flows());
        let (board, client4) = (IpAddr::from(BOARD), IpAddr::from(CLIENT));
        for (protocol, from, to, port) in [
            (TCP, board, client4, 7000),
            (UDP, board, client4, 7000),
            (TCP, BOARD6.into(), CLIENT6.into(), 7001),
            (TCP, client4, board, 8080),
            (UDP, client4, board, 8053),
        ] {
            assert!(
                between(&flows, protocol, from, to, port),
                "{from} → {to}:{port}: {flows:#?}"
            );
        }
        // Everything that the client did not send itself came from the board, as the board.
        let own: [IpAddr; 2] = [CLIENT.into(), CLIENT6.into()];
        let boards: [IpAddr; 2] = [BOARD.into(), BOARD6.into()];
        let others: Vec<&Flow> = flows
            .iter()
            .filter(|flow| !own.contains(&flow.from) && !boards.contains(&flow.from))
            .collect();
        assert!(others.is_empty(), "{others:#?}");
        // And only where somebody asked for it: the internal network's questions, which nobody else has on their port, are not
        // among it, not even as the board's.
        let of_db = flows.iter().any(|flow| flow.to_port == 7002);
        assert!(!of_db, "{flows:#?}");
        let asked = [7000, 7001];
        let begun = |flow: &&Flow| boards.contains(&flow.from) && asked.contains(&flow.to_port);
        let of_web = flows.iter().filter(begun).count();
        assert_eq!(of_web, 3, "{flows:#?}");
    });
}

#[test]
fn two_boards_with_the_same_subnets_reach_each_others_published_ports() {
    // The client is a board too, at the other end of the cable.
    let other = board();
    let capture = Capture::start().unwrap();
    let state = tempfile::tempdir().unwrap();
    let state_of_other = tempfile::tempdir().unwrap();
    let path = state_of_other.path().to_owned();
    let (their_web, their_place) = other.run(move || {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        block_on(async {
            let mut networks = networks(&path).await;
            let ports = [port(None, 8080, 80, Protocol::Tcp)];
            let doors = Wanted {
                ports: &ports,
                ..Wanted::default()
            };
            let (web, place) = joined(&mut networks, DEFAULT_NETWORK, "web", doors).await;
            web.run(|| serve(80));
            (web, place)
        })
    });
    block_on(async {
        let mut networks = networks(state.path()).await;
        let ports = [port(None, 8080, 80, Protocol::Tcp)];
        let doors = Wanted {
            ports: &ports,
            ..Wanted::default()
        };
        let (web, place) = joined(&mut networks, DEFAULT_NETWORK, "web", doors).await;
        web.run(|| serve(80));
        assert_eq!(place.ip, their_place.ip, "each knows nothing of the other");
        // Each sees the other's board, and its own container by its own port.
        assert_eq!(
            web.run(|| ask_tcp(CLIENT, 8080).unwrap()),
            BOARD.to_string()
        );
        assert_eq!(
            their_web.run(|| ask_tcp(BOARD, 8080).unwrap()),
            CLIENT.to_string()
        );
        web.run(|| ask_tcp(BOARD, 8080).unwrap());
        // Not by what lies behind.
        their_web.run(|| assert!(ask((BOARD, 80).into(), 300).is_err()));
    });
    let subnet = config().subnet;
    let inside = |ip: &IpAddr| matches!(ip, IpAddr::V4(ip) if subnet.contains(ip));
    let on_cable: Vec<Flow> = capture
        .flows_of("wan0")
        .into_iter()
        .filter(|flow| inside(&flow.from) || inside(&flow.to))
        .collect();
    assert!(on_cable.is_empty(), "{on_cable:#?}");
    assert!(!capture_is_blind(&other));
    drop((state, state_of_other));
}

/// That a capture sees what passes, or an empty one would say nothing.
fn capture_is_blind(other: &Netns) -> bool {
    let capture = Capture::start().unwrap();
    other.run(|| say_as(Ipv4Addr::UNSPECIFIED.into(), BOARD.into(), 7999));
    std::thread::sleep(Duration::from_millis(100));
    let flows = capture.flows_of("wan0");
    !between(&flows, UDP, CLIENT.into(), BOARD.into(), 7999)
}

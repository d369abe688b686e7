//! Published SCTP ports, packet by packet: the kernel's NAT knows SCTP where its sockets are left out (CONFIG_NF_CT_PROTO_SCTP
//! without CONFIG_IP_SCTP), so that these tests speak it themselves, as far as the beginning of an association. A whole one is
//! in `wire.rs`, in a virtual board. Needs root.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use coracle_network::{NetworkConfig, Networks, Protocol, Wanted, configure_inside};
use rustix::net::{AddressFamily, RawProtocol, SocketType, socket};
use support::capture::Capture;
use support::*;

const SCTP: u8 = 132;
const BOARD6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 2);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
/// Of the client, of the board and of the container.
const OURS: u16 = 40_000;
const PUBLISHED: u16 = 3868;
const INSIDE: u16 = 2905;
/// Chunks of RFC 9260 3.2.
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const TAG: [u8; 4] = [0, 0, 0, 77];

/// All SCTP that comes to this namespace, and what is sent as it. To std a raw socket is one for datagrams.
fn raw(six: bool) -> UdpSocket {
    let family = match six {
        false => AddressFamily::INET,
        true => AddressFamily::INET6,
    };
    let protocol = RawProtocol::new(SCTP.into());
    let socket = socket(
        family,
        SocketType::RAW,
        protocol.map(rustix::net::Protocol::from_raw),
    );
    let socket = UdpSocket::from(socket.unwrap());
    let patience = Some(Duration::from_millis(200));
    socket.set_read_timeout(patience).unwrap();
    socket
}

/// The Castagnoli polynomial, as RFC 9260 A has it.
fn crc32c(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), bit);
    !bytes.iter().fold(!0, byte)
}

/// One chunk that begins an association, with the verification tag and some words behind it.
fn packet(ports: (u16, u16), tag: [u8; 4], chunk: u8, words: &[u8]) -> Vec<u8> {
    let mut packet = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    packet.extend(tag);
    packet.extend([0; 4]);
    let length = 20 + words.len() as u16;
    packet.extend([chunk, 0]);
    packet.extend(length.to_be_bytes());
    packet.extend(TAG);
    // Window, streams out and in, first number.
    packet.extend([0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
    packet.extend(words);
    packet.resize(packet.len().next_multiple_of(4), 0);
    let sum = crc32c(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    packet
}

/// The chunk's kind, whence and whither, and the words behind it. Raw IPv4 sockets give the IP header too.
fn read(packet: &[u8], six: bool) -> Option<(u8, (u16, u16), Vec<u8>)> {
    let packet = match six {
        true => packet,
        false => packet.get(usize::from(packet.first()? & 15) * 4..)?,
    };
    let number = |at: usize| Some(u16::from_be_bytes([*packet.get(at)?, *packet.get(at + 1)?]));
    let end = 12 + usize::from(number(14)?);
    let words = packet.get(32..end)?.to_vec();
    Some((*packet.get(12)?, (number(0)?, number(2)?), words))
}

/// Answers who begins an association with this port with the address that it is seen by.
fn answer(port: u16) {
    for six in [false, true] {
        let socket = raw(six);
        socket.set_read_timeout(None).unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let Some((INIT, (theirs, to), _)) = read(&buffer[..length], six) else {
                    continue;
                };
                if to == port {
                    let seen = from.ip().to_string();
                    let back = packet((port, theirs), TAG, INIT_ACK, seen.as_bytes());
                    let _ = socket.send_to(&back, SocketAddr::new(from.ip(), 0));
                }
            }
        });
    }
}

/// Who we are to whom is asked at this place; none when nobody answers, or somebody else does.
fn asks(to: IpAddr, port: u16) -> Option<IpAddr> {
    let six = to.is_ipv6();
    let socket = raw(six);
    let begun = Instant::now();
    let mut buffer = [0; 512];
    // What is sent before a link is up is lost.
    while begun.elapsed() < Duration::from_millis(1500) {
        let question = packet((OURS, port), [0; 4], INIT, &[]);
        let _ = socket.send_to(&question, SocketAddr::new(to, 0));
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let heard = read(&buffer[..length], six);
            let Some((INIT_ACK, ports, words)) = heard else {
                continue;
            };
            assert_eq!((from.ip(), ports), (to, (port, OURS)), "as it was asked");
            return String::from_utf8(words).unwrap().parse().ok();
        }
    }
    None
}

#[test]
fn a_published_port_of_sctp_leads_in_and_back_over_ipv4_and_ipv6() {
    let client = board();
    ip("-6 addr add 2001:db8:77::1/64 dev wan0 nodad");
    client.run(|| {
        ip("-6 addr add 2001:db8:77::2/64 dev out0 nodad");
        answer(PUBLISHED);
    });
    let state = tempfile::tempdir().unwrap();
    let config = NetworkConfig {
        subnet6: Some("fd12:3456:789a:1::/64".parse().unwrap()),
        ..config()
    };
    block_on(async {
        let mut networks = Networks::open(config, state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        let (server, other) = (Netns::new(), Netns::new());
        let ports = [
            port(None, PUBLISHED, INSIDE, Protocol::Sctp),
            // Taken apart from TCP's.
            port(None, PUBLISHED, 80, Protocol::Tcp),
        ];
        for (app, space, ports) in [("server", &server, &ports[..]), ("other", &other, &[])] {
            let wanted = Wanted {
                ports,
                ..Wanted::default()
            };
            let place = networks.connect("bridge", app, space.namespace(), &wanted);
            let place = place.await.unwrap();
            space.run(move || configure_inside(&place).unwrap());
        }
        server.run(|| {
            answer(INSIDE);
            serve(80);
        });
        let capture = client.run(|| Capture::start().unwrap());
        // From outside: the client's address is kept.
        client.run(|| {
            for (to, own) in [
                (IpAddr::from(BOARD), IpAddr::from(CLIENT)),
                (BOARD6.into(), CLIENT6.into()),
            ] {
                assert_eq!(asks(to, PUBLISHED), Some(own), "{to}");
                assert_eq!(asks(to, INSIDE), None, "not published");
            }
            assert_eq!(ask_tcp(BOARD, PUBLISHED).unwrap(), CLIENT.to_string());
        });
        // The board itself, a neighbour by the board's address, and the container that publishes it.
        for to in [Ipv4Addr::LOCALHOST, BOARD, GATEWAY] {
            assert!(asks(to.into(), PUBLISHED).is_some(), "{to}");
        }
        assert!(asks(BOARD6.into(), PUBLISHED).is_some());
        for space in [&other, &server] {
            let seen = space.run(|| asks(BOARD.into(), PUBLISHED));
            assert!(seen.is_some());
        }
        // And out, as the board.
        other.run(|| {
            assert_eq!(asks(CLIENT.into(), PUBLISHED), Some(BOARD.into()));
            assert_eq!(asks(CLIENT6.into(), PUBLISHED), Some(BOARD6.into()));
        });
        let flows = client.run(move || capture.flows());
        let outside: [IpAddr; 4] = [BOARD.into(), CLIENT.into(), BOARD6.into(), CLIENT6.into()];
        let mut sctp = flows.iter().filter(|flow| flow.protocol == SCTP);
        assert!(sctp.clone().count() > 4, "{flows:#?}");
        assert!(sctp.all(|flow| outside.contains(&flow.from)), "{flows:#?}");

        networks.detach("server").await.unwrap();
        client.run(|| assert_eq!(asks(BOARD.into(), PUBLISHED), None));
        networks.destroy().await.unwrap();
    });
}

//! The kernel forgets a connection that was silent for too long, and goes on with it when it speaks again; a port that another
//! container gets meanwhile does not change who speaks with whom. In IPv4 and IPv6. Needs root.

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use coracle_network::{
    Endpoint, NetworkRequest, Networks, Protocol, PublishedPort, Wanted, configure_inside,
};
use support::*;

const BOARD6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 1);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x77, 0, 0, 0, 0, 2);
/// So many seconds a connection is remembered; the kernel looks at its end when it looks for the connection.
const REMEMBERED: &str = "2";
const LONGER: Duration = Duration::from_millis(3300);
const PATIENCE: Duration = Duration::from_secs(3);

/// A board with a client that speaks IPv6 too.
fn board_of_both() -> Netns {
    let client = board();
    ip("-6 addr add 2001:db8:77::1/64 dev wan0 nodad");
    client.run(|| {
        ip("-6 addr add 2001:db8:77::2/64 dev out0 nodad");
    });
    client
}

fn forget_soon() {
    for kind in [
        "udp_timeout",
        "udp_timeout_stream",
        "tcp_timeout_established",
    ] {
        let switch = format!("/proc/sys/net/netfilter/nf_conntrack_{kind}");
        std::fs::write(switch, REMEMBERED).unwrap();
    }
}

async fn on_front(state: &Path) -> Networks {
    let mut networks = Networks::open(config(), state).unwrap();
    networks.reconcile(&[]).await.unwrap();
    let front = NetworkRequest {
        name: "front".into(),
        ..NetworkRequest::default()
    };
    networks.create(&front).await.unwrap();
    networks
}

async fn joined(networks: &mut Networks, app: &str, ports: &[PublishedPort]) -> (Netns, Endpoint) {
    let space = Netns::new();
    let wanted = Wanted {
        ports,
        ..Wanted::default()
    };
    let place = networks.connect("front", app, space.namespace(), &wanted);
    let place = place.await.unwrap();
    let inside = place.clone();
    space.run(move || configure_inside(&inside).unwrap());
    (space, place)
}

/// Says its name to each byte and each datagram that comes, over both families.
fn answer_as(name: &'static str, port: u16) {
    let any = |six| match six {
        false => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        true => Ipv6Addr::UNSPECIFIED.into(),
    };
    // The one of IPv6 takes IPv4 too.
    let tcp = TcpListener::bind((any(true), port)).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = tcp.accept() {
            std::thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() {
                    let _ = stream.write_all(name.as_bytes());
                }
            });
        }
    });
    let udp = UdpSocket::bind((any(true), port)).unwrap();
    std::thread::spawn(move || {
        while let Ok((_, from)) = udp.recv_from(&mut [0; 64]) {
            let _ = udp.send_to(name.as_bytes(), from);
        }
    });
}

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&at, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn say(stream: &mut TcpStream) -> String {
    let mut name = [0; 3];
    stream.write_all(b"?").unwrap();
    stream.read_exact(&mut name).unwrap();
    String::from_utf8(name.to_vec()).unwrap()
}

fn datagrams_to(at: SocketAddr) -> UdpSocket {
    let any: IpAddr = match at {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(at).unwrap();
    socket
}

fn say_by(socket: &UdpSocket) -> String {
    socket.send(b"?").unwrap();
    let mut name = [0; 64];
    let length = socket.recv(&mut name).unwrap();
    String::from_utf8_lossy(&name[..length]).into_owned()
}

/// How many connections the kernel remembers.
fn remembered() -> usize {
    let count = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap();
    count.trim().parse().unwrap()
}

#[test]
fn what_the_kernel_has_forgotten_goes_on_when_it_speaks_again() {
    let client = board_of_both();
    client.run(|| answer_as("out", 7000));
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = on_front(state.path()).await;
        let ports = [
            port(None, 8080, 80, Protocol::Tcp),
            port(None, 8080, 80, Protocol::Udp),
        ];
        let (web, _) = joined(&mut networks, "web", &ports).await;
        web.run(|| answer_as("web", 80));
        forget_soon();
        let open = |at: [IpAddr; 2], port: u16| {
            at.map(|ip| {
                let at = SocketAddr::new(ip, port);
                (connect(at), datagrams_to(at))
            })
        };
        // In by a published port, and out through the masquerade.
        let mut came_in = client.run(move || open([BOARD.into(), BOARD6.into()], 8080));
        let mut went_out = web.run(move || open([CLIENT.into(), CLIENT6.into()], 7000));
        let mut all_speak = || {
            for (stream, datagrams) in &mut came_in {
                assert_eq!(
                    (say(stream).as_str(), say_by(datagrams).as_str()),
                    ("web", "web")
                );
            }
            for (stream, datagrams) in &mut went_out {
                assert_eq!(
                    (say(stream).as_str(), say_by(datagrams).as_str()),
                    ("out", "out")
                );
            }
        };
        all_speak();
        assert!(remembered() >= 8);
        for _ in 0..2 {
            std::thread::sleep(LONGER);
            all_speak();
        }
        networks.detach("web").await.unwrap();
        networks.destroy().await.unwrap();
    });
}

/// The kernel takes what it has forgotten for a connection that begins, and its packets for the board's own: there is no way to
/// know by which port it came in. It ends at once, and does not hang.
#[test]
fn a_forgotten_connection_by_a_published_port_ends_when_the_container_speaks_first() {
    let client = board_of_both();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = on_front(state.path()).await;
        let ports = [port(None, 8080, 80, Protocol::Tcp)];
        let (web, _) = joined(&mut networks, "web", &ports).await;
        let server = web.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap());
        forget_soon();
        let _stream = client.run(|| connect(SocketAddr::new(BOARD.into(), 8080)));
        let (mut inside, _) = server.accept().unwrap();
        std::thread::sleep(LONGER);
        inside.set_read_timeout(Some(PATIENCE)).unwrap();
        inside.write_all(b"late").unwrap();
        let ended = inside.read(&mut [0]).unwrap_err();
        assert_eq!(ended.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn over_ipv6_too_an_open_connection_outlives_its_door_and_datagrams_find_the_new_owner() {
    let client = board_of_both();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = on_front(state.path()).await;
        let ports = [
            port(None, 8080, 80, Protocol::Tcp),
            port(None, 8080, 80, Protocol::Udp),
        ];
        let (old, old_at) = joined(&mut networks, "old", &ports).await;
        old.run(|| answer_as("old", 80));
        let at = SocketAddr::new(BOARD6.into(), 8080);
        let (mut stream, datagrams) = client.run(move || {
            let (mut stream, datagrams) = (connect(at), datagrams_to(at));
            assert_eq!(
                (say(&mut stream).as_str(), say_by(&datagrams).as_str()),
                ("old", "old")
            );
            (stream, datagrams)
        });
        // Its ports go to another app, while it keeps its place.
        let kept = coracle_network::Attachment {
            network: "front".to_owned(),
            endpoint: Endpoint {
                ports: Vec::new(),
                ..old_at
            },
        };
        networks
            .reconcile(&[("old".to_owned(), vec![kept])])
            .await
            .unwrap();
        let (new, _) = joined(&mut networks, "new", &ports).await;
        new.run(|| answer_as("new", 80));
        let datagrams = client.run(move || {
            assert_eq!(say(&mut connect(at)), "new");
            assert_eq!(say(&mut stream), "old");
            // Whoever goes on from the same place is led on for as long as the old one lives; who begins is the new one's.
            assert_eq!(say_by(&datagrams), "old");
            let datagrams = datagrams_to(at);
            assert_eq!(say_by(&datagrams), "new");
            datagrams
        });
        // That one ends: who never stops sending finds the next one.
        networks.detach("new").await.unwrap();
        drop(new);
        let (third, _) = joined(&mut networks, "third", &ports).await;
        third.run(|| answer_as("3rd", 80));
        client.run(move || assert_eq!(say_by(&datagrams), "3rd"));
    });
}

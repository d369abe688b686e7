//! Published ports that go from one app to another while both run. Needs root.

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use coracle_network::{
    DEFAULT_NETWORK, NetworkRequest, Networks, Protocol, PublishedPort, Wanted, configure_inside,
};
use support::*;

/// On `network`, a server at port 80 that says its name on every byte that it is sent.
async fn named(
    networks: &mut Networks,
    network: &str,
    name: &'static str,
    ports: &[PublishedPort],
) -> Netns {
    let space = Netns::new();
    let wanted = Wanted {
        ports,
        ..Wanted::default()
    };
    let place = networks.connect(network, name, space.namespace(), &wanted);
    let place = place.await.unwrap();
    space.run(move || {
        configure_inside(&place).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                std::thread::spawn(move || {
                    while stream.read_exact(&mut [0]).is_ok() {
                        let _ = stream.write_all(name.as_bytes());
                    }
                });
            }
        });
    });
    space
}

fn connect() -> TcpStream {
    let stream = TcpStream::connect((BOARD, 8080)).unwrap();
    let wait = Some(Duration::from_secs(3));
    stream.set_read_timeout(wait).unwrap();
    stream
}

fn say(stream: &mut TcpStream) -> String {
    let mut name = [0; 3];
    stream.write_all(b"?").unwrap();
    stream.read_exact(&mut name).unwrap();
    String::from_utf8(name.to_vec()).unwrap()
}

/// From the default network to itself, and to another.
#[test]
fn nobody_who_asks_meanwhile_is_refused_and_open_connections_stay() {
    for to_network in [DEFAULT_NETWORK, "shop"] {
        let client = board();
        let state = tempfile::tempdir().unwrap();
        block_on(async {
            let mut networks = Networks::open(config(), state.path()).unwrap();
            networks.reconcile(&[]).await.unwrap();
            let request = NetworkRequest {
                name: "shop".into(),
                ..NetworkRequest::default()
            };
            networks.create(&request).await.unwrap();
            let ports = [port(None, 8080, 80, Protocol::Tcp)];
            let _old = named(&mut networks, DEFAULT_NETWORK, "old", &ports).await;
            let _new = named(&mut networks, to_network, "new", &[]).await;
            let over = Arc::new(AtomicBool::new(false));
            let told = over.clone();
            let asking = std::thread::spawn(move || {
                client.run(move || {
                    let mut open = connect();
                    assert_eq!(say(&mut open), "old");
                    let mut names = Vec::new();
                    while !told.load(Ordering::Relaxed) {
                        names.push(say(&mut connect()));
                    }
                    (names, say(&mut open), say(&mut connect()))
                })
            });
            std::thread::sleep(Duration::from_millis(300));
            let to = BTreeMap::from([("new", &ports[..])]);
            networks.hand_over(&["old"], &to).await.unwrap();
            std::thread::sleep(Duration::from_millis(300));
            over.store(true, Ordering::Relaxed);
            let (names, open, last) = asking.join().unwrap();
            assert_eq!((open.as_str(), last.as_str()), ("old", "new"));
            let first_new = names.iter().position(|name| name == "new");
            let (before, after) = names.split_at(first_new.expect("it was asked meanwhile"));
            assert!(!before.is_empty() && after.iter().all(|name| name == "new"));

            let old = networks.attachments("old").remove(0).endpoint;
            assert!(old.ports.is_empty() && old.relieved);
            let new = networks.attachments("new").remove(0).endpoint;
            assert_eq!(new.ports, ports);
            networks.detach("old").await.unwrap();
            networks.detach("new").await.unwrap();
        });
    }
}

#[test]
fn who_would_take_a_third_ones_port_gets_none() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = Networks::open(config(), state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        let (door, other) = (
            [port(None, 8080, 80, Protocol::Tcp)],
            [port(None, 8081, 80, Protocol::Tcp)],
        );
        let _old = named(&mut networks, DEFAULT_NETWORK, "old", &door).await;
        let _third = named(&mut networks, DEFAULT_NETWORK, "third", &other).await;
        let _new = named(&mut networks, DEFAULT_NETWORK, "new", &[]).await;
        let before = nft_list();
        let to = BTreeMap::from([("new", &other[..])]);
        let refused = networks.hand_over(&["old"], &to).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "port 8081/tcp is published by third already; new cannot have it"
        );
        assert_eq!(nft_list(), before);
        assert_eq!(networks.attachments("old").remove(0).endpoint.ports, door);
    });
}

/// Whoever has spoken to the old one is the new one's once the old one has ended, and never whoever gets its address.
#[test]
fn what_is_open_is_forgotten_with_the_one_who_was_relieved() {
    let client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = Networks::open(config(), state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        let ports = [port(None, 8053, 53, Protocol::Udp)];
        let _old = named_by_datagram(&mut networks, "old", &ports).await;
        let _new = named_by_datagram(&mut networks, "new", &[]).await;
        let socket = client.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7999)).unwrap();
            socket.connect((BOARD, 8053)).unwrap();
            let wait = Some(Duration::from_secs(2));
            socket.set_read_timeout(wait).unwrap();
            socket
        });
        let ask = || {
            let mut name = [0; 3];
            socket.send(b"?").unwrap();
            socket.recv(&mut name).map(|_| name)
        };
        assert_eq!(&ask().unwrap(), b"old");
        let to = BTreeMap::from([("new", &ports[..])]);
        networks.hand_over(&["old"], &to).await.unwrap();
        assert_eq!(&ask().unwrap(), b"old");
        networks.ended("old").await.unwrap();
        assert_eq!(&ask().unwrap(), b"new");
    });
}

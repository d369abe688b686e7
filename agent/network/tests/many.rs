//! As many containers on one bridge as no board has: they start, find each other by name, and are gone again. Needs root.

mod support;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use coracle_network::resolver::{Told, Zone, serve};
use coracle_network::{NetworkRequest, Networks, Wanted, configure_inside};
use support::*;

const CONTAINERS: usize = 200;
/// For all of it on a busy machine; a quiet one takes a twentieth.
const BOUND: Duration = Duration::from_secs(60);

/// The IPv4 address that the resolver says for a name of one label.
fn address_of(gateway: Ipv4Addr, name: &str) -> Ipv4Addr {
    let mut query = b"\xab\xcd\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    query.push(name.len() as u8);
    query.extend(name.as_bytes());
    query.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket.send_to(&query, (gateway, 53)).unwrap();
    let mut answer = [0; 512];
    let (length, _) = socket.recv_from(&mut answer).unwrap();
    let last: [u8; 4] = answer[length - 4..length].try_into().unwrap();
    last.into()
}

#[test]
fn two_hundred_containers_of_one_bridge_start_and_find_each_other() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    block_on(async {
        let mut networks = Networks::open(config(), state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        let request = NetworkRequest {
            name: "crowd".into(),
            resolver: true,
            ..Default::default()
        };
        networks.create(&request).await.unwrap();
        let spaces: Vec<Netns> = (0..CONTAINERS).map(|_| Netns::new()).collect();
        let mut slowest = Duration::ZERO;
        for (number, space) in spaces.iter().enumerate() {
            let app = format!("app{number}");
            let attaching = Instant::now();
            let place = networks
                .connect("crowd", &app, space.namespace(), &Wanted::default())
                .await
                .unwrap();
            slowest = slowest.max(attaching.elapsed());
            space.run(move || configure_inside(&place).unwrap());
        }
        let crowd = networks.inspect("crowd").unwrap();
        let gateway = crowd.config().gateway();
        let zone = Zone::new(crowd.endpoints(), &[] as &[IpAddr]);
        let zone = serde_json::to_string(&Told::Zone(zone)).unwrap();
        let (udp, tcp) = (
            UdpSocket::bind((gateway, 53)).unwrap(),
            TcpListener::bind((gateway, 53)).unwrap(),
        );
        let (mut control, its_end) = UnixStream::pair().unwrap();
        let clients = crowd.config().subnet;
        let resolver = std::thread::spawn(move || serve(clients, udp, tcp, its_end));
        control.write_all(format!("{zone}\n").as_bytes()).unwrap();

        let places: Vec<Ipv4Addr> = (0..CONTAINERS)
            .map(|number| crowd.endpoint(&format!("app{number}")).unwrap().ip)
            .collect();
        for space in &spaces {
            space.run(serve_one);
        }
        // Each asks for the next one by its name and gets its answer.
        for (number, space) in spaces.iter().enumerate() {
            let next = (number + 1) % CONTAINERS;
            let (own, expected) = (places[number], places[next]);
            let heard = space.run(move || {
                let found = address_of(gateway, &format!("app{next}"));
                assert_eq!(found, expected);
                ask_udp(found, 9).unwrap()
            });
            assert_eq!(heard, own.to_string());
        }
        drop(control);
        resolver.join().unwrap().unwrap();
        let began_to_end = Instant::now();
        for number in 0..CONTAINERS {
            networks.ended(&format!("app{number}")).await.unwrap();
        }
        let ends = began_to_end.elapsed();
        assert!(
            ends < Duration::from_secs(5),
            "{ends:?} for {CONTAINERS} ends"
        );
        println!("the slowest attachment took {slowest:?}, all ends {ends:?}");
        drop(spaces);
        networks.destroy().await.unwrap();
    });
    assert!(!ip("-br link").contains("vn01-"), "{}", ip("-br link"));
    let took = begun.elapsed();
    println!("{took:?} for {CONTAINERS} containers");
    assert!(took < BOUND, "{took:?}");
}

/// Answers one datagram with the sender's address, and ends, so that the namespace can.
fn serve_one() {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 9)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        if let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(from.ip().to_string().as_bytes(), from);
        }
    });
}

//! Published ports: ranges, other transports, other owners, and ports that move while connections are open. Needs root.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use coracle_network::{
    DEFAULT_NETWORK, NetworkRequest, Networks, Protocol, PublishedPort, Wanted, configure_inside,
};
use support::*;

#[test]
fn a_range_is_reached_port_by_port_over_tcp_and_udp() {
    let client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = Networks::open(config(), state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        let web = Netns::new();
        let ports: Vec<_> = ["8000-8002:80-82", "198.51.100.1:8000-8002:80-82/udp"]
            .iter()
            .flat_map(|p| PublishedPort::parse(p).unwrap())
            .collect();
        let wanted = Wanted {
            ports: &ports,
            ..Wanted::default()
        };
        let place = networks
            .connect(DEFAULT_NETWORK, "web", web.namespace(), &wanted)
            .await
            .unwrap();
        web.run(move || {
            configure_inside(&place).unwrap();
            (80..=82).for_each(serve);
        });
        client.run(|| {
            for port in 8000..=8002 {
                assert_eq!(ask_tcp(BOARD, port).unwrap(), CLIENT.to_string());
                assert_eq!(ask_udp(BOARD, port).unwrap(), CLIENT.to_string());
            }
            assert_silent(BOARD, 8003);
        });
        ask_tcp(Ipv4Addr::LOCALHOST, 8001).unwrap();
        // One rule serves them all: ports are elements of a map.
        assert_eq!(nft_list().matches("map @ports\n").count(), 2);
    });
}

#[test]
fn a_port_of_another_network_is_refused_with_its_owner_before_anything_changes() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = Networks::open(config(), state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        let request = NetworkRequest {
            name: "shop".into(),
            ..NetworkRequest::default()
        };
        networks.create(&request).await.unwrap();
        let (a, b) = (Netns::new(), Netns::new());
        let first = PublishedPort::parse("8000-8010:80-90").unwrap();
        let wanted = Wanted {
            ports: &first,
            ..Wanted::default()
        };
        networks
            .connect(DEFAULT_NETWORK, "web", a.namespace(), &wanted)
            .await
            .unwrap();
        let before = (ip("-br link"), nft_list());
        let second = PublishedPort::parse("127.0.0.1:8005:80").unwrap();
        let wanted = Wanted {
            ports: &second,
            ..Wanted::default()
        };
        let refused = networks
            .connect("shop", "cart", b.namespace(), &wanted)
            .await;
        assert_eq!(
            refused.unwrap_err().to_string(),
            "port 127.0.0.1:8005/tcp is published by web already; cart cannot have it"
        );
        assert_eq!((ip("-br link"), nft_list()), before);
    });
}

#[test]
fn an_open_connection_outlives_its_door_and_the_door_can_lead_elsewhere() {
    let client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = Networks::open(config(), state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        let (old, new) = (Netns::new(), Netns::new());
        let ports = [port(None, 8080, 80, Protocol::Tcp)];
        let door = Wanted {
            ports: &ports,
            ..Wanted::default()
        };
        let place = networks
            .connect(DEFAULT_NETWORK, "old", old.namespace(), &door)
            .await
            .unwrap();
        // Says its name on every line that it is sent.
        let answer = |space: &Netns, place, name: &'static str| {
            space.run(move || {
                configure_inside(&place).unwrap();
                let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap();
                std::thread::spawn(move || {
                    while let Ok((mut stream, _)) = listener.accept() {
                        std::thread::spawn(move || {
                            let mut byte = [0];
                            while stream.read_exact(&mut byte).is_ok() {
                                let _ = stream.write_all(name.as_bytes());
                            }
                        });
                    }
                });
            });
        };
        answer(&old, place, "old");
        let say = |stream: &mut TcpStream| {
            let mut name = [0; 3];
            stream.write_all(b"?").unwrap();
            stream.read_exact(&mut name).unwrap();
            String::from_utf8(name.to_vec()).unwrap()
        };
        let connect = || {
            let stream = TcpStream::connect((BOARD, 8080)).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(3)))
                .unwrap();
            stream
        };
        let mut open = client.run(move || {
            let mut open = connect();
            assert_eq!(say(&mut open), "old");
            open
        });
        // Its ports go to another app, while it keeps its place.
        let (network, app) = (DEFAULT_NETWORK, "old");
        let kept = networks.attachments(app).remove(0);
        networks
            .reconcile(&[(
                app.to_owned(),
                vec![coracle_network::Attachment {
                    network: network.to_owned(),
                    endpoint: coracle_network::Endpoint {
                        ports: Vec::new(),
                        ..kept.endpoint
                    },
                }],
            )])
            .await
            .unwrap();
        let place = networks
            .connect(network, "new", new.namespace(), &door)
            .await
            .unwrap();
        answer(&new, place, "new");
        client.run(move || {
            assert_eq!(say(&mut connect()), "new");
            assert_eq!(say(&mut open), "old");
        });
    });
}

/// Says who answered each of its datagrams, sent from one socket every 50 ms for so long.
fn keeps_sending(seconds: u64) -> Vec<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7999)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut answers = Vec::new();
    while Instant::now() < end {
        let _ = socket.send_to(b"?", (BOARD, 8053));
        std::thread::sleep(Duration::from_millis(50));
        let mut buffer = [0; 64];
        while let Ok(length) = socket.recv(&mut buffer) {
            answers.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    }
    answers
}

#[test]
fn datagrams_that_keep_coming_find_the_app_that_has_the_port_now() {
    let client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = Networks::open(config(), state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        // One that never stops: before the port is published, while another has it, while nobody has it.
        let sending = std::thread::spawn(move || client.run(|| keeps_sending(4)));
        std::thread::sleep(Duration::from_millis(500));
        let ports = [port(None, 8053, 53, Protocol::Udp)];
        let old = named_by_datagram(&mut networks, "old", &ports).await;
        std::thread::sleep(Duration::from_millis(1000));
        networks.detach("old").await.unwrap();
        drop(old);
        std::thread::sleep(Duration::from_millis(500));
        let _new = named_by_datagram(&mut networks, "new", &ports).await;
        let answers = sending.join().unwrap();
        let of = |name: &str| answers.iter().filter(|answer| *answer == name).count();
        assert!(of("old") > 5 && of("new") > 5, "{answers:?}");
    });
}

/// Somebody sends all the time, also in the moment between the port and the container's own side: its question for the hardware
/// address is lost there, and the kernel puts it again a second later.
#[test]
fn who_sends_before_the_container_is_up_does_not_wait_for_a_second() {
    let client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = Networks::open(config(), state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        let space = Netns::new();
        let ports = [port(None, 8053, 53, Protocol::Udp)];
        let wanted = Wanted {
            ports: &ports,
            ..Wanted::default()
        };
        let place = networks.connect(DEFAULT_NETWORK, "web", space.namespace(), &wanted);
        let place = place.await.unwrap();
        let socket = client.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7999)).unwrap();
            socket.connect((BOARD, 8053)).unwrap();
            socket.send(b"?").unwrap();
            socket
        });
        // The question would have been put by now.
        std::thread::sleep(Duration::from_millis(100));
        space.run(move || {
            configure_inside(&place).unwrap();
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
            std::thread::spawn(move || {
                while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
                    let _ = socket.send_to(b"here", from);
                }
            });
        });
        let took = client.run(move || {
            let start = Instant::now();
            let wait = Some(Duration::from_millis(20));
            socket.set_read_timeout(wait).unwrap();
            while start.elapsed() < Duration::from_secs(3) {
                // Refused while nobody is there.
                let _ = socket.send(b"?");
                if socket.recv(&mut [0; 64]).is_ok() {
                    break;
                }
            }
            start.elapsed()
        });
        assert!(took < Duration::from_millis(600), "{took:?}");
    });
}

/// As ever: who connects to a neighbour that is about to come counts on it.
#[test]
fn a_neighbour_that_comes_two_seconds_later_is_waited_for() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = Networks::open(config(), state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        let any = Wanted::default();
        let (web, db) = (Netns::new(), Netns::new());
        let place = networks.connect(DEFAULT_NETWORK, "web", web.namespace(), &any);
        let place = place.await.unwrap();
        web.run(move || configure_inside(&place).unwrap());
        let place = networks.connect(DEFAULT_NETWORK, "db", db.namespace(), &any);
        let place = place.await.unwrap();
        let at = place.ip;
        let asking =
            std::thread::spawn(move || web.run(move || TcpStream::connect((at, 80)).map(|_| ())));
        std::thread::sleep(Duration::from_secs(2));
        db.run(move || {
            configure_inside(&place).unwrap();
            serve(80);
        });
        asking.join().unwrap().unwrap();
    });
}

//! Where a container may go, with real packets in throw-away namespaces. Needs root.

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use coracle_network::{
    Admission, DEFAULT_NETWORK, EgressRule, Endpoint, NetworkConfig, NetworkRequest, Networks,
    Protocol, Rates, Wanted, configure_inside,
};
use support::capture::{Capture, Packet};
use support::lists::rule;
use support::*;

/// Further servers outside, and one with IPv6.
const SECOND: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 3);
const THIRD: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 4);
const OUTSIDE6: &str = "2001:db8:77::2";
const TTL: Duration = Duration::from_secs(300);

/// A board with three addresses outside, that speaks IPv6 too.
fn board_with_servers() -> Netns {
    let client = board();
    ip("addr add 2001:db8:77::1/64 dev wan0 nodad");
    client.run(|| {
        for more in ["198.51.100.3/24", "198.51.100.4/24"] {
            ip(&format!("addr add {more} dev out0"));
        }
        ip(&format!("addr add {OUTSIDE6}/64 dev out0 nodad"));
        for port in [7000, 7001, 7002] {
            serve(port);
            serve6(OUTSIDE6.parse().unwrap(), port);
        }
        // Answers as the address that was asked, which is not this one's first.
        let socket = UdpSocket::bind((SECOND, 7004)).unwrap();
        std::thread::spawn(move || {
            while let Ok((_, peer)) = socket.recv_from(&mut [0; 64]) {
                let _ = socket.send_to(b"here", peer);
            }
        });
    });
    client
}

fn serve6(at: Ipv6Addr, port: u16) {
    let server = TcpListener::bind((at, port)).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = server.accept() {
            let _ = stream.write_all(peer.ip().to_string().as_bytes());
        }
    });
}

fn reaches(to: IpAddr, port: u16) -> bool {
    let at = SocketAddr::from((to, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&at, Duration::from_millis(400)) else {
        return false;
    };
    stream.read_to_string(&mut String::new()).is_ok()
}

fn dual_stack() -> NetworkConfig {
    NetworkConfig {
        subnet6: Some("fd12:3456:789a:1::/64".parse().unwrap()),
        resolver: true,
        ..config()
    }
}

async fn opened(config: NetworkConfig, state: &tempfile::TempDir) -> Networks {
    let mut networks = Networks::open(config, state.path()).unwrap();
    networks.reconcile(&[]).await.unwrap();
    networks
}

async fn confined(
    networks: &mut Networks,
    app: &str,
    egress: Option<&[EgressRule]>,
) -> (Netns, Endpoint) {
    let space = Netns::new();
    let wanted = Wanted {
        egress,
        ..Wanted::default()
    };
    let place = networks
        .connect(DEFAULT_NETWORK, app, space.namespace(), &wanted)
        .await
        .unwrap();
    let inside = place.clone();
    space.run(move || configure_inside(&inside).unwrap());
    (space, place)
}

#[test]
fn an_app_reaches_what_its_list_says_and_nothing_else() {
    let _client = board_with_servers();
    serve(7003);
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let config = NetworkConfig {
            allow_host_access: true,
            ..dual_stack()
        };
        let mut networks = opened(config, &state).await;
        let list = [
            rule("198.51.100.2", Some(Protocol::Tcp), Some((7000, 7001))),
            rule("198.51.100.2", Some(Protocol::Udp), Some((7002, 7002))),
            rule("198.51.100.3/32", None, None),
            rule("2001:db8:77::/64", Some(Protocol::Tcp), Some((7000, 7000))),
        ];
        let (web, place) = confined(&mut networks, "web", Some(&list)).await;
        let (closed, _) = confined(&mut networks, "closed", Some(&[])).await;
        let (open, neighbour) = confined(&mut networks, "open", None).await;
        let neighbour6 = neighbour.ipv6.unwrap().ip;
        open.run(move || {
            serve(80);
            serve6(neighbour6, 7000);
        });
        web.run(|| serve(80));
        let own = place.ip;
        let out6: IpAddr = OUTSIDE6.parse().unwrap();
        web.run(move || {
            assert_eq!(ask_tcp(CLIENT, 7000).unwrap(), BOARD.to_string());
            ask_tcp(CLIENT, 7001).unwrap();
            assert!(!reaches(CLIENT.into(), 7002), "another port");
            assert!(ask_udp(CLIENT, 7000).is_err(), "another protocol");
            // Without ports all of them, and every protocol.
            ask_tcp(SECOND, 7002).unwrap();
            ask_udp(CLIENT, 7002).unwrap();
            ask_udp(SECOND, 7004).unwrap();
            assert!(!reaches(THIRD.into(), 7000), "another address");
            assert!(reaches(out6, 7000));
            assert!(!reaches(out6, 7001));
            // The board's own services are closed too, though its other apps may use them.
            assert!(!reaches(BOARD.into(), 7003));
            assert!(!reaches(Ipv4Addr::new(172, 30, 0, 1).into(), 7003));
            // Neighbours stay.
            ask_tcp(neighbour.ip, 80).unwrap();
            assert!(reaches(neighbour6.into(), 7000));
        });
        closed.run(move || {
            for port in [7000, 7002] {
                assert!(!reaches(CLIENT.into(), port));
                assert!(!reaches(SECOND.into(), port));
            }
            ask_tcp(own, 80).unwrap();
        });
        open.run(|| {
            ask_tcp(THIRD, 7002).unwrap();
            ask_tcp(BOARD, 7003).unwrap();
        });
        // Whoever comes to it is answered.
        assert_eq!(ask_tcp(own, 80).unwrap(), "172.30.0.1");

        networks.detach("web").await.unwrap();
        assert!(nft_list().contains("coracle-cor0-egress"));
        networks.detach("closed").await.unwrap();
        assert!(!nft_list().contains("egress"), "{}", nft_list());
        assert!(!nft_list().contains("netdev"), "{}", nft_list());
    });
}

#[test]
fn a_name_is_reached_where_it_was_resolved_to_and_for_its_time() {
    let client = board_with_servers();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = opened(dual_stack(), &state).await;
        let list = [
            rule("mqtt.example", Some(Protocol::Tcp), Some((7000, 7000))),
            rule("*.cloud.example", None, Some((7001, 7001))),
            rule("old.example", None, None),
        ];
        let (web, place) = confined(&mut networks, "web", Some(&list)).await;
        let (other, _) = confined(&mut networks, "other", Some(&list)).await;
        let out6: IpAddr = OUTSIDE6.parse().unwrap();
        web.run(|| assert!(!reaches(CLIENT.into(), 7000), "not resolved yet"));
        let found = [CLIENT.into(), out6];
        let told = networks
            .admit_answer(DEFAULT_NETWORK, place.ip, "mqtt.example", &found, TTL)
            .await;
        assert_eq!(told.unwrap(), found);
        let told = networks
            .admit_answer(
                DEFAULT_NETWORK,
                place.ip,
                "a.cloud.example",
                &[SECOND.into()],
                TTL,
            )
            .await;
        assert_eq!(told.unwrap(), [IpAddr::from(SECOND)]);
        web.run(move || {
            ask_tcp(CLIENT, 7000).unwrap();
            assert!(reaches(out6, 7000));
            ask_tcp(SECOND, 7001).unwrap();
            // The same servers' other ports, and the ports of the other name.
            assert!(!reaches(CLIENT.into(), 7001) && !reaches(CLIENT.into(), 7002));
            assert!(!reaches(SECOND.into(), 7000) && !reaches(out6, 7001));
        });
        // What one was told is nothing to the other with the same list.
        other.run(|| assert!(!reaches(CLIENT.into(), 7000)));
        let refused = networks
            .admit_answer(
                DEFAULT_NETWORK,
                place.ip,
                "evil.example",
                &[THIRD.into()],
                TTL,
            )
            .await;
        let refused = refused.unwrap_err().to_string();
        assert_eq!(
            refused,
            "web asks for \"evil.example\", which is not on its egress list"
        );
        web.run(|| assert!(!reaches(THIRD.into(), 7000)));

        // A short time, and a connection that outlasts it.
        networks.set_admission(Admission {
            shortest: Duration::ZERO,
            longest: Duration::from_secs(2),
            grace: Duration::ZERO,
        });
        client.run(|| echo(7100));
        networks
            .admit_answer(
                DEFAULT_NETWORK,
                place.ip,
                "old.example",
                &[THIRD.into()],
                TTL,
            )
            .await
            .unwrap();
        web.run(|| {
            let mut stream = TcpStream::connect((THIRD, 7100)).unwrap();
            let mut say = |text: &[u8]| {
                stream.write_all(text).unwrap();
                let mut answer = [0; 4];
                stream.read_exact(&mut answer).unwrap();
                assert_eq!(answer, text);
            };
            say(b"soon");
            std::thread::sleep(Duration::from_millis(2500));
            say(b"late");
            assert!(!reaches(THIRD.into(), 7002), "its time is over");
            // The others' is not.
            ask_tcp(CLIENT, 7000).unwrap();
        });
    });
}

/// The server behind a name has another address: it is open once the name server says so, what it was closes when its time is
/// over, and what is said again stays open.
#[test]
fn a_name_that_moves_is_reached_where_it_is_now() {
    let client = board_with_servers();
    client.run(|| echo(7100));
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = opened(dual_stack(), &state).await;
        let list = [rule("mqtt.example", Some(Protocol::Tcp), None)];
        let (web, place) = confined(&mut networks, "web", Some(&list)).await;
        networks.set_admission(Admission {
            shortest: Duration::ZERO,
            longest: Duration::from_secs(2),
            grace: Duration::ZERO,
        });
        let mut say = async |ip: Ipv4Addr| {
            let told = networks
                .admit_answer(DEFAULT_NETWORK, place.ip, "mqtt.example", &[ip.into()], TTL)
                .await;
            assert_eq!(told.unwrap(), [IpAddr::from(ip)]);
        };
        say(SECOND).await;
        let mut stream = web.run(|| TcpStream::connect((SECOND, 7100)).unwrap());
        std::thread::sleep(Duration::from_millis(1200));
        say(THIRD).await;
        web.run(|| {
            ask_tcp(THIRD, 7000).unwrap();
            ask_tcp(SECOND, 7000).unwrap();
        });
        std::thread::sleep(Duration::from_millis(1200));
        say(THIRD).await;
        std::thread::sleep(Duration::from_millis(1200));
        web.run(move || {
            ask_tcp(THIRD, 7000).unwrap();
            assert!(!reaches(SECOND.into(), 7000), "it is there no more");
            // Who spoke with it then goes on.
            let mut answer = [0; 4];
            stream.write_all(b"late").unwrap();
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"late");
        });
    });
}

/// Gives back what one client sends.
fn echo(port: u16) {
    let server = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut buffer = [0; 64];
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..length]).unwrap();
        }
    });
}

#[test]
fn what_a_lying_name_server_says_is_not_opened() {
    let _client = board_with_servers();
    serve(7000);
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let config = NetworkConfig {
            allow_host_access: true,
            ..dual_stack()
        };
        let mut networks = opened(config, &state).await;
        let back = NetworkRequest {
            name: "back".into(),
            ..NetworkRequest::default()
        };
        let back = networks.create(&back).await.unwrap();
        let list = [
            rule("mqtt.example", None, None),
            rule("169.254.1.1", Some(Protocol::Tcp), Some((80, 80))),
        ];
        let (web, place) = confined(&mut networks, "web", Some(&list)).await;
        let lies: Vec<IpAddr> = [
            "127.0.0.1",
            "169.254.169.254",
            "198.51.100.1",
            "2001:db8:77::1",
            "172.30.0.1",
            "172.30.0.9",
            "::ffff:198.51.100.1",
            "fe80::1",
            "224.0.0.1",
            "198.51.100.255",
        ]
        .iter()
        .map(|ip| ip.parse().unwrap())
        .chain([back.gateway.into()])
        .collect();
        let mut said = lies.clone();
        said.extend([IpAddr::from(CLIENT), "169.254.1.1".parse().unwrap()]);
        let told = networks
            .admit_answer(DEFAULT_NETWORK, place.ip, "mqtt.example", &said, TTL)
            .await
            .unwrap();
        // The one that the list itself has may be told, and stays open for what the list says.
        let expected: [IpAddr; 2] = [CLIENT.into(), "169.254.1.1".parse().unwrap()];
        assert_eq!(told, expected);
        let listed = nft_list();
        assert!(
            listed.contains("elements = { 198.51.100.2 timeout"),
            "{listed}"
        );
        web.run(|| {
            ask_tcp(CLIENT, 7000).unwrap();
            assert!(!reaches(BOARD.into(), 7000), "the board's own service");
        });
    });
}

#[test]
fn an_app_cannot_borrow_a_neighbours_way_out() {
    let client = board_with_servers();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = opened(dual_stack(), &state).await;
        let (evil, _) = confined(&mut networks, "evil", Some(&[])).await;
        let (open, place) = confined(&mut networks, "open", None).await;
        open.run(|| send_udp_soon(CLIENT, 7005));
        assert_eq!(client.run(|| listen_udp(7005)), Some(BOARD.to_string()));
        // The rest of what it sends goes by.
        std::thread::sleep(Duration::from_millis(600));
        let (four, six) = (place.ip, place.ipv6.unwrap().ip);
        evil.run(move || {
            ip(&format!("addr add {four}/16 dev eth0"));
            ip(&format!("route replace default via 172.30.0.1 src {four}"));
            send_udp_soon(CLIENT, 7005);
        });
        assert_eq!(client.run(|| listen_udp(7005)), None);
        let heard6 = |space: &Netns| {
            space.run(move || {
                let socket = UdpSocket::bind((six, 0)).unwrap();
                std::thread::spawn(move || {
                    for _ in 0..4 {
                        std::thread::sleep(Duration::from_millis(100));
                        let _ = socket.send_to(b"hello", (OUTSIDE6, 7005));
                    }
                });
            });
            client.run(|| {
                let socket = UdpSocket::bind((OUTSIDE6, 7005)).unwrap();
                let wait = Some(Duration::from_millis(800));
                socket.set_read_timeout(wait).unwrap();
                socket.recv(&mut [0; 64]).is_ok()
            })
        };
        assert!(heard6(&open));
        std::thread::sleep(Duration::from_millis(400));
        evil.run(move || {
            ip(&format!("addr add {six}/64 dev eth0 nodad"));
        });
        assert!(!heard6(&evil));
        // Nor does it take the neighbour's place on the bridge.
        open.run(|| ask_tcp(SECOND, 7000)).unwrap();
    });
}

#[test]
fn lists_outlive_the_supervisor_and_a_removed_table() {
    let _client = board_with_servers();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = opened(dual_stack(), &state).await;
        let list = [
            rule("198.51.100.3", None, None),
            rule("mqtt.example", None, None),
        ];
        let (web, place) = confined(&mut networks, "web", Some(&list)).await;
        let admit = [IpAddr::from(CLIENT)];
        networks
            .admit_answer(DEFAULT_NETWORK, place.ip, "mqtt.example", &admit, TTL)
            .await
            .unwrap();
        let before = nft_list();
        output("nft", &["delete", "table", "inet", "coracle-cor0-egress"]);
        networks
            .admit_answer(
                DEFAULT_NETWORK,
                place.ip,
                "mqtt.example",
                &[THIRD.into()],
                TTL,
            )
            .await
            .unwrap();
        web.run(|| {
            // What was learned before too.
            ask_tcp(CLIENT, 7000).unwrap();
            ask_tcp(THIRD, 7000).unwrap();
            ask_tcp(SECOND, 7000).unwrap();
        });
        // A next supervisor, after a kill: the place comes from what is kept of the app.
        let text = serde_json::to_string(&networks.attachments("web")).unwrap();
        drop(networks);
        let mut networks = Networks::open(dual_stack(), state.path()).unwrap();
        let live = [("web".to_owned(), serde_json::from_str(&text).unwrap())];
        networks.reconcile(&live).await.unwrap();
        web.run(|| {
            ask_tcp(SECOND, 7000).unwrap();
            assert!(!reaches(CLIENT.into(), 7000), "it has to ask again");
            assert!(!reaches(BOARD.into(), 7000));
        });
        networks
            .admit_answer(DEFAULT_NETWORK, place.ip, "mqtt.example", &admit, TTL)
            .await
            .unwrap();
        web.run(|| ask_tcp(CLIENT, 7000)).unwrap();
        let tables = |text: &str| text.matches("table ").count();
        assert_eq!(tables(&before), tables(&nft_list()));
        networks.destroy().await.unwrap();
        assert_eq!(nft_list(), "");
    });
}

#[test]
fn the_kernel_holds_the_lists_that_the_documentation_says() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = opened(dual_stack(), &state).await;
        let list = [
            rule("10.0.0.0/8", None, None),
            rule("2001:db8::/32", Some(Protocol::Tcp), Some((443, 443))),
            rule("mqtt.example", Some(Protocol::Tcp), Some((8883, 8883))),
            rule("mqtt.example", Some(Protocol::Udp), None),
            rule("*.pool.example", None, Some((123, 125))),
            rule("0.0.0.0/0", Some(Protocol::Udp), Some((53, 53))),
        ];
        let space = Netns::new();
        let wanted = Wanted {
            egress: Some(&list),
            rates: Rates {
                egress_bytes_per_second: Some(125_000),
                ..Rates::default()
            },
            ..Wanted::default()
        };
        let place = networks
            .connect(DEFAULT_NETWORK, "web", space.namespace(), &wanted)
            .await
            .unwrap();
        let found = ["192.0.2.7", "192.0.2.8", "2001:db8::7"].map(|ip| ip.parse().unwrap());
        networks
            .admit_answer(DEFAULT_NETWORK, place.ip, "mqtt.example", &found, TTL)
            .await
            .unwrap();
        let lists =
            |family: &str, table: &str| output("nft", &["-s", "list", "table", family, table]);
        let text = lists("inet", "coracle-cor0-egress") + &lists("netdev", "coracle-cor0");
        let path = format!("{}/tests/golden/egress.nft", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("CORACLE_WRITE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(path).unwrap());
    });
}

#[test]
fn the_longest_lists_fit_and_longer_ones_are_refused() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = opened(dual_stack(), &state).await;
        let long = |n: usize| format!("{n:02}{}.example", ".aaaaaaaaaaaaaaaaaaaaaaaaaaa".repeat(8));
        let list = |most| -> Vec<EgressRule> {
            (0..most)
                .map(|n| rule(&long(n), None, Some((1, 60_000))))
                .collect()
        };
        let (_spaces, places): (Vec<_>, Vec<_>) = {
            let mut all = Vec::new();
            for n in 0..8 {
                all.push(confined(&mut networks, &format!("app{n}"), Some(&list(64))).await);
            }
            all.into_iter().unzip()
        };
        let found: Vec<IpAddr> = (1..=16)
            .map(|n| Ipv4Addr::new(192, 0, 2, n).into())
            .collect();
        networks
            .admit_answer(DEFAULT_NETWORK, places[3].ip, &long(63), &found, TTL)
            .await
            .unwrap();
        output("nft", &["delete", "table", "inet", "coracle-cor0-egress"]);
        networks.detach("app0").await.unwrap();
        let listed = nft_list();
        assert_eq!(listed.matches("chain to-").count(), 7);
        assert!(listed.contains("192.0.2.16 timeout"));
        for (rules, words) in [
            (list(65), "65 places to go; at most 64"),
            (
                vec![rule("Mqtt.example", None, None)],
                "is no name in small letters",
            ),
            (
                vec![rule("10.0.0.0/8", None, Some((5, 4)))],
                "5-4 are no ports",
            ),
        ] {
            let wanted = Wanted {
                egress: Some(&rules),
                ..Wanted::default()
            };
            let space = Netns::new();
            let refused = networks
                .connect(DEFAULT_NETWORK, "other", space.namespace(), &wanted)
                .await;
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains(words), "{refused}");
        }
    });
}

#[test]
fn who_gets_an_address_takes_no_connection_over() {
    let client = board_with_servers();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = opened(dual_stack(), &state).await;
        let send = |space: &Netns| {
            space.run(|| {
                // Who was forked for another test holds the one before until it executes its program.
                let bound = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 7900)).ok();
                let socket = (0..100)
                    .find_map(|_| {
                        bound().or_else(|| {
                            std::thread::sleep(Duration::from_millis(20));
                            None
                        })
                    })
                    .expect("port 7900");
                let wait = Some(Duration::from_millis(100));
                socket.set_read_timeout(wait).unwrap();
                // Links take a moment to come up.
                (0..20).any(|_| {
                    socket.send_to(b"?", (CLIENT, 7000)).unwrap();
                    socket.recv(&mut [0; 64]).is_ok()
                })
            })
        };
        let open = [rule("198.51.100.2", None, None)];
        let (first, place) = confined(&mut networks, "web", Some(&open)).await;
        // Twice: an answered flow of datagrams counts as established.
        assert!(send(&first) && send(&first));
        networks.detach("web").await.unwrap();
        drop(first);
        // The next one has its address, and a shorter list.
        let (second, again) = confined(&mut networks, "web", Some(&[])).await;
        assert_eq!(again.ip, place.ip);
        assert!(!send(&second));
        drop(client);
    });
}

#[test]
fn nothing_but_what_the_list_says_arrives_outside() {
    let client = board_with_servers();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = opened(dual_stack(), &state).await;
        let list = [
            rule("198.51.100.2", Some(Protocol::Tcp), Some((7000, 7000))),
            rule("mqtt.example", Some(Protocol::Udp), Some((7001, 7001))),
        ];
        let (web, place) = confined(&mut networks, "web", Some(&list)).await;
        web.run(|| ask_tcp(CLIENT, 7000)).unwrap();
        let capture = client.run(|| Capture::start().unwrap());
        let tries = move || {
            ask_tcp(CLIENT, 7000).unwrap();
            let out6: IpAddr = OUTSIDE6.parse().unwrap();
            for to in [CLIENT.into(), SECOND.into(), THIRD.into(), out6] {
                for port in [53, 7000, 7001] {
                    reaches(to, port);
                    let own: IpAddr = match to {
                        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                    };
                    let socket = UdpSocket::bind((own, 0)).unwrap();
                    let _ = socket.send_to(b"?", (to, port));
                }
            }
            // Not to a port at all.
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.set_broadcast(true).unwrap();
            for far in [
                "198.51.100.255",
                "255.255.255.255",
                "224.0.0.1",
                "203.0.113.1",
            ] {
                let _ = socket.send_to(b"?", (far, 7000));
            }
        };
        web.run(tries);
        let tcp = Packet {
            protocol: 6,
            to: CLIENT.into(),
            port: 7000,
        };
        let udp = Packet {
            protocol: 17,
            to: SECOND.into(),
            port: 7001,
        };
        assert_eq!(capture.sent_by_the_board(), [tcp]);
        networks
            .admit_answer(
                DEFAULT_NETWORK,
                place.ip,
                "mqtt.example",
                &[SECOND.into()],
                TTL,
            )
            .await
            .unwrap();
        web.run(tries);
        assert_eq!(capture.sent_by_the_board(), [tcp, udp]);
    });
}

#[test]
fn removed_tables_are_put_back_with_everything_in_them() {
    let client = board_with_servers();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = opened(dual_stack(), &state).await;
        let front = NetworkRequest {
            name: "front".into(),
            ..NetworkRequest::default()
        };
        networks.create(&front).await.unwrap();
        let space = Netns::new();
        let ports = [port(None, 8080, 80, Protocol::Tcp)];
        let list = [rule("mqtt.example", None, None)];
        let wanted = Wanted {
            ports: &ports,
            egress: Some(&list),
            ..Wanted::default()
        };
        let place = networks
            .connect(DEFAULT_NETWORK, "web", space.namespace(), &wanted)
            .await
            .unwrap();
        let ip = place.ip;
        space.run(move || {
            configure_inside(&place).unwrap();
            serve(80);
        });
        networks
            .admit_answer(DEFAULT_NETWORK, ip, "mqtt.example", &[CLIENT.into()], TTL)
            .await
            .unwrap();
        let seconds = |listed: String| -> Vec<String> {
            let lines = listed.lines().map(str::to_owned);
            // How long an element has is another matter, and which table is first too.
            let mut lines: Vec<_> = lines.filter(|line| !line.contains("timeout")).collect();
            lines.sort();
            lines
        };
        let before = seconds(nft_list());
        assert_eq!(networks.mend().await.len(), 0);
        assert_eq!(seconds(nft_list()), before);
        for removal in [
            &["flush", "ruleset"][..],
            &["delete", "table", "inet", "coracle-cor0-egress"],
            &["delete", "table", "netdev", "coracle-cor0"],
            &["delete", "table", "ip6", "coracle-cor0"],
        ] {
            output("nft", removal);
            let lost = networks.mend().await.len();
            assert_eq!(lost, if removal[0] == "flush" { 2 } else { 1 });
            assert_eq!(seconds(nft_list()), before, "{removal:?}");
        }
        client.run(|| ask_tcp(BOARD, 8080)).unwrap();
        space.run(|| {
            ask_tcp(CLIENT, 7000).unwrap();
            assert!(!reaches(SECOND.into(), 7000));
        });
    });
}

#[test]
fn of_a_published_port_the_boards_address_counts_and_not_whom_it_leads_to() {
    let _client = board_with_servers();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = opened(dual_stack(), &state).await;
        let front = NetworkRequest {
            name: "front".into(),
            ..NetworkRequest::default()
        };
        networks.create(&front).await.unwrap();
        let server = Netns::new();
        let ports = [port(None, 8080, 80, Protocol::Tcp)];
        let wanted = Wanted {
            ports: &ports,
            ..Wanted::default()
        };
        let place = networks
            .connect("front", "server", server.namespace(), &wanted)
            .await
            .unwrap();
        let behind = place.ip.to_string();
        server.run(move || {
            configure_inside(&place).unwrap();
            serve(80);
        });
        let to_board = [rule(
            "198.51.100.1",
            Some(Protocol::Tcp),
            Some((8080, 8080)),
        )];
        let to_server = [rule(&behind, None, None)];
        let (allowed, _) = confined(&mut networks, "allowed", Some(&to_board)).await;
        let (other, _) = confined(&mut networks, "other", Some(&to_server)).await;
        allowed.run(|| ask_tcp(BOARD, 8080)).unwrap();
        other.run(|| {
            assert!(!reaches(BOARD.into(), 8080));
            assert!(!reaches(Ipv4Addr::new(172, 30, 0, 1).into(), 8080));
        });
    });
}

//! Names on a user network, asked with real packets by the containers. Needs root.

mod support;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use coracle_network::resolver::{Told, Zone, serve};
use coracle_network::{NetworkRequest, Networks, Wanted, configure_inside};
use support::dns::*;
use support::*;

/// What the board's resolver says of every name.
const ELSEWHERE: [u8; 4] = [203, 0, 113, 9];

fn answer_elsewhere(query: &[u8]) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer[7] = 1;
    answer.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04");
    answer.extend(ELSEWHERE);
    answer
}

/// The board's resolver: it knows one address, over UDP and TCP.
fn serve_elsewhere() {
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
    let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            // One that is forged comes first, with another number.
            let mut forged = answer_elsewhere(&buffer[..length]);
            forged[0] ^= 1;
            let _ = udp.send_to(&forged, from);
            let _ = udp.send_to(&answer_elsewhere(&buffer[..length]), from);
        }
    });
    serve_tcp(tcp, answer_elsewhere);
}

#[test]
fn members_find_each_other_by_name_and_alias_and_the_world_by_the_boards_resolver() {
    let client = board();
    client.run(serve_elsewhere);
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = Networks::open(config(), state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        for name in ["front", "back"] {
            let request = NetworkRequest {
                name: name.into(),
                resolver: true,
                ..Default::default()
            };
            networks.create(&request).await.unwrap();
        }
        let (web, db, stranger) = (Netns::new(), Netns::new(), Netns::new());
        let aliases = ["Store".to_owned(), "any".to_owned()];
        let named = Wanted {
            aliases: &aliases,
            ..Wanted::default()
        };
        let any = ["any".to_owned()];
        let shared = Wanted {
            aliases: &any,
            ..Wanted::default()
        };
        let mut places = Vec::new();
        for (network, app, space, wanted) in [
            ("front", "web", &web, &shared),
            ("front", "db", &db, &named),
            ("back", "stranger", &stranger, &shared),
        ] {
            let place = networks
                .connect(network, app, space.namespace(), wanted)
                .await
                .unwrap();
            places.push(place.clone());
            space.run(move || configure_inside(&place).unwrap());
        }
        let front = networks.inspect("front").unwrap();
        let gateway = front.config().gateway();
        let zone = |resolvers: &[IpAddr]| {
            let zone = Zone::new(front.endpoints(), resolvers);
            serde_json::to_string(&Told::Zone(zone)).unwrap() + "\n"
        };
        let udp = UdpSocket::bind((gateway, 53)).unwrap();
        let tcp = TcpListener::bind((gateway, 53)).unwrap();
        let (mut control, its_end) = UnixStream::pair().unwrap();
        let clients = front.config().subnet;
        let resolver = std::thread::spawn(move || serve(clients, udp, tcp, its_end));
        // The first one does not exist, so the second is asked.
        let resolvers = [Ipv4Addr::new(198, 51, 100, 77).into(), CLIENT.into()];
        control.write_all(zone(&resolvers).as_bytes()).unwrap();

        let db_at = [places[1].ip.into(), places[1].ipv6.unwrap().ip.into()];
        let web_ip = IpAddr::from(places[0].ip);
        web.run(move || {
            for name in ["db", "DB", "store"] {
                assert_eq!(
                    look_up(gateway, name, A).unwrap(),
                    (0, vec![db_at[0]]),
                    "{name}"
                );
                assert_eq!(
                    look_up(gateway, name, AAAA).unwrap(),
                    (0, vec![db_at[1]]),
                    "{name}"
                );
                assert_eq!(look_up_tcp(gateway, name), (0, vec![db_at[0]]));
            }
            // 15 is MX: the name is ours, so nobody else is asked.
            assert_eq!(look_up(gateway, "db", 15).unwrap(), (0, vec![]));
            assert_eq!(look_up(gateway, "any", A).unwrap().1, [db_at[0], web_ip]);
            let elsewhere = (0, vec![ELSEWHERE.into()]);
            assert_eq!(look_up(gateway, "example.org", A).unwrap(), elsewhere);
            assert_eq!(look_up_tcp(gateway, "example.org"), elsewhere);
            // Of another network: unknown here.
            assert_eq!(look_up(gateway, "stranger", A).unwrap(), elsewhere);
        });
        // Neither another network nor the world is answered.
        stranger.run(move || assert_eq!(look_up(gateway, "db", A), None));
        client.run(move || {
            ip(&format!("route add {gateway}/32 via 198.51.100.1"));
            assert_eq!(look_up(gateway, "db", A), None);
        });

        // The uplink is down: members are still found, and the rest fails soon.
        control.write_all(zone(&[]).as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        web.run(move || {
            let start = Instant::now();
            assert_eq!(look_up(gateway, "db", A).unwrap(), (0, vec![db_at[0]]));
            assert_eq!(look_up(gateway, "example.org", A).unwrap(), (2, vec![]));
            assert_eq!(look_up_tcp(gateway, "example.org"), (2, vec![]));
            assert!(start.elapsed() < Duration::from_secs(1));
        });
        // A flood of queries and of connections later it still answers.
        let connections = web.run(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            for _ in 0..2000 {
                socket
                    .send_to(&query("example.org", A), (gateway, 53))
                    .unwrap();
                socket.send_to(b"nonsense", (gateway, 53)).unwrap();
            }
            let open: Vec<_> = (0..40)
                .filter_map(|_| TcpStream::connect((gateway, 53)).ok())
                .collect();
            // The kernel's queue of datagrams is still full of them for a moment.
            let found = (0..5).find_map(|_| look_up(gateway, "db", A));
            assert_eq!(found, Some((0, vec![db_at[0]])));
            open
        });
        drop(connections);
        // It ends with the one that started it.
        control.shutdown(Shutdown::Both).unwrap();
        resolver.join().unwrap().unwrap();
    });
}

//! Names of containers that may not go everywhere, and everyone's share of the resolver. Needs root.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use coracle_network::resolver::{Said, Told, Zone, serve};
use coracle_network::{Endpoint, Network, NetworkConfig};
use support::dns::*;
use support::*;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
const CNAME: u16 = 5;
/// Seconds, of the alias and of the addresses.
const TTLS: [u32; 2] = [40, 300];

fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = owner.to_vec();
    bytes.extend(kind.to_be_bytes());
    bytes.extend([0, 1]);
    bytes.extend(ttl.to_be_bytes());
    bytes.extend((data.len() as u16).to_be_bytes());
    bytes.extend(data);
    bytes
}

/// What a name server of the world says: by an alias, 192.0.2.7 and 192.0.2.8; of `long.example` nothing over UDP, of
/// `none.example` that there is none, of `silent…` nothing, of `slow…` late.
fn world(query: &[u8], tcp: bool) -> Option<Vec<u8>> {
    let name = &query[12..];
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    if name.starts_with(b"\x04none") {
        answer[3] |= 3;
        return Some(answer);
    }
    if name.starts_with(b"\x06silent") {
        return None;
    }
    if name.starts_with(b"\x04long") && !tcp {
        answer[2] |= 2;
        return Some(answer);
    }
    answer[7] = 3;
    let alias = b"\x03cdn\x04test\0";
    answer.extend(record(&[0xc0, 12], CNAME, TTLS[0], alias));
    for n in [7, 8] {
        answer.extend(record(alias, A, TTLS[1], &[192, 0, 2, n]));
    }
    Some(answer)
}

fn serve_world() {
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
    let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let Some(answer) = world(&buffer[..length], false) else {
                continue;
            };
            let udp = udp.try_clone().unwrap();
            let slow = answer[12..].starts_with(b"\x04slow");
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(if slow { 200 } else { 0 }));
                let _ = udp.send_to(&answer, from);
            });
        }
    });
    serve_tcp(tcp, |query| world(query, true).unwrap());
}

/// The supervisor's end of a resolver on the network's gateway.
struct Control {
    stream: UnixStream,
    said: BufReader<UnixStream>,
}

impl Control {
    fn start(network: &Network) -> Self {
        let udp = UdpSocket::bind((GATEWAY, 53)).unwrap();
        let tcp = TcpListener::bind((GATEWAY, 53)).unwrap();
        let (stream, its_end) = UnixStream::pair().unwrap();
        let clients = network.config().subnet;
        std::thread::spawn(move || serve(clients, udp, tcp, its_end).unwrap());
        stream
            .set_read_timeout(Some(Duration::from_secs(4)))
            .unwrap();
        let said = BufReader::new(stream.try_clone().unwrap());
        Self { stream, said }
    }

    fn tell(&mut self, told: &Told) {
        let line = serde_json::to_string(told).unwrap() + "\n";
        self.stream.write_all(line.as_bytes()).unwrap();
    }

    fn hear(&mut self) -> Said {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Admits those that `which` lets through; what was found.
    fn admit(&mut self, which: impl Fn(&IpAddr) -> bool) -> (Ipv4Addr, String, u32, Vec<IpAddr>) {
        let Said::Found {
            id,
            client,
            name,
            ttl_seconds,
            addresses,
        } = self.hear()
        else {
            panic!("nothing was found");
        };
        let admitted = addresses.iter().copied().filter(which).collect();
        self.tell(&Told::Admitted {
            id,
            addresses: admitted,
        });
        (client, name, ttl_seconds, addresses)
    }
}

async fn with_resolver(state: &std::path::Path) -> Network {
    let config = NetworkConfig {
        resolver: true,
        ..config()
    };
    let mut network = Network::open(config, state).unwrap();
    network.reconcile(&[]).await.unwrap();
    network
}

fn zone(network: &Network, confined: &[&Endpoint]) -> Told {
    let mut zone = Zone::new(network.endpoints(), &[CLIENT.into()]);
    for endpoint in confined {
        zone.allow_only(endpoint.ip, &["mqtt.example", "*.example"]);
    }
    Told::Zone(zone)
}

/// The whole answer, of whatever kind.
fn raw(name: &'static str, kind: u16) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let wait = Some(Duration::from_secs(4));
    socket.set_read_timeout(wait).unwrap();
    socket.send_to(&query(name, kind), (GATEWAY, 53)).unwrap();
    let mut buffer = [0; 512];
    let length = socket.recv(&mut buffer).ok()?;
    Some(buffer[..length].to_vec())
}

#[test]
fn names_on_the_list_are_told_when_the_way_is_open_and_no_others() {
    let client = board();
    client.run(serve_world);
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = with_resolver(state.path()).await;
        let (web, place) = attached(&mut network, "web", &[]).await;
        let (db, _) = attached(&mut network, "db", &[]).await;
        let mut control = Control::start(&network);
        control.tell(&zone(&network, &[&place]));
        let (seven, eight): (IpAddr, IpAddr) = ([192, 0, 2, 7].into(), [192, 0, 2, 8].into());

        // Nothing is told before the supervisor has said so, and only what it said.
        let asking = std::thread::spawn(move || {
            let answer = web.run(|| raw("mqtt.example", A).unwrap());
            (web, answer)
        });
        let found = control.admit(|ip| *ip == eight);
        let expected = (place.ip, "mqtt.example".into(), TTLS[0], vec![seven, eight]);
        assert_eq!(found, expected);
        let (web, answer) = asking.join().unwrap();
        assert_eq!(read(&answer, &query("mqtt.example", A)), (0, vec![eight]));
        let ttl = answer.len() - 10;
        assert_eq!(answer[ttl..ttl + 4], TTLS[0].to_be_bytes());
        assert_eq!(answer[2] & 4, 0, "not ours, so not authoritative");

        // Over TCP, where the answer did not fit.
        let cut = web.run(|| raw("long.example", A).unwrap());
        assert_eq!((cut[2] & 2, cut[7]), (2, 0));
        let asking = std::thread::spawn(move || {
            let answer = web.run(|| look_up_tcp(GATEWAY, "long.example"));
            (web, answer)
        });
        assert_eq!(control.admit(|_| true).1, "long.example");
        let (web, answer) = asking.join().unwrap();
        assert_eq!(answer, (0, vec![seven, eight]));

        // None of it may be told; the supervisor says nothing.
        let asking = std::thread::spawn(move || {
            let answers = web.run(|| {
                let refused = look_up(GATEWAY, "lies.example", A).unwrap();
                let start = Instant::now();
                let silence = look_up(GATEWAY, "unheard.example", A).unwrap();
                (refused, silence, start.elapsed())
            });
            (web, answers)
        });
        control.admit(|_| false);
        assert!(matches!(control.hear(), Said::Found { .. }));
        let (web, (refused, silence, took)) = asking.join().unwrap();
        assert_eq!((refused, silence), ((5, vec![]), (2, vec![])));
        assert!(took < Duration::from_secs(3), "{took:?}");

        // What is no address is passed on, for names on the list; a neighbour is found without asking anybody.
        web.run(|| {
            assert_eq!(look_up(GATEWAY, "none.example", A).unwrap().0, 3);
            assert_eq!(raw("mqtt.example", 16).unwrap()[7], 3, "a text record");
            assert_eq!(look_up(GATEWAY, "db", A).unwrap().1.len(), 1);
            for other in ["evil.test", "example", "cdn.test", "7.2.0.192.in-addr.arpa"] {
                assert_eq!(look_up(GATEWAY, other, A).unwrap(), (3, vec![]), "{other}");
            }
            assert_eq!(look_up_tcp(GATEWAY, "evil.test"), (3, vec![]));
        });
        let forbidden = Said::Forbidden {
            client: place.ip,
            name: "evil.test".into(),
        };
        assert_eq!(control.hear(), forbidden);
        // Without a list nobody is asked.
        db.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            let wait = Some(Duration::from_secs(4));
            socket.set_read_timeout(wait).unwrap();
            let asked = query("evil.test", A);
            socket.send_to(&asked, (GATEWAY, 53)).unwrap();
            let mut buffer = [0; 512];
            let length = socket.recv(&mut buffer).unwrap();
            let whole = world(&asked, false).unwrap();
            assert_eq!(buffer[..length], whole, "passed on as it is");
        });
    });
}

#[test]
fn an_app_that_the_resolver_has_not_been_told_of_waits_a_moment() {
    let client = board();
    client.run(serve_world);
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = with_resolver(state.path()).await;
        let mut control = Control::start(&network);
        control.tell(&zone(&network, &[]));
        let (web, place) = attached(&mut network, "web", &[]).await;
        let asking = std::thread::spawn(move || web.run(|| look_up(GATEWAY, "evil.test", A)));
        std::thread::sleep(Duration::from_millis(300));
        control.tell(&zone(&network, &[&place]));
        // With its list, which was not known when it asked.
        assert_eq!(asking.join().unwrap(), Some((3, vec![])));
    });
}

#[test]
fn one_that_asks_without_end_is_no_loss_to_its_neighbour() {
    let client = board();
    client.run(serve_world);
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = with_resolver(state.path()).await;
        let (greedy, _) = attached(&mut network, "greedy", &[]).await;
        let (web, _) = attached(&mut network, "web", &[]).await;
        let mut control = Control::start(&network);
        control.tell(&zone(&network, &[]));
        greedy.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            std::thread::spawn(move || {
                let end = Instant::now() + Duration::from_secs(6);
                while Instant::now() < end {
                    for n in 0..20 {
                        let asked = query(&format!("silent.{n}.example"), A);
                        let _ = socket.send_to(&asked[..], (GATEWAY, 53));
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            // And holds as many connections as it gets.
            std::thread::spawn(move || {
                let connect = || std::net::TcpStream::connect((GATEWAY, 53));
                let _held: Vec<_> = (0..40).filter_map(|_| connect().ok()).collect();
                std::thread::sleep(Duration::from_secs(6));
            });
        });
        std::thread::sleep(Duration::from_millis(500));
        let answered = web.run(|| {
            let mut answered = 0;
            for _ in 0..10 {
                let start = Instant::now();
                let answer = raw("slow.example", A).unwrap_or_default();
                answered += usize::from(answer.get(7) == Some(&3));
                assert!(start.elapsed() < Duration::from_secs(1));
            }
            let mut stream = std::net::TcpStream::connect((GATEWAY, 53)).unwrap();
            let asked = query("mqtt.example", 16);
            let length = (asked.len() as u16).to_be_bytes();
            stream.write_all(&[&length[..], &asked].concat()).unwrap();
            let wait = Some(Duration::from_secs(4));
            stream.set_read_timeout(wait).unwrap();
            stream.read_exact(&mut [0; 12]).unwrap();
            answered
        });
        assert_eq!(answered, 10);
    });
}

/// What another resolver is sent, over UDP and TCP; it says that there is no such name.
fn overhear(sent: std::sync::mpsc::Sender<Vec<u8>>) {
    let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
    let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
    let no_such = |query: &[u8]| {
        let mut answer = query[..query.len().min(512)].to_vec();
        answer[2] |= 0x80;
        answer[3] |= 3;
        answer
    };
    let also = sent.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&no_such(&buffer[..length]), from);
            let _ = sent.send(buffer[..length].to_vec());
        }
    });
    serve_tcp(tcp, move |query| {
        let _ = also.send(query.to_vec());
        no_such(query)
    });
}

#[test]
fn nothing_but_the_question_leaves_the_board_for_an_app_with_a_list() {
    let client = board();
    let (sent, overheard) = std::sync::mpsc::channel();
    client.run(|| overhear(sent));
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = with_resolver(state.path()).await;
        let (web, place) = attached(&mut network, "web", &[]).await;
        let mut control = Control::start(&network);
        control.tell(&zone(&network, &[&place]));
        // An additional record, flags, letters, bytes behind the end, a number: each could say something.
        let mut asked = query("MqTT.exAMple", A);
        asked[2..4].copy_from_slice(&[0x01, 0x30]);
        asked[11] = 1;
        asked.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 10, 0, 66, 0, 6]);
        asked.extend(b"secret and more secret");
        let (also, over_tcp) = (asked.clone(), asked.clone());
        let answer = web.run(move || {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            let wait = Some(Duration::from_secs(4));
            socket.set_read_timeout(wait).unwrap();
            socket.send_to(&also, (GATEWAY, 53)).unwrap();
            let mut buffer = [0; 512];
            let length = socket.recv(&mut buffer).unwrap();
            buffer[..length].to_vec()
        });
        let question = query("mqtt.example", A);
        let heard = overheard.recv_timeout(Duration::from_secs(4)).unwrap();
        assert_eq!(heard[2..], question[2..]);
        // The client finds its own number and letters.
        assert_eq!(answer[..2], asked[..2]);
        assert_eq!(answer[12..], asked[12..question.len()]);
        let answer = web.run(move || {
            let mut stream = std::net::TcpStream::connect((GATEWAY, 53)).unwrap();
            let length = (over_tcp.len() as u16).to_be_bytes();
            stream
                .write_all(&[&length[..], &over_tcp].concat())
                .unwrap();
            let wait = Some(Duration::from_secs(4));
            stream.set_read_timeout(wait).unwrap();
            let mut head = [0; 2];
            stream.read_exact(&mut head).unwrap();
            let mut answer = vec![0; usize::from(u16::from_be_bytes(head))];
            stream.read_exact(&mut answer).unwrap();
            answer
        });
        let heard = overheard.recv_timeout(Duration::from_secs(4)).unwrap();
        assert_eq!(heard[2..], question[2..]);
        assert_ne!(heard[..2], asked[..2], "the number is the resolver's own");
        assert_eq!(answer[..2], asked[..2]);
        assert_eq!(answer[12..], asked[12..question.len()]);
        // Names that are no host's, and other classes, are nobody's to ask.
        web.run(|| {
            let mut dotted = query("secret-.example", A);
            dotted[18] = b'.';
            let mut chaos = query("mqtt.example", A);
            *chaos.last_mut().unwrap() = 3;
            for (asked, code) in [(dotted, 3), (query("se cret.example", A), 3), (chaos, 5)] {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
                let wait = Some(Duration::from_secs(4));
                socket.set_read_timeout(wait).unwrap();
                socket.send_to(&asked, (GATEWAY, 53)).unwrap();
                let mut buffer = [0; 512];
                socket.recv(&mut buffer).unwrap();
                assert_eq!(buffer[3] & 15, code);
            }
        });
        assert!(overheard.try_recv().is_err());
    });
}

#[test]
fn one_with_a_list_that_asks_without_end_is_no_loss_to_another() {
    let client = board();
    client.run(serve_world);
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = with_resolver(state.path()).await;
        let (greedy, first) = attached(&mut network, "greedy", &[]).await;
        let (web, second) = attached(&mut network, "web", &[]).await;
        let mut control = Control::start(&network);
        control.tell(&zone(&network, &[&first, &second]));
        greedy.run(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            std::thread::spawn(move || {
                let end = Instant::now() + Duration::from_secs(5);
                let mut n = 0;
                while Instant::now() < end {
                    for _ in 0..20 {
                        n += 1;
                        let asked = query(&format!("n{n}.example"), A);
                        let _ = socket.send_to(&asked[..], (GATEWAY, 53));
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
        });
        // A supervisor that takes its time.
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(20));
                control.admit(|_| true);
            }
        });
        std::thread::sleep(Duration::from_millis(500));
        let answered = web.run(|| {
            let names = ["mqtt.example", "a.example", "b.example", "c.example"];
            let answered = names.map(|name| look_up(GATEWAY, name, A).unwrap().1.len());
            // Asked again at once, nobody has to be asked.
            let start = Instant::now();
            assert_eq!(look_up(GATEWAY, "c.example", A).unwrap().1.len(), 2);
            (answered, start.elapsed())
        });
        assert_eq!(answered.0, [2; 4]);
        assert!(answered.1 < Duration::from_millis(400), "{:?}", answered.1);
    });
}

//! Limits to what passes, measured with real bytes, and what the counters say of it. Needs root.

mod support;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use coracle_network::{DEFAULT_NETWORK, NetworkConfig, Networks, Rates, Wanted, configure_inside};
use support::*;

const MIB: u64 = 1 << 20;
/// What a limited container may pass.
const RATE: u64 = 2 * MIB;
const WINDOW: Duration = Duration::from_secs(2);
/// nftables lets a second's worth be saved up, and a burst.
const WARM_UP: Duration = Duration::from_millis(1500);

/// Sends to whoever comes to port 9000, and takes from whoever comes to 9001, as fast as it goes. Over IPv4 and IPv6.
fn serve_bulk() {
    let source = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 9000)).unwrap();
    let sink = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 9001)).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = source.accept() {
            std::thread::spawn(move || while stream.write_all(&[7; 65_536]).is_ok() {});
        }
    });
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = sink.accept() {
            // Says how much came within the window, once what was saved up is used.
            std::thread::spawn(move || {
                read_for(&mut stream, WARM_UP);
                let total = read_for(&mut stream, WINDOW);
                let _ = stream.write_all(&total.to_be_bytes());
            });
        }
    });
}

fn read_for(stream: &mut TcpStream, window: Duration) -> u64 {
    let (start, mut total, mut buffer) = (Instant::now(), 0, vec![0; 65_536]);
    stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    while start.elapsed() < window {
        total += stream.read(&mut buffer).unwrap_or(0) as u64;
    }
    total
}

/// Bytes a second from the server, and to it.
fn speeds(at: IpAddr) -> (u64, u64) {
    let connect = |port| {
        let at = SocketAddr::from((at, port));
        TcpStream::connect_timeout(&at, Duration::from_secs(3)).unwrap()
    };
    let down = read_for(&mut connect(9000), WINDOW) / WINDOW.as_secs();
    let mut sink = connect(9001);
    let mut answers = sink.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let start = Instant::now();
        sink.set_write_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        while start.elapsed() < WARM_UP + WINDOW + Duration::from_millis(500) {
            let _ = sink.write(&[7; 65_536]);
        }
    });
    let mut total = [0; 8];
    answers
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    answers.read_exact(&mut total).unwrap();
    writer.join().unwrap();
    (down, u64::from_be_bytes(total) / WINDOW.as_secs())
}

fn is_held(speed: u64) -> bool {
    // TCP may not use all of it; the last read may end a little late.
    speed > RATE / 8 && speed < RATE + RATE / 6
}

#[test]
fn what_goes_in_and_out_is_held_to_its_rate_and_counted() {
    let client = board();
    ip("-6 addr add 2001:db8:77::1/64 dev wan0 nodad");
    client.run(|| {
        ip("-6 addr add 2001:db8:77::2/64 dev out0 nodad");
        serve_bulk();
    });
    let client6: IpAddr = "2001:db8:77::2".parse().unwrap();
    let state = tempfile::tempdir().unwrap();
    let config = NetworkConfig {
        subnet6: Some("fd12:3456:789a:1::/64".parse().unwrap()),
        ..config()
    };
    block_on(async {
        let mut networks = Networks::open(config, state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        let (slow, fast) = (Netns::new(), Netns::new());
        let rates = Rates {
            ingress_bytes_per_second: Some(RATE),
            egress_bytes_per_second: Some(RATE),
        };
        let wanted = Wanted {
            rates,
            ..Wanted::default()
        };
        let place = networks
            .connect(DEFAULT_NETWORK, "slow", slow.namespace(), &wanted)
            .await
            .unwrap();
        let free = networks
            .connect(
                DEFAULT_NETWORK,
                "fast",
                fast.namespace(),
                &Wanted::default(),
            )
            .await
            .unwrap();
        let neighbour = free.ip;
        fast.run(move || {
            configure_inside(&free).unwrap();
            serve_bulk();
        });
        slow.run(move || configure_inside(&place).unwrap());

        // The world, and a neighbour on the same bridge.
        for at in [CLIENT.into(), neighbour.into(), client6] {
            let (down, up) = slow.run(move || speeds(at));
            assert!(is_held(down) && is_held(up), "{at}: {down} in, {up} out");
        }
        let (down, up) = fast.run(|| speeds(CLIENT.into()));
        assert!(down > 8 * RATE && up > 8 * RATE, "no limit: {down}, {up}");

        let counted = networks.counters("slow").await.unwrap();
        let (name, counters) = &counted[0];
        assert_eq!(name, DEFAULT_NETWORK);
        for bytes in [counters.received_bytes, counters.sent_bytes] {
            // Three windows and warm-ups in each direction, with headers and acknowledgements of the others.
            assert!(bytes > 6 * RATE / 8 && bytes < 30 * RATE, "{counters:?}");
        }
        assert!(counters.received_packets > 0 && counters.sent_packets > 0);

        networks.detach("slow").await.unwrap();
        assert!(!nft_list().contains("netdev"), "{}", nft_list());
        assert_eq!(networks.counters("slow").await.unwrap(), []);
    });
}

#[test]
fn the_kernel_holds_the_limits_that_the_documentation_says() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = Networks::open(config(), state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        let space = Netns::new();
        let rates = Rates {
            ingress_bytes_per_second: Some(125_000),
            egress_bytes_per_second: Some(125_000),
        };
        let wanted = Wanted {
            rates,
            ..Wanted::default()
        };
        let place = networks
            .connect(DEFAULT_NETWORK, "web", space.namespace(), &wanted)
            .await
            .unwrap();
        let listed = nft_list();
        let rule = "limit rate over 125000 bytes/second burst 128 kbytes drop";
        assert!(listed.contains(rule), "{listed}");
        let shown = output("tc", &["qdisc", "show", "dev", &place.host_if]);
        assert!(
            shown.contains("tbf") && shown.contains("rate 1Mbit") && shown.contains("burst 32Kb"),
            "{shown}"
        );
        for wrong in [0, 10, u64::MAX] {
            let rates = Rates {
                egress_bytes_per_second: Some(wrong),
                ..Rates::default()
            };
            let wanted = Wanted {
                rates,
                ..Wanted::default()
            };
            let refused = networks
                .connect(DEFAULT_NETWORK, "other", space.namespace(), &wanted)
                .await;
            refused.unwrap_err();
        }
    });
}

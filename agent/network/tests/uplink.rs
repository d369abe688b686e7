//! The board's way out changes while containers run: cable, name, address, size of packets, a second one that comes late. They
//! are not started again, and traffic flows on. Needs root.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use coracle_network::{
    Changes, NetworkRequest, Networks, Protocol, Wanted, configure_inside, mtu_of_first,
};
use support::*;

const NEW_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

#[test]
fn traffic_flows_on_over_a_pulled_cable_a_new_name_and_a_new_address() {
    let client = board();
    client.run(|| serve(80));
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = started(state.path()).await;
        let ports = [port(None, 8080, 80, Protocol::Tcp)];
        let (web, _) = serving(&mut network, "web", &ports).await;
        let both_ways = |board: Ipv4Addr| {
            assert_eq!(web.run(|| ask_tcp(CLIENT, 80).unwrap()), board.to_string());
            let seen = client.run(move || ask_tcp(board, 8080).unwrap());
            assert_eq!(seen, CLIENT.to_string());
        };
        both_ways(BOARD);
        let rules = nft_list();

        ip("link set wan0 down");
        assert!(web.run(|| ask_udp(CLIENT, 80)).is_err());
        ip("link set wan0 up");
        both_ways(BOARD);

        // As udev names it, once it comes to that.
        ip("link set wan0 down");
        ip("link set wan0 name enp1s0");
        ip("link set enp1s0 up");
        both_ways(BOARD);

        // DHCP gave another address.
        ip("addr del 198.51.100.1/24 dev enp1s0");
        ip("addr add 198.51.100.7/24 dev enp1s0");
        both_ways(NEW_ADDRESS);
        assert_eq!(
            nft_list(),
            rules,
            "none of the rules names what has changed"
        );
        network.destroy().await.unwrap();
    });
}

#[test]
fn an_uplink_that_comes_late_leads_out_and_listens_to_routers() {
    let client = board();
    std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "0").unwrap();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = Networks::open(config(), state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        let front = NetworkRequest {
            name: "front".into(),
            ..Default::default()
        };
        networks.create(&front).await.unwrap();
        let web = Netns::new();
        let place = networks
            .connect("front", "web", web.namespace(), &Wanted::default())
            .await
            .unwrap();
        web.run(move || configure_inside(&place).unwrap());
        networks.follow().await;

        let mut changes = Changes::open().unwrap();
        let outside = Netns::new();
        ip("link add wwan0 type veth peer name far0");
        let listens =
            || std::fs::read_to_string("/proc/sys/net/ipv6/conf/wwan0/accept_ra").unwrap();
        assert_eq!(listens(), "1\n", "a router does not listen with that");
        tokio::time::timeout(Duration::from_secs(5), changes.wait())
            .await
            .expect("the new link is told");
        assert!(networks.follow().await.restart.is_empty());
        assert_eq!(listens(), "2\n");

        let mut resident = outside.run(|| {
            std::process::Command::new("sleep")
                .arg("9")
                .spawn()
                .unwrap()
        });
        ip(&format!("link set far0 netns {}", resident.id()));
        resident.kill().unwrap();
        resident.wait().unwrap();
        ip("addr add 203.0.113.1/24 dev wwan0");
        ip("link set wwan0 up");
        outside.run(|| {
            ip("addr add 203.0.113.2/24 dev far0");
            ip("link set far0 up");
            serve(80);
        });
        let there = Ipv4Addr::new(203, 0, 113, 2);
        assert_eq!(web.run(move || ask_tcp(there, 80).unwrap()), "203.0.113.1");
        networks.detach("web").await.unwrap();
        networks.destroy().await.unwrap();
        assert_eq!(listens(), "1\n", "as it was found");
    });
    drop(client);
}

/// Packets that are too large for the uplink are told of to whoever sends them (RFC 1191), also through NAT.
#[test]
fn an_uplink_with_smaller_packets_carries_large_answers() {
    const BYTES: usize = 200_000;
    let client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = started(state.path()).await;
        let (web, _) = attached(&mut network, "web", &[]).await;
        let sink = client.run(|| TcpListener::bind((CLIENT, 9)).unwrap());
        let heard = std::thread::spawn(move || {
            let (mut stream, _) = sink.accept().unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            bytes.len()
        });
        // A connection that is open already, as large as the old link allowed.
        let mut stream = web.run(|| TcpStream::connect((CLIENT, 9)).unwrap());
        stream.write_all(&[0; 1000]).unwrap();
        ip("link set wan0 mtu 1300");
        assert_eq!(mtu_of_first(&["nope", "wan0"]).await.unwrap(), Some(1300));
        stream.write_all(&vec![0; BYTES]).unwrap();
        drop(stream);
        assert_eq!(heard.join().unwrap(), BYTES + 1000);
        network.destroy().await.unwrap();
    });
}

#[test]
fn a_route_that_comes_later_and_leads_to_a_networks_addresses_is_found() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = Networks::open(config(), state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        assert!(networks.follow().await.overlaps.is_empty());
        ip("route add 172.16.0.0/12 via 198.51.100.2");
        let found = networks.follow().await.overlaps;
        let expected = (
            "bridge".to_owned(),
            "route 172.16.0.0/12 of wan0".to_owned(),
        );
        assert_eq!(found, [expected]);
        networks.destroy().await.unwrap();
    });
}

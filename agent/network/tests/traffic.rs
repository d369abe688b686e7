//! Who reaches whom, with real packets in throw-away namespaces. Needs root.

mod support;

use std::net::Ipv4Addr;

use coracle_network::{Network, Protocol, configure_loopback};
use support::*;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);

#[test]
fn a_container_reaches_the_outside_as_the_board() {
    let client = board();
    client.run(|| serve(7000));
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = Network::open(config(), state.path()).unwrap();
        let ensured = network.ensure().await.unwrap();
        assert!(ensured.bridge_created && ensured.forwarding_switched_on);
        let (container, _) = attached(&mut network, "web", &[]).await;
        container.run(move || {
            assert_eq!(ask_tcp(CLIENT, 7000).unwrap(), BOARD.to_string());
            assert_eq!(ask_udp(CLIENT, 7000).unwrap(), BOARD.to_string());
        });
    });
}

#[test]
fn published_ports_are_reached_from_outside_the_board_itself_and_neighbours() {
    let client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = Network::open(config(), state.path()).unwrap();
        network.ensure().await.unwrap();
        let ports = [
            port(None, 8080, 80, Protocol::Tcp),
            port(None, 8080, 80, Protocol::Udp),
            port(Some(BOARD), 8081, 80, Protocol::Tcp),
            port(Some(Ipv4Addr::LOCALHOST), 8082, 80, Protocol::Tcp),
        ];
        let (web, endpoint) = serving(&mut network, "web", &ports).await;
        let address = endpoint.ip;
        web.run(|| serve(81));
        let (neighbour, _) = attached(&mut network, "other", &[]).await;

        client.run(move || {
            assert_eq!(ask_tcp(BOARD, 8080).unwrap(), CLIENT.to_string());
            assert_eq!(ask_udp(BOARD, 8080).unwrap(), CLIENT.to_string());
            assert_eq!(ask_tcp(BOARD, 8081).unwrap(), CLIENT.to_string());
            assert!(ask_tcp(BOARD, 8082).is_err(), "published on loopback only");
            // Even with a route through the board, what isn't published is not there.
            ip("route add 172.30.0.0/16 via 198.51.100.1");
            assert_silent(address, 81);
            assert_silent(address, 80);
        });
        // The board itself, by every address that it has.
        for (at, port) in [
            (Ipv4Addr::LOCALHOST, 8080),
            (BOARD, 8080),
            (GATEWAY, 8080),
            (BOARD, 8081),
            (Ipv4Addr::LOCALHOST, 8082),
        ] {
            ask_tcp(at, port).unwrap_or_else(|e| panic!("TCP {at}:{port}: {e}"));
        }
        ask_udp(Ipv4Addr::LOCALHOST, 8080).unwrap();
        assert!(
            ask_tcp(Ipv4Addr::LOCALHOST, 8081).is_err(),
            "published on another address only"
        );
        // A neighbour directly and by the board's address; the container itself by the board's address.
        neighbour.run(move || {
            ask_tcp(address, 81).unwrap();
            ask_tcp(BOARD, 8080).unwrap();
            ask_udp(BOARD, 8080).unwrap();
        });
        web.run(|| {
            ask_tcp(BOARD, 8080).unwrap();
            ask_udp(BOARD, 8080).unwrap();
        });
    });
}

#[test]
fn a_container_reaches_the_boards_own_services_only_when_allowed() {
    for allowed in [false, true] {
        // A thread per case, since each becomes a board of its own.
        std::thread::spawn(move || {
            let _client = board();
            serve(7001);
            let state = tempfile::tempdir().unwrap();
            let mut config = config();
            config.allow_host_access = allowed;
            block_on(async {
                let mut network = Network::open(config, state.path()).unwrap();
                network.ensure().await.unwrap();
                let (container, _) = attached(&mut network, "web", &[]).await;
                container.run(move || {
                    for at in [GATEWAY, BOARD] {
                        if allowed {
                            ask_tcp(at, 7001).unwrap();
                            ask_udp(at, 7001).unwrap();
                        } else {
                            assert_silent(at, 7001);
                        }
                    }
                });
            });
        })
        .join()
        .unwrap();
    }
}

#[test]
fn a_container_cannot_reach_the_boards_loopback_nor_lie_about_its_address() {
    let client = board();
    serve(7002);
    let state = tempfile::tempdir().unwrap();
    let mut config = config();
    config.allow_host_access = true;
    block_on(async {
        let mut network = Network::open(config, state.path()).unwrap();
        network.ensure().await.unwrap();
        let (container, _) = attached(&mut network, "evil", &[]).await;
        container.run(move || {
            ask_tcp(GATEWAY, 7002).unwrap();
            // A container with CAP_NET_ADMIN sends 127.0.0.1 out of eth0 (CVE-2020-8558).
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
            ip("addr del 127.0.0.1/8 dev lo");
            ip("route flush table local type local 127.0.0.0/8");
            ip("route add 127.0.0.1/32 via 172.30.0.1 src 172.30.0.2");
            assert_silent(Ipv4Addr::LOCALHOST, 7002);
        });
        // A source address outside the subnet would leave the board untranslated: who hears what?
        let heard = |client: &Netns| client.run(|| listen_udp(7003));
        let sender = |container: &Netns| container.run(|| send_udp_soon(CLIENT, 7003));
        sender(&container);
        assert_eq!(heard(&client), Some(BOARD.to_string()));
        container.run(|| {
            ip("addr add 10.66.0.1/32 dev eth0");
            ip("route replace default via 172.30.0.1 src 10.66.0.1");
        });
        sender(&container);
        assert_eq!(heard(&client), None);
    });
}

#[test]
fn without_a_network_there_is_loopback() {
    let container = Netns::new();
    container.run(|| {
        ip("link set lo down");
        configure_loopback().unwrap();
        serve(9000);
        ask_tcp(Ipv4Addr::LOCALHOST, 9000).unwrap();
        assert!(ask_tcp(CLIENT, 9000).is_err());
    });
}

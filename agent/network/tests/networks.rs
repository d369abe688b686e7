//! Users' networks: who reaches whom on which, with real packets in throw-away namespaces. Needs root.

mod support;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use coracle_network::{
    Attachment, DEFAULT_NETWORK, Endpoint, Ipv6, NetworkRequest, Networks, Protocol, Rates, Wanted,
    configure_inside,
};
use support::*;

fn request(name: &str) -> NetworkRequest {
    NetworkRequest {
        name: name.into(),
        ..NetworkRequest::default()
    }
}

async fn networks(state: &std::path::Path) -> Networks {
    let mut networks = Networks::open(config(), state).unwrap();
    networks.reconcile(&[]).await.unwrap();
    networks
}

/// Attached and configured as at a launch.
async fn join(
    networks: &mut Networks,
    network: &str,
    app: &str,
    space: &Netns,
    wanted: Wanted<'_>,
) -> Endpoint {
    let endpoint = networks
        .connect(network, app, space.namespace(), &wanted)
        .await
        .unwrap();
    let place = endpoint.clone();
    space.run(move || configure_inside(&place).unwrap());
    endpoint
}

fn links() -> Vec<String> {
    let names = ip("-br link");
    let names = names.lines().filter_map(|l| l.split_whitespace().next());
    names
        .map(|n| n.split('@').next().unwrap().to_owned())
        .collect()
}

#[test]
fn members_reach_each_other_and_not_those_of_another_network() {
    let client = board();
    client.run(|| serve(7000));
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = networks(state.path()).await;
        networks.create(&request("front")).await.unwrap();
        networks.create(&request("back")).await.unwrap();
        let (a, b, c, d) = (Netns::new(), Netns::new(), Netns::new(), Netns::new());
        join(&mut networks, "front", "a", &a, Wanted::default()).await;
        let b_at = join(&mut networks, "front", "b", &b, Wanted::default()).await;
        let c_at = join(&mut networks, "back", "c", &c, Wanted::default()).await;
        let d_at = join(&mut networks, DEFAULT_NETWORK, "d", &d, Wanted::default()).await;
        for space in [&b, &c, &d] {
            space.run(|| serve(80));
        }
        let (c_ip, d_ip) = (c_at.ip, d_at.ip);
        a.run(move || {
            ask_tcp(b_at.ip, 80).unwrap();
            ask_udp(b_at.ip, 80).unwrap();
            assert_silent(c_ip, 80);
            assert_silent(d_ip, 80);
            assert_eq!(ask_tcp(CLIENT, 7000).unwrap(), BOARD.to_string());
        });
        d.run(move || assert_silent(c_ip, 80));
    });
}

#[test]
fn an_internal_network_has_no_way_out_and_none_in() {
    let client = board();
    client.run(|| serve(7000));
    serve(7001);
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = networks(state.path()).await;
        let inner = NetworkRequest {
            internal: true,
            ..request("inner")
        };
        networks.create(&inner).await.unwrap();
        let (a, b, out) = (Netns::new(), Netns::new(), Netns::new());
        let a_at = join(&mut networks, "inner", "a", &a, Wanted::default()).await;
        let b_at = join(&mut networks, "inner", "b", &b, Wanted::default()).await;
        let ports = [port(None, 8080, 80, Protocol::Tcp)];
        let wanted = Wanted {
            ports: &ports,
            ..Wanted::default()
        };
        join(&mut networks, DEFAULT_NETWORK, "out", &out, wanted.clone()).await;
        out.run(|| serve(80));
        b.run(|| serve(80));
        let (gateway, b_ip) = (a_at.gateway, b_at.ip);
        a.run(move || {
            ask_tcp(b_ip, 80).unwrap();
            // Even one that makes itself a default route.
            ip(&format!("route add default via {gateway}"));
            assert_silent(CLIENT, 7000);
            assert_silent(gateway, 7001);
            assert_silent(BOARD, 8080);
            send_udp_soon(CLIENT, 7003);
        });
        // Not even a packet that bears the container's own address leaves.
        assert_eq!(client.run(|| listen_udp(7003)), None);
        out.run(move || assert_silent(b_ip, 80));
        let refused = networks.connect("inner", "c", a.namespace(), &wanted).await;
        let why = refused.unwrap_err().to_string();
        assert_eq!(
            why,
            "port 8080/tcp is published by out already; c cannot have it"
        );
        let ports = [port(None, 8081, 80, Protocol::Tcp)];
        let wanted = Wanted {
            ports: &ports,
            ..Wanted::default()
        };
        let refused = networks.connect("inner", "c", a.namespace(), &wanted).await;
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .contains("internal network")
        );
    });
}

#[test]
fn addresses_macs_gateway_range_and_mtu_are_as_asked() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = networks(state.path()).await;
        let shaped = NetworkRequest {
            subnet: Some("10.50.0.0/16".parse().unwrap()),
            gateway: Some(Ipv4Addr::new(10, 50, 0, 254)),
            range: Some("10.50.9.0/30".parse().unwrap()),
            mtu: Some(1400),
            ..request("shaped")
        };
        networks.create(&shaped).await.unwrap();
        let (a, b) = (Netns::new(), Netns::new());
        let aliases = ["db".to_owned()];
        let fixed = Wanted {
            ip: Some(Ipv4Addr::new(10, 50, 1, 7)),
            mac: Some([0x02, 1, 2, 3, 4, 5]),
            interface: Some("lan0"),
            aliases: &aliases,
            ..Wanted::default()
        };
        join(&mut networks, "shaped", "a", &a, fixed.clone()).await;
        let (address, link, route) = a.run(|| {
            (
                ip("-br -4 addr show lan0"),
                ip("link show lan0"),
                ip("route"),
            )
        });
        assert!(address.contains("10.50.1.7/16"), "{address}");
        assert!(
            link.contains("mtu 1400") && link.contains("02:01:02:03:04:05"),
            "{link}"
        );
        assert!(route.contains("default via 10.50.0.254"), "{route}");
        let drawn = join(&mut networks, "shaped", "b", &b, Wanted::default()).await;
        assert_eq!(drawn.ip, Ipv4Addr::new(10, 50, 9, 0));

        let taken = networks
            .connect("shaped", "c", b.namespace(), &fixed)
            .await
            .unwrap_err();
        assert_eq!(taken.to_string(), "c cannot take 10.50.1.7: a has it");
        for wrong in [[10, 50, 0, 254], [10, 50, 0, 0], [10, 51, 0, 1]] {
            let wanted = Wanted {
                ip: Some(wrong.into()),
                ..Wanted::default()
            };
            networks
                .connect("shaped", "c", b.namespace(), &wanted)
                .await
                .unwrap_err();
        }
        let wanted = Wanted {
            mac: Some([1, 0, 0, 0, 0, 1]),
            ..Wanted::default()
        };
        networks
            .connect("shaped", "c", b.namespace(), &wanted)
            .await
            .unwrap_err();
    });
}

#[test]
fn a_subnet_that_the_board_routes_is_refused_and_another_is_picked_when_free_to() {
    let _client = board();
    ip("route add 10.89.0.0/23 via 198.51.100.2");
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = networks(state.path()).await;
        let before = (links(), nft_list());
        let wanted = NetworkRequest {
            subnet: Some("10.89.1.0/24".parse().unwrap()),
            ..request("mine")
        };
        assert_eq!(
            networks.create(&wanted).await.unwrap_err().to_string(),
            "subnet 10.89.1.0/24 overlaps the route 10.89.0.0/23 of wan0: give the network another subnet"
        );
        let wanted = NetworkRequest {
            subnet: Some("172.30.5.0/24".parse().unwrap()),
            ..request("mine")
        };
        assert_eq!(
            networks.create(&wanted).await.unwrap_err().to_string(),
            "subnet 172.30.5.0/24 overlaps 172.30.0.0/16 of network bridge"
        );
        assert_eq!((links(), nft_list()), before);
        let picked = networks.create(&request("mine")).await.unwrap();
        assert_eq!(picked.subnet.to_string(), "10.89.2.0/24");
        let next = networks.create(&request("other")).await.unwrap();
        assert_eq!(next.subnet.to_string(), "10.89.3.0/24");
        for name in ["mine", "host", DEFAULT_NETWORK, "A", "-a", ""] {
            networks.create(&request(name)).await.unwrap_err();
        }
    });
}

#[test]
fn one_container_is_on_several_networks_and_leaves_one_while_it_runs() {
    let client = board();
    client.run(|| serve(7000));
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = networks(state.path()).await;
        networks.create(&request("front")).await.unwrap();
        networks.create(&request("back")).await.unwrap();
        let (both, db) = (Netns::new(), Netns::new());
        join(&mut networks, "front", "both", &both, Wanted::default()).await;
        let db_at = join(&mut networks, "back", "db", &db, Wanted::default()).await;
        db.run(|| serve(80));
        both.run(move || assert_silent(db_at.ip, 80));
        // It runs already, so its side is done from here.
        let second = Wanted {
            interface: Some("eth1"),
            no_default_route: true,
            ..Wanted::default()
        };
        networks
            .connect_running("back", "both", both.namespace(), &second)
            .await
            .unwrap();
        both.run(move || {
            ask_tcp(db_at.ip, 80).unwrap();
            assert_eq!(ask_tcp(CLIENT, 7000).unwrap(), BOARD.to_string());
        });
        // This thread is back on the board.
        assert!(links().contains(&"wan0".to_owned()));
        assert_eq!(networks.attachments("both").len(), 2);
        let in_use = networks.remove("back").await.unwrap_err();
        assert_eq!(in_use.to_string(), "network back is used by both, db");

        networks.disconnect("back", "both").await.unwrap();
        both.run(move || {
            assert!(!links().contains(&"eth1".to_owned()));
            assert!(ask_tcp(db_at.ip, 80).is_err());
            ask_tcp(CLIENT, 7000).unwrap();
        });
        networks.detach("both").await.unwrap();
        networks.detach("db").await.unwrap();
        networks.remove("back").await.unwrap();
        assert_eq!(networks.list().len(), 1);
        networks.inspect("back").err().unwrap();
    });
}

#[test]
fn a_second_container_joins_the_namespace_of_the_first() {
    let client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = networks(state.path()).await;
        let owner = Netns::new();
        let ports = [
            port(None, 8080, 80, Protocol::Tcp),
            port(None, 8081, 81, Protocol::Tcp),
        ];
        let wanted = Wanted {
            ports: &ports,
            ..Wanted::default()
        };
        join(&mut networks, DEFAULT_NETWORK, "owner", &owner, wanted).await;
        owner.run(|| serve(80));
        // The guest is a process that was put into the owner's namespace; it has no place of its own.
        owner.run(|| {
            std::thread::spawn(|| {
                serve(81);
                ask_tcp(Ipv4Addr::LOCALHOST, 80).unwrap();
            })
            .join()
            .unwrap();
        });
        assert!(networks.attachments("guest").is_empty());
        client.run(|| {
            ask_tcp(BOARD, 8080).unwrap();
            ask_tcp(BOARD, 8081).unwrap();
        });
    });
}

#[test]
fn after_a_crash_networks_and_addresses_are_what_they_were() {
    let client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut first = networks(state.path()).await;
        first.create(&request("front")).await.unwrap();
        let (a, b) = (Netns::new(), Netns::new());
        let ports = [port(None, 8080, 80, Protocol::Tcp)];
        let rates = Rates {
            egress_bytes_per_second: Some(1 << 20),
            ..Rates::default()
        };
        let wanted = Wanted {
            ports: &ports,
            rates,
            ..Wanted::default()
        };
        let a_at = join(&mut first, "front", "a", &a, wanted).await;
        a.run(|| serve(80));
        let lost = join(&mut first, "front", "lost", &b, Wanted::default()).await;
        let (held, definitions) = (nft_list(), first.list().to_vec());
        drop(first);
        // A bridge whose definition was lost, as if the file had been damaged.
        ip("link add cor-n09 type bridge");

        let mut again = Networks::open(config(), state.path()).unwrap();
        assert_eq!(again.list(), definitions);
        let places: Vec<Attachment> = vec![Attachment {
            network: "front".into(),
            endpoint: a_at.clone(),
        }];
        // Kept as text, as a supervisor does.
        let places = serde_json::from_str(&serde_json::to_string(&places).unwrap()).unwrap();
        let done = again.reconcile(&[("a".to_owned(), places)]).await.unwrap();
        assert_eq!(done.removed_links, [lost.host_if]);
        assert!(!links().contains(&"cor-n09".to_owned()));
        assert_eq!(nft_list(), held);
        client.run(|| ask_tcp(BOARD, 8080).unwrap());
        // The one that lives keeps its address for itself.
        let c = Netns::new();
        let next = join(&mut again, "front", "c", &c, Wanted::default()).await;
        assert_ne!(next.ip, a_at.ip);
    });
}

#[test]
fn removing_everything_leaves_the_board_as_it_was() {
    let _client = board();
    for switch in ["forwarding", "accept_ra"] {
        let path = format!("/proc/sys/net/ipv6/conf/wan0/{switch}");
        std::fs::write(path, if switch == "forwarding" { "0" } else { "1" }).unwrap();
    }
    std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "0").unwrap();
    let switches = || {
        [
            "ipv4/ip_forward",
            "ipv6/conf/all/forwarding",
            "ipv6/conf/wan0/accept_ra",
        ]
        .map(|name| std::fs::read_to_string(format!("/proc/sys/net/{name}")).unwrap())
    };
    // Set and cleared by the kernel when it gets to it.
    let routes = || [ip("route"), ip("-6 route")].map(|text| text.replace(" linkdown", ""));
    let before = (links(), nft_list(), routes(), switches());
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = networks(state.path()).await;
        networks.create(&request("front")).await.unwrap();
        let back = NetworkRequest {
            ipv6: Ipv6::Off,
            ..request("back")
        };
        networks.create(&back).await.unwrap();
        // A board that forwards IPv6 goes on to believe its own routers.
        assert_eq!(switches().map(|s| s.trim().to_owned()), ["1", "1", "2"]);
        let a = Netns::new();
        let rates = Rates {
            egress_bytes_per_second: Some(1 << 20),
            ingress_bytes_per_second: Some(1 << 20),
        };
        let wanted = Wanted {
            rates,
            ..Wanted::default()
        };
        join(&mut networks, "front", "a", &a, wanted).await;
        networks.destroy().await.unwrap();
    });
    assert_eq!((links(), nft_list(), routes(), switches()), before);
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0);
}

fn ask6(at: SocketAddr, wait_ms: u64) -> std::io::Result<String> {
    let wait = Duration::from_millis(wait_ms);
    let mut stream = TcpStream::connect_timeout(&at, wait)?;
    stream.set_read_timeout(Some(wait))?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream, &mut text)?;
    Ok(text)
}

fn serve6(port: u16) {
    let listener = TcpListener::bind(("::", port)).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let _ = std::io::Write::write_all(&mut stream, peer.ip().to_string().as_bytes());
        }
    });
}

#[test]
fn ipv6_leaves_as_the_board_comes_in_by_published_ports_and_keeps_the_walls() {
    let client = board();
    ip("-6 addr add 2001:db8::1/64 dev wan0 nodad");
    client.run(|| {
        ip("-6 addr add 2001:db8::2/64 dev out0 nodad");
        serve6(7000);
    });
    serve6(7001);
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = networks(state.path()).await;
        let front = networks.create(&request("front")).await.unwrap();
        assert!(front.subnet6.unwrap().addr().is_unique_local());
        networks.create(&request("back")).await.unwrap();
        let (a, b, c) = (Netns::new(), Netns::new(), Netns::new());
        let at = |text: &str, port| SocketAddr::new(text.parse().unwrap(), port);
        let ports: Vec<_> = ["8080:80", "[2001:db8::1]:8081:80", "0.0.0.0:8082:80"]
            .iter()
            .flat_map(|p| coracle_network::PublishedPort::parse(p).unwrap())
            .collect();
        let wanted = Wanted {
            ports: &ports,
            ..Wanted::default()
        };
        let a_at = join(&mut networks, "front", "a", &a, wanted).await;
        join(&mut networks, "front", "b", &b, Wanted::default()).await;
        join(&mut networks, "back", "c", &c, Wanted::default()).await;
        a.run(|| serve6(80));
        let six = a_at.ipv6.unwrap();
        assert!(front.subnet6.unwrap().contains(&six.ip));
        let a_ip = SocketAddr::new(six.ip.into(), 80);
        let gateway = SocketAddr::new(six.gateway.into(), 7001);
        a.run(move || {
            assert_eq!(ask6(at("2001:db8::2", 7000), 3000).unwrap(), "2001:db8::1");
            ask6(gateway, 400).unwrap_err();
            ask6(at("2001:db8::1", 7001), 400).unwrap_err();
            // Hairpin.
            ask6(at("2001:db8::1", 8080), 3000).unwrap();
        });
        client.run(move || {
            assert_eq!(ask6(at("2001:db8::1", 8080), 3000).unwrap(), "2001:db8::2");
            assert_eq!(ask6(at("2001:db8::1", 8081), 3000).unwrap(), "2001:db8::2");
            ask6(at("2001:db8::1", 8082), 400).unwrap_err();
            ask_tcp(BOARD, 8080).unwrap();
            ask_tcp(BOARD, 8082).unwrap();
            ip(&format!("-6 route add {} via 2001:db8::1", a_ip.ip()));
            ask6(a_ip, 400).unwrap_err();
        });
        ask6(at("2001:db8::1", 8080), 3000).unwrap();
        b.run(move || {
            ask6(a_ip, 3000).unwrap();
            // Hairpin of a neighbour.
            ask6(at("2001:db8::1", 8080), 3000).unwrap();
        });
        c.run(move || {
            ask6(a_ip, 400).unwrap_err();
        });
        // An internal network: among themselves, and not even with a default route of their own.
        let inner = NetworkRequest {
            internal: true,
            ..request("inner")
        };
        networks.create(&inner).await.unwrap();
        let (d, e) = (Netns::new(), Netns::new());
        let d_at = join(&mut networks, "inner", "d", &d, Wanted::default()).await;
        join(&mut networks, "inner", "e", &e, Wanted::default()).await;
        d.run(|| serve6(80));
        let d_six = d_at.ipv6.unwrap();
        let d_ip = SocketAddr::new(d_six.ip.into(), 80);
        e.run(move || {
            ask6(d_ip, 3000).unwrap();
            ip(&format!("-6 route add default via {}", d_six.gateway));
            ask6(at("2001:db8::2", 7000), 400).unwrap_err();
            ask6(at("2001:db8::1", 8080), 400).unwrap_err();
            ask6(SocketAddr::new(d_six.gateway.into(), 7001), 400).unwrap_err();
        });
        c.run(move || {
            ask6(d_ip, 400).unwrap_err();
        });
        client.run(move || {
            ip(&format!("-6 route add {} via 2001:db8::1", d_ip.ip()));
            ask6(d_ip, 400).unwrap_err();
        });
    });
}

//! What remains, and what does not: detach, destroy, restart, collisions, addresses. Needs root.

mod support;

use std::net::Ipv4Addr;

use coracle_network::{
    DEFAULT_NETWORK, Endpoint, Namespace, Network, NetworkError, Networks, Protocol, Wanted,
    configure_inside,
};
use support::*;

/// Interfaces, addresses, routes and rules of this thread's namespace. Link numbers count up, so they are left out.
fn state_of_the_board() -> String {
    let links: Vec<String> = ip("-br link")
        .lines()
        .filter_map(|l| l.split_whitespace().next())
        .map(|name| name.split('@').next().unwrap().to_owned())
        .collect();
    // Whether a bridge without ports counts as up differs from one that never had any.
    let addresses = ip("-br -4 addr").replace("DOWN", "").replace("UP", "");
    let addresses: Vec<&str> = addresses.split_whitespace().collect();
    let routes = ip("route").replace(" linkdown", "");
    let forwarding = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    format!(
        "{links:?}\n{addresses:?}\n{routes}\n{}\n{forwarding}",
        nft_list()
    )
}

#[test]
fn detach_and_destroy_leave_nothing() {
    let client = board();
    let before = state_of_the_board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = started(state.path()).await;
        let empty = state_of_the_board();
        let ports = [
            port(None, 8080, 80, Protocol::Tcp),
            port(Some(BOARD), 53, 53, Protocol::Udp),
        ];
        let _container = serving(&mut network, "web", &ports).await;
        client.run(|| ask_tcp(BOARD, 8080).unwrap());
        let listed = nft_list();
        assert!(
            listed.contains("tcp . 8080 comment \"web\" : 172.30.0.2 . 80"),
            "{listed}"
        );
        assert!(
            listed.contains("198.51.100.1 . udp . 53 comment \"web\" : 172.30.0.2 . 53"),
            "{listed}"
        );

        network.detach("web").await.unwrap();
        assert_eq!(state_of_the_board(), empty);
        client.run(|| assert!(ask_tcp(BOARD, 8080).is_err()));
        network.detach("web").await.unwrap();

        network.destroy().await.unwrap();
        assert_eq!(state_of_the_board(), before);
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0);
    });
}

#[test]
fn a_restart_keeps_the_living_and_removes_the_rest() {
    let client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let (orphan, gone) = (Netns::new(), Netns::new());
        let mut network = started(state.path()).await;
        let ports = [port(None, 8080, 80, Protocol::Tcp)];
        let (_live, endpoint) = serving(&mut network, "live", &ports).await;
        let ports = [port(None, 9090, 80, Protocol::Tcp)];
        let orphaned = network
            .attach("orphan", orphan.namespace(), &ports)
            .await
            .unwrap();
        let lost = network.attach("gone", gone.namespace(), &[]).await.unwrap();
        // Killed here: a veth half made, one whose container went away, and an admin who flushed the rules.
        drop(network);
        drop(gone);
        for _ in 0..50 {
            if !ip("-br link").contains(&lost.host_if) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        ip(&format!(
            "link add {}ac1e0099 type veth peer name half",
            config().ifname_prefix
        ));
        ip(&format!(
            "link add {}foreign type veth peer name theirs",
            config().ifname_prefix
        ));
        output("nft", &["delete", "table", "inet", "coracle-cor0"]);

        let mut network = Network::open(config(), state.path()).unwrap();
        let known = [
            ("live".to_owned(), endpoint.clone()),
            ("gone".to_owned(), lost.clone()),
        ];
        let done = network.reconcile(&known).await.unwrap();
        assert!(!done.ensured.bridge_created);
        assert_eq!(done.without_link, ["gone"]);
        let mut removed = done.removed_links;
        removed.sort();
        assert_eq!(
            removed,
            [
                orphaned.host_if.clone(),
                format!("{}ac1e0099", config().ifname_prefix)
            ]
        );

        let listed = nft_list();
        assert!(listed.contains("table inet coracle-cor0"), "{listed}");
        assert!(!listed.contains("9090"), "{listed}");
        let links = ip("-br link");
        assert!(
            links.contains(&endpoint.host_if) && !links.contains(&orphaned.host_if),
            "{links}"
        );
        assert!(
            links.contains("theirs"),
            "another's interface was removed:\n{links}"
        );
        client.run(|| ask_tcp(BOARD, 8080).unwrap());
        // The one that lost its link is taken away and comes back at its address.
        network.detach("gone").await.unwrap();
        let again = Netns::new();
        let back = network
            .attach("gone", again.namespace(), &[])
            .await
            .unwrap();
        assert_eq!(back, lost);
    });
}

#[test]
fn an_ended_apps_interface_goes_by_itself_and_its_name_is_not_waited_for() {
    let client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = started(state.path()).await;
        let empty = state_of_the_board();
        let ports = [port(None, 8080, 80, Protocol::Tcp)];
        // Its namespace lives on, as if somebody held it: the worst that can be.
        let (held, first) = attached(&mut network, "web", &ports).await;
        network.ended("web").await.unwrap();
        assert!(ip("-br link").contains(&first.host_if));
        assert!(!nft_list().contains("8080"), "{}", nft_list());
        // At once, with the same addresses and doors.
        let (_again, second) = serving(&mut network, "web", &ports).await;
        assert_eq!((first.ip, first.mac), (second.ip, second.mac));
        assert_ne!(first.host_if, second.host_if);
        client.run(|| ask_tcp(BOARD, 8080).unwrap());
        // What does not go by itself is swept with the next start.
        drop(network);
        let mut network = Network::open(config(), state.path()).unwrap();
        let known = [("web".to_owned(), second.clone())];
        let done = network.reconcile(&known).await.unwrap();
        assert_eq!(done.removed_links, [first.host_if]);
        client.run(|| ask_tcp(BOARD, 8080).unwrap());
        drop(held);
        network.detach("web").await.unwrap();
        assert_eq!(state_of_the_board(), empty);
    });
}

#[test]
fn an_ended_apps_address_is_the_next_ones_once_it_is_heard_no_more() {
    let client = board();
    client.run(|| serve(7000));
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = started(state.path()).await;
        // Its namespace lives on.
        let (held, first) = attached(&mut network, "web", &[]).await;
        held.run(|| ask_tcp(CLIENT, 7000).unwrap());
        network.ended("web").await.unwrap();
        let ip = Some(first.ip);
        let (other, wanted) = (
            Netns::new(),
            Wanted {
                ip,
                ..Wanted::default()
            },
        );
        let place = network.attach_as("other", other.namespace(), &wanted);
        let place = place.await.unwrap();
        other.run(move || configure_inside(&place).unwrap());
        held.run(|| assert_silent(CLIENT, 7000));
        other.run(|| ask_tcp(CLIENT, 7000).unwrap());
        // Without anybody who wants its place it is seen to as well.
        network.ended("other").await.unwrap();
        network.mend().await.unwrap();
        other.run(|| assert_silent(CLIENT, 7000));
        network.destroy().await.unwrap();
    });
}

#[test]
fn a_name_that_is_free_again_is_the_next_apps_alone() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = Networks::open(config(), state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        let any = Wanted::default();
        let web = Netns::new();
        let place = networks.connect(DEFAULT_NETWORK, "web", web.namespace(), &any);
        let first = place.await.unwrap();
        drop(web);
        for _ in 0..200 {
            if !ip("-br link").contains(&first.host_if) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        networks.ended("web").await.unwrap();
        let web = Netns::new();
        let place = networks.connect(DEFAULT_NETWORK, "web", web.namespace(), &any);
        assert_eq!(place.await.unwrap(), first);
        // What sees to the ended ones leaves it alone.
        networks.follow().await;
        assert!(ip("-br link").contains(&first.host_if));
        networks.detach("web").await.unwrap();
        networks.destroy().await.unwrap();
    });
}

#[test]
fn opening_again_without_reconcile_leaves_running_ports_alone() {
    let client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = started(state.path()).await;
        let ports = [port(None, 8080, 80, Protocol::Tcp)];
        let _container = serving(&mut network, "web", &ports).await;
        drop(network);
        let mut network = Network::open(config(), state.path()).unwrap();
        network.ensure().await.unwrap();
        client.run(|| ask_tcp(BOARD, 8080).unwrap());
    });
}

#[test]
fn a_flushed_ruleset_is_made_again_with_the_next_port() {
    let client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = started(state.path()).await;
        let wanted = nft_list();
        output("nft", &["flush", "ruleset"]);
        network.ensure().await.unwrap();
        assert_eq!(nft_list(), wanted);
        output("nft", &["flush", "ruleset"]);
        let ports = [port(None, 8080, 80, Protocol::Tcp)];
        let _container = serving(&mut network, "web", &ports).await;
        client.run(|| ask_tcp(BOARD, 8080).unwrap());
    });
}

#[test]
fn a_taken_port_is_refused_with_its_owner_and_nothing_is_left_of_a_failed_attach() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = started(state.path()).await;
        let (a, b) = (Netns::new(), Netns::new());
        let every = port(None, 8080, 80, Protocol::Tcp);
        network
            .attach("web", a.namespace(), &[every])
            .await
            .unwrap();
        let before = state_of_the_board();
        let one = port(Some(Ipv4Addr::LOCALHOST), 8080, 81, Protocol::Tcp);
        let error = network
            .attach("shop", b.namespace(), &[one])
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "port 127.0.0.1:8080/tcp is published by web already; shop cannot have it"
        );
        assert!(matches!(
            network.attach("web", b.namespace(), &[]).await,
            Err(NetworkError::Attached { .. })
        ));
        // No such process: the veth cannot be made.
        let udp = port(None, 8080, 80, Protocol::Udp);
        network
            .attach("late", Namespace::Pid(u32::MAX / 4), &[udp])
            .await
            .unwrap_err();
        assert!(network.endpoint("late").is_none());
        assert_eq!(state_of_the_board(), before);
        // Another transport is another port.
        network.attach("shop", b.namespace(), &[udp]).await.unwrap();
    });
}

#[test]
fn an_app_keeps_its_address_over_detach_and_restart() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut first: Vec<Endpoint> = Vec::new();
        for round in 0..2 {
            let mut network = started(state.path()).await;
            let spaces: Vec<Netns> = (0..3).map(|_| Netns::new()).collect();
            // The second time in another order.
            let order = if round == 0 { [0, 1, 2] } else { [2, 0, 1] };
            let mut places = vec![None; 3];
            for n in order {
                let app = format!("app{n}");
                places[n] = Some(
                    network
                        .attach(&app, spaces[n].namespace(), &[])
                        .await
                        .unwrap(),
                );
            }
            let places: Vec<Endpoint> = places.into_iter().flatten().collect();
            if round == 0 {
                first = places;
            } else {
                assert_eq!(first, places);
            }
        }
    });
}

#[test]
fn a_subnet_that_something_else_routes_is_refused_with_the_route() {
    let _client = board();
    ip("route add 172.16.0.0/12 via 198.51.100.2");
    let before = state_of_the_board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = Network::open(config(), state.path()).unwrap();
        let error = network.ensure().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "subnet 172.30.0.0/16 overlaps the route 172.16.0.0/12 of wan0: give the network another subnet"
        );
        assert_eq!(state_of_the_board(), before);
    });
}

#[test]
fn another_programs_interface_of_that_name_is_left_alone() {
    let _client = board();
    ip("link add cor0 type veth peer name x");
    let before = state_of_the_board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = Network::open(config(), state.path()).unwrap();
        let error = network.ensure().await.unwrap_err().to_string();
        assert!(error.contains("cor0 is a veth, not a bridge"), "{error}");
        network.destroy().await.unwrap();
        assert_eq!(state_of_the_board(), before);
    });
}

#[test]
fn as_many_ports_as_are_allowed_go_in_and_out() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = started(state.path()).await;
        let app = "a".repeat(100);
        let ports: Vec<_> = (1..=256)
            .map(|n| port(Some(BOARD), n, n, Protocol::Tcp))
            .collect();
        let container = Netns::new();
        network
            .attach(&app, container.namespace(), &ports)
            .await
            .unwrap();
        assert_eq!(nft_list().matches("198.51.100.1 . tcp").count(), 256);
        network.detach(&app).await.unwrap();
        assert_eq!(nft_list().matches("198.51.100.1 . tcp").count(), 0);
    });
}

#[test]
fn taking_everything_away_goes_on_after_errors_and_tells_all_of_them() {
    let _client = board();
    let before = state_of_the_board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = Networks::open(config(), state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        for name in ["one", "two"] {
            let request = coracle_network::NetworkRequest {
                name: name.into(),
                ..Default::default()
            };
            networks.create(&request).await.unwrap();
        }
        let web = Netns::new();
        let any = Wanted::default();
        let place = networks.connect(DEFAULT_NETWORK, "web", web.namespace(), &any);
        place.await.unwrap();
        // Two files that cannot be removed.
        let pools =
            ["network-cor0.json", "network-cor-n02.json"].map(|name| state.path().join(name));
        for pool in &pools {
            if pool.exists() {
                std::fs::remove_file(pool).unwrap();
            }
            std::fs::create_dir(pool).unwrap();
        }
        let error = networks.destroy().await.unwrap_err();
        let NetworkError::Several(errors) = &error else {
            panic!("{error}");
        };
        assert_eq!(errors.len(), 2, "{error}");
        for pool in &pools {
            assert!(
                error.to_string().contains(&pool.display().to_string()),
                "{error}"
            );
        }
        // All the rest has gone.
        assert_eq!(state_of_the_board(), before);
        // What stayed is known to the next one, which ends it.
        for pool in &pools {
            std::fs::remove_dir(pool).unwrap();
        }
        let networks = Networks::open(config(), state.path()).unwrap();
        networks.destroy().await.unwrap();
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0);
    });
}

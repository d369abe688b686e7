//! The board's own switches: what is set as the board's profile says, what is left alone, and that everything is given back.
//! Needs root and `ethtool`.

mod support;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

use coracle_network::{
    BoardPolicy, DEFAULT_NETWORK, Endpoint, Ipv6, NetworkError, NetworkRequest, Networks, Offload,
    Offloads, Protocol, Wanted, configure_inside,
};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use support::*;

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
const FORWARDING6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
const BRIDGE_NF: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

/// What `ethtool` says of a link of this thread's namespace.
fn features(link: &str) -> BTreeMap<String, bool> {
    let text = output("ethtool", &["-k", link]);
    let pairs = text.lines().filter_map(|line| line.split_once(": "));
    pairs
        .map(|(name, value)| (name.trim().to_owned(), value.starts_with("on")))
        .collect()
}

/// Of those with a short name.
fn is_on(link: &str, offload: Offload) -> bool {
    features(link)[match offload {
        Offload::Tso => "tcp-segmentation-offload",
        Offload::Gso => "generic-segmentation-offload",
        Offload::Gro => "generic-receive-offload",
        Offload::TxChecksum => "tx-checksumming",
        Offload::RxChecksum => "rx-checksumming",
    }]
}

fn for_links(start: &'static str, wanted: &[(Offload, bool)]) -> BoardPolicy {
    let wanted = wanted.to_vec();
    let of = move |link: &str| -> Offloads {
        match link.starts_with(start) {
            true => wanted.clone(),
            false => Vec::new(),
        }
    };
    BoardPolicy {
        offloads_of: Some(Arc::new(of)),
        ..BoardPolicy::default()
    }
}

async fn opened(state: &Path, policy: BoardPolicy) -> Networks {
    let networks = Networks::open(config(), state).unwrap();
    let mut networks = networks.with_policy(policy);
    networks.reconcile(&[]).await.unwrap();
    networks
}

async fn joined(networks: &mut Networks, network: &str, app: &str) -> (Netns, Endpoint) {
    let space = Netns::new();
    let any = Wanted::default();
    let place = networks.connect(network, app, space.namespace(), &any);
    let place = place.await.unwrap();
    let inside = place.clone();
    space.run(move || configure_inside(&inside).unwrap());
    (space, place)
}

fn read(switch: &str) -> String {
    std::fs::read_to_string(switch).unwrap().trim().to_owned()
}

fn named(name: &str) -> NetworkRequest {
    NetworkRequest {
        name: name.into(),
        ..NetworkRequest::default()
    }
}

#[test]
fn links_do_for_the_processor_what_the_policy_says_and_get_it_back() {
    let client = board();
    client.run(|| serve(7000));
    ip("link add lan0 type veth peer name far0");
    let before = (features("wan0"), features("lan0"));
    for offload in [Offload::Tso, Offload::TxChecksum, Offload::RxChecksum] {
        assert!(is_on("wan0", offload), "{offload:?}");
    }
    let state = tempfile::tempdir().unwrap();
    let wanted = [
        (Offload::TxChecksum, false),
        (Offload::RxChecksum, false),
        (Offload::Gro, true),
    ];
    block_on(async {
        let mut networks = opened(state.path(), for_links("wan", &wanted)).await;
        let as_wanted = |link: &str| {
            for (offload, on) in wanted {
                assert_eq!(is_on(link, offload), on, "{offload:?} of {link}");
            }
            // The kernel cuts no TCP packets whose checksums it may not leave to the link.
            assert!(!features(link)["tx-tcp-segmentation"]);
        };
        as_wanted("wan0");
        assert_eq!(features("lan0"), before.1);
        let (web, _) = joined(&mut networks, DEFAULT_NETWORK, "web").await;
        assert_eq!(
            web.run(|| ask_tcp(CLIENT, 7000).unwrap()),
            BOARD.to_string()
        );

        // Somebody switches it on again; udev gives another name; an adapter comes late.
        output("ethtool", &["-K", "wan0", "tx", "on"]);
        assert!(is_on("wan0", Offload::TxChecksum));
        networks.follow().await;
        as_wanted("wan0");
        ip("link set wan0 down");
        ip("link set wan0 name wanted0");
        ip("link set wanted0 up");
        ip("link add wan1 type veth peer name far1");
        let late = features("wan1");
        networks.follow().await;
        as_wanted("wanted0");
        as_wanted("wan1");

        // Killed, and the site has other wishes: what was changed is given back, also under another name.
        drop(networks);
        let mut networks = opened(state.path(), for_links("wan1", &wanted[..1])).await;
        assert_eq!(features("wanted0"), before.0);
        assert!(!is_on("wan1", Offload::TxChecksum) && is_on("wan1", Offload::RxChecksum));
        networks.detach("web").await.unwrap();
        networks.destroy().await.unwrap();
        assert_eq!(features("wan1"), late);
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0);
    });
}

#[test]
fn how_all_links_were_found_is_written_once_and_before_anything_is_switched() {
    let _client = board();
    for n in 1..=4 {
        ip(&format!("link add wan{n} type veth peer name far{n}"));
    }
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("board-switches.json");
    let wanted = [
        (Offload::TxChecksum, false),
        (Offload::RxChecksum, false),
        (Offload::Gro, false),
    ];
    let all = || (1..=4).flat_map(|n| wanted.map(|(what, _)| is_on(&format!("wan{n}"), what)));
    assert!(all().any(|on| on));
    let before: Vec<bool> = all().collect();
    let renamed = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
    let events = AddWatchFlags::IN_MOVED_TO;
    renamed.add_watch(state.path(), events).unwrap();
    let writes = || {
        let events = renamed.read_events().unwrap_or_default();
        let names = events.into_iter().filter_map(|event| event.name);
        names.filter(|name| name == "board-switches.json").count()
    };
    block_on(async {
        // What cannot be written down is not switched.
        let beside = file.with_extension("json.new");
        std::fs::create_dir(&beside).unwrap();
        let mut networks = opened(state.path(), for_links("wan", &wanted)).await;
        assert_eq!(all().collect::<Vec<_>>(), before);
        std::fs::remove_dir(&beside).unwrap();

        writes();
        networks.follow().await;
        assert!(all().all(|on| !on));
        assert_eq!(writes(), 1);
        networks.follow().await;
        assert_eq!(writes(), 0);
        drop(networks);
        let networks = opened(state.path(), BoardPolicy::default()).await;
        assert_eq!(writes(), 1);
        assert_eq!(all().collect::<Vec<_>>(), before);
        networks.destroy().await.unwrap();
    });
}

#[test]
fn both_ends_of_an_apps_link_are_as_the_policy_says() {
    let client = board();
    client.run(|| serve(7000));
    let state = tempfile::tempdir().unwrap();
    let policy = BoardPolicy {
        app_offloads: vec![(Offload::TxChecksum, false), (Offload::Gro, true)],
        ..BoardPolicy::default()
    };
    block_on(async {
        let mut networks = opened(state.path(), policy).await;
        networks.create(&named("front")).await.unwrap();
        for network in [DEFAULT_NETWORK, "front"] {
            let (web, place) = joined(&mut networks, network, "web").await;
            let host = move || {
                let link = &place.host_if;
                (
                    is_on(link, Offload::TxChecksum),
                    is_on(link, Offload::Gro),
                    is_on(link, Offload::RxChecksum),
                )
            };
            assert_eq!(host(), (false, true, true), "{network}");
            let inside = web.run(|| {
                (
                    is_on("eth0", Offload::TxChecksum),
                    is_on("eth0", Offload::Gro),
                    is_on("eth0", Offload::RxChecksum),
                )
            });
            assert_eq!(inside, (false, true, true), "{network}");
            assert_eq!(
                web.run(|| ask_tcp(CLIENT, 7000).unwrap()),
                BOARD.to_string()
            );
            networks.detach("web").await.unwrap();
        }
        networks.destroy().await.unwrap();
    });
}

#[test]
fn what_a_driver_does_not_do_keeps_nothing_else_from_being_done() {
    let _client = board();
    // Its driver has checksums of what is received in no way, and says so.
    ip("tuntap add dev wan7 mode tap");
    assert!(output("ethtool", &["-k", "wan7"]).contains("rx-checksumming: off [fixed]"));
    let tso = is_on("wan7", Offload::Tso);
    let state = tempfile::tempdir().unwrap();
    let wanted = [
        (Offload::RxChecksum, true),
        (Offload::Gro, false),
        (Offload::Tso, !tso),
    ];
    let gro = is_on("wan7", Offload::Gro);
    assert!(gro);
    block_on(async {
        let networks = opened(state.path(), for_links("wan7", &wanted)).await;
        assert!(!is_on("wan7", Offload::RxChecksum) && !is_on("wan7", Offload::Gro));
        networks.destroy().await.unwrap();
        assert!(is_on("wan7", Offload::Gro));
        assert_eq!(is_on("wan7", Offload::Tso), tso);
    });
}

#[test]
fn notes_that_cannot_be_read_are_set_aside_and_those_of_another_boot_mean_nothing() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("board-switches.json");
    block_on(async {
        let aside = file.with_extension("json.bad");
        // A folder stands for a file that the disk does not give any more.
        std::fs::create_dir(&file).unwrap();
        let networks = opened(state.path(), BoardPolicy::default()).await;
        assert!(!file.exists() && aside.is_dir());
        networks.destroy().await.unwrap();
        std::fs::remove_dir(&aside).unwrap();

        std::fs::write(&file, "[").unwrap();
        let networks = opened(state.path(), BoardPolicy::default()).await;
        assert!(!file.exists() && aside.exists());
        networks.destroy().await.unwrap();

        let index = ip("-o link show wan0");
        let index = index.split(':').next().unwrap().to_owned();
        let earlier = format!(
            "{{\"version\":1,\"boot\":\"another\",\"offloads\":[{{\"link\":{index},\"offload\":\"rx-checksum\",\"was\":false}}],\"bridge_nf\":[]}}"
        );
        std::fs::write(&file, earlier).unwrap();
        let networks = opened(state.path(), BoardPolicy::default()).await;
        assert!(is_on("wan0", Offload::RxChecksum));
        networks.destroy().await.unwrap();
        assert!(!file.exists());
    });
}

#[test]
fn forwarding_that_is_the_boards_own_affair_is_never_written_and_what_needs_it_is_refused() {
    let client = board();
    client.run(|| serve(7000));
    std::fs::write(FORWARDING6, "0").unwrap();
    let state = tempfile::tempdir().unwrap();
    let keep = || BoardPolicy {
        keep_forwarding: true,
        ..BoardPolicy::default()
    };
    let words = |error: NetworkError| error.to_string();
    block_on(async {
        let mut networks = opened(state.path(), keep()).await;
        let refused = networks.create(&named("front")).await.map_err(words);
        let reason = refused.unwrap_err();
        assert!(reason.contains("net.ipv4.ip_forward = 1"), "{reason}");
        assert!(reason.contains("forwarding = \"keep\""), "{reason}");
        assert!(networks.leads_out().is_err());
        assert!(!ip("-br link").contains("cor-n"));
        // Who wants no way out needs none.
        let inner = NetworkRequest {
            internal: true,
            ..named("inner")
        };
        let inner = networks.create(&inner).await.unwrap();
        assert!(inner.subnet6.is_some());
        let (a, _) = joined(&mut networks, "inner", "a").await;
        let (b, b_at) = joined(&mut networks, "inner", "b").await;
        b.run(|| serve(80));
        a.run(move || ask_tcp(b_at.ip, 80).unwrap());
        assert_eq!(
            (read(FORWARDING), read(FORWARDING6)),
            ("0".into(), "0".into())
        );

        // The board's administrator does it.
        std::fs::write(FORWARDING, "1").unwrap();
        let six = NetworkRequest {
            ipv6: Ipv6::Subnet("fd00:90::/64".parse().unwrap()),
            ..named("six")
        };
        let reason = networks.create(&six).await.map_err(words).unwrap_err();
        assert!(
            reason.contains("net.ipv6.conf.all.forwarding = 1"),
            "{reason}"
        );
        let front = networks.create(&named("front")).await.unwrap();
        assert_eq!(front.subnet6, None, "addresses that lead nowhere");
        let (web, _) = joined(&mut networks, "front", "web").await;
        assert_eq!(
            web.run(|| ask_tcp(CLIENT, 7000).unwrap()),
            BOARD.to_string()
        );
        for app in ["a", "b", "web"] {
            networks.detach(app).await.unwrap();
        }
        networks.destroy().await.unwrap();
        assert_eq!(
            (read(FORWARDING), read(FORWARDING6)),
            ("1".into(), "0".into())
        );

        // What Coracle switched on before a site said so is the board's from then on.
        std::fs::write(FORWARDING, "0").unwrap();
        let mut networks = opened(state.path(), BoardPolicy::default()).await;
        networks.create(&named("front")).await.unwrap();
        assert_eq!(
            (read(FORWARDING), read(FORWARDING6)),
            ("1".into(), "1".into())
        );
        drop(networks);
        let networks = opened(state.path(), keep()).await;
        networks.destroy().await.unwrap();
        assert_eq!(
            (read(FORWARDING), read(FORWARDING6)),
            ("1".into(), "1".into())
        );
    });
}

#[test]
fn other_programs_rules_are_kept_from_neighbours_where_the_policy_says_so() {
    let client = board();
    client.run(|| serve(7000));
    assert!(
        Path::new(BRIDGE_NF).exists(),
        "the kernel needs CONFIG_BRIDGE_NETFILTER for this test"
    );
    std::fs::write(BRIDGE_NF, "1").unwrap();
    // As a firewall that lets nothing through that it does not know.
    output("nft", &["add", "table", "ip", "theirs"]);
    let chain = "add chain ip theirs forward { type filter hook forward priority 0; policy drop; }";
    output("nft", &chain.split(' ').collect::<Vec<_>>());
    let state = tempfile::tempdir().unwrap();
    let off = BoardPolicy {
        bridge_nf_off: true,
        ..BoardPolicy::default()
    };
    block_on(async {
        for (policy, reaches) in [(BoardPolicy::default(), false), (off, true)] {
            let mut networks = opened(state.path(), policy.clone()).await;
            assert_eq!(read(BRIDGE_NF) == "0", reaches);
            let (a, _) = joined(&mut networks, DEFAULT_NETWORK, "a").await;
            let ports = [port(None, 8080, 80, Protocol::Tcp)];
            let b = Netns::new();
            let wanted = Wanted {
                ports: &ports,
                ..Wanted::default()
            };
            let b_at = networks.connect(DEFAULT_NETWORK, "b", b.namespace(), &wanted);
            let b_at = b_at.await.unwrap();
            let at: Ipv4Addr = b_at.ip;
            b.run(move || {
                configure_inside(&b_at).unwrap();
                serve(80);
            });
            if reaches {
                a.run(move || ask_tcp(at, 80).unwrap());
                // Their rules hold for what is routed.
                client.run(|| assert_silent(BOARD, 8080));
                // Whoever loads the module later, or switches it on.
                std::fs::write(BRIDGE_NF, "1").unwrap();
                networks.follow().await;
                a.run(move || ask_tcp(at, 80).unwrap());
            } else {
                a.run(move || assert_silent(at, 80));
            }
            for app in ["a", "b"] {
                networks.detach(app).await.unwrap();
            }
            networks.destroy().await.unwrap();
            assert_eq!(read(BRIDGE_NF), "1");
        }
        assert!(nft_list().contains("table ip theirs"));
    });
}

use crate::release::SignedRelease;
use serde_json::{Value, json};

/// Two apps on two networks, with everything said.
fn release() -> Value {
    let digest = format!("sha256:{}", "0".repeat(64));
    let app = |name: &str, network: Value| {
        let blob = json!({"digest": digest, "size": 1});
        json!({
            "name": name,
            "image": {"name": "shop/web:1", "manifest": blob, "config": blob, "layers": []},
            "limits": {"memory_bytes": 1 << 20, "cpu_millis": 10, "pids": 1},
            "network": network
        })
    };
    json!({
        "spec_version": 1, "product": "shop", "version": "1", "epoch": 1, "release_counter": 1,
        "issued_at": 1, "expires": 2, "hardware": ["pi"],
        "networks": [
            {"name": "front"},
            {"name": "back", "subnet": "10.90.0.0/24", "gateway": "10.90.0.254",
             "ip_range": "10.90.0.128/25", "ipv6_subnet": "fd00:1::/64", "internal": true, "mtu": 1400}
        ],
        "apps": [
            app("web", json!({
                "ports": [{"host": 80, "container": 80, "host_ip": "::1"}],
                "networks": [
                    {"name": "back", "ip": "10.90.0.10", "mac": "02:42:00:00:00:0a", "aliases": ["www", "w.example"]},
                    {"name": "front"}, {"name": "bridge"}
                ],
                "dns": ["10.0.0.1", "fd00::1"], "dns_search": ["lan"],
                "extra_hosts": {"printer": "10.0.0.9", "board": "host-gateway"},
                "rates": {"ingress_bytes_per_second": 4096, "egress_bytes_per_second": 1024},
                "egress": ["mqtt.example:8883", "10.0.0.0/8", "[2001:db8::/32]:443", "udp://*.pool.example:123"]
            })),
            app("probe", json!({"mode": "container", "container": "web"}))
        ]
    })
}

fn check(value: Value) -> Result<(), String> {
    let release: SignedRelease = serde_json::from_value(value).map_err(|e| e.to_string())?;
    let again: SignedRelease =
        serde_json::from_slice(&serde_json::to_vec(&release).unwrap()).unwrap();
    assert_eq!(release, again);
    release.check()
}

#[test]
fn everything_that_can_be_said_of_networks() {
    assert_eq!(check(release()), Ok(()));
}

#[test]
fn faults_are_named() {
    let web = "/apps/0/network";
    for (at, value, words) in [
        (
            "/networks/0/name",
            json!("host"),
            "network `host`: the name is taken",
        ),
        (
            "/networks/0/name",
            json!("back"),
            "network `back`: is named twice",
        ),
        ("/networks/0/name", json!("Front"), "is not a network name"),
        (
            "/networks/0/subnet",
            json!("10.0.0.0/8"),
            "subnet 10.90.0.0/24 overlaps 10.0.0.0/8 of network `front`",
        ),
        (
            "/networks/1/subnet",
            json!("10.90.0.0/30"),
            "prefix from 8 to 29",
        ),
        (
            "/networks/1/subnet",
            json!("10.90.0.7/24"),
            "10.90.0.0/24 is meant",
        ),
        (
            "/networks/1/subnet",
            Value::Null,
            "gateway needs the subnet",
        ),
        (
            "/networks/1/gateway",
            json!("10.91.0.1"),
            "gateway is not within 10.90.0.0/24",
        ),
        (
            "/networks/1/gateway",
            json!("10.90.0.255"),
            "gateway is not within",
        ),
        (
            "/networks/1/ip_range",
            json!("10.90.1.0/25"),
            "ip_range is not within",
        ),
        (
            "/networks/1/ipv6_subnet",
            json!("fd00:1::/112"),
            "prefix from 48 to 96",
        ),
        ("/networks/1/ipv6", json!(false), "contradict"),
        (
            "/networks/1/mtu",
            json!(9217),
            "mtu 9217 is outside 576 to 9216",
        ),
        ("/networks/1/mtu", json!(1279), "say ipv6 = false"),
        (
            "/networks/1/driver",
            json!("overlay"),
            "unknown variant `overlay`",
        ),
        (
            "/networks/0/driver",
            json!("macvlan"),
            "needs parent, the board's link, and subnet",
        ),
        ("/networks/0/parent", json!("eth1"), "need driver"),
        ("/networks/0/vlan", json!(20), "need driver"),
        (
            "/networks/0",
            json!({"name": "front", "driver": "macvlan", "parent": "eth1", "subnet": "10.91.0.0/24", "vlan": 4095}),
            "vlan is outside 1 to 4094",
        ),
        (
            "/networks/0",
            json!({"name": "front", "driver": "ipvlan", "parent": "eth1", "subnet": "10.91.0.0/24", "link_mode": "vepa"}),
            "ipvlan has l2 and l3",
        ),
        (
            "/networks/0",
            json!({"name": "front", "driver": "macvlan", "parent": "a/b", "subnet": "10.91.0.0/24"}),
            "is no link",
        ),
        (
            "/networks/1",
            json!({"name": "back", "driver": "macvlan", "parent": "eth1", "subnet": "10.90.0.0/24", "internal": true}),
            "need a bridge",
        ),
        (
            "/networks/1",
            json!({"name": "back", "driver": "macvlan", "parent": "eth1", "subnet": "10.90.0.0/24"}),
            "rates: the board does not see",
        ),
        (
            "/apps/1/network",
            json!({"interfaces": [{"name": "eth0"}]}),
            "one of the app's networks has this name inside",
        ),
        (
            "/apps/1/network",
            json!({"mode": "none", "interfaces": [{"name": "can0"}, {"name": "can0"}]}),
            "`can0`: stands twice",
        ),
        (
            "/apps/1/network",
            json!({"mode": "none", "interfaces": [{"name": "can0", "bitrate": 999}]}),
            "`can0`: a bitrate of 999 is outside 1000 to 1000000",
        ),
        (
            "/apps/1/network",
            json!({"mode": "none", "interfaces": [{"name": "can0", "bitrate": 500_000, "address": "10.0.0.1/24"}]}),
            "`can0`: a bitrate is a CAN bus's",
        ),
        (
            "/apps/1/network",
            json!({"mode": "host", "interfaces": [{"name": "can0"}]}),
            "network.interfaces needs mode",
        ),
        (
            "/apps/1/network",
            json!({"mode": "none", "abstract_sockets": true}),
            "network.abstract_sockets needs mode `host`",
        ),
        (
            "/apps/1/network",
            json!({"mode": "none", "interfaces": [{"name": "eth1", "address": "10.0.0.1/32"}]}),
            "length of its prefix",
        ),
        (
            "/apps/0/network/networks/1/name",
            json!("side"),
            "`side`: the release declares no such network",
        ),
        (
            "/apps/0/network/networks/1/name",
            json!("back"),
            "`back` stands twice",
        ),
        (
            "/apps/0/network/networks/1/ip",
            json!("10.1.1.1"),
            "needs a network that the release declares with its subnet",
        ),
        (
            "/apps/0/network/networks/0/ip",
            json!("10.90.0.254"),
            "whose gateway is 10.90.0.254",
        ),
        (
            "/apps/0/network/networks/0/ip",
            json!("10.90.0.0"),
            "is no container's address",
        ),
        (
            "/apps/0/network/networks/0/mac",
            json!("03:42:00:00:00:0a"),
            "is no hardware address of one interface",
        ),
        (
            "/apps/0/network/networks/0/mac",
            json!("02:42:00:00:00"),
            "is no hardware address",
        ),
        (
            "/apps/0/network/networks/0/aliases/0",
            json!("a b"),
            "\"a b\" is no host name",
        ),
        (
            "/apps/0/network/networks/0/aliases",
            json!(vec!["a"; 17]),
            "aliases is 17; the limit is 16",
        ),
        (
            "/apps/0/network/dns",
            json!(vec!["10.0.0.1"; 4]),
            "network.dns is 4; the limit is 3",
        ),
        (
            "/apps/0/network/dns/0",
            json!("0.0.0.0"),
            "0.0.0.0 is no resolver's address",
        ),
        (
            "/apps/0/network/dns_search/0",
            json!("la\nn"),
            "control character",
        ),
        (
            "/apps/0/network/extra_hosts/printer",
            json!("here"),
            "neither an address nor `host-gateway`",
        ),
        (
            "/apps/0/network/rates/egress_bytes_per_second",
            json!(0),
            "egress_bytes_per_second is outside 1024 to",
        ),
        (
            "/apps/0/network/egress/0",
            json!("mqtt.example:mqtt"),
            "\"mqtt.example:mqtt\": a port is 1 to 65535",
        ),
        (
            "/apps/0/network/egress/1",
            json!("MQTT.example:8883"),
            "network.egress: `mqtt.example:8883` stands twice",
        ),
        (
            "/apps/0/network/egress",
            json!((0..65).map(|n| format!("10.0.0.{n}")).collect::<Vec<_>>()),
            "network.egress is 65; the limit is 64",
        ),
        (
            "/apps/1/network/egress",
            json!([]),
            "network.egress needs mode `bridge`",
        ),
        (
            "/apps/0/network/mode",
            json!("host"),
            "network.ports needs mode `bridge`",
        ),
        ("/apps/1/network/container", Value::Null, "belong together"),
        (
            "/apps/1/network/container",
            json!("nobody"),
            "no app `nobody` is in this release",
        ),
        (
            "/apps/1/network/container",
            json!("probe"),
            "`probe` itself uses another app's network",
        ),
        (
            "/apps/1/network/ports",
            json!([{"host": 81, "container": 1}]),
            "network.ports needs mode `bridge`",
        ),
        (
            web,
            json!({"ports": [{"host": 80, "container": 80}], "networks": [{"name": "back"}]}),
            "internal networks alone",
        ),
        (
            "/apps/1/network",
            json!({"networks": [{"name": "back", "ip": "10.90.0.10"}]}),
            "ip: `web` has the same",
        ),
        (
            "/apps/1/network",
            json!({"networks": [{"name": "back", "mac": "02:42:00:00:00:0A"}]}),
            "mac: `web` has the same",
        ),
    ] {
        let mut bad = release();
        match bad.pointer_mut(at) {
            Some(place) => *place = value,
            None => {
                let (table, key) = at.rsplit_once('/').unwrap();
                bad.pointer_mut(table).unwrap()[key] = value;
            }
        }
        let fault = check(bad).expect_err(at);
        assert!(fault.contains(words), "{at}: {fault}");
    }
    let mut many = release();
    many["networks"] = (0..33).map(|n| json!({"name": format!("n{n}")})).collect();
    assert!(
        check(many)
            .unwrap_err()
            .contains("networks is 33; the limit is 32")
    );
}

/// `web` on a plant's VLAN with ports through a bridge before it, `bus` with a CAN link.
fn on_links() -> Value {
    let mut release = release();
    release["networks"] = json!([
        {"name": "front"},
        {"name": "plant", "driver": "macvlan", "parent": "eth1", "vlan": 20, "subnet": "10.90.0.0/24",
         "gateway": "10.90.0.254", "link_mode": "private"},
        {"name": "rack", "driver": "ipvlan", "parent": "eth1", "subnet": "10.92.0.0/24", "link_mode": "l3"}
    ]);
    release["apps"][0]["network"] = json!({
        "ports": [{"host": 9, "container": 9, "protocol": "sctp"}],
        "networks": [{"name": "front"}, {"name": "plant", "ip": "10.90.0.1"}]
    });
    release["apps"][1]["network"] = json!({
        "mode": "none",
        "interfaces": [{"name": "can0", "bitrate": 500_000}, {"name": "eth2", "address": "192.168.7.2/24"}]
    });
    release
}

#[test]
fn links_are_one_networks_or_one_apps() {
    assert_eq!(check(on_links()), Ok(()));
    for (at, value, words) in [
        (
            "/networks/2",
            json!({"name": "rack", "driver": "macvlan", "parent": "eth1", "vlan": 20, "subnet": "10.92.0.0/24"}),
            "`eth1` with the same VLAN is network `plant`'s",
        ),
        (
            "/apps/0/network/networks",
            json!([{"name": "plant"}, {"name": "front"}]),
            "its way out is `plant`",
        ),
        (
            "/apps/1/network/interfaces",
            json!([{"name": "eth1"}]),
            "network `plant` lies on it",
        ),
        (
            "/apps/0/network",
            json!({"interfaces": [{"name": "can0"}]}),
            "app `bus`: network.interfaces: `can0`: app `web` has it already",
        ),
        (
            "/apps/0/network",
            json!({"egress": [], "networks": [{"name": "front"}, {"name": "plant"}]}),
            "network.egress: network `plant` is no bridge",
        ),
        (
            "/apps/0/network",
            json!({"egress": [], "interfaces": [{"name": "can1"}]}),
            "network.egress: it has link `can1` whole",
        ),
    ] {
        let mut bad = on_links();
        bad["apps"][1]["name"] = json!("bus");
        *bad.pointer_mut(at).unwrap() = value;
        let fault = check(bad).expect_err(at);
        assert!(fault.contains(words), "{at}: {fault}");
    }
}

/// The board's network belongs to the board's own users.
#[test]
fn users_of_its_own_and_the_boards_network_have_no_sense_together() {
    let with = |users: Value, mode: &str| {
        let mut release = release();
        let app = &mut release["apps"][0];
        app["network"] = json!({"mode": mode});
        app["user_namespace"] = users;
        release["apps"] = json!([app]);
        check(release)
    };
    assert_eq!(with(json!(true), "none"), Ok(()));
    assert_eq!(with(json!(false), "host"), Ok(()));
    assert_eq!(with(Value::Null, "host"), Ok(()));
    let mut guest = release();
    guest["apps"][0]["network"] = json!({"mode": "host"});
    let fault = check(guest).unwrap_err();
    assert!(
        fault.starts_with("app `probe`: network.container: `web` uses the board's network"),
        "{fault}"
    );
    let fault = with(json!(true), "host").unwrap_err();
    assert!(
        fault.starts_with("app `web`: user_namespace = true and network.mode = `host`"),
        "{fault}"
    );
}

#[test]
fn what_a_board_has_no_room_for_is_refused_here() {
    // `*.` entries are those of the hosts below them too.
    let mut wide = release();
    let hosts: serde_json::Map<String, Value> = (0..100)
        .map(|n| (format!("h{n}.LAN.example"), json!("10.0.0.9")))
        .collect();
    wide["apps"][0]["network"]["extra_hosts"] = hosts.into();
    assert_eq!(check(wide.clone()), Ok(()));
    wide["apps"][0]["network"]["egress"] = json!(["*.lan.example"]);
    let fault = check(wide).unwrap_err();
    assert!(
        fault.contains("`*.` name, is 101; the limit is 64"),
        "{fault}"
    );

    // Lists of names, all told to one resolver.
    let with_lists = |apps: usize| {
        let mut long = release();
        let app = long["apps"][1].clone();
        let name = |n: usize| format!("n{n}.{}.example", ["a".repeat(60).as_str(); 3].join("."));
        for number in 0..apps {
            let mut app = app.clone();
            app["name"] = json!(format!("app{number}"));
            let list: Vec<String> = (0..64).map(name).collect();
            app["network"] = json!({"egress": list});
            long["apps"].as_array_mut().unwrap().push(app);
        }
        check(long)
    };
    assert_eq!(with_lists(12), Ok(()));
    let fault = with_lists(14).unwrap_err();
    assert!(
        fault.contains("network `bridge`: apps, aliases and egress names"),
        "{fault}"
    );
    assert!(fault.contains("the limit is 163840"), "{fault}");
}

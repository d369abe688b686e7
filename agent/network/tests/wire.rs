//! Containers on a link of the board without a bridge, and links of the board in a container. Needs root and `ip`, busybox's
//! too: virtual boards run this, whose kernels have what this machine's may lack.
//!
//! What the kernel lacks is asked for all the same, and its refusal has to name the option. A virtual board says by
//! `CORACLE_LINKS` which ones it has, so that none is taken for missing there.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use coracle_network::lent::{LentError, lend, rename_back, take_back};
use coracle_network::{
    Attachment, Endpoint, LentAs, Namespace, NetworkError, NetworkRequest, Networks, Protocol,
    Station, Underlay, Wanted, configure_inside, configure_lent,
};
use netlink_packet_route::link::{InfoCan, InfoData, LinkAttribute, LinkInfo};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};
use support::*;

const PLANT: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 1);
const BOARD_THERE: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 2);

/// Told of the kernel by whoever started this; true where nobody said anything.
fn as_promised(feature: &str, works: bool) -> bool {
    if let Ok(promised) = std::env::var("CORACLE_LINKS") {
        let promised = promised.split(' ').any(|one| one == feature);
        assert_eq!(works, promised, "{feature} on this board");
    }
    works
}

/// On a thread of its own, which is in this one's namespace, since a test may be inside a runtime already.
fn netlink<T: Send>(job: impl AsyncFnOnce(rtnetlink::Handle) -> T + Send) -> T {
    let work = || {
        block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().unwrap();
            tokio::spawn(connection);
            job(handle).await
        })
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// A cable from `here` to `there` in another namespace.
fn cable(here: &str, there: &str, to: &Netns) {
    let Namespace::Fd(fd) = to.namespace() else {
        panic!("held by a descriptor");
    };
    let fd = std::os::fd::AsRawFd::as_raw_fd(&fd);
    let other = LinkMessageBuilder::<LinkUnspec>::default()
        .name(there)
        .setns_by_fd(fd)
        .build();
    netlink(async |handle| {
        let pair = LinkMessageBuilder::<LinkVeth>::new(here, there)
            .set_info_data(netlink_packet_route::link::InfoData::Veth(
                netlink_packet_route::link::InfoVeth::Peer(other),
            ))
            .up()
            .build();
        handle.link().add(pair).execute().await.unwrap();
    });
}

/// A board whose second Ethernet `eth1` leads to a plant, where somebody answers on port 80.
fn board_at_a_plant() -> Netns {
    enter_new();
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
    let plant = Netns::new();
    cable("eth1", "out1", &plant);
    ip("addr add 192.168.7.2/24 dev eth1");
    plant.run(|| {
        ip("addr add 192.168.7.1/24 dev out1");
        ip("link set out1 up");
        serve(80);
    });
    plant
}

fn request(station: Station, vlan: Option<u16>) -> NetworkRequest {
    NetworkRequest {
        name: "plant".into(),
        subnet: Some("192.168.7.0/24".parse().unwrap()),
        underlay: Some(Underlay {
            parent: "eth1".into(),
            vlan,
            station,
            listens: false,
        }),
        ..NetworkRequest::default()
    }
}

async fn open(state: &std::path::Path) -> Networks {
    Networks::open(config(), state).unwrap()
}

/// A container on the network.
async fn station(
    networks: &mut Networks,
    app: &str,
    wanted: &Wanted<'_>,
) -> Result<(Netns, Endpoint), NetworkError> {
    let container = Netns::new();
    let place = networks
        .connect("plant", app, container.namespace(), wanted)
        .await?;
    let inside = place.clone();
    container.run(move || configure_inside(&inside).unwrap());
    Ok((container, place))
}

/// Two containers, the wire and the board: who reaches whom, and as whom.
async fn stations_reach_each_other(networks: &mut Networks, plant: &Netns) {
    let (a, at_a) = station(networks, "a", &Wanted::default()).await.unwrap();
    let (b, at_b) = station(networks, "b", &Wanted::default()).await.unwrap();
    let (a_ip, b_ip) = (at_a.ip, at_b.ip);
    for one in [&a, &b] {
        one.run(|| serve(80));
    }
    // The first address is nobody's by itself, and the board's own is its own where it is a station too.
    assert!(![a_ip, b_ip].contains(&PLANT) && a_ip != b_ip);
    let untagged = networks.list()[0].underlay.as_ref().unwrap().vlan.is_none();
    assert!(!untagged || ![a_ip, b_ip].contains(&BOARD_THERE));
    assert!(!at_a.default_route && at_a.host_if.is_empty());
    assert_eq!(a.run(|| ask_tcp(PLANT, 80).unwrap()), a_ip.to_string());
    assert_eq!(
        plant.run(move || ask_tcp(a_ip, 80).unwrap()),
        PLANT.to_string()
    );
    assert_eq!(a.run(move || ask_tcp(b_ip, 80).unwrap()), a_ip.to_string());
    assert_eq!(b.run(move || ask_udp(a_ip, 80).unwrap()), b_ip.to_string());
    // Nothing of them is in the board's namespace.
    assert!(!ip("link").contains("eth0"), "{}", ip("link"));
    let v6 = a.run(|| ip("-6 addr show dev eth0"));
    assert!(!v6.contains("inet6"), "{v6}");
    networks.disconnect("plant", "a").await.unwrap();
    assert!(!a.run(|| ip("link")).contains("eth0"));
    networks.detach("b").await.unwrap();
}

#[test]
fn macvlan_containers_are_stations_of_the_wire() {
    let plant = board_at_a_plant();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = open(state.path()).await;
        let wanted = NetworkRequest {
            gateway: Some(PLANT),
            ..request(Station::MacvlanBridge, None)
        };
        assert!(
            networks
                .arrange(std::slice::from_ref(&wanted))
                .await
                .is_empty()
        );
        let before = links();
        let fixed = Wanted {
            ip: Some(Ipv4Addr::new(192, 168, 7, 40)),
            mac: Some([2, 0, 0, 0, 0, 0x40]),
            ..Wanted::default()
        };
        let (web, place) = match station(&mut networks, "web", &fixed).await {
            Ok(made) => {
                assert!(as_promised("macvlan", true));
                made
            }
            Err(error) => {
                as_promised("macvlan", false);
                assert!(error.to_string().contains("CONFIG_MACVLAN"), "{error}");
                return;
            }
        };
        assert_eq!(web.run(|| ask_tcp(PLANT, 80).unwrap()), "192.168.7.40");
        assert!(
            web.run(|| ip("addr show dev eth0"))
                .contains("02:00:00:00:00:40")
        );
        assert!(place.default_route);
        // The board does not reach its own stations, nor they it, by this link.
        assert!(ask_tcp(place.ip, 80).is_err());

        // Found again after a restart of ours; it goes with its namespace then.
        let live = [(
            "web".to_owned(),
            vec![Attachment {
                network: "plant".into(),
                endpoint: place.clone(),
            }],
        )];
        drop(networks);
        let mut networks = open(state.path()).await;
        let done = networks.reconcile(&live).await.unwrap();
        assert!(
            done.without_link.is_empty() && done.faults.is_empty(),
            "{done:?}"
        );
        assert!(
            networks
                .arrange(std::slice::from_ref(&wanted))
                .await
                .is_empty()
        );
        networks.detach("web").await.unwrap();
        drop(web);
        // At once, with the same hardware address: the kernel may not be done with the old one.
        let (web, again) = station(&mut networks, "web", &fixed).await.unwrap();
        assert_eq!(again.mac, place.mac);
        web.run(|| ask_tcp(PLANT, 80).unwrap());
        networks.detach("web").await.unwrap();
        drop(web);

        // What a bridge would do is refused.
        let ports = [port(None, 8080, 80, Protocol::Tcp)];
        let wants = Wanted {
            ports: &ports,
            ..Wanted::default()
        };
        let refused = station(&mut networks, "web", &wants).await.unwrap_err();
        assert!(refused.to_string().contains("need a bridge"), "{refused}");

        let plain = request(Station::MacvlanBridge, None);
        assert!(
            networks
                .arrange(std::slice::from_ref(&plain))
                .await
                .is_empty()
        );
        stations_reach_each_other(&mut networks, &plant).await;
        // Apart from each other, and still on the wire.
        let apart = request(Station::MacvlanPrivate, None);
        assert!(networks.arrange(&[apart]).await.is_empty());
        let (a, _a) = station(&mut networks, "a", &Wanted::default())
            .await
            .unwrap();
        let (b, at_b) = station(&mut networks, "b", &Wanted::default())
            .await
            .unwrap();
        let ip_b = at_b.ip;
        b.run(|| serve(80));
        a.run(move || assert_silent(ip_b, 80));
        a.run(|| ask_tcp(PLANT, 80).unwrap());
        networks.detach("a").await.unwrap();
        networks.detach("b").await.unwrap();
        networks.destroy().await.unwrap();
        assert_eq!(links(), before);
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0);
    });
}

#[test]
fn a_station_listens_to_the_wires_routers_where_it_is_asked_to() {
    let plant = board_at_a_plant();
    let state = tempfile::tempdir().unwrap();
    let prefix = Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 0);
    let server = SocketAddr::new(Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 1).into(), 81);
    plant.run(move || {
        ip("-6 addr add 2001:db8:7::1/64 dev out1");
        // Any: its address is settled a moment later.
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, server.port())).unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                let _ = stream.write_all(peer.ip().to_string().as_bytes());
            }
        });
    });
    block_on(async {
        let mut networks = open(state.path()).await;
        let mut wanted = request(Station::MacvlanBridge, None);
        wanted.underlay.as_mut().unwrap().listens = true;
        assert!(networks.arrange(&[wanted]).await.is_empty());
        let Ok((web, _)) = station(&mut networks, "web", &Wanted::default()).await else {
            as_promised("macvlan", false);
            return;
        };
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            // Refused while its own address there is being looked for.
            let _ = plant.run(move || support::router::advertise("out1", prefix));
            let seen = web.run(move || {
                let mut stream = TcpStream::connect_timeout(&server, Duration::from_millis(500))?;
                let mut text = String::new();
                stream.read_to_string(&mut text)?;
                std::io::Result::Ok(text)
            });
            // By its link-local one while that of its own making is being looked for.
            if seen
                .as_ref()
                .is_ok_and(|seen| seen.starts_with("2001:db8:7:"))
            {
                break;
            }
            let addresses = || web.run(|| ip("-6 addr"));
            assert!(Instant::now() < end, "{seen:?}\n{}", addresses());
            std::thread::sleep(Duration::from_millis(100));
        }
        let routes = web.run(|| ip("-6 route"));
        assert!(routes.contains("default via fe80:"), "{routes}");
        networks.detach("web").await.unwrap();
        networks.destroy().await.unwrap();
    });
}

#[test]
fn ipvlan_containers_share_the_links_hardware_address() {
    let plant = board_at_a_plant();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = open(state.path()).await;
        networks.reconcile(&[]).await.unwrap();
        let request = request(Station::IpvlanL2, None);
        assert!(networks.arrange(&[request]).await.is_empty());
        match station(&mut networks, "probe", &Wanted::default()).await {
            Ok((probe, place)) => {
                assert!(as_promised("ipvlan", true));
                let mac = place.mac.map(|byte| format!("{byte:02x}")).join(":");
                assert!(ip("link show eth1").contains(&mac), "{mac}");
                assert!(probe.run(|| ip("link show eth0")).contains(&mac));
                networks.detach("probe").await.unwrap();
                stations_reach_each_other(&mut networks, &plant).await;
            }
            Err(error) => {
                as_promised("ipvlan", false);
                assert!(error.to_string().contains("CONFIG_IPVLAN"), "{error}");
                assert!(networks.attachments("probe").is_empty());
            }
        }
        networks.destroy().await.unwrap();
    });
}

/// What links there are, whether or not they have a carrier by now.
fn links() -> Vec<String> {
    // As busybox has it too, which boards have.
    let all = ip("-o link");
    let names = all
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1));
    names.map(String::from).collect()
}

#[test]
fn a_vlan_is_made_on_the_parent_and_goes_with_the_network() {
    let plant = board_at_a_plant();
    let state = tempfile::tempdir().unwrap();
    let before = links();
    block_on(async {
        let mut networks = open(state.path()).await;
        networks.reconcile(&[]).await.unwrap();
        let wanted = request(Station::MacvlanBridge, Some(20));
        let errors = networks.arrange(std::slice::from_ref(&wanted)).await;
        if let [(_, error)] = &errors[..] {
            as_promised("vlan", false);
            assert!(error.to_string().contains("CONFIG_VLAN_8021Q"), "{error}");
            assert!(networks.list().is_empty());
            networks.destroy().await.unwrap();
            assert_eq!(links(), before);
            return;
        }
        assert!(as_promised("vlan", true) && errors.is_empty(), "{errors:?}");
        plant.run(|| {
            ip("link add link out1 name tagged type vlan id 20");
            ip("addr flush dev out1");
            ip("addr add 192.168.7.1/24 dev tagged");
            ip("link set tagged up");
        });
        stations_reach_each_other(&mut networks, &plant).await;

        // Pulled out and plugged in: the VLAN is gone with its parent, and so are the containers' interfaces.
        let (_web, place) = station(&mut networks, "web", &Wanted::default())
            .await
            .unwrap();
        assert!(networks.follow().await.restart.is_empty());
        ip("link del eth1");
        assert!(
            networks.follow().await.restart.is_empty(),
            "there is nothing to come back to"
        );
        cable("eth1", "out1", &plant);
        let restart = networks.follow().await.restart;
        assert_eq!(restart, ["web"]);
        networks.detach("web").await.unwrap();
        let (_web, again) = station(&mut networks, "web", &Wanted::default())
            .await
            .unwrap();
        assert_eq!(again.ip, place.ip);
        networks.detach("web").await.unwrap();
        // Another VLAN in its stead, then none.
        let other = request(Station::MacvlanBridge, Some(21));
        assert!(networks.arrange(&[other]).await.is_empty());
        assert!(networks.arrange(&[]).await.is_empty());
        assert!(!ip("link").contains("cor-n"), "{}", ip("link"));
        networks.destroy().await.unwrap();
    });
}

#[test]
fn a_network_waits_for_its_link() {
    enter_new();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = open(state.path()).await;
        let wanted = request(Station::MacvlanBridge, None);
        let errors = networks.arrange(std::slice::from_ref(&wanted)).await;
        let words: Vec<_> = errors.iter().map(|(_, e)| e.to_string()).collect();
        assert_eq!(
            words,
            ["link eth1, which the network lies on, is not on this board"]
        );
        ip("link add eth1 type veth peer name other");
        assert!(networks.arrange(&[wanted]).await.is_empty());
        networks.destroy().await.unwrap();
    });
}

#[test]
fn a_link_is_the_containers_alone_and_comes_back() {
    let plant = board_at_a_plant();
    let container = Netns::new();
    lend("eth1", container.namespace()).unwrap();
    assert!(!ip("link").contains("eth1"));
    let address = LentAs {
        address: Some("192.168.7.9/24".parse().unwrap()),
        bitrate: None,
    };
    container.run(move || configure_lent("eth1", address).unwrap());
    assert_eq!(container.run(|| ask_tcp(PLANT, 80).unwrap()), "192.168.7.9");
    assert!(matches!(
        lend("eth1", container.namespace()),
        Err(LentError::Missing(_))
    ));

    let Namespace::Fd(held) = container.namespace() else {
        panic!("held by a descriptor");
    };
    let held = held.try_clone_to_owned().unwrap();
    let names = ["eth1".to_owned(), "not-there".to_owned()];
    // The container has ended; what is held is its namespace alone.
    drop(container);
    assert!(take_back(held.as_fd(), &names).is_empty());
    assert!(ip("link").contains("eth1"));
    // Again with nothing to take is no error.
    assert!(take_back(held.as_fd(), &names).is_empty());

    // Its name was given to somebody else meanwhile.
    let container = Netns::new();
    lend("eth1", container.namespace()).unwrap();
    ip("link add eth1 type veth peer name other");
    let Namespace::Fd(held) = container.namespace() else {
        panic!("held by a descriptor");
    };
    assert!(take_back(held, &names).is_empty());
    let links = ip("link");
    assert!(links.contains("eth1") && links.contains("dev"), "{links}");
    // It is still the one that is meant, whoever has its name.
    assert!(rename_back().is_empty());
    let second = Netns::new();
    lend("eth1", second.namespace()).unwrap();
    second.run(move || configure_lent("eth1", address).unwrap());
    assert_eq!(second.run(|| ask_tcp(PLANT, 80).unwrap()), "192.168.7.9");
    let links = ip("link");
    assert!(
        links.contains("eth1") && !links.contains(": dev"),
        "{links}"
    );
    let Namespace::Fd(held) = second.namespace() else {
        panic!("held by a descriptor");
    };
    assert!(take_back(held, &["eth1".to_owned()]).is_empty());
    // The other one is pulled out.
    ip("link del eth1");
    assert!(!ip("link").contains(": eth1"));
    assert!(rename_back().is_empty());
    let links = ip("link");
    assert!(
        links.contains(": eth1") && !links.contains(": dev"),
        "{links}"
    );
    assert!(!links.contains("coracle lent"), "{links}");
    let third = Netns::new();
    lend("eth1", third.namespace()).unwrap();
    third.run(move || configure_lent("eth1", address).unwrap());
    assert_eq!(third.run(|| ask_tcp(PLANT, 80).unwrap()), "192.168.7.9");
    let Namespace::Fd(held) = third.namespace() else {
        panic!("held by a descriptor");
    };
    assert!(take_back(held, &["eth1".to_owned()]).is_empty());

    // A bridge is the board's.
    ip("link add br9 type bridge");
    let refused = lend("br9", plant.namespace()).unwrap_err().to_string();
    assert!(refused.contains("moves no bridges"), "{refused}");
}

/// struct can_frame of linux/can.h: identifier, length, padding, eight bytes.
const FRAME: [u8; 16] = *b"\x23\x01\0\0\x04\0\0\0data\0\0\0\0";

#[test]
fn a_can_bus_is_the_containers() {
    enter_new();
    let made = netlink(async |handle| {
        let link = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(
            netlink_packet_route::link::InfoKind::Vcan,
        );
        handle.link().add(link.name("can0").build()).execute().await
    });
    if !as_promised("can", made.is_ok()) {
        return;
    }
    let container = Netns::new();
    lend("can0", container.namespace()).unwrap();
    container.run(|| configure_lent("can0", LentAs::default()).unwrap());
    container.run(|| {
        let (a, b) = (can::socket("can0"), can::socket("can0"));
        can::send(&a, &FRAME);
        assert_eq!(can::receive(&b), FRAME);
    });
    let Namespace::Fd(held) = container.namespace() else {
        panic!("held by a descriptor");
    };
    assert!(take_back(held, &["can0".to_owned()]).is_empty());
    assert!(ip("link").contains("can0"));
}

/// Bits a second that a controller of this thread's namespace is set to.
fn bitrate_of(link: &'static str) -> Option<u32> {
    use futures_util::TryStreamExt;
    let found = netlink(async move |handle| {
        let mut links = handle.link().get().match_name(link.to_owned()).execute();
        links.try_next().await.unwrap().unwrap()
    });
    let infos = found.attributes.into_iter().find_map(|one| match one {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    let data = infos?.into_iter().find_map(|one| match one {
        LinkInfo::Data(InfoData::Can(data)) => Some(data),
        _ => None,
    });
    data?.into_iter().find_map(|one| match one {
        InfoCan::BitTiming(timing) => Some(timing.bitrate),
        _ => None,
    })
}

/// Hardware is in the first namespace, which is not entered anew here: two controllers of one bus.
#[test]
fn two_containers_speak_over_controllers_at_the_bit_rate_that_is_asked_for() {
    let is_there = |link: &str| std::path::Path::new("/sys/class/net").join(link).exists();
    if !as_promised("controllers", is_there("can0") && is_there("can1")) {
        return;
    }
    let (left, right) = (Netns::new(), Netns::new());
    lend("can0", left.namespace()).unwrap();
    lend("can1", right.namespace()).unwrap();
    let at = |bitrate: u32| LentAs {
        bitrate: Some(bitrate),
        ..LentAs::default()
    };
    // Without one a controller does not come up.
    assert!(
        left.run(|| configure_lent("can0", LentAs::default()))
            .is_err()
    );
    left.run(move || configure_lent("can0", at(500_000)).unwrap());
    right.run(move || configure_lent("can1", at(500_000)).unwrap());
    assert_eq!(left.run(|| bitrate_of("can0")), Some(500_000));
    let ear = right.run(|| can::socket("can1"));
    left.run(|| can::send(&can::socket("can0"), &FRAME));
    assert_eq!(can::receive(&ear), FRAME);
    drop(ear);

    // The next app asks for another one; what is up is not changed.
    let busy = left.run(move || configure_lent("can0", at(125_000)).unwrap_err());
    assert!(
        busy.to_string().contains("set the bit rate 125000 of can0"),
        "{busy}"
    );
    for (space, link) in [(&left, "can0"), (&right, "can1")] {
        let Namespace::Fd(held) = space.namespace() else {
            panic!("held by a descriptor");
        };
        assert!(take_back(held, &[link.to_owned()]).is_empty());
        assert!(is_there(link));
    }
    let next = Netns::new();
    lend("can0", next.namespace()).unwrap();
    next.run(move || configure_lent("can0", at(125_000)).unwrap());
    assert_eq!(next.run(|| bitrate_of("can0")), Some(125_000));
    let Namespace::Fd(held) = next.namespace() else {
        panic!("held by a descriptor");
    };
    assert!(take_back(held, &["can0".to_owned()]).is_empty());
}

#[test]
fn what_is_no_controller_has_no_bit_rate() {
    enter_new();
    ip("link add lan9 type veth peer name far9");
    let container = Netns::new();
    lend("lan9", container.namespace()).unwrap();
    let wanted = LentAs {
        bitrate: Some(500_000),
        ..LentAs::default()
    };
    let refused = container.run(move || configure_lent("lan9", wanted).unwrap_err());
    let words = refused.to_string();
    assert!(
        words.contains("set the bit rate 500000 of lan9 (it is no CAN controller"),
        "{words}"
    );
}

/// CAN_RAW (linux/can.h): what neither std nor nix has.
#[allow(unsafe_code, reason = "no crate here knows CAN's addresses")]
mod can {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::FromRawFd;

    pub fn socket(link: &str) -> File {
        let name = std::ffi::CString::new(link).unwrap();
        // SAFETY: plain system calls with arguments of the right types; the descriptor is new and owned by the File.
        unsafe {
            let fd = libc::socket(libc::PF_CAN, libc::SOCK_RAW, libc::CAN_RAW);
            assert!(fd >= 0, "{}", std::io::Error::last_os_error());
            let mut address: libc::sockaddr_can = std::mem::zeroed();
            address.can_family = libc::AF_CAN as _;
            address.can_ifindex = libc::if_nametoindex(name.as_ptr()) as _;
            let length = std::mem::size_of_val(&address) as _;
            let bound = libc::bind(fd, (&raw const address).cast(), length);
            assert!(bound == 0, "{}", std::io::Error::last_os_error());
            File::from_raw_fd(fd)
        }
    }

    pub fn send(mut socket: &File, frame: &[u8; 16]) {
        socket.write_all(frame).unwrap();
    }

    pub fn receive(mut socket: &File) -> [u8; 16] {
        let mut frame = [0; 16];
        socket.read_exact(&mut frame).unwrap();
        frame
    }
}

#[test]
fn a_published_sctp_port_leads_in() {
    let client = Netns::new();
    enter_new();
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
    cable("wan0", "out0", &client);
    ip("addr add 198.51.100.1/24 dev wan0");
    client.run(|| {
        ip("addr add 198.51.100.2/24 dev out0");
        ip("link set out0 up");
    });
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = started(state.path()).await;
        let ports = [port(None, 3868, 3868, Protocol::Sctp)];
        // Taken apart from TCP's.
        let tcp = [port(None, 3868, 80, Protocol::Tcp)];
        let (container, place) = attached(&mut network, "server", &ports).await;
        let (_other, _) = attached(&mut network, "other", &tcp).await;
        let listens = container.run(|| sctp::serve(3868));
        if as_promised("sctp", listens) {
            let said = client.run(|| sctp::ask(BOARD, 3868));
            assert_eq!(said, CLIENT.to_string(), "the client's address is kept");
            network.detach("server").await.unwrap();
            assert!(client.run(|| sctp::connects(BOARD, 3868).is_none()));
        } else {
            let said = std::process::Command::new("nft")
                .args(["list", "ruleset"])
                .output();
            let said = String::from_utf8(said.unwrap().stdout).unwrap();
            let entry = format!("sctp . 3868 comment \"server\" : {} . 3868", place.ip);
            assert!(said.contains(&entry), "{said}");
        }
        network.destroy().await.unwrap();
    });
}

/// SCTP as one-to-one sockets (RFC 6458 4): a TCP stream to whoever uses it.
mod sctp {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    use rustix::net::{AddressFamily, SocketType, bind, connect, ipproto, listen, socket};

    fn open() -> Option<OwnedFd> {
        socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::SCTP)).ok()
    }

    /// Tells each peer its address; false where the kernel has no SCTP.
    pub fn serve(port: u16) -> bool {
        let Some(fd) = open() else { return false };
        bind(&fd, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)).unwrap();
        listen(&fd, 4).unwrap();
        let listener = TcpListener::from(fd);
        std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = listener.accept() {
                let _ = stream.write_all(peer.ip().to_string().as_bytes());
            }
        });
        true
    }

    pub fn connects(ip: Ipv4Addr, port: u16) -> Option<TcpStream> {
        let fd = open()?;
        for timeout in [Timeout::Send, Timeout::Recv] {
            set_socket_timeout(&fd, timeout, Some(Duration::from_secs(2))).unwrap();
        }
        connect(&fd, &SocketAddrV4::new(ip, port)).ok()?;
        Some(TcpStream::from(fd))
    }

    pub fn ask(ip: Ipv4Addr, port: u16) -> String {
        let mut stream = connects(ip, port).expect("a connection");
        // What is lost on a slow machine is sent again after 3 s (RFC 9260 16, RTO.Initial).
        let patience = Some(Duration::from_secs(20));
        set_socket_timeout(&stream, Timeout::Recv, patience).unwrap();
        let mut said = [0; 64];
        let length = stream.read(&mut said).unwrap();
        String::from_utf8_lossy(&said[..length]).into_owned()
    }
}

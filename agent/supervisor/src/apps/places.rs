//! Where an app is on networks: what the release says, and its places there.

use crate::apps::launch::{Bridge, LaunchError};
use crate::apps::plan::Plan;
use coracle_board_support::profile::{DefaultEgress, Profile};
use coracle_network::{
    Attachment, DEFAULT_NETWORK, EgressRule, EgressTo, Ipv6, Namespace, NetworkError,
    NetworkRequest, Rates, Station, Underlay, Wanted,
};
use coracle_protocol::release::{
    Driver, Egress, EgressTo as To, ExtraHost, LinkMode, Network, NetworkMode, NetworkSpec,
    Protocol,
};
use coracle_runtime::Created;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;

/// A place on one network, as wanted.
#[derive(Debug, Clone)]
pub struct Place {
    /// The network's name.
    pub network: String,
    /// `eth0` and on.
    pub interface: String,
    /// A fixed address.
    pub ip: Option<Ipv4Addr>,
    /// A fixed hardware address.
    pub mac: Option<[u8; 6]>,
    /// Names beside the app's own.
    pub aliases: Vec<String>,
    /// Most that may pass.
    pub rates: Rates,
}

/// What an app's resolv.conf and hosts say beside the board's.
#[derive(Debug, Clone, Default)]
pub struct NamesPlan {
    /// Resolvers instead of the board's.
    pub dns: Vec<IpAddr>,
    /// Search domains instead of the board's.
    pub search: Vec<String>,
    /// Further hosts.
    pub hosts: Vec<(String, ExtraHost)>,
}

impl NamesPlan {
    /// As the release says.
    pub fn of(network: &Network) -> Self {
        let hosts = network.extra_hosts.iter();
        Self {
            dns: network.dns.clone(),
            search: network.dns_search.clone(),
            hosts: hosts.map(|(name, host)| (name.clone(), *host)).collect(),
        }
    }
}

/// The places that the release says; the board's own network when it says none.
pub fn of(network: &Network) -> Vec<Place> {
    if network.mode != NetworkMode::Bridge {
        return Vec::new();
    }
    let rates = Rates {
        ingress_bytes_per_second: network.rates.ingress_bytes_per_second,
        egress_bytes_per_second: network.rates.egress_bytes_per_second,
    };
    let place = |index: usize, name: &str| Place {
        network: name.to_owned(),
        interface: format!("eth{index}"),
        ip: None,
        mac: None,
        aliases: Vec::new(),
        rates,
    };
    if network.networks.is_empty() {
        return vec![place(0, DEFAULT_NETWORK)];
    }
    let all = network.networks.iter().enumerate();
    all.map(|(index, on)| Place {
        ip: on.ip,
        mac: on.mac.map(|mac| mac.0),
        aliases: on.aliases.clone(),
        ..place(index, on.name.as_str())
    })
    .collect()
}

/// Where the app may go: what its release says, or else what the board says of apps on bridges.
pub fn list(network: &Network, profile: &Profile) -> Option<Vec<Egress>> {
    let on_bridges = network.mode == NetworkMode::Bridge;
    let closed = on_bridges && profile.network.egress == DefaultEgress::None;
    network.egress.clone().or(closed.then(Vec::new))
}

/// A network of the release, as the board is asked for it.
pub fn request(spec: &NetworkSpec) -> NetworkRequest {
    NetworkRequest {
        name: spec.name.to_string(),
        subnet: spec.subnet,
        gateway: spec.gateway,
        range: spec.ip_range,
        ipv6: match (spec.ipv6_subnet, spec.ipv6) {
            (Some(subnet), _) => Ipv6::Subnet(subnet),
            (None, true) => Ipv6::Auto,
            (None, false) => Ipv6::Off,
        },
        mtu: spec.mtu,
        internal: spec.internal,
        allow_host_access: spec.host_access,
        // A resolver would have to listen on the wire, where others would ask it too.
        resolver: spec.driver == Driver::Bridge,
        underlay: underlay(spec),
    }
}

fn underlay(spec: &NetworkSpec) -> Option<Underlay> {
    let station = match (spec.driver, spec.link_mode) {
        (Driver::Bridge, _) => return None,
        (Driver::Macvlan, Some(LinkMode::Private)) => Station::MacvlanPrivate,
        (Driver::Macvlan, Some(LinkMode::Vepa)) => Station::MacvlanVepa,
        (Driver::Macvlan, _) => Station::MacvlanBridge,
        (Driver::Ipvlan, Some(LinkMode::L3)) => Station::IpvlanL3,
        (Driver::Ipvlan, _) => Station::IpvlanL2,
    };
    Some(Underlay {
        parent: spec.parent.as_ref()?.to_string(),
        vlan: spec.vlan,
        station,
        listens: spec.ipv6,
    })
}

/// Where an app may go, as the kernel and the resolver are told; none is everywhere. A name that its hosts file has is the
/// address there: no resolver is asked for it. `gateway` is the board, as the app's first network sees it.
fn egress(plan: &Plan, gateway: IpAddr) -> Option<Vec<EgressRule>> {
    let list = plan.egress.as_ref()?;
    let hosts = &plan.names.hosts;
    let address = |host: &ExtraHost| match host {
        ExtraHost::Address(ip) => EgressTo::Net((*ip).into()),
        ExtraHost::HostGateway => EgressTo::Net(gateway.into()),
    };
    let mut rules = Vec::new();
    for entry in list {
        let rule = |to| EgressRule {
            to,
            protocol: entry.protocol.map(|protocol| match protocol {
                Protocol::Tcp => coracle_network::Protocol::Tcp,
                Protocol::Udp => coracle_network::Protocol::Udp,
                Protocol::Sctp => coracle_network::Protocol::Sctp,
            }),
            ports: entry.ports,
        };
        match &entry.to {
            To::Net(net) => rules.push(rule(EgressTo::Net(*net))),
            To::Below(end) => {
                let end = format!(".{end}");
                let below = hosts
                    .iter()
                    .filter(|(host, _)| host.to_ascii_lowercase().ends_with(&end));
                rules.extend(below.map(|(_, host)| rule(address(host))));
                rules.push(rule(EgressTo::Name(format!("*{end}"))));
            }
            To::Name(name) => {
                let known = hosts
                    .iter()
                    .find(|(host, _)| host.eq_ignore_ascii_case(name));
                rules.push(match known {
                    Some((_, host)) => rule(address(host)),
                    None => rule(EgressTo::Name(name.clone())),
                });
            }
        }
    }
    Some(rules)
}

/// Takes the app's places. The first network that leads out has its default route and its published ports. After an
/// error the caller takes back what there is.
pub(super) async fn attach(
    bridge: &mut Bridge,
    plan: &Plan,
    created: &Created,
) -> Result<Vec<Attachment>, LaunchError> {
    if plan.places.is_empty() {
        return Ok(Vec::new());
    }
    // Not by its process: that one may be on its way into it.
    let netns = created.netns().map_err(LaunchError::Stdio)?;
    let networks = bridge
        .as_mut()
        .map_err(|why| LaunchError::NoNetwork(why.clone()))?;
    let first = plan
        .places
        .first()
        .map(|place| networks.inspect(&place.network));
    let gateway = first.transpose()?.map(|network| network.config().gateway());
    let egress = egress(plan, gateway.unwrap_or(Ipv4Addr::UNSPECIFIED).into());
    let mut open = None;
    for (index, place) in plan.places.iter().enumerate() {
        let config = networks.inspect(&place.network)?.config();
        let closed = config.internal || config.gateway().is_unspecified();
        open = open.or((!closed).then_some(index));
    }
    let mut places = Vec::with_capacity(plan.places.len());
    for (index, place) in plan.places.iter().enumerate() {
        let leads_out = open == Some(index);
        // On a wire there are no rules of ours; a release with a list is on none.
        let on_bridge = networks
            .inspect(&place.network)?
            .config()
            .underlay
            .is_none();
        let wanted = Wanted {
            ports: if leads_out { &plan.ports } else { &[] },
            ip: place.ip,
            mac: place.mac,
            interface: Some(&place.interface),
            no_default_route: !leads_out,
            rates: place.rates,
            aliases: &place.aliases,
            egress: egress.as_deref().filter(|_| on_bridge),
        };
        let namespace = Namespace::Fd(netns.as_fd());
        let slot = plan.slot.as_str();
        let endpoint = networks
            .connect(&place.network, slot, namespace, &wanted)
            .await
            .map_err(|error: NetworkError| {
                LaunchError::Place(place.network.clone(), Box::new(error))
            })?;
        places.push(Attachment {
            network: place.network.clone(),
            endpoint,
        });
    }
    Ok(places)
}

/// In the network of another app, whose users are others than this app's: its root has no rights to that network. What it
/// has in one of its own without asking, it has here too: ports below 1024 and ping. Docker gives that to everybody.
pub(super) fn open_to_strangers() -> Result<(), String> {
    for (path, value) in [
        ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
        ("/proc/sys/net/ipv4/ping_group_range", "0 2147483647"),
    ] {
        std::fs::write(path, value).map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
}

//! What a network is asked to be, and the checks that hold before anything touches the kernel.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::egress::{EgressRule, MAX_EGRESS};
use crate::endpoint::{Rates, Wanted, beside};
use crate::port::PublishedPort;
use crate::underlay::{NO_GATEWAY, Underlay};

/// IFNAMSIZ less the terminating zero (linux/if.h): what the kernel takes as the name of an interface.
pub const MAX_INTERFACE_NAME: usize = 15;
/// Ports one app may publish. Bounds the netlink message that carries them (36 to 110 bytes each).
pub const MAX_PORTS_PER_APP: usize = 256;
/// Aliases of one container on one network.
pub const MAX_ALIASES: usize = 16;
/// Bytes a second. Less would hold up a single full packet for seconds; more is no limit on a board (100 Gbit/s).
const MIN_RATE: u64 = 1024;
const MAX_RATE: u64 = 12_500_000_000;
/// A veth's name is the prefix and eight hexadecimal digits of the address.
const MAX_PREFIX: usize = MAX_INTERFACE_NAME - 8;

/// One bridge with its subnet. Several can exist beside each other when name, subnet, table and prefix differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// The bridge's interface name, 1 to 15 bytes.
    pub bridge: String,
    /// The containers' addresses. Prefix 8 to 29.
    pub subnet: Ipv4Net,
    /// The bridge's own address, the containers' gateway; none is the subnet's first.
    pub gateway: Option<Ipv4Addr>,
    /// Where addresses are taken from that nobody asked for; none is the whole subnet.
    pub range: Option<Ipv4Net>,
    /// IPv6 for the containers, prefix 48 to 96: each one's address ends with its IPv4 address. None drops IPv6.
    pub subnet6: Option<Ipv6Net>,
    /// No way out and none in: its containers reach each other, and nothing else.
    pub internal: bool,
    /// A resolver listens on the gateway's port 53.
    pub resolver: bool,
    /// Bytes, for bridge and veths. 576 (RFC 791) to 9216.
    pub mtu: u32,
    /// Our nftables tables' name (one in family `ip`, one in `inet`). Starts with `coracle`, so that we never own another's.
    pub table: String,
    /// Start of the veths' names on the host, 1 to 7 bytes; what bears it and hangs on our bridge is ours to remove.
    pub ifname_prefix: String,
    /// Whether a container may open connections to the board's own services.
    pub allow_host_access: bool,
    /// No bridge: the containers are on this link of the board. The gateway is then the wire's router, and none is no way
    /// out; the subnet is the wire's; there are no tables.
    pub underlay: Option<Underlay>,
}

/// Why a configuration or a request is refused before anything changes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error(
        "{what} {name:?} is not a usable interface name: 1 to {limit} of the characters A-Z a-z 0-9 _ . -"
    )]
    InterfaceName {
        what: &'static str,
        name: String,
        limit: usize,
    },
    #[error("table name {0:?} must be `coracle` followed by A-Z a-z 0-9 _ or -, 31 bytes at most")]
    Table(String),
    #[error("subnet {0} must have a prefix from 8 to 29: room for a gateway and containers")]
    Subnet(Ipv4Net),
    #[error(
        "{0:?} is no name for a network: 1 to 63 of a-z 0-9 _ - . that start with a letter or digit"
    )]
    NetworkName(String),
    #[error("gateway {0} is no host's address of {1}")]
    Gateway(Ipv4Addr, Ipv4Net),
    #[error("range {0} is not within {1}")]
    Range(Ipv4Net, Ipv4Net),
    #[error("IPv6 subnet {0} must have a prefix from 48 to 96: addresses end with the IPv4 ones")]
    Subnet6(Ipv6Net),
    #[error("an MTU of {0} is outside 576 to 9216")]
    Mtu(u32),
    #[error("an MTU of {0} is below 1280, which IPv6 needs")]
    Mtu6(u32),
    #[error("{app}: {mac:02x?} is no MAC of one interface")]
    Mac { app: String, mac: [u8; 6] },
    #[error("{app}: a rate of {rate} bytes a second is outside {MIN_RATE} to {MAX_RATE}")]
    Rate { app: String, rate: u64 },
    #[error("{app}: {count} aliases; at most {MAX_ALIASES} are possible")]
    TooManyAliases { app: String, count: usize },
    #[error(
        "{app}: {name:?} is no host name: labels of 1 to 63 of A-Z a-z 0-9 _ -, with dots between"
    )]
    Alias { app: String, name: String },
    #[error("{app}: {count} places to go; at most {MAX_EGRESS} are possible")]
    TooManyEgress { app: String, count: usize },
    #[error("{app}: egress: {fault}")]
    Egress { app: String, fault: String },
    #[error("VLAN {0} is outside 1 to 4094")]
    Vlan(u16),
    #[error(
        "{app}: ports and rates need a bridge; on a link of the board it has an address of its own"
    )]
    OnWire { app: String },
    #[error("a network on a link of the board needs that wire's subnet to be said")]
    WireSubnet,
    #[error("{app} publishes ports in an internal network, which nothing reaches from outside")]
    InternalPorts { app: String },
    #[error("{app} publishes {count} ports; at most {MAX_PORTS_PER_APP} are possible")]
    TooManyPorts { app: String, count: usize },
    #[error("{app} publishes port 0, which means nothing")]
    PortZero { app: String },
    #[error("{app:?} is no app name: 1 to 100 printable ASCII characters without `/`")]
    App { app: String },
}

impl NetworkConfig {
    /// The usual names for a bridge: table `coracle-<bridge>`, veths `c<bridge>` cut to fit, 1500 bytes, no host access.
    pub fn new(bridge: &str, subnet: Ipv4Net) -> Self {
        let prefix: String = format!("v{bridge}").chars().take(MAX_PREFIX).collect();
        Self {
            bridge: bridge.to_owned(),
            subnet,
            gateway: None,
            range: None,
            subnet6: None,
            internal: false,
            resolver: false,
            mtu: 1500,
            table: format!("coracle-{bridge}"),
            ifname_prefix: prefix,
            allow_host_access: false,
            underlay: None,
        }
    }

    /// The bridge's own address; the router's of a wire, 0.0.0.0 where it has none.
    pub fn gateway(&self) -> Ipv4Addr {
        if self.underlay.is_some() {
            return self.gateway.unwrap_or(NO_GATEWAY);
        }
        let first = Ipv4Addr::from(u32::from(self.subnet.network()) + 1);
        self.gateway.unwrap_or(first)
    }

    /// The bridge's own IPv6 address in that subnet; a wire's routers tell theirs themselves.
    pub fn gateway6(&self, subnet: Ipv6Net) -> Ipv6Addr {
        if self.underlay.is_some() {
            return Ipv6Addr::UNSPECIFIED;
        }
        beside(subnet.network(), self.gateway())
    }

    /// Whether the address can be a container's or the gateway's: of the subnet, and neither its first nor its last.
    pub(crate) fn is_host(&self, ip: Ipv4Addr) -> bool {
        let subnet = self.subnet;
        subnet.contains(&ip) && ip != subnet.network() && ip != subnet.broadcast()
    }

    /// Refuses what the kernel would refuse later with less explanation.
    pub fn check(&self) -> Result<(), ConfigError> {
        interface_name("bridge", &self.bridge, MAX_INTERFACE_NAME)?;
        interface_name("interface prefix", &self.ifname_prefix, MAX_PREFIX)?;
        self.underlay.iter().try_for_each(Underlay::check)?;
        let tail = self.table.strip_prefix("coracle");
        let table_ok = tail.is_some_and(|rest| {
            rest.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
        });
        if !table_ok || self.table.len() > 31 {
            return Err(ConfigError::Table(self.table.clone()));
        }
        if !(8..=29).contains(&self.subnet.prefix_len()) {
            return Err(ConfigError::Subnet(self.subnet));
        }
        if let Some(gateway) = self.gateway
            && !self.is_host(gateway)
        {
            return Err(ConfigError::Gateway(gateway, self.subnet));
        }
        if let Some(range) = self.range
            && !self.subnet.contains(&range)
        {
            return Err(ConfigError::Range(range, self.subnet));
        }
        if let Some(subnet) = self.subnet6
            && !(48..=96).contains(&subnet.prefix_len())
        {
            return Err(ConfigError::Subnet6(subnet));
        }
        // RFC 8200 5: IPv6 asks for more.
        if self.subnet6.is_some() && self.mtu < 1280 {
            return Err(ConfigError::Mtu6(self.mtu));
        }
        if !(576..=9216).contains(&self.mtu) {
            return Err(ConfigError::Mtu(self.mtu));
        }
        Ok(())
    }
}

pub(crate) fn interface_name(
    what: &'static str,
    name: &str,
    limit: usize,
) -> Result<(), ConfigError> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if name.is_empty()
        || name.len() > limit
        || !name.bytes().all(good)
        || name == "."
        || name == ".."
    {
        return Err(ConfigError::InterfaceName {
            what,
            name: name.to_owned(),
            limit,
        });
    }
    Ok(())
}

/// Checks an app's name and what it asks for; collisions with other apps are the network's to find.
pub(crate) fn check_request(app: &str, wanted: &Wanted<'_>) -> Result<(), ConfigError> {
    let name = || app.to_owned();
    check_ports(app, wanted.ports)?;
    if let Some(interface) = wanted.interface {
        interface_name("container interface", interface, MAX_INTERFACE_NAME)?;
    }
    if let Some(mac) = wanted.mac
        && (mac[0] & 1 == 1 || mac == [0; 6])
    {
        return Err(ConfigError::Mac { app: name(), mac });
    }
    let Rates {
        ingress_bytes_per_second,
        egress_bytes_per_second,
    } = wanted.rates;
    for rate in [ingress_bytes_per_second, egress_bytes_per_second]
        .into_iter()
        .flatten()
    {
        if !(MIN_RATE..=MAX_RATE).contains(&rate) {
            return Err(ConfigError::Rate { app: name(), rate });
        }
    }
    if wanted.aliases.len() > MAX_ALIASES {
        return Err(ConfigError::TooManyAliases {
            app: name(),
            count: wanted.aliases.len(),
        });
    }
    let egress = wanted.egress.unwrap_or_default();
    if egress.len() > MAX_EGRESS {
        return Err(ConfigError::TooManyEgress {
            app: name(),
            count: egress.len(),
        });
    }
    if let Err(fault) = egress.iter().try_for_each(EgressRule::check) {
        return Err(ConfigError::Egress { app: name(), fault });
    }
    match wanted.aliases.iter().find(|alias| !is_host_name(alias)) {
        Some(alias) => Err(ConfigError::Alias {
            app: name(),
            name: alias.clone(),
        }),
        None => Ok(()),
    }
}

/// RFC 1035 2.3.4: labels of 1 to 63 bytes, 253 in all.
pub(crate) fn is_host_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(good);
    name.len() <= 253 && name.split('.').all(label)
}

fn check_ports(app: &str, ports: &[PublishedPort]) -> Result<(), ConfigError> {
    let printable = app.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    if app.is_empty() || app.len() > 100 || !printable {
        return Err(ConfigError::App {
            app: app.to_owned(),
        });
    }
    if ports.len() > MAX_PORTS_PER_APP {
        return Err(ConfigError::TooManyPorts {
            app: app.to_owned(),
            count: ports.len(),
        });
    }
    if ports
        .iter()
        .any(|p| p.host_port == 0 || p.container_port == 0)
    {
        return Err(ConfigError::PortZero {
            app: app.to_owned(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> NetworkConfig {
        NetworkConfig::new("cor0", "172.30.0.0/16".parse().unwrap())
    }

    #[test]
    fn the_usual_names_pass() {
        assert_eq!(config().check(), Ok(()));
        assert_eq!(config().gateway(), Ipv4Addr::new(172, 30, 0, 1));
    }

    #[test]
    fn names_the_kernel_or_a_path_would_misread_are_refused() {
        for bad in ["", "a/b", "..", "sixteen-bytes-xx", "ü"] {
            let config = NetworkConfig {
                bridge: bad.into(),
                ..config()
            };
            assert!(
                matches!(config.check(), Err(ConfigError::InterfaceName { .. })),
                "{bad}"
            );
        }
        let config = NetworkConfig {
            table: "filter".into(),
            ..config()
        };
        assert_eq!(config.check(), Err(ConfigError::Table("filter".into())));
    }
}

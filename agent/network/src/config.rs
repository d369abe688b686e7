//! What a network is asked to be, and the checks that hold before anything touches the kernel.

use std::fmt;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// IFNAMSIZ less the terminating zero (linux/if.h): what the kernel takes as the name of an interface.
pub const MAX_INTERFACE_NAME: usize = 15;
/// Ports one app may publish. Bounds the netlink message that carries them (36 to 110 bytes each).
pub const MAX_PORTS_PER_APP: usize = 256;
/// A veth's name is the prefix and eight hexadecimal digits of the address.
const MAX_PREFIX: usize = MAX_INTERFACE_NAME - 8;

/// One bridge with its subnet. Several can exist beside each other when name, subnet, table and prefix differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// The bridge's interface name, 1 to 15 bytes.
    pub bridge: String,
    /// The containers' addresses; the first one is the bridge's, as their gateway. Prefix 8 to 29.
    pub subnet: Ipv4Net,
    /// Bytes, for bridge and veths. 576 (RFC 791) to 9216.
    pub mtu: u32,
    /// Our nftables tables' name (one in family `ip`, one in `inet`). Starts with `coracle`, so that we never own another's.
    pub table: String,
    /// Start of the veths' names on the host, 1 to 7 bytes; what bears it and hangs on our bridge is ours to remove.
    pub ifname_prefix: String,
    /// Whether a container may open connections to the board's own services.
    pub allow_host_access: bool,
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
    #[error("an MTU of {0} is outside 576 to 9216")]
    Mtu(u32),
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
            mtu: 1500,
            table: format!("coracle-{bridge}"),
            ifname_prefix: prefix,
            allow_host_access: false,
        }
    }

    /// The bridge's own address: the subnet's first.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.subnet.network()) + 1)
    }

    /// Refuses what the kernel would refuse later with less explanation.
    pub fn check(&self) -> Result<(), ConfigError> {
        interface_name("bridge", &self.bridge, MAX_INTERFACE_NAME)?;
        interface_name("interface prefix", &self.ifname_prefix, MAX_PREFIX)?;
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
        if !(576..=9216).contains(&self.mtu) {
            return Err(ConfigError::Mtu(self.mtu));
        }
        Ok(())
    }
}

fn interface_name(what: &'static str, name: &str, limit: usize) -> Result<(), ConfigError> {
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

/// Checks an app's name and ports; collisions with other apps are the network's to find.
pub(crate) fn check_request(app: &str, ports: &[PublishedPort]) -> Result<(), ConfigError> {
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

/// The transport of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    /// The IP protocol number (IANA).
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A door from the board into a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedPort {
    /// Only connections to this address of the board; none, or 0.0.0.0, means each of its addresses.
    #[serde(default)]
    pub host_ip: Option<Ipv4Addr>,
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
}

impl PublishedPort {
    /// The one address that is listened on, if it is one.
    pub fn bound_to(&self) -> Option<Ipv4Addr> {
        self.host_ip.filter(|ip| !ip.is_unspecified())
    }

    /// Whether both want the same packets: the same transport and port, and one address or every address.
    pub fn collides_with(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && self.host_port == other.host_port
            && match (self.bound_to(), other.bound_to()) {
                (Some(a), Some(b)) => a == b,
                _ => true,
            }
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ip) = self.bound_to() {
            write!(f, "{ip}:")?;
        }
        write!(f, "{}/{}", self.host_port, self.protocol)
    }
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

    #[test]
    fn a_port_on_every_address_collides_with_one_on_a_single_address() {
        let any = PublishedPort {
            host_ip: None,
            host_port: 80,
            container_port: 8080,
            protocol: Protocol::Tcp,
        };
        let one = PublishedPort {
            host_ip: Some(Ipv4Addr::LOCALHOST),
            ..any
        };
        let two = PublishedPort {
            host_ip: Some(Ipv4Addr::new(10, 0, 0, 1)),
            ..any
        };
        let udp = PublishedPort {
            protocol: Protocol::Udp,
            ..any
        };
        assert!(any.collides_with(&one) && one.collides_with(&any));
        assert!(!one.collides_with(&two) && !any.collides_with(&udp));
    }
}

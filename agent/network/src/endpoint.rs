//! A container's place in a network, and what may be asked of it.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::config::NetworkConfig;
use crate::egress::EgressRule;
use crate::port::PublishedPort;

/// The usual name of the interface inside a container.
const CONTAINER_INTERFACE: &str = "eth0";

/// What a container asks of a network; the default is an address of the network's choice, `eth0`, no ports and no limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted<'a> {
    pub ports: &'a [PublishedPort],
    /// A fixed address of the subnet.
    pub ip: Option<Ipv4Addr>,
    /// A fixed MAC: unicast, and not zero.
    pub mac: Option<[u8; 6]>,
    /// The interface's name inside, where a container is on several networks.
    pub interface: Option<&'a str>,
    /// Another network has the default route.
    pub no_default_route: bool,
    pub rates: Rates,
    /// Names beside the container's own that the network's resolver answers.
    pub aliases: &'a [String],
    /// Where it may open connections to beside its neighbours; none is everywhere.
    pub egress: Option<&'a [EgressRule]>,
}

/// Most that may pass, in bytes a second; none is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Into the container. What is too much waits a little, then is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_bytes_per_second: Option<u64>,
    /// Out of the container. What is too much is dropped; a second's worth can be saved up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_bytes_per_second: Option<u64>,
}

impl Rates {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// A container's place in the network. Kept by whoever runs the container, and handed back to `reconcile`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub ip: Ipv4Addr,
    /// Length of the subnet's prefix, in bits.
    pub prefix: u8,
    pub gateway: Ipv4Addr,
    /// Locally administered and made from the address, so that neighbours' ARP tables stay right over a restart.
    pub mac: [u8; 6],
    pub mtu: u32,
    pub host_if: String,
    pub container_if: String,
    pub ports: Vec<PublishedPort>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Place>,
    /// Whether the default route goes through this network.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub default_route: bool,
    #[serde(default, skip_serializing_if = "Rates::is_none")]
    pub rates: Rates,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<EgressRule>>,
    /// Index of the board's link that it hangs on, in a network without a bridge; then there is no `host_if`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire: Option<u32>,
    /// It had published ports, which another has now; connections that came through them may be open still.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub relieved: bool,
}

/// The IPv6 side of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6Place {
    pub ip: Ipv6Addr,
    pub prefix: u8,
    pub gateway: Ipv6Addr,
}

impl Endpoint {
    pub(crate) fn new(config: &NetworkConfig, ip: Ipv4Addr, wanted: &Wanted<'_>) -> Self {
        let ipv6 = config.subnet6.map(|subnet| Ipv6Place {
            ip: beside(subnet.network(), ip),
            prefix: subnet.prefix_len(),
            gateway: config.gateway6(subnet),
        });
        Self {
            ip,
            prefix: config.subnet.prefix_len(),
            gateway: config.gateway(),
            mac: wanted.mac.unwrap_or_else(|| mac(ip)),
            mtu: config.mtu,
            host_if: match config.underlay {
                None => format!("{}{:08x}", config.ifname_prefix, u32::from(ip)),
                Some(_) => String::new(),
            },
            container_if: wanted.interface.unwrap_or(CONTAINER_INTERFACE).to_owned(),
            ports: wanted.ports.to_vec(),
            ipv6,
            default_route: !(wanted.no_default_route
                || config.internal
                || config.gateway().is_unspecified()),
            rates: wanted.rates,
            aliases: wanted.aliases.to_vec(),
            egress: wanted.egress.map(<[EgressRule]>::to_vec),
            wire: None,
            relieved: false,
        }
    }

    /// Whether what it sends is counted where its veth arrives.
    pub(crate) fn is_counted(&self) -> bool {
        self.rates.egress_bytes_per_second.is_some()
    }
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

/// Locally administered, from the address.
pub(crate) fn mac(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x02, 0xc0, a, b, c, d]
}

/// The IPv6 address that belongs to an IPv4 one: its 32 bits at the end. So one pool keeps both apart.
pub(crate) fn beside(network: Ipv6Addr, ip: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(network) | u128::from(u32::from(ip)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_was_kept_by_an_older_version_is_read_and_written_as_it_was() {
        let old = r#"{"ip":"172.30.0.2","prefix":16,"gateway":"172.30.0.1","mac":[2,192,172,30,0,2],"mtu":1500,"host_if":"vcor0ac1e0002","container_if":"eth0","ports":[{"host_ip":"127.0.0.1","host_port":80,"container_port":80,"protocol":"tcp"}]}"#;
        let place: Endpoint = serde_json::from_str(old).unwrap();
        assert!(place.default_route && place.ipv6.is_none());
        assert_eq!(serde_json::to_string(&place).unwrap(), old);
    }
}

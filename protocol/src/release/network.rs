//! Networks of a release, and how its apps are on them.

use crate::names::NetworkName;
use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

mod checks;
mod egress;
mod sizes;

pub use egress::{Egress, EgressTo};
mod links;

pub use links::{AppInterface, Driver, LinkMode, LinkName};

/// The board's own network: every board has it, no release declares it.
pub const DEFAULT_NETWORK: &str = "bridge";
/// A network that apps share, apart from every other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Its name.
    pub name: NetworkName,
    /// The containers' addresses; one that is free on the board when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<Ipv4Net>,
    /// The board's address in it; the first when left out. On a link of the board the router's there; no way out when left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// Where addresses are taken from that nobody asked for; the whole subnet when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<Ipv4Net>,
    /// IPv6 too, where the kernel can.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub ipv6: bool,
    /// This IPv6 subnet, and no board without one; a random unique local one when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_subnet: Option<Ipv6Net>,
    /// No way out and none in.
    #[serde(default, skip_serializing_if = "is_no")]
    pub internal: bool,
    /// Bytes; the board's own bridge's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether its containers may use the board's own services.
    #[serde(default, skip_serializing_if = "is_no")]
    pub host_access: bool,
    /// What it is made of.
    #[serde(default, skip_serializing_if = "Driver::is_bridge")]
    pub driver: Driver,
    /// The board's link that it lies on: always with `macvlan` and `ipvlan`, of those that the board's profile names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<LinkName>,
    /// The VLAN on that link (IEEE 802.1Q), 1 to 4094; untagged when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// How its containers reach each other: `bridge` or `l2` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_mode: Option<LinkMode>,
}

impl NetworkSpec {
    /// Whether packets of this network find a way out by it.
    pub fn leads_out(&self) -> bool {
        match self.driver {
            Driver::Bridge => !self.internal,
            Driver::Macvlan | Driver::Ipvlan => self.gateway.is_some(),
        }
    }
}

/// An app on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppOnNetwork {
    /// Which.
    pub name: NetworkName,
    /// A fixed address, of a network whose subnet the release says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Ipv4Addr>,
    /// A fixed hardware address; made from the address when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Names beside the app's own that the others of the network find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

/// Most that may pass, in bytes a second; none is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Into the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_bytes_per_second: Option<u64>,
    /// Out of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_bytes_per_second: Option<u64>,
}

impl Rates {
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The address of an extra host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ExtraHost {
    /// An address.
    Address(IpAddr),
    /// `host-gateway`: the board, as the app's first network sees it.
    HostGateway,
}

/// As Docker spells it.
pub const HOST_GATEWAY: &str = "host-gateway";

impl TryFrom<String> for ExtraHost {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            HOST_GATEWAY => Ok(Self::HostGateway),
            other => other
                .parse()
                .map(Self::Address)
                .map_err(|_| format!("{other:?} is neither an address nor `{HOST_GATEWAY}`")),
        }
    }
}

impl From<ExtraHost> for String {
    fn from(host: ExtraHost) -> Self {
        match host {
            ExtraHost::Address(ip) => ip.to_string(),
            ExtraHost::HostGateway => HOST_GATEWAY.to_owned(),
        }
    }
}

/// A hardware address: six pairs of hexadecimal digits with colons between, of one interface and not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is no hardware address of one interface, such as 02:42:ac:1e:00:05")
        };
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2);
            *byte = part
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(wrong)?;
        }
        // The lowest bit of the first byte marks groups (IEEE 802).
        if parts.next().is_some() || bytes[0] & 1 == 1 || bytes == [0; 6] {
            return Err(wrong());
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Mac {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

fn yes() -> bool {
    true
}
fn is_yes(value: &bool) -> bool {
    *value
}
fn is_no(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests;

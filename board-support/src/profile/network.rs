//! `[network]`: how this kind of board reaches the world, and what apps may ask for.

use super::offloads::{AppOffloads, LinkOffloads};
use crate::config::{LinkName, Mtu, Subnet};
use crate::text::{Text, matches};
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// `[network]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkDefaults {
    /// The apps' subnet, unless coracle.toml names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<Subnet>,
    /// The bridge's MTU, unless coracle.toml names one; the uplink's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Mtu>,
    /// Links that lead to the world, the preferred one first.
    #[serde(default)]
    pub uplinks: Vec<Uplink, 8>,
    /// Links that networks without a bridge may lie on: patterns over their names, `*` and `?`. None are when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<Text, 8>,
    /// Links that an app may have whole, in the same way; CAN links are named by `devices`. Never an uplink.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Text, 8>,
    /// Modes that an app may ask for.
    pub modes: Vec<NetworkMode, 4>,
    /// Whether Coracle may make a router of the board.
    #[serde(default)]
    pub forwarding: Forwarding,
    /// What becomes of other programs' rules for packets within a bridge.
    #[serde(default)]
    pub bridge_nf: BridgeNf,
    /// Where an app on bridges may go whose release has no list of places.
    #[serde(default)]
    pub egress: DefaultEgress,
    /// Whether a release may open the board's own services to a network.
    #[serde(default)]
    pub host_access: HostAccess,
    /// What the board's links do for the processor: the first entry that means a link is that link's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offloads: Vec<LinkOffloads, 8>,
    /// The same for the links that lead into apps.
    #[serde(default, skip_serializing_if = "AppOffloads::is_none")]
    pub app_offloads: AppOffloads,
}

impl NetworkDefaults {
    /// Whether the link leads to the world.
    pub fn is_uplink(&self, link: &str) -> bool {
        self.uplinks
            .iter()
            .any(|uplink| uplink.link.as_str() == link)
    }

    /// Links whose bytes cost money.
    pub fn metered(&self) -> impl Iterator<Item = &str> {
        let metered = self.uplinks.iter();
        let metered = metered.filter(|uplink| uplink.cost == UplinkCost::Metered);
        metered.map(|uplink| uplink.link.as_str())
    }

    /// Whether a network may lie on it.
    pub fn is_parent(&self, link: &str) -> bool {
        self.parents.iter().any(|pattern| matches(pattern, link))
    }
}

/// `net.ipv4.ip_forward` and `net.ipv6.conf.all.forwarding`, without which nothing leaves a bridge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forwarding {
    /// Coracle switches them on, and off again when its networks go.
    #[default]
    Set,
    /// They are the board's own affair: nothing of it is written.
    Keep,
}

/// `net.bridge.bridge-nf-call-*`, which br_netfilter brings: whether packets within a bridge pass the rules for routed ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BridgeNf {
    /// They stay as they are; Docker needs them for its own bridges.
    #[default]
    Keep,
    /// Coracle switches them off, and on again when its networks go.
    Off,
}

/// Where an app on bridges may go whose release has no list of places.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultEgress {
    /// Everywhere that its networks lead.
    #[default]
    Any,
    /// To its neighbours alone, as with an empty list.
    None,
}

/// Whether a release may open the board's own services to a network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostAccess {
    /// To those for which it asks.
    #[default]
    Asked,
    /// To none: one that asks is refused.
    Never,
}

/// One entry of `network.uplinks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uplink {
    /// `eth0`.
    pub link: LinkName,
    /// What it runs over.
    pub kind: UplinkKind,
    /// Whether bytes cost money.
    pub cost: UplinkCost,
}

/// What an uplink runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UplinkKind {
    /// A cable.
    Ethernet,
    /// 802.11.
    Wifi,
    /// A mobile network.
    Lte,
}

/// Whether bytes cost money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UplinkCost {
    /// They do not.
    Free,
    /// They do: `[downloads]` of coracle.toml says whether what can wait waits for a free uplink.
    Metered,
}

/// How an app may reach the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// The board's own network.
    Host,
    /// A loopback and nothing else.
    None,
    /// An address on the board's bridge, NAT to the world.
    Bridge,
    /// The network of another container.
    Container,
}

impl NetworkMode {
    /// As a release spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::None => "none",
            Self::Bridge => "bridge",
            Self::Container => "container",
        }
    }
}

//! Networks without a bridge: their containers are stations on a link of the board, beside the board and not behind it.

use std::net::Ipv4Addr;

use netlink_packet_route::link::{IpVlanMode, MacVlanMode};
use serde::{Deserialize, Serialize};

use crate::config::ConfigError;

/// IEEE 802.1Q: 0 and 4095 mean something else.
const VLANS: std::ops::RangeInclusive<u16> = 1..=4094;

/// The board's link under a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Underlay {
    /// Its name.
    pub parent: String,
    /// The VLAN on it; the link that it is reached by has the name of the network's bridge, which it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    pub station: Station,
    /// Containers take IPv6 addresses and routes from the wire's routers.
    pub listens: bool,
}

/// What a container is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Station {
    /// A hardware address of its own.
    MacvlanBridge,
    /// The same, and the containers do not reach each other.
    MacvlanPrivate,
    /// The same, and they do so by a switch that sends packets back.
    MacvlanVepa,
    /// The link's hardware address.
    IpvlanL2,
    /// The same, and reached by routes alone.
    IpvlanL3,
}

/// The mode as the kernel has it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KernelMode {
    Mac(MacVlanMode),
    Ip(IpVlanMode),
}

impl Station {
    pub(crate) fn kernel_mode(self) -> KernelMode {
        match self {
            Self::MacvlanBridge => KernelMode::Mac(MacVlanMode::Bridge),
            Self::MacvlanPrivate => KernelMode::Mac(MacVlanMode::Private),
            Self::MacvlanVepa => KernelMode::Mac(MacVlanMode::Vepa),
            Self::IpvlanL2 => KernelMode::Ip(IpVlanMode::L2),
            Self::IpvlanL3 => KernelMode::Ip(IpVlanMode::L3),
        }
    }

    /// Whether each container has a hardware address of its own.
    pub fn has_own_mac(self) -> bool {
        matches!(self.kernel_mode(), KernelMode::Mac(_))
    }

    /// As Docker calls the driver.
    pub fn driver(self) -> &'static str {
        match self.kernel_mode() {
            KernelMode::Mac(_) => "macvlan",
            KernelMode::Ip(_) => "ipvlan",
        }
    }
}

impl Underlay {
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        match self.vlan {
            Some(vlan) if !VLANS.contains(&vlan) => Err(ConfigError::Vlan(vlan)),
            _ => crate::config::interface_name(
                "link",
                &self.parent,
                crate::config::MAX_INTERFACE_NAME,
            ),
        }
    }
}

/// What stands for the router of a wire that has none.
pub(crate) const NO_GATEWAY: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

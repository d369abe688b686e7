//! A container's place in a network.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::config::PublishedPort;

/// The interface's name inside each container.
pub(crate) const CONTAINER_INTERFACE: &str = "eth0";

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
}

/// Locally administered, from the address.
pub(crate) fn mac(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x02, 0xc0, a, b, c, d]
}

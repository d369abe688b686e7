//! Networks as they are on a board.

use crate::names::NetworkName;
use crate::release::{Mac, Rates};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network of a board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// Its name.
    pub name: NetworkName,
    /// Its bridge on the board, or the board's link that it lies on.
    pub bridge: String,
    /// IPv4 first, then IPv6 where it has that.
    pub subnets: Vec<SubnetStatus>,
    /// No way out and none in.
    pub internal: bool,
    /// In bytes.
    pub mtu: u32,
    /// Whether containers find each other's names by asking its gateway.
    pub resolver: bool,
    /// What it is made of, as Docker calls it.
    #[serde(default = "bridge", skip_serializing_if = "is_bridge")]
    pub driver: String,
    /// What of the board leads to the same addresses by now, and its containers do not reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlaps: Option<String>,
}

fn bridge() -> String {
    "bridge".to_owned()
}

fn is_bridge(driver: &str) -> bool {
    driver == "bridge"
}

/// One subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetStatus {
    /// Its first address.
    pub address: IpAddr,
    /// In bits.
    pub prefix: u8,
    /// The board's address in it; 0.0.0.0 where nobody leads out.
    pub gateway: IpAddr,
}

/// A container's place on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceStatus {
    /// Which network.
    pub network: NetworkName,
    /// The interface's name inside.
    pub interface: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// In bits.
    pub prefix: u8,
    /// The board's address.
    pub gateway: Ipv4Addr,
    /// Address, length of the prefix in bits and the board's address, where the network has IPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<(Ipv6Addr, u8, Ipv6Addr)>,
    /// Hardware address.
    pub mac: Mac,
    /// Names beside the app's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Most that may pass.
    #[serde(default, skip_serializing_if = "Rates::is_none")]
    pub rates: Rates,
    /// What has passed since the container was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
}

/// What went through an interface, as the container counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes in.
    pub received_bytes: u64,
    /// Packets in.
    pub received_packets: u64,
    /// Bytes out.
    pub sent_bytes: u64,
    /// Packets out.
    pub sent_packets: u64,
}

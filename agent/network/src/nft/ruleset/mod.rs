//! What our tables hold: one in family `ip` (and one in `ip6`) that translates addresses, one in family `inet` that keeps
//! apart, and, only where containers have a limit to what they send or where to, one in family `netdev` and one more in `inet`.
//!
//! In nft's words, for bridge `cor0` and subnet 172.30.0.0/16:
//! ```text
//! table ip coracle-cor0 {
//!   map ports    { type inet_proto . inet_service : ipv4_addr . inet_service }
//!   map ports_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }
//!   chain resolver    { type nat hook prerouting priority dstnat - 1   # absent without a resolver
//!     iifname "cor0" ip daddr 172.30.0.1 udp dport 53 dnat to 172.30.0.1 } # and tcp: a published port 53 is not meant
//!   chain prerouting  { type nat hook prerouting priority dstnat
//!     fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @ports_at
//!     fib daddr type local dnat ip to meta l4proto . th dport map @ports }
//!   chain output      { type nat hook output priority dstnat; the same }
//!   chain postrouting { type nat hook postrouting priority srcnat
//!     ip saddr 172.30.0.0/16 oifname != "cor0" masquerade                # absent where internal
//!     ip saddr 127.0.0.0/8   oifname "cor0" masquerade                   # 127.0.0.1:port on the board
//!     ip saddr 172.30.0.0/16 oifname "cor0" ct status dnat masquerade }  # a container that uses a published port
//! }
//! table ip6 coracle-cor0 { the same with the IPv6 subnet, where the network has one }
//! table inet coracle-cor0 {
//!   chain prerouting { type filter hook prerouting priority raw
//!     iifname "cor0" meta nfproto ipv6 drop                              # where the network has no IPv6
//!     iifname "cor0" meta nfproto ipv4 ip daddr 127.0.0.0/8 drop         # route_localnet opens this, see CVE-2020-8558
//!     iifname "cor0" meta nfproto ipv4 ip saddr != 172.30.0.0/16 drop }
//!   chain forward    { type filter hook forward priority filter
//!     iifname "cor0" oifname "cor0" accept
//!     oifname "cor0" ct state established,related accept
//!     oifname "cor0" ct status dnat accept
//!     oifname "cor0" drop }                                              # internal: also iifname "cor0" drop
//!   chain input      { type filter hook input priority filter
//!     iifname "cor0" ct state established,related accept
//!     iifname "cor0" drop }                                              # absent with allow_host_access
//! }
//! ```
//! The family `inet` can translate only since Linux 5.2, hence separate tables. A drop in another program's chain still
//! drops. Each network drops what comes into its own bridge, so networks are apart without knowing of each other.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::expression::{self as x, Expression};
use super::message::{self as m, Hook, Message};
use super::sets::{self, Element};
use super::uapi::*;
use crate::config::NetworkConfig;
use crate::endpoint::beside;
use crate::port::PublishedPort;

mod egress;
mod entrance;
mod isolation;
mod limits;
mod translation;

pub(crate) use egress::{Confined, EgressTable, Members};
pub(crate) use limits::{Limit, replace as replace_limits, table as table_of_limits};

const PORTS: &str = "ports";
const PORTS_AT: &str = "ports_at";
const LOOPBACK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);

/// RFC 4291 2.5.6; the kernel forwards none of them.
const LINK_LOCAL: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10);
/// The source while an address is being tested (RFC 4862 5.4.2).
const UNSPECIFIED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128);
const DNS: u16 = 53;

/// Priorities as nft names them: raw, dstnat, filter, srcnat (linux/netfilter_ipv4.h).
const RAW: i32 = -300;
const DSTNAT: i32 = -100;
const FILTER: i32 = 0;
const SRCNAT: i32 = 100;

/// One published port and where it leads.
#[derive(Debug, Clone)]
pub(crate) struct Forward {
    pub app: String,
    pub port: PublishedPort,
    pub to: Ipv4Addr,
}

/// The tables of one network.
#[derive(Debug)]
pub(crate) struct Ruleset<'a> {
    config: &'a NetworkConfig,
}

impl<'a> Ruleset<'a> {
    pub fn new(config: &'a NetworkConfig) -> Self {
        Self { config }
    }

    /// The tables with these ports, instead of whatever was there. As one transaction no packet sees a state between.
    pub fn replace(&self, forwards: &[Forward]) -> Vec<Message> {
        let mut messages = self.remove();
        messages.extend(self.create(forwards, false));
        messages
    }

    /// The tables, only if they aren't there: EEXIST otherwise.
    pub fn create_first(&self) -> Vec<Message> {
        self.create(&[], true)
    }

    /// The maps hold these ports and no other. ENOENT where somebody removed our table.
    pub fn set_ports(&self, forwards: &[Forward]) -> Vec<Message> {
        let table = &self.config.table;
        let mut messages = Vec::new();
        for subnet in self.subnets() {
            let family = family(subnet);
            messages.push(sets::empty_map(family, table, PORTS));
            messages.push(sets::empty_map(family, table, PORTS_AT));
        }
        messages.extend(self.elements(forwards));
        messages
    }

    /// Family and name of each.
    pub fn tables(&self) -> Vec<(u8, String)> {
        let translating = self.subnets().map(family);
        let families = translating.chain([NFPROTO_INET]);
        families.map(|f| (f, self.config.table.clone())).collect()
    }

    /// No table afterwards. Making them first lets a missing one not be an error.
    pub fn remove(&self) -> Vec<Message> {
        let families: Vec<u8> = self.tables().iter().map(|(f, _)| *f).collect();
        self.remove_of(&families)
    }

    /// The table that another configuration, one with IPv6, may have left. A kernel without the family says so.
    pub fn remove_leftovers(&self) -> Option<Vec<Message>> {
        let without = self.config.subnet6.is_none();
        without.then(|| self.remove_of(&[NFPROTO_IPV6]))
    }

    fn remove_of(&self, families: &[u8]) -> Vec<Message> {
        let table = &self.config.table;
        let both = |f: &u8| [m::new_table(*f, table, false), m::delete_table(*f, table)];
        families.iter().flat_map(both).collect()
    }

    fn create(&self, forwards: &[Forward], exclusive: bool) -> Vec<Message> {
        let table = &self.config.table;
        let mut messages: Vec<Message> = self
            .subnets()
            .map(|subnet| m::new_table(family(subnet), table, exclusive))
            .collect();
        messages.push(m::new_table(NFPROTO_INET, table, exclusive));
        for (index, subnet) in self.subnets().enumerate() {
            messages.extend(self.translation(subnet, 2 * index as u32));
        }
        messages.extend(self.isolation());
        messages.extend(self.elements(forwards));
        messages
    }

    /// What is translated: IPv4 always, IPv6 where there is a subnet.
    fn subnets(&self) -> impl Iterator<Item = IpNet> {
        let six = self.config.subnet6.map(|net: Ipv6Net| IpNet::V6(net));
        [Some(IpNet::V4(self.config.subnet)), six]
            .into_iter()
            .flatten()
    }

    fn chain(
        &self,
        family: u8,
        name: &str,
        hook: Hook<'_>,
        rules: &[Vec<Expression>],
    ) -> Vec<Message> {
        let table = &self.config.table;
        let mut messages = vec![m::new_chain(family, table, name, hook)];
        messages.extend(rules.iter().map(|r| m::new_rule(family, table, name, r)));
        messages
    }

    /// One message per app and map, so that the 64 KiB of an attribute hold any app's ports.
    fn elements(&self, forwards: &[Forward]) -> Vec<Message> {
        let mut messages = Vec::new();
        for of_app in forwards.chunk_by(|a, b| a.app == b.app) {
            for subnet in self.subnets() {
                let ipv6 = subnet.addr().is_ipv6();
                for (map, with_address) in [(PORTS, false), (PORTS_AT, true)] {
                    let elements: Vec<Element> = of_app
                        .iter()
                        .filter(|f| f.port.serves(ipv6))
                        .filter(|f| f.port.bound_to().is_some() == with_address)
                        .map(|f| element(f, subnet))
                        .collect();
                    if !elements.is_empty() {
                        let table = &self.config.table;
                        messages.push(sets::add_elements(family(subnet), table, map, &elements));
                    }
                }
            }
        }
        messages
    }
}

fn family(subnet: IpNet) -> u8 {
    x::ip_family(subnet.addr().is_ipv6())
}

fn element(forward: &Forward, subnet: IpNet) -> Element {
    let port = &forward.port;
    let to = match subnet {
        IpNet::V4(_) => forward.to.into(),
        IpNet::V6(net) => beside(net.network(), forward.to).into(),
    };
    Element {
        key: x::concatenation(
            port.bound_to(),
            Some(port.protocol.number()),
            port.host_port,
        ),
        value: x::concatenation(Some(to), None, port.container_port),
        comment: forward.app.clone(),
    }
}

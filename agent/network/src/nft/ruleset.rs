//! What our two tables hold: one in family `ip` that translates addresses, one in family `inet` that keeps apart.
//!
//! In nft's words, for bridge `cor0` and subnet 172.30.0.0/16:
//! ```text
//! table ip coracle-cor0 {
//!   map ports    { type inet_proto . inet_service : ipv4_addr . inet_service }
//!   map ports_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service }
//!   chain prerouting  { type nat hook prerouting priority dstnat
//!     fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @ports_at
//!     fib daddr type local dnat ip to meta l4proto . th dport map @ports }
//!   chain output      { type nat hook output priority dstnat; the same }
//!   chain postrouting { type nat hook postrouting priority srcnat
//!     ip saddr 172.30.0.0/16 oifname != "cor0" masquerade
//!     ip saddr 127.0.0.0/8   oifname "cor0" masquerade                   # 127.0.0.1:port on the board
//!     ip saddr 172.30.0.0/16 oifname "cor0" ct status dnat masquerade }  # a container that uses a published port
//! }
//! table inet coracle-cor0 {
//!   chain prerouting { type filter hook prerouting priority raw
//!     iifname "cor0" meta nfproto ipv6 drop
//!     iifname "cor0" meta nfproto ipv4 ip daddr 127.0.0.0/8 drop         # route_localnet opens this, see CVE-2020-8558
//!     iifname "cor0" meta nfproto ipv4 ip saddr != 172.30.0.0/16 drop }
//!   chain forward    { type filter hook forward priority filter
//!     iifname "cor0" oifname "cor0" accept
//!     oifname "cor0" ct state established,related accept
//!     oifname "cor0" ct status dnat accept
//!     oifname "cor0" drop }
//!   chain input      { type filter hook input priority filter
//!     iifname "cor0" ct state established,related accept
//!     iifname "cor0" drop }                                              # absent with allow_host_access
//! }
//! ```
//! The family `inet` can translate only since Linux 5.2, hence two tables. A drop in another program's chain still drops.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::expression::{self as x, Address, Expression};
use super::message::{self as m, Element, Hook, Message};
use super::uapi::*;
use crate::config::{NetworkConfig, PublishedPort};

const PORTS: &str = "ports";
const PORTS_AT: &str = "ports_at";
const LOOPBACK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);

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

    /// Both tables with these ports, instead of whatever was there. As one transaction no packet sees a state between.
    pub fn replace(&self, forwards: &[Forward]) -> Vec<Message> {
        let mut messages = self.remove();
        messages.extend(self.create(forwards, false));
        messages
    }

    /// Both tables, only if they aren't there: EEXIST otherwise.
    pub fn create_first(&self) -> Vec<Message> {
        self.create(&[], true)
    }

    /// The maps hold these ports and no other. ENOENT where somebody removed our table.
    pub fn set_ports(&self, forwards: &[Forward]) -> Vec<Message> {
        let table = &self.config.table;
        let mut messages = vec![
            m::empty_map(NFPROTO_IPV4, table, PORTS),
            m::empty_map(NFPROTO_IPV4, table, PORTS_AT),
        ];
        messages.extend(self.elements(forwards));
        messages
    }

    /// No table afterwards. Making them first lets a missing one not be an error.
    pub fn remove(&self) -> Vec<Message> {
        let table = &self.config.table;
        [NFPROTO_IPV4, NFPROTO_INET]
            .into_iter()
            .flat_map(|f| [m::new_table(f, table, false), m::delete_table(f, table)])
            .collect()
    }

    fn create(&self, forwards: &[Forward], exclusive: bool) -> Vec<Message> {
        let table = &self.config.table;
        let mut messages = vec![
            m::new_table(NFPROTO_IPV4, table, exclusive),
            m::new_table(NFPROTO_INET, table, exclusive),
        ];
        let to = [TYPE_IPV4_ADDR, TYPE_INET_SERVICE];
        let key = [TYPE_IPV4_ADDR, TYPE_INET_PROTO, TYPE_INET_SERVICE];
        messages.push(m::new_map(NFPROTO_IPV4, table, PORTS, 1, &key[1..], &to));
        messages.push(m::new_map(NFPROTO_IPV4, table, PORTS_AT, 2, &key, &to));
        messages.extend(self.translation());
        messages.extend(self.isolation());
        messages.extend(self.elements(forwards));
        messages
    }

    fn translation(&self) -> Vec<Message> {
        let NetworkConfig { bridge, subnet, .. } = self.config;
        let source = |net| x::in_subnet(Address::Source, net).to_vec();
        let ports = || {
            let one = [
                &x::to_this_board()[..],
                &x::destination_from_map(PORTS_AT, true),
            ]
            .concat();
            let any = [
                &x::to_this_board()[..],
                &x::destination_from_map(PORTS, false),
            ]
            .concat();
            vec![one, any]
        };
        let masquerade = vec![
            [
                &source(*subnet)[..],
                &x::leaves_elsewhere_than(bridge),
                &[x::masquerade()],
            ]
            .concat(),
            [
                &source(LOOPBACK)[..],
                &x::leaves_by(bridge),
                &[x::masquerade()],
            ]
            .concat(),
            [
                &source(*subnet)[..],
                &x::leaves_by(bridge),
                &x::came_through_a_published_port(),
                &[x::masquerade()],
            ]
            .concat(),
        ];
        let nat = |number, priority| Hook {
            kind: "nat",
            number,
            priority,
        };
        [
            self.chain(
                NFPROTO_IPV4,
                "prerouting",
                nat(NF_INET_PRE_ROUTING, DSTNAT),
                &ports(),
            ),
            self.chain(
                NFPROTO_IPV4,
                "output",
                nat(NF_INET_LOCAL_OUT, DSTNAT),
                &ports(),
            ),
            self.chain(
                NFPROTO_IPV4,
                "postrouting",
                nat(NF_INET_POST_ROUTING, SRCNAT),
                &masquerade,
            ),
        ]
        .concat()
    }

    fn isolation(&self) -> Vec<Message> {
        let NetworkConfig { bridge, subnet, .. } = self.config;
        let from = |rest: &[&[Expression]]| [&x::arrives_on(bridge)[..], &rest.concat()].concat();
        let into = |rest: &[&[Expression]]| [&x::leaves_by(bridge)[..], &rest.concat()].concat();
        let to_loopback = x::in_subnet(Address::Destination, LOOPBACK);
        let forged = x::outside_subnet(Address::Source, *subnet);
        let prerouting = [
            from(&[&x::family_is(NFPROTO_IPV6), &[x::drop()]]),
            from(&[&x::family_is(NFPROTO_IPV4), &to_loopback, &[x::drop()]]),
            from(&[&x::family_is(NFPROTO_IPV4), &forged, &[x::drop()]]),
        ];
        let forward = [
            from(&[&x::leaves_by(bridge), &[x::accept()]]),
            into(&[&x::established_or_related(), &[x::accept()]]),
            into(&[&x::came_through_a_published_port(), &[x::accept()]]),
            into(&[&[x::drop()]]),
        ];
        let mut input = vec![from(&[&x::established_or_related(), &[x::accept()]])];
        if !self.config.allow_host_access {
            input.push(from(&[&[x::drop()]]));
        }
        let filter = |number, priority| Hook {
            kind: "filter",
            number,
            priority,
        };
        [
            self.chain(
                NFPROTO_INET,
                "prerouting",
                filter(NF_INET_PRE_ROUTING, RAW),
                &prerouting,
            ),
            self.chain(
                NFPROTO_INET,
                "forward",
                filter(NF_INET_FORWARD, FILTER),
                &forward,
            ),
            self.chain(
                NFPROTO_INET,
                "input",
                filter(NF_INET_LOCAL_IN, FILTER),
                &input,
            ),
        ]
        .concat()
    }

    fn chain(&self, family: u8, name: &str, hook: Hook, rules: &[Vec<Expression>]) -> Vec<Message> {
        let table = &self.config.table;
        let mut messages = vec![m::new_chain(family, table, name, hook)];
        messages.extend(rules.iter().map(|r| m::new_rule(family, table, name, r)));
        messages
    }

    /// One message per app and map, so that the 64 KiB of an attribute hold any app's ports.
    fn elements(&self, forwards: &[Forward]) -> Vec<Message> {
        let mut messages = Vec::new();
        for of_app in forwards.chunk_by(|a, b| a.app == b.app) {
            for (map, with_address) in [(PORTS, false), (PORTS_AT, true)] {
                let elements: Vec<Element> = of_app
                    .iter()
                    .filter(|f| f.port.bound_to().is_some() == with_address)
                    .map(element)
                    .collect();
                if !elements.is_empty() {
                    messages.push(m::add_elements(
                        NFPROTO_IPV4,
                        &self.config.table,
                        map,
                        &elements,
                    ));
                }
            }
        }
        messages
    }
}

fn element(forward: &Forward) -> Element {
    let port = &forward.port;
    Element {
        key: x::concatenation(
            port.bound_to(),
            Some(port.protocol.number()),
            port.host_port,
        ),
        value: x::concatenation(Some(forward.to), None, port.container_port),
        comment: forward.app.clone(),
    }
}

//! Where containers may open connections to. A table of its own, there only while a container of the network has a list:
//!
//! ```text
//! table inet coracle-cor0-egress {
//!   map ways  { type ipv4_addr : verdict; elements = { 172.30.0.2 : goto to-ac1e0002, 172.30.0.3 : accept } }
//!   map ways6 { type ipv6_addr : verdict; … }                             # where the network has IPv6
//!   set name-ac1e0002-0   { type ipv4_addr; size 64; flags timeout }      # what the list's first name was resolved to
//!   set name-ac1e0002-0-6 { type ipv6_addr; size 64; flags timeout }
//!   chain prerouting { see entrance.rs }
//!   chain to-ac1e0002 {
//!     ip daddr 10.0.0.0/8 accept
//!     ip daddr @name-ac1e0002-0 tcp dport 8883 accept
//!     drop }
//! }
//! ```
//! Before dstnat, so that what counts is whom the container addresses; behind connection tracking, so that only the first
//! packets of a connection walk the list. Sets of concatenations with intervals would need Linux 5.6; this works on every
//! kernel that has the other tables.

use std::time::{Duration, Instant};

use super::*;
use crate::egress::{EgressRule, EgressTo, Learned, MAX_PER_NAME, names};
use crate::endpoint::Endpoint;
use crate::nft::expression::Address;

/// As nft names it: behind connection tracking (-200) and before dstnat.
const MANGLE: i32 = -150;
pub(super) const WAYS: [&str; 2] = ["ways", "ways6"];
/// Elements of one message: its list has to stay below 64 KiB.
const AT_ONCE: usize = 512;

/// A container with a list.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Confined<'a> {
    pub app: &'a str,
    pub endpoint: &'a Endpoint,
    pub rules: &'a [EgressRule],
}

impl Confined<'_> {
    fn chain(&self) -> String {
        format!("to-{:08x}", u32::from(self.endpoint.ip))
    }

    fn set(&self, name: usize, ipv6: bool) -> String {
        let six = if ipv6 { "-6" } else { "" };
        format!("name-{:08x}-{name}{six}", u32::from(self.endpoint.ip))
    }
}

/// Everyone on a network.
#[derive(Debug, Clone)]
pub(crate) struct Members<'a> {
    pub confined: Vec<Confined<'a>>,
    /// Those without a list.
    pub open: Vec<&'a Endpoint>,
}

impl Members<'_> {
    /// From each address to its container's chain, or everywhere.
    fn ways(&self, ipv6: bool) -> Vec<(Vec<u8>, Option<String>)> {
        let at = |endpoint: &Endpoint| match ipv6 {
            false => Some(x::octets(endpoint.ip.into())),
            true => Some(x::octets(endpoint.ipv6?.ip.into())),
        };
        let confined = self.confined.iter();
        let confined = confined.filter_map(|one| Some((at(one.endpoint)?, Some(one.chain()))));
        let open = self.open.iter().filter_map(|one| Some((at(one)?, None)));
        confined.chain(open).collect()
    }
}

/// The table of a network's lists.
#[derive(Debug)]
pub(crate) struct EgressTable<'a> {
    pub(super) config: &'a NetworkConfig,
    table: String,
}

impl<'a> EgressTable<'a> {
    pub fn new(config: &'a NetworkConfig) -> Self {
        Self {
            config,
            table: format!("{}-egress", config.table),
        }
    }

    /// Family and name.
    pub fn name(&self) -> (u8, String) {
        (NFPROTO_INET, self.table.clone())
    }

    /// No table afterwards.
    pub fn remove(&self) -> Vec<Message> {
        vec![
            m::new_table(NFPROTO_INET, &self.table, false),
            m::delete_table(NFPROTO_INET, &self.table),
        ]
    }

    /// The table anew: whoever has a list reaches nothing until `set` fills it in. All lists at once could be more than a
    /// socket takes.
    pub fn replace(&self, all: &Members<'_>) -> Vec<Message> {
        let mut messages = self.remove();
        messages.push(m::new_table(NFPROTO_INET, &self.table, false));
        for (id, ipv6) in self.families() {
            messages.push(sets::new_ways(
                NFPROTO_INET,
                &self.table,
                WAYS[id as usize],
                id + 1,
                ipv6,
            ));
        }
        let hook = Hook {
            kind: "filter",
            number: NF_INET_PRE_ROUTING,
            priority: MANGLE,
            device: None,
        };
        messages.push(m::new_chain(NFPROTO_INET, &self.table, "prerouting", hook));
        let entrance = self.entrance();
        messages.extend(entrance.iter().map(|rule| self.rule("prerouting", rule)));
        for confined in &all.confined {
            messages.extend(m::new_inner_chain(
                NFPROTO_INET,
                &self.table,
                &confined.chain(),
            ));
            messages.push(self.rule(&confined.chain(), &[x::drop()]));
        }
        messages.extend(self.ways(all));
        messages
    }

    /// One container's list, and the way to it. ENOENT where the table is not there.
    pub fn set(&self, one: Confined<'_>, all: &Members<'_>, learned: &Learned) -> Vec<Message> {
        let chain = one.chain();
        let mut messages = m::new_inner_chain(NFPROTO_INET, &self.table, &chain).to_vec();
        for (number, _) in names(one.rules).iter().enumerate() {
            for (family, ipv6) in self.families() {
                let set = one.set(number, ipv6);
                // Beside the two maps.
                let id = 3 + 2 * number as u32 + family;
                let new =
                    sets::new_fading_set(NFPROTO_INET, &self.table, &set, id, ipv6, MAX_PER_NAME);
                messages.push(new);
            }
            messages.extend(self.set_name(one, number, learned));
        }
        for rule in one.rules {
            messages.extend(
                self.accept(one, rule)
                    .iter()
                    .map(|rule| self.rule(&chain, rule)),
            );
        }
        messages.push(self.rule(&chain, &[x::drop()]));
        messages.extend(self.replace_ways(all));
        messages
    }

    /// One name's addresses.
    pub fn set_name(&self, one: Confined<'_>, number: usize, learned: &Learned) -> Vec<Message> {
        let known = learned.of(one.app, number, Instant::now());
        let mut messages = Vec::new();
        for (_, ipv6) in self.families() {
            let set = one.set(number, ipv6);
            let milliseconds = |left: &Duration| left.as_millis().div_ceil(1000) as u64 * 1000;
            let keys: Vec<(Vec<u8>, u64)> = known
                .iter()
                .filter(|(ip, _)| ip.is_ipv6() == ipv6)
                .map(|(ip, left)| (x::octets(*ip), milliseconds(left)))
                .collect();
            messages.push(sets::empty_map(NFPROTO_INET, &self.table, &set));
            if !keys.is_empty() {
                messages.push(sets::add_for_a_while(
                    NFPROTO_INET,
                    &self.table,
                    &set,
                    &keys,
                ));
            }
        }
        messages
    }

    /// Takes one container's list away; `rest` are those that stay.
    pub fn withdraw(&self, one: Confined<'_>, rest: &Members<'_>) -> Vec<Message> {
        let mut messages = self.replace_ways(rest);
        let chain = one.chain();
        messages.extend(m::new_inner_chain(NFPROTO_INET, &self.table, &chain));
        messages.push(m::delete_chain(NFPROTO_INET, &self.table, &chain));
        for number in 0..names(one.rules).len() {
            for (_, ipv6) in self.families() {
                let set = one.set(number, ipv6);
                messages.push(sets::delete_set(NFPROTO_INET, &self.table, &set));
            }
        }
        messages
    }

    /// Number and whether it is IPv6.
    fn families(&self) -> impl Iterator<Item = (u32, bool)> + use<> {
        let six = self.config.subnet6.is_some();
        [(0, false), (1, true)]
            .into_iter()
            .filter(move |(_, ipv6)| six || !ipv6)
    }

    fn rule(&self, chain: &str, rule: &[Expression]) -> Message {
        m::new_rule(NFPROTO_INET, &self.table, chain, rule)
    }

    fn ways(&self, all: &Members<'_>) -> Vec<Message> {
        let mut messages = Vec::new();
        for (index, ipv6) in self.families() {
            let map = WAYS[index as usize];
            let ways = all.ways(ipv6);
            let some = ways.chunks(AT_ONCE);
            messages.extend(some.map(|ways| sets::add_ways(NFPROTO_INET, &self.table, map, ways)));
        }
        messages
    }

    /// The ways are these and no others. ENOENT where the table is not there.
    pub fn replace_ways(&self, all: &Members<'_>) -> Vec<Message> {
        let empty = |(index, _)| {
            let index: u32 = index;
            sets::empty_map(NFPROTO_INET, &self.table, WAYS[index as usize])
        };
        let mut messages: Vec<Message> = self.families().map(empty).collect();
        messages.extend(self.ways(all));
        messages
    }

    /// One entry of a list: up to four rules.
    fn accept(&self, one: Confined<'_>, rule: &EgressRule) -> Vec<Vec<Expression>> {
        let transports: Vec<Vec<Expression>> = match (rule.protocol, rule.ports) {
            (None, None) => vec![Vec::new()],
            (Some(protocol), None) => vec![x::to_protocol(protocol.number()).into()],
            (Some(protocol), Some(ports)) => vec![x::to_ports(protocol.number(), ports)],
            (None, Some(ports)) => vec![
                x::to_ports(IPPROTO_TCP, ports),
                x::to_ports(IPPROTO_UDP, ports),
            ],
        };
        let mut rules = Vec::new();
        for (_, ipv6) in self.families() {
            let destination: Vec<Expression> = match &rule.to {
                EgressTo::Net(net) if net.addr().is_ipv6() != ipv6 => continue,
                EgressTo::Net(net) if net.prefix_len() == 0 => Vec::new(),
                EgressTo::Net(net) => x::in_subnet(Address::Destination, *net),
                EgressTo::Name(name) => {
                    let number = names(one.rules).iter().position(|known| known == name);
                    x::destination_in(&one.set(number.unwrap_or(0), ipv6), ipv6).into()
                }
            };
            let family = x::family_is(x::ip_family(ipv6));
            for transport in &transports {
                let parts = [&family[..], &destination, transport, &[x::accept()]];
                rules.push(parts.concat());
            }
        }
        rules
    }
}

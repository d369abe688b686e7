//! Addresses: published ports lead in, and what leaves bears the board's address.

use std::net::IpAddr;

use ipnet::IpNet;

use super::*;
use crate::nft::expression::Address;

impl Ruleset<'_> {
    /// Maps and chains of one family. `ids` numbers the maps within the batch.
    pub(super) fn translation(&self, subnet: IpNet, ids: u32) -> Vec<Message> {
        let NetworkConfig { bridge, table, .. } = self.config;
        let family = family(subnet);
        let ipv6 = family == NFPROTO_IPV6;
        let address = if ipv6 { TYPE_IPV6_ADDR } else { TYPE_IPV4_ADDR };
        let to = [address, TYPE_INET_SERVICE];
        let key = [address, TYPE_INET_PROTO, TYPE_INET_SERVICE];
        let ports = || {
            let from = |map, with_address| {
                let lookup = x::destination_from_map(map, with_address, ipv6);
                [&x::to_this_board(ipv6)[..], &lookup].concat()
            };
            [from(PORTS_AT, true), from(PORTS, false)]
        };
        let hook = |number, priority| Hook {
            kind: "nat",
            number,
            priority,
            device: None,
        };
        let nat = |name, number, priority, rules: &[Vec<Expression>]| {
            self.chain(family, name, hook(number, priority), rules)
        };
        let mut messages = vec![
            sets::new_map(family, table, PORTS, ids + 1, &key[1..], &to),
            sets::new_map(family, table, PORTS_AT, ids + 2, &key, &to),
        ];
        if self.config.resolver && !ipv6 {
            let rules = self.to_the_resolver();
            messages.extend(nat("resolver", NF_INET_PRE_ROUTING, DSTNAT - 1, &rules));
        }
        messages.extend(nat("prerouting", NF_INET_PRE_ROUTING, DSTNAT, &ports()));
        messages.extend(nat("output", NF_INET_LOCAL_OUT, DSTNAT, &ports()));
        let masquerade = self.masquerade(bridge, subnet);
        messages.extend(nat(
            "postrouting",
            NF_INET_POST_ROUTING,
            SRCNAT,
            &masquerade,
        ));
        messages
    }

    /// The first translation counts: this one, which changes nothing, and not a port 53 that an app of any network publishes.
    fn to_the_resolver(&self) -> Vec<Vec<Expression>> {
        let gateway = IpAddr::V4(self.config.gateway());
        let rule = |protocol| {
            [
                &x::arrives_on(&self.config.bridge)[..],
                &x::in_subnet(Address::Destination, gateway.into()),
                &x::to_port(protocol, DNS),
                &x::destination_is(gateway),
            ]
            .concat()
        };
        [IPPROTO_UDP, IPPROTO_TCP].map(rule).into()
    }

    fn masquerade(&self, bridge: &str, subnet: IpNet) -> Vec<Vec<Expression>> {
        let rule = |source, rest: &[&[Expression]]| {
            let source = x::in_subnet(Address::Source, source);
            [&source[..], &rest.concat(), &[x::masquerade()]].concat()
        };
        let mut rules = Vec::new();
        if !self.config.internal {
            rules.push(rule(subnet, &[&x::leaves_elsewhere_than(bridge)]));
        }
        // The kernel never lets ::1 out, so there is no such rule for IPv6.
        if subnet.addr().is_ipv4() {
            rules.push(rule(LOOPBACK.into(), &[&x::leaves_by(bridge)]));
        }
        let hairpin = x::came_through_a_published_port();
        rules.push(rule(subnet, &[&x::leaves_by(bridge), &hairpin]));
        rules
    }
}

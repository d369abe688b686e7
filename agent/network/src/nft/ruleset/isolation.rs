//! Walls: between the network and others, the board's own services, the world, and lies about addresses.

use super::*;
use crate::nft::expression::Address;

impl Ruleset<'_> {
    pub(super) fn isolation(&self) -> Vec<Message> {
        let filter = |name, number, priority, rules: &[Vec<Expression>]| {
            let hook = Hook {
                kind: "filter",
                number,
                priority,
                device: None,
            };
            self.chain(NFPROTO_INET, name, hook, rules)
        };
        [
            filter(
                "prerouting",
                NF_INET_PRE_ROUTING,
                RAW,
                &self.honest_addresses(),
            ),
            filter("forward", NF_INET_FORWARD, FILTER, &self.passing_through()),
            filter("input", NF_INET_LOCAL_IN, FILTER, &self.to_the_board()),
        ]
        .concat()
    }

    fn from(&self, rest: &[&[Expression]]) -> Vec<Expression> {
        [&x::arrives_on(&self.config.bridge)[..], &rest.concat()].concat()
    }

    fn into(&self, rest: &[&[Expression]]) -> Vec<Expression> {
        [&x::leaves_by(&self.config.bridge)[..], &rest.concat()].concat()
    }

    fn honest_addresses(&self) -> Vec<Vec<Expression>> {
        let four =
            |what: &[Expression]| self.from(&[&x::family_is(NFPROTO_IPV4), what, &[x::drop()]]);
        let six = |what: &[Expression], verdict| {
            self.from(&[&x::family_is(NFPROTO_IPV6), what, &[verdict]])
        };
        let source = |net: Ipv6Net| x::in_subnet(Address::Source, net.into());
        let mut rules = match self.config.subnet6 {
            None => vec![six(&[], x::drop())],
            Some(subnet) => {
                let forged = x::outside_subnet(Address::Source, subnet.into());
                vec![
                    six(&source(LINK_LOCAL), x::accept()),
                    six(&source(UNSPECIFIED), x::accept()),
                    six(&forged, x::drop()),
                ]
            }
        };
        let forged = x::outside_subnet(Address::Source, self.config.subnet.into());
        rules.push(four(&x::in_subnet(Address::Destination, LOOPBACK.into())));
        rules.push(four(&forged));
        rules
    }

    fn passing_through(&self) -> Vec<Vec<Expression>> {
        let mut rules = vec![self.from(&[&x::leaves_by(&self.config.bridge), &[x::accept()]])];
        if self.config.internal {
            rules.push(self.from(&[&[x::drop()]]));
            rules.push(self.into(&[&[x::drop()]]));
            return rules;
        }
        rules.push(self.into(&[&x::established_or_related(), &[x::accept()]]));
        rules.push(self.into(&[&x::came_through_a_published_port(), &[x::accept()]]));
        rules.push(self.into(&[&[x::drop()]]));
        rules
    }

    fn to_the_board(&self) -> Vec<Vec<Expression>> {
        let mut rules = vec![self.from(&[&x::established_or_related(), &[x::accept()]])];
        if self.config.allow_host_access {
            return rules;
        }
        // Who has the gateway's address? Without an answer there is no way out.
        if self.config.subnet6.is_some() {
            for kind in [NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT] {
                rules.push(self.from(&[&x::icmp6(kind), &[x::accept()]]));
            }
        }
        if self.config.resolver {
            let gateway = IpNet::from(std::net::IpAddr::V4(self.config.gateway()));
            for protocol in [IPPROTO_UDP, IPPROTO_TCP] {
                rules.push(self.from(&[
                    &x::family_is(NFPROTO_IPV4),
                    &x::in_subnet(Address::Destination, gateway),
                    &x::to_port(protocol, DNS),
                    &[x::accept()],
                ]));
            }
        }
        rules.push(self.from(&[&[x::drop()]]));
        rules
    }
}

//! What a network's packets meet before any list of places to go. Who is in none of the maps goes nowhere: an address that
//! nobody has is no way out.
//!
//! ```text
//!   chain prerouting { type filter hook prerouting priority mangle
//!     iifname "cor0" ct state established,related accept
//!     iifname "cor0" ip daddr 172.30.0.1 udp dport 53 accept              # the resolver, where there is one; and tcp
//!     iifname "cor0" ip daddr != 172.30.0.1 … ip daddr 172.30.0.0/16 accept # neighbours, not everyone at once
//!     iifname "cor0" ip saddr vmap @ways
//!     iifname "cor0" ip6 …                                                # the same where the network has IPv6
//!     iifname "cor0" drop }
//! ```

use std::net::IpAddr;

use super::egress::WAYS;
use super::*;
use crate::nft::expression::Address;

/// Multicast that no router passes on (RFC 4291 2.7).
const NEIGHBOURHOOD: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0), 16);
/// What hosts say to their neighbourhood so that IPv6 works at all; whoever listens on the board's link-local address is no
/// neighbour.
const SMALL_TALK: [(u8, u8); 3] = [
    LISTENING_AND_ROUTER_SOLICITATION,
    (NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT),
    (LISTENING_2, LISTENING_2),
];

impl EgressTable<'_> {
    pub(super) fn entrance(&self) -> Vec<Vec<Expression>> {
        let mut rules = vec![self.from(&[&x::established_or_related(), &[x::accept()]])];
        rules.extend(self.entrance_of_four());
        if let Some(subnet) = self.config.subnet6 {
            rules.extend(self.entrance_of_six(subnet));
        }
        rules.push(self.from(&[&[x::drop()]]));
        rules
    }

    fn from(&self, rest: &[&[Expression]]) -> Vec<Expression> {
        [&x::arrives_on(&self.config.bridge)[..], &rest.concat()].concat()
    }

    fn entrance_of_four(&self) -> Vec<Vec<Expression>> {
        let four = |what: &[Expression]| self.from(&[&x::family_is(NFPROTO_IPV4), what]);
        let accept = |what: &[Expression]| four(&[what, &[x::accept()]].concat());
        let gateway = IpAddr::V4(self.config.gateway());
        let mut rules = Vec::new();
        if self.config.resolver {
            for protocol in [IPPROTO_UDP, IPPROTO_TCP] {
                let resolver = [&to(gateway.into())[..], &x::to_port(protocol, DNS)].concat();
                rules.push(accept(&resolver));
            }
        }
        let subnet = self.config.subnet;
        // The last one is everyone's (RFC 919 7), the first one was once (RFC 1122 3.3.6); the board listens to both.
        let not = [gateway, subnet.network().into(), subnet.broadcast().into()];
        rules.push(accept(&neighbours(subnet.into(), &not)));
        rules.push(four(&x::way_of_source(WAYS[0], false)));
        rules
    }

    fn entrance_of_six(&self, subnet: Ipv6Net) -> Vec<Vec<Expression>> {
        let six = |what: &[Expression]| self.from(&[&x::family_is(NFPROTO_IPV6), what]);
        let accept = |what: &[Expression]| six(&[what, &[x::accept()]].concat());
        let gateway = IpAddr::V6(self.config.gateway6(subnet));
        let mut rules = Vec::new();
        // Who has the gateway's address?
        for kind in [NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT] {
            rules.push(accept(&[&to(gateway.into())[..], &x::icmp6(kind)].concat()));
        }
        for near in [LINK_LOCAL, NEIGHBOURHOOD] {
            for kinds in SMALL_TALK {
                rules.push(accept(
                    &[&to(near.into())[..], &x::icmp6_of(kinds)].concat(),
                ));
            }
        }
        // The first address is any router's (RFC 4291 2.6.1), and the board is one.
        let not = [gateway, subnet.network().into()];
        rules.push(accept(&neighbours(subnet.into(), &not)));
        rules.push(six(&x::way_of_source(WAYS[1], true)));
        rules
    }
}

fn to(net: IpNet) -> Vec<Expression> {
    x::in_subnet(Address::Destination, net)
}

/// To the subnet, but for these of its addresses.
fn neighbours(subnet: IpNet, but: &[IpAddr]) -> Vec<Expression> {
    let others = but
        .iter()
        .flat_map(|ip| x::outside_subnet(Address::Destination, (*ip).into()));
    others.chain(to(subnet)).collect()
}

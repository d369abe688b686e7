//! How much a container may send, and under which addresses where it has a list of places to go. Family `netdev`, where
//! its veth arrives: so every packet counts, whether it goes to a neighbour, the board or the world, and nothing inside the
//! container can change it.
//!
//! ```text
//! table netdev coracle-cor0 {
//!   chain vcor0ac1e0002 { type filter hook ingress device "vcor0ac1e0002" priority filter
//!     limit rate over 125000 bytes/second burst 131072 bytes drop
//!     meta protocol != { ip, arp, ip6 } drop                             # this and those below only with a list
//!     meta protocol ip ip saddr != 172.30.0.2 drop
//!     meta protocol arp arp saddr ip != 172.30.0.2 drop
//!     meta protocol ip6 ip6 saddr fe80::/10 icmpv6 accept, other ones but fd00:1::ac1e:2 and :: drop }
//! }
//! ```
//!
//! What is neither IPv4, IPv6 nor ARP here can be so one step further on: the kernel takes a VLAN tag off before this hook,
//! and another one off where the bridge hands the frame to the board.

use std::net::IpAddr;

use super::*;
use crate::nft::expression::Address;

/// In bytes: two of the largest packets that a veth hands over unsegmented (GSO_MAX_SIZE, 64 KiB). The kernel adds a
/// second's worth of the rate to it (net/netfilter/nft_limit.c, nft_limit_init).
const BURST: u32 = 2 * 65_536;

/// One container's limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit<'a> {
    pub host_if: &'a str,
    pub bytes_per_second: Option<u64>,
    /// It says no other source than these two, or it would borrow a neighbour's way out. Without the second, any of IPv6.
    pub only_from: Option<(Ipv4Addr, Option<Ipv6Addr>)>,
}

impl Limit<'_> {
    fn rules(&self) -> Vec<Vec<Expression>> {
        let mut rules = Vec::new();
        // First, so that nothing is let through uncounted.
        if let Some(rate) = self.bytes_per_second {
            rules.push(vec![x::faster_than(rate, BURST), x::drop()]);
        }
        if let Some((four, six)) = self.only_from {
            rules.extend(honest(four, six));
        }
        rules
    }
}

fn honest(four: Ipv4Addr, six: Option<Ipv6Addr>) -> Vec<Vec<Expression>> {
    let other = |ip: IpAddr| x::outside_subnet(Address::Source, ip.into());
    let known = x::carries_none_of(&[ETH_P_IP, ETH_P_ARP, ETH_P_IPV6]);
    let mut rules = vec![
        [&known[..], &[x::drop()]].concat(),
        [&x::carries(ETH_P_IP)[..], &other(four.into()), &[x::drop()]].concat(),
        [
            &x::carries(ETH_P_ARP)[..],
            &x::arp_sender_is_not(four),
            &[x::drop()],
        ]
        .concat(),
    ];
    if let Some(six) = six {
        let of = |net: Ipv6Net| x::in_subnet(Address::Source, net.into());
        let neighbours = x::to_protocol(IPPROTO_ICMPV6);
        for source in [LINK_LOCAL, UNSPECIFIED] {
            rules.push(
                [
                    &x::carries(ETH_P_IPV6)[..],
                    &of(source),
                    &neighbours,
                    &[x::accept()],
                ]
                .concat(),
            );
        }
        rules.push(
            [
                &x::carries(ETH_P_IPV6)[..],
                &other(six.into()),
                &[x::drop()],
            ]
            .concat(),
        );
    }
    rules
}

/// Family and name of the table of limits.
pub(crate) fn table(config: &NetworkConfig) -> (u8, String) {
    (NFPROTO_NETDEV, config.table.clone())
}

/// The table holds these limits and no others; no table without any. The interfaces have to be there.
pub(crate) fn replace(config: &NetworkConfig, limits: &[Limit<'_>]) -> Vec<Message> {
    let table = &config.table;
    let mut messages = vec![
        m::new_table(NFPROTO_NETDEV, table, false),
        m::delete_table(NFPROTO_NETDEV, table),
    ];
    if limits.is_empty() {
        return messages;
    }
    messages.push(m::new_table(NFPROTO_NETDEV, table, false));
    for limit in limits {
        let hook = Hook {
            kind: "filter",
            number: NF_NETDEV_INGRESS,
            priority: FILTER,
            device: Some(limit.host_if),
        };
        let chain = limit.host_if;
        messages.push(m::new_chain(NFPROTO_NETDEV, table, chain, hook));
        let rules = limit.rules();
        messages.extend(
            rules
                .iter()
                .map(|rule| m::new_rule(NFPROTO_NETDEV, table, chain, rule)),
        );
    }
    messages
}

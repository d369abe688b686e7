//! How much a container may send. Family `netdev`, where its veth arrives: so every packet counts, whether it goes to a
//! neighbour, the board or the world, and nothing inside the container can change it.
//!
//! ```text
//! table netdev coracle-cor0 {
//!   chain vcor0ac1e0002 { type filter hook ingress device "vcor0ac1e0002" priority filter
//!     limit rate over 125000 bytes/second burst 131072 bytes drop }
//! }
//! ```

use super::*;

/// In bytes: two of the largest packets that a veth hands over unsegmented (GSO_MAX_SIZE, 64 KiB). The kernel adds a
/// second's worth of the rate to it (net/netfilter/nft_limit.c, nft_limit_init).
const BURST: u32 = 2 * 65_536;

/// One container's limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit<'a> {
    pub host_if: &'a str,
    pub bytes_per_second: u64,
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
        let rule = [x::faster_than(limit.bytes_per_second, BURST), x::drop()];
        let chain = limit.host_if;
        messages.push(m::new_chain(NFPROTO_NETDEV, table, chain, hook));
        messages.push(m::new_rule(NFPROTO_NETDEV, table, chain, &rule));
    }
    messages
}

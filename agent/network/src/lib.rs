//! Bridges, addresses, NAT and published ports over netlink

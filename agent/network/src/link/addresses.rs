//! The board's own addresses.

use std::net::IpAddr;

use ipnet::Ipv4Net;
use netlink_packet_route::address::AddressAttribute;

use super::{LinkError, Links, bounded, next};

impl Links {
    /// Of every interface, the containers' bridges among them, with those that everyone on its link listens to.
    pub async fn addresses(&self) -> Result<Vec<IpAddr>, LinkError> {
        let mut stream = std::pin::pin!(self.handle.address().get().execute());
        let mut addresses = Vec::new();
        while let Some(message) = next(&mut stream, "list", "addresses").await? {
            bounded(addresses.len(), "addresses")?;
            // IFA_LOCAL is ours where IFA_ADDRESS is the other end's (linux/if_addr.h).
            let own = message.attributes.iter().filter_map(|one| match one {
                AddressAttribute::Address(ip) | AddressAttribute::Local(ip) => Some(*ip),
                _ => None,
            });
            let prefix = message.header.prefix_len;
            addresses.extend(
                own.flat_map(|ip| [Some(ip), broadcast(ip, prefix)])
                    .flatten(),
            );
        }
        Ok(addresses)
    }
}

/// RFC 919 7; links of two have none (RFC 3021).
fn broadcast(ip: IpAddr, prefix: u8) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) if prefix < 31 => Some(Ipv4Net::new(ip, prefix).ok()?.broadcast().into()),
        _ => None,
    }
}

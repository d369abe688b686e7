//! The board's own addresses.

use std::net::IpAddr;

use netlink_packet_route::address::AddressAttribute;

use super::{LinkError, Links, bounded, next};

impl Links {
    /// Of every interface, the containers' bridges among them.
    pub async fn addresses(&self) -> Result<Vec<IpAddr>, LinkError> {
        let mut stream = std::pin::pin!(self.handle.address().get().execute());
        let mut addresses = Vec::new();
        while let Some(message) = next(&mut stream, "list", "addresses").await? {
            bounded(addresses.len(), "addresses")?;
            // IFA_LOCAL is ours where IFA_ADDRESS is the other end's (linux/if_addr.h).
            addresses.extend(message.attributes.iter().filter_map(|one| match one {
                AddressAttribute::Address(ip) | AddressAttribute::Local(ip) => Some(*ip),
                _ => None,
            }));
        }
        Ok(addresses)
    }
}

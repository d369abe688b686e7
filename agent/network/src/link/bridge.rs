//! The bridge and its address.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressScope};
use rtnetlink::{LinkBridge, LinkUnspec};

use super::{CREATE_BRIDGE, LinkError, Links, Refusal, bounded, next, request_error};

impl Links {
    /// The bridge's index, and whether it was made now. Its MAC is set, or it would change with the lowest of its ports.
    pub async fn ensure_bridge(
        &self,
        name: &str,
        mac: [u8; 6],
        mtu: u32,
    ) -> Result<(u32, bool), LinkError> {
        let mut found = self.find(name).await?;
        let created = found.is_none();
        if created {
            let bridge = LinkBridge::new(name).address(mac.to_vec()).mtu(mtu).build();
            let added = self.handle.link().add(bridge).execute().await;
            added.map_err(|e| request_error(CREATE_BRIDGE, name, e))?;
            found = self.find(name).await?;
        }
        let Some(bridge) = found else {
            let gone = Refusal::Gone;
            return Err(request_error("find the new bridge", name, gone));
        };
        if bridge.kind != "bridge" {
            return Err(LinkError::WrongKind {
                name: name.to_owned(),
                found: bridge.kind,
                wanted: "bridge",
            });
        }
        let up = LinkUnspec::new_with_index(bridge.index)
            .mtu(mtu)
            .up()
            .build();
        let set = self.handle.link().set(up).execute().await;
        set.map_err(|e| request_error("bring up", name, e))?;
        Ok((bridge.index, created))
    }

    /// The interface has this address and no other one of its family, but for link-local ones of IPv6.
    pub async fn ensure_address(
        &self,
        index: u32,
        name: &str,
        ip: IpAddr,
        prefix: u8,
    ) -> Result<(), LinkError> {
        let addresses = self.handle.address();
        let mut stream = std::pin::pin!(addresses.get().set_link_index_filter(index).execute());
        let family = match ip {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        let mut stale = Vec::new();
        let mut present = false;
        while let Some(message) = next(&mut stream, "list addresses of", name).await? {
            bounded(stale.len(), "addresses")?;
            if message.header.family != family || message.header.scope == AddressScope::Link {
                continue;
            }
            let has = |attribute| message.attributes.contains(&attribute);
            let ours = has(AddressAttribute::Local(ip)) || has(AddressAttribute::Address(ip));
            if ours && message.header.prefix_len == prefix {
                present = true;
            } else {
                stale.push(message);
            }
        }
        for message in stale {
            let removed = addresses.del(message).execute().await;
            removed.map_err(|e| request_error("remove an old address of", name, e))?;
        }
        if !present {
            let mut request = addresses.add(index, ip, prefix);
            if ip.is_ipv6() {
                // Nobody else hands out addresses here, and the test for doubles would take a second.
                let now = AddressAttribute::Flags(AddressFlags::Nodad);
                request.message_mut().attributes.push(now);
            }
            let added = request.execute().await;
            added.map_err(|e| request_error("give an address to", name, e))?;
        }
        Ok(())
    }
}

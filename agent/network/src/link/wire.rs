//! Links of the board that containers hang on without a bridge, and the VLANs on them.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;

use netlink_packet_route::address::AddressAttribute;
use rtnetlink::{LinkIpVlan, LinkMacVlan, LinkMessageBuilder, LinkUnspec, LinkVlan};

use super::{
    CREATE_STATION, CREATE_VLAN, Link, LinkError, Links, Namespace, Refusal, bounded, next,
    request_error,
};
use crate::underlay::{KernelMode, Station};

/// A container's own interface on a wire.
#[derive(Debug)]
pub(crate) struct StationLink<'a> {
    pub inner_name: &'a str,
    pub inner_mac: [u8; 6],
    pub mtu: u32,
    pub wire: u32,
    pub station: Station,
}

impl Links {
    /// The link is up.
    pub async fn up(&self, link: &Link) -> Result<(), LinkError> {
        let up = LinkUnspec::new_with_index(link.index).up().build();
        let set = self.handle.link().set(up).execute().await;
        set.map_err(|e| request_error("bring up", &link.name, e))
    }

    /// The VLAN is there under this name, and whether it was made now.
    pub async fn ensure_vlan(
        &self,
        name: &str,
        parent: &Link,
        vlan: u16,
    ) -> Result<(Link, bool), LinkError> {
        let mut found = self.find(name).await?;
        if let Some(link) = &found {
            if link.kind != "vlan" {
                return Err(LinkError::WrongKind {
                    name: name.to_owned(),
                    found: link.kind.clone(),
                    wanted: "vlan",
                });
            }
            if link.parent != Some(parent.index) || link.vlan != Some(vlan) {
                self.remove(name).await?;
                found = None;
            }
        }
        let created = found.is_none();
        if created {
            let link = LinkVlan::new(name, parent.index, vlan).build();
            let added = self.handle.link().add(link).execute().await;
            added.map_err(|e| {
                request_error(CREATE_VLAN, &format!("{vlan} on {}", parent.name), e)
            })?;
            found = self.find(name).await?;
        }
        let Some(link) = found else {
            let gone = Refusal::Gone;
            return Err(request_error("find the new VLAN", name, gone));
        };
        self.up(&link).await?;
        Ok((link, created))
    }

    /// One request: the interface appears in the container's namespace, and never in ours.
    pub async fn add_station(
        &self,
        link: &StationLink<'_>,
        namespace: Namespace<'_>,
    ) -> Result<(), LinkError> {
        let message = match link.station.kernel_mode() {
            KernelMode::Mac(mode) => {
                let builder = LinkMacVlan::new(link.inner_name, link.wire, mode);
                into(
                    builder.address(link.inner_mac.to_vec()),
                    link.mtu,
                    namespace,
                )
            }
            KernelMode::Ip(mode) => into(
                LinkIpVlan::new(link.inner_name, link.wire, mode),
                link.mtu,
                namespace,
            ),
        };
        let added = self.handle.link().add(message).execute().await;
        added.map_err(|e| {
            request_error(
                CREATE_STATION[usize::from(!link.station.has_own_mac())],
                link.inner_name,
                e,
            )
        })
    }

    /// The board's own IPv4 addresses on a link.
    pub async fn addresses_of(&self, link: &Link) -> Result<Vec<Ipv4Addr>, LinkError> {
        let addresses = self.handle.address();
        let request = addresses.get().set_link_index_filter(link.index);
        let mut stream = std::pin::pin!(request.execute());
        let mut all = Vec::new();
        while let Some(message) = next(&mut stream, "list addresses of", &link.name).await? {
            bounded(all.len(), "addresses")?;
            all.extend(message.attributes.iter().filter_map(|a| match a {
                AddressAttribute::Local(IpAddr::V4(ip)) => Some(*ip),
                _ => None,
            }));
        }
        Ok(all)
    }
}

fn into<T>(
    builder: LinkMessageBuilder<T>,
    mtu: u32,
    namespace: Namespace<'_>,
) -> netlink_packet_route::link::LinkMessage {
    let builder = builder.mtu(mtu);
    match namespace {
        Namespace::Pid(pid) => builder.setns_by_pid(pid),
        Namespace::Fd(fd) => builder.setns_by_fd(fd.as_raw_fd()),
    }
    .build()
}

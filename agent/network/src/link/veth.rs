//! The pair of interfaces that leads into a container.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_route::link::{BridgePortState, InfoData, InfoVeth};
use rtnetlink::{LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::{CREATE_VETH, LinkError, Links, Refusal, request_error};

/// The network namespace of a container.
#[derive(Debug, Clone, Copy)]
pub enum Namespace<'a> {
    /// That of a process, seen from our own pid namespace.
    Pid(u32),
    /// An open `/proc/<pid>/ns/net`.
    Fd(BorrowedFd<'a>),
}

/// What a veth pair is made of.
#[derive(Debug)]
pub(crate) struct Veth<'a> {
    pub host_name: &'a str,
    pub inner_name: &'a str,
    pub inner_mac: [u8; 6],
    pub mtu: u32,
    pub bridge: u32,
}

impl Links {
    /// One request makes the pair: the inner end appears in the container's namespace at once and never passes through ours.
    pub async fn add_veth(
        &self,
        veth: &Veth<'_>,
        namespace: Namespace<'_>,
    ) -> Result<(), LinkError> {
        let inner = LinkMessageBuilder::<LinkUnspec>::default()
            .name(veth.inner_name)
            .address(veth.inner_mac.to_vec())
            .mtu(veth.mtu);
        let inner = match namespace {
            Namespace::Pid(pid) => inner.setns_by_pid(pid),
            Namespace::Fd(fd) => inner.setns_by_fd(fd.as_raw_fd()),
        };
        let pair = LinkMessageBuilder::<LinkVeth>::new(veth.host_name, veth.inner_name)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(inner.build())))
            .mtu(veth.mtu)
            .controller(veth.bridge)
            .up()
            .build();
        let added = self.handle.link().add(pair).execute().await;
        added.map_err(|e| request_error(CREATE_VETH, veth.host_name, e))
    }

    /// Nothing passes the port any more, and the bridge looks for nobody behind it. One that is gone is no error.
    pub async fn silence(&self, name: &str) -> Result<(), LinkError> {
        let Some(link) = self.find(name).await? else {
            return Ok(());
        };
        let port = LinkBridgePort::new(link.index)
            .state(BridgePortState::Disabled)
            // Also where the kernel opens a port late that has only just got its carrier.
            .learning(false)
            .flood(false)
            .bcast_flood(false)
            .mcast_flood(false)
            .fdb_flush()
            .build();
        let set = self.handle.link().set_port(port).execute().await;
        match set.map_err(|e| request_error("silence", name, e)) {
            Err(e) if e.errno() == Some(libc::ENODEV) => Ok(()),
            other => other,
        }
    }

    /// Lets a container reach itself through a port that it publishes: where br_netfilter is on, the bridge translates by
    /// itself and would have to send the packet back by the port that it came from.
    pub async fn allow_hairpin(&self, name: &str) -> Result<(), LinkError> {
        let Some(link) = self.find(name).await? else {
            let gone = Refusal::Gone;
            return Err(request_error("find the new veth", name, gone));
        };
        let port = LinkBridgePort::new(link.index).hairpin(true).build();
        let set = self.handle.link().set_port(port).execute().await;
        set.map_err(|e| request_error("set hairpin mode of", name, e))
    }
}

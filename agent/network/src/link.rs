//! Bridge, veths and addresses by rtnetlink: the only file that knows the crate.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use futures_util::TryStreamExt;
use ipnet::Ipv4Net;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use rtnetlink::{
    Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth,
    RouteMessageBuilder,
};
use tokio::task::JoinHandle;

/// Interfaces, routes or addresses that one dump may list before we give up on it.
const MAX_DUMP: usize = 65_536;

#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("cannot open a rtnetlink socket (the kernel needs CONFIG_NET and CONFIG_INET)")]
    Open(#[source] io::Error),
    #[error("cannot {action} {name}{}", hint(.action, .source))]
    Request {
        action: &'static str,
        name: String,
        source: rtnetlink::Error,
    },
    #[error(
        "interface {name} is a {found}, not a {wanted}: another program's, so it is left alone"
    )]
    WrongKind {
        name: String,
        found: String,
        wanted: &'static str,
    },
    #[error("the kernel lists more than {MAX_DUMP} {what}")]
    TooMany { what: &'static str },
}

impl LinkError {
    fn errno(&self) -> Option<i32> {
        match self {
            Self::Request { source, .. } => errno(source),
            _ => None,
        }
    }
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(-message.raw_code()),
        _ => None,
    }
}

const CREATE_BRIDGE: &str = "create bridge";
const CREATE_VETH: &str = "create veth";

fn hint(action: &str, source: &rtnetlink::Error) -> &'static str {
    match (action, errno(source)) {
        (_, Some(libc::EPERM)) => " (CAP_NET_ADMIN is needed)",
        (CREATE_BRIDGE, Some(libc::EOPNOTSUPP)) => " (the kernel needs CONFIG_BRIDGE)",
        (CREATE_VETH, Some(libc::EOPNOTSUPP)) => " (the kernel needs CONFIG_VETH)",
        (CREATE_VETH, Some(libc::EEXIST)) => " (the name, or eth0 inside, is taken)",
        _ => "",
    }
}

/// The network namespace of a container.
#[derive(Debug, Clone, Copy)]
pub enum Namespace<'a> {
    /// That of a process, seen from our own pid namespace.
    Pid(u32),
    /// An open `/proc/<pid>/ns/net`.
    Fd(BorrowedFd<'a>),
}

/// An interface as a dump tells it.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub index: u32,
    pub name: String,
    pub controller: Option<u32>,
    /// `bridge`, `veth`; empty for hardware.
    pub kind: String,
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

/// A route that is already there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub destination: Ipv4Net,
    pub interface: Option<u32>,
}

/// A connection to the namespace that it was opened in. Its task ends with it.
pub(crate) struct Links {
    handle: Handle,
    task: JoinHandle<()>,
}

impl Drop for Links {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Links {
    /// Must be called inside a tokio runtime.
    pub fn open() -> Result<Self, LinkError> {
        let (connection, handle, _notices) =
            rtnetlink::new_connection().map_err(LinkError::Open)?;
        let task = tokio::spawn(connection);
        Ok(Self { handle, task })
    }

    /// The interface of that name, if there is one.
    pub async fn find(&self, name: &str) -> Result<Option<Link>, LinkError> {
        let request = self.handle.link().get().match_name(name.to_owned());
        match request.execute().try_next().await {
            Ok(found) => Ok(found.map(|m| link(&m))),
            Err(e) if errno(&e) == Some(libc::ENODEV) => Ok(None),
            Err(source) => Err(request_error("look for", name, source)),
        }
    }

    pub async fn list(&self) -> Result<Vec<Link>, LinkError> {
        let mut stream = std::pin::pin!(self.handle.link().get().execute());
        let mut links = Vec::new();
        while let Some(message) = next(&mut stream, "list", "interfaces").await? {
            bounded(links.len(), "interfaces")?;
            links.push(link(&message));
        }
        Ok(links)
    }

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
            let gone = rtnetlink::Error::RequestFailed;
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

    /// The interface has this IPv4 address and no other one.
    pub async fn ensure_address(
        &self,
        index: u32,
        name: &str,
        ip: Ipv4Addr,
        prefix: u8,
    ) -> Result<(), LinkError> {
        let addresses = self.handle.address();
        let mut stream = std::pin::pin!(addresses.get().set_link_index_filter(index).execute());
        let mut stale = Vec::new();
        let mut present = false;
        while let Some(message) = next(&mut stream, "list addresses of", name).await? {
            bounded(stale.len(), "addresses")?;
            let ours = message
                .attributes
                .contains(&AddressAttribute::Local(IpAddr::V4(ip)));
            if message.header.family != AddressFamily::Inet {
                continue;
            }
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
            let added = addresses.add(index, IpAddr::V4(ip), prefix).execute().await;
            added.map_err(|e| request_error("give an address to", name, e))?;
        }
        Ok(())
    }

    /// IPv4 routes of the main table, but for default ones.
    pub async fn routes(&self) -> Result<Vec<Route>, LinkError> {
        let query = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let mut stream = std::pin::pin!(self.handle.route().get(query).execute());
        let mut routes = Vec::new();
        while let Some(message) = next(&mut stream, "list", "routes").await? {
            bounded(routes.len(), "routes")?;
            routes.extend(route(&message));
        }
        Ok(routes)
    }

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

    /// Lets a container reach itself through a port that it publishes: where br_netfilter is on, the bridge translates by
    /// itself and would have to send the packet back by the port that it came from.
    pub async fn allow_hairpin(&self, name: &str) -> Result<(), LinkError> {
        let Some(link) = self.find(name).await? else {
            let gone = rtnetlink::Error::RequestFailed;
            return Err(request_error("find the new veth", name, gone));
        };
        let port = LinkBridgePort::new(link.index).hairpin(true).build();
        let set = self.handle.link().set_port(port).execute().await;
        set.map_err(|e| request_error("set hairpin mode of", name, e))
    }

    /// Removes an interface; one that is gone already is no error, since a veth goes with its container's namespace.
    pub async fn remove(&self, name: &str) -> Result<bool, LinkError> {
        let Some(link) = self.find(name).await? else {
            return Ok(false);
        };
        let removed = self.handle.link().del(link.index).execute().await;
        match removed.map_err(|e| request_error("remove", name, e)) {
            Err(e) if e.errno() == Some(libc::ENODEV) => Ok(false),
            Err(e) => Err(e),
            Ok(()) => Ok(true),
        }
    }
}

fn request_error(action: &'static str, name: &str, source: rtnetlink::Error) -> LinkError {
    LinkError::Request {
        action,
        name: name.to_owned(),
        source,
    }
}

async fn next<T, S>(
    stream: &mut S,
    action: &'static str,
    name: &str,
) -> Result<Option<T>, LinkError>
where
    S: futures_util::TryStream<Ok = T, Error = rtnetlink::Error> + Unpin,
{
    let next = stream.try_next().await;
    next.map_err(|e| request_error(action, name, e))
}

fn bounded(count: usize, what: &'static str) -> Result<(), LinkError> {
    if count < MAX_DUMP {
        Ok(())
    } else {
        Err(LinkError::TooMany { what })
    }
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        controller: None,
        kind: String::new(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Controller(index) => link.controller = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = kind_name(kind);
                    }
                }
            }
            _ => {}
        }
    }
    link
}

fn kind_name(kind: &InfoKind) -> String {
    match kind {
        InfoKind::Bridge => "bridge".to_owned(),
        InfoKind::Veth => "veth".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn route(message: &RouteMessage) -> Option<Route> {
    if message.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let mut destination = None;
    let mut interface = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => destination = Some(*ip),
            RouteAttribute::Oif(index) => interface = Some(*index),
            _ => {}
        }
    }
    let destination = Ipv4Net::new(destination?, message.header.destination_prefix_length).ok()?;
    (destination.prefix_len() > 0).then_some(Route {
        destination,
        interface,
    })
}

//! The container's half, done by its own process in its own namespace before the program starts; or, for a network that
//! comes later, through a socket that was opened in the container's namespace.
//!
//! Blocking and without a runtime, because the caller is the child side of a launch: one socket, a few requests, each
//! answered by the kernel inside `send`.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::endpoint::Endpoint;
use crate::link::Namespace;

/// Linux gives each namespace's loopback this index.
const LOOPBACK_INDEX: u32 = 1;
const ANSWER_BYTES: usize = 8192;

#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    #[error("inside the container: cannot {action} a rtnetlink socket")]
    Socket {
        action: &'static str,
        source: io::Error,
    },
    #[error("cannot {action} network namespace of the container")]
    Namespace {
        action: &'static str,
        source: io::Error,
    },
    #[error("inside the container: cannot {action}")]
    Refused { action: String, source: io::Error },
    #[error("inside the container: the kernel's answer to \"{action}\" is not understood")]
    Answer { action: String },
}

/// Loopback up; the interface up with the endpoint's address, and a default route through the board.
///
/// # Errors
/// Names the step that the kernel refused. Nothing is undone: the namespace dies with the process.
pub fn configure_inside(endpoint: &Endpoint) -> Result<(), InsideError> {
    configure(&mut RouteSocket::open()?, endpoint)
}

/// The same for a container that runs, by a process outside of it that may enter its namespace (CAP_SYS_ADMIN).
pub(crate) fn configure_from_outside(
    namespace: Namespace<'_>,
    endpoint: &Endpoint,
) -> Result<(), InsideError> {
    configure(&mut RouteSocket::open_in(namespace)?, endpoint)
}

fn configure(socket: &mut RouteSocket, endpoint: &Endpoint) -> Result<(), InsideError> {
    socket.loopback_up()?;
    let name = &endpoint.container_if;
    let index = socket.index_of(name)?;
    let mut sides = vec![(
        IpAddr::V4(endpoint.ip),
        endpoint.prefix,
        IpAddr::V4(endpoint.gateway),
    )];
    sides.extend(
        endpoint
            .ipv6
            .map(|six| (six.ip.into(), six.prefix, six.gateway.into())),
    );
    for (ip, prefix, _) in &sides {
        socket.request(
            &format!("give {ip}/{prefix} to {name}"),
            RouteNetlinkMessage::NewAddress(address(index, *ip, *prefix)),
            NLM_F_CREATE | NLM_F_EXCL,
        )?;
    }
    socket.set_up(index, name)?;
    if !endpoint.default_route {
        return Ok(());
    }
    for (_, _, gateway) in &sides {
        socket.request(
            &format!("route through {gateway}"),
            RouteNetlinkMessage::NewRoute(default_route(index, *gateway)),
            NLM_F_CREATE | NLM_F_EXCL,
        )?;
    }
    Ok(())
}

/// Loopback up and nothing else: network mode `none`.
pub fn configure_loopback() -> Result<(), InsideError> {
    RouteSocket::open()?.loopback_up()
}

struct RouteSocket {
    socket: Socket,
    sequence: u32,
}

impl RouteSocket {
    fn open() -> Result<Self, InsideError> {
        let failed = |action| move |source| InsideError::Socket { action, source };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed("open"))?;
        socket.bind_auto().map_err(failed("bind"))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// A socket of the namespace in which it was opened: this thread goes there, opens it and comes back.
    fn open_in(namespace: Namespace<'_>) -> Result<Self, InsideError> {
        let failed = |action| move |source| InsideError::Namespace { action, source };
        let open = |path: &str| std::fs::File::open(path);
        let home = open("/proc/thread-self/ns/net").map_err(failed("find our own"))?;
        let by_pid;
        let there = match namespace {
            Namespace::Fd(fd) => fd,
            Namespace::Pid(pid) => {
                by_pid = open(&format!("/proc/{pid}/ns/net")).map_err(failed("find"))?;
                by_pid.as_fd()
            }
        };
        let enter = |fd| move_into_link_name_space(fd, Some(LinkNameSpaceType::Network));
        enter(there).map_err(|e| failed("enter")(e.into()))?;
        let socket = Self::open();
        if enter(home.as_fd()).is_err() {
            // What this thread does next is meant for the board; in a container it would be wrong.
            std::process::abort();
        }
        socket
    }

    fn loopback_up(&mut self) -> Result<(), InsideError> {
        self.set_up(LOOPBACK_INDEX, "lo")
    }

    fn set_up(&mut self, index: u32, name: &str) -> Result<(), InsideError> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.request(
            &format!("bring {name} up"),
            RouteNetlinkMessage::SetLink(link),
            0,
        )
    }

    fn index_of(&mut self, name: &str) -> Result<u32, InsideError> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let action = format!("find {name}");
        match self.exchange(&action, RouteNetlinkMessage::GetLink(link), NLM_F_REQUEST)? {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                Ok(link.header.index)
            }
            _ => Err(InsideError::Answer { action }),
        }
    }

    fn request(
        &mut self,
        action: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), InsideError> {
        self.exchange(action, message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        Ok(())
    }

    fn exchange(
        &mut self,
        action: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<NetlinkPayload<RouteNetlinkMessage>, InsideError> {
        self.sequence += 1;
        let mut packet = NetlinkMessage::from(message);
        packet.header.flags = flags;
        packet.header.sequence_number = self.sequence;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        let failed = |source| InsideError::Refused {
            action: action.to_owned(),
            source,
        };
        self.socket
            .send_to(&bytes, &SocketAddr::new(0, 0), 0)
            .map_err(failed)?;
        let mut answer = Vec::with_capacity(ANSWER_BYTES);
        self.socket.recv(&mut answer, 0).map_err(failed)?;
        let unreadable = |_| InsideError::Answer {
            action: action.to_owned(),
        };
        let answer =
            NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(unreadable)?;
        match answer.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => {
                Err(failed(io::Error::from_raw_os_error(-error.raw_code())))
            }
            payload => Ok(payload),
        }
    }
}

fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn address(index: u32, ip: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(ip);
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Address(ip), AddressAttribute::Local(ip)];
    match ip {
        IpAddr::V4(ip) => {
            let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            let broadcast = Ipv4Addr::from(u32::from(ip) | hosts);
            message
                .attributes
                .push(AddressAttribute::Broadcast(broadcast));
        }
        // Usable at once: the pool gives no address twice, and the test for doubles takes a second.
        IpAddr::V6(_) => message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad)),
    }
    message
}

fn default_route(index: u32, gateway: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(gateway);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    let gateway = match gateway {
        IpAddr::V4(ip) => RouteAddress::Inet(ip),
        IpAddr::V6(ip) => RouteAddress::Inet6(ip),
    };
    message.attributes = vec![RouteAttribute::Gateway(gateway), RouteAttribute::Oif(index)];
    message
}

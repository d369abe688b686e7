//! The container's half, done by its own process in its own namespace before the program starts.
//!
//! Blocking and without a runtime, because the caller is the child side of a launch: one socket, a few requests, each
//! answered by the kernel inside `send`.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::endpoint::Endpoint;

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
    let mut socket = RouteSocket::open()?;
    socket.loopback_up()?;
    let name = &endpoint.container_if;
    let index = socket.index_of(name)?;
    socket.request(
        &format!("give {}/{} to {name}", endpoint.ip, endpoint.prefix),
        RouteNetlinkMessage::NewAddress(address(index, endpoint.ip, endpoint.prefix)),
        NLM_F_CREATE | NLM_F_EXCL,
    )?;
    socket.set_up(index, name)?;
    socket.request(
        &format!("route through {}", endpoint.gateway),
        RouteNetlinkMessage::NewRoute(default_route(index, endpoint.gateway)),
        NLM_F_CREATE | NLM_F_EXCL,
    )
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

fn address(index: u32, ip: Ipv4Addr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.index = index;
    let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    message.attributes = vec![
        AddressAttribute::Address(IpAddr::V4(ip)),
        AddressAttribute::Local(IpAddr::V4(ip)),
        AddressAttribute::Broadcast(Ipv4Addr::from(u32::from(ip) | hosts)),
    ];
    message
}

fn default_route(index: u32, gateway: Ipv4Addr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Gateway(RouteAddress::Inet(gateway)),
        RouteAttribute::Oif(index),
    ];
    message
}

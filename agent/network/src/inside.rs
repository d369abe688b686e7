//! The container's half, done by its own process in its own namespace before the program starts; or, for a network that
//! comes later, through a socket that was opened in the container's namespace.
//!
//! Blocking and without a runtime, because the caller is the child side of a launch: one socket, a few requests, each
//! answered by the kernel inside `send`.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::endpoint::Endpoint;
use crate::link::Namespace;
use crate::route_socket::{RouteSocket, within};
use crate::sysctl::{self, SysctlError};

/// How long the wire's side of an earlier run of the same container may still be there: its namespace is taken down by the
/// kernel in its own time, and until then its hardware address and addresses are taken.
const PREDECESSOR: Duration = Duration::from_secs(2);
const AGAIN_AFTER: Duration = Duration::from_millis(5);

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
    #[error("inside the container: cannot {action}{}", hint(.action, .source))]
    Refused { action: String, source: io::Error },
    #[error("inside the container: the kernel's answer to \"{action}\" is not understood")]
    Answer { action: String },
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

impl InsideError {
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if source.raw_os_error() == Some(libc::ENODEV))
    }

    pub(crate) fn is_doubled(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if source.raw_os_error() == Some(libc::EEXIST))
    }

    fn is_taken(&self) -> bool {
        let taken = [libc::EBUSY, libc::EADDRINUSE].map(Some);
        matches!(self, Self::Refused { source, .. } if taken.contains(&source.raw_os_error()))
    }
}

/// What a link is asked for by `RouteSocket::set_bitrate`.
pub(crate) const SET_BITRATE: &str = "set the bit rate";

fn hint(action: &str, source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EOPNOTSUPP) if action.starts_with(SET_BITRATE) => {
            " (it is no CAN controller, or one whose bit rate is fixed)"
        }
        Some(libc::EINVAL | libc::EDOM | libc::ERANGE) if action.starts_with(SET_BITRATE) => {
            " (the controller's clock does not divide so)"
        }
        _ => "",
    }
}

pub(crate) fn not_found(source: io::Error) -> InsideError {
    let action = "find";
    InsideError::Namespace { action, source }
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
    if endpoint.wire.is_none() {
        // Without it, or IPv6, it is only slower.
        let _ = socket.ask_again_soon(index);
    }
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
    let patience = match endpoint.wire {
        Some(_) => PREDECESSOR,
        None => Duration::ZERO,
    };
    for (ip, prefix, _) in &sides {
        when_free(patience, || give(socket, (index, name), *ip, *prefix))?;
    }
    when_free(patience, || socket.set_up(index, name))?;
    if !endpoint.default_route {
        return Ok(());
    }
    let routers = sides.iter().map(|(_, _, gateway)| gateway);
    for gateway in routers.filter(|ip| !ip.is_unspecified()) {
        socket.request(
            &format!("route through {gateway}"),
            RouteNetlinkMessage::NewRoute(default_route(index, *gateway)),
            NLM_F_CREATE | NLM_F_EXCL,
        )?;
    }
    Ok(())
}

fn give(
    socket: &mut RouteSocket,
    (index, name): (u32, &str),
    ip: IpAddr,
    prefix: u8,
) -> Result<(), InsideError> {
    socket.request(
        &format!("give {ip}/{prefix} to {name}"),
        RouteNetlinkMessage::NewAddress(address(index, ip, prefix)),
        NLM_F_CREATE | NLM_F_EXCL,
    )
}

/// Tries again while somebody else has what is asked for.
fn when_free(
    patience: Duration,
    mut ask: impl FnMut() -> Result<(), InsideError>,
) -> Result<(), InsideError> {
    let end = Instant::now() + patience;
    loop {
        match ask() {
            Err(error) if error.is_taken() && Instant::now() < end => {
                std::thread::sleep(AGAIN_AFTER);
            }
            other => return other,
        }
    }
}

/// What a link of the board is to have in a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LentAs {
    pub address: Option<Ipv4Net>,
    /// Bits a second of a CAN bus.
    pub bitrate: Option<u32>,
}

/// A link of the board that is in this namespace now comes up, with what it is to have.
pub fn configure_lent(name: &str, wanted: LentAs) -> Result<(), InsideError> {
    let mut socket = RouteSocket::open()?;
    let index = socket.index_of(name)?;
    if let Some(bitrate) = wanted.bitrate {
        socket.set_bitrate((index, name), bitrate)?;
    }
    if let Some(net) = wanted.address {
        give(
            &mut socket,
            (index, name),
            net.addr().into(),
            net.prefix_len(),
        )?;
    }
    socket.set_up(index, name)
}

/// Takes a container's own interface away, from outside. One that is not there is no error.
pub(crate) fn remove(namespace: Namespace<'_>, name: &str) -> Result<(), InsideError> {
    let mut socket = RouteSocket::open_in(namespace)?;
    match socket.index_of(name) {
        Ok(index) => socket.remove(index, name),
        Err(error) if error.is_missing() => Ok(()),
        Err(other) => Err(other),
    }
}

/// The interface never speaks IPv6.
pub(crate) fn without_ipv6(namespace: Namespace<'_>, name: &str) -> Result<(), InsideError> {
    Ok(within(namespace, || sysctl::switch_ipv6_off(name))??)
}

/// Loopback up and nothing else: network mode `none`.
pub fn configure_loopback() -> Result<(), InsideError> {
    RouteSocket::open()?.loopback_up()
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

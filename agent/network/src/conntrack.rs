//! Connections that the kernel tracks, by ctnetlink (linux/netfilter/nfnetlink_conntrack.h). One that is tracked keeps its
//! way whatever the rules say by then: those of a container that has gone would lead to whoever gets its address, and
//! datagrams that came before a port was published would never find it while they keep coming.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::NlasIterator;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use crate::nft::wire::{Attributes, encode};

const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;

/// A netlink header and what nfnetlink puts behind it.
const HEADERS: usize = 16 + 4;
/// What the kernel hands over at once in a dump (NLMSG_GOODSIZE and more).
const BUFFER: usize = 32 * 1024;
/// Connections that are forgotten at a time; boards track some ten thousand.
const MOST: usize = 65_536;

/// One direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub from: IpAddr,
    pub to: IpAddr,
    pub protocol: u8,
    pub to_port: u16,
}

/// One connection: its first packet's direction, and the answers'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flow {
    pub there: Way,
    pub back: Way,
    family: u8,
    /// What names it to the kernel.
    name: Attributes,
}

impl Flow {
    pub fn is_of(&self, ip: IpAddr) -> bool {
        [self.there, self.back]
            .iter()
            .any(|way| way.from == ip || way.to == ip)
    }
}

/// Forgets those connections; how many there were.
///
/// # Errors
/// Where the kernel has no CONFIG_NF_CT_NETLINK too.
pub(crate) fn forget(which: impl Fn(&Flow) -> bool) -> io::Result<usize> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    let _ = socket.set_cap_ack(true);
    let mut found = Vec::new();
    ask(
        &socket,
        GET,
        libc::NLM_F_DUMP,
        0,
        &Attributes::default(),
        |message| {
            let flow = read(message).filter(|flow| found.len() < MOST && which(flow));
            found.extend(flow);
        },
    )?;
    let mut forgotten = 0;
    for flow in &found {
        match ask(
            &socket,
            DELETE,
            libc::NLM_F_ACK,
            flow.family,
            &flow.name,
            |_| {},
        ) {
            Ok(()) => forgotten += 1,
            // It ended meanwhile.
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(forgotten)
}

/// Sends a request and takes its answers. Never waits: the kernel works inside of `send` and `recv`.
fn ask(
    socket: &Socket,
    kind: u16,
    flags: i32,
    family: u8,
    attributes: &Attributes,
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let mut request = Vec::new();
    let flags = (libc::NLM_F_REQUEST | flags) as u16;
    encode(&mut request, kind, flags, 0, family, 0, attributes);
    socket.send_to(&request, &SocketAddr::new(0, 0), 0)?;
    loop {
        let mut answer = Vec::with_capacity(BUFFER);
        socket.recv(&mut answer, libc::MSG_DONTWAIT)?;
        let mut rest = &answer[..];
        while let Some((of_kind, message, behind)) = split(rest) {
            match i32::from(of_kind) {
                libc::NLMSG_DONE => return Ok(()),
                libc::NLMSG_ERROR => return refusal(message),
                _ => each(message),
            }
            rest = behind;
        }
    }
}

/// The first message, with its headers, and what is behind it.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let message = bytes.get(..length).filter(|_| length >= 16)?;
    let behind = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, message, behind))
}

fn refusal(message: &[u8]) -> io::Result<()> {
    let code = message.get(16..20).and_then(|bytes| bytes.try_into().ok());
    match code.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn read(message: &[u8]) -> Option<Flow> {
    let family = *message.get(16)?;
    let (mut there, mut back) = (None, None);
    let mut name = Attributes::default();
    for one in NlasIterator::new(message.get(HEADERS..)?) {
        let one = one.ok()?;
        match one.kind() {
            CTA_TUPLE_ORIG => {
                there = Some(way(one.value())?);
                name = name.bytes(CTA_TUPLE_ORIG | libc::NLA_F_NESTED as u16, one.value());
            }
            CTA_TUPLE_REPLY => back = Some(way(one.value())?),
            kind @ (CTA_ID | CTA_ZONE) => name = name.bytes(kind, one.value()),
            _ => {}
        }
    }
    Some(Flow {
        there: there?,
        back: back?,
        family,
        name,
    })
}

fn way(tuple: &[u8]) -> Option<Way> {
    let (mut from, mut to, mut protocol, mut to_port) = (None, None, None, 0);
    for part in NlasIterator::new(tuple) {
        let part = part.ok()?;
        for one in NlasIterator::new(part.value()) {
            let one = one.ok()?;
            let value = one.value();
            match (part.kind(), one.kind()) {
                (CTA_TUPLE_IP, CTA_IP_V4_SRC) => from = Some(four(value)?),
                (CTA_TUPLE_IP, CTA_IP_V4_DST) => to = Some(four(value)?),
                (CTA_TUPLE_IP, CTA_IP_V6_SRC) => from = Some(six(value)?),
                (CTA_TUPLE_IP, CTA_IP_V6_DST) => to = Some(six(value)?),
                (CTA_TUPLE_PROTO, CTA_PROTO_NUM) => protocol = value.first().copied(),
                (CTA_TUPLE_PROTO, CTA_PROTO_DST_PORT) => {
                    to_port = u16::from_be_bytes(value.try_into().ok()?);
                }
                _ => {}
            }
        }
    }
    Some(Way {
        from: from?,
        to: to?,
        protocol: protocol?,
        to_port,
    })
}

fn four(bytes: &[u8]) -> Option<IpAddr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into())
}

fn six(bytes: &[u8]) -> Option<IpAddr> {
    Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into())
}

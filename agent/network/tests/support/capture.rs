//! Packets as they arrive, by a packet socket.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::LinkAddr;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, eth, recvfrom, socket_with};

/// Whom somebody addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    pub protocol: u8,
    pub to: IpAddr,
    pub port: u16,
}

/// Who spoke with whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    pub protocol: u8,
    pub from: IpAddr,
    pub to: IpAddr,
    /// Whom: of TCP, UDP and SCTP.
    pub to_port: u16,
}

/// Everything that passes the interfaces of the namespace that it was started in.
pub struct Capture(OwnedFd);

impl Capture {
    pub fn start() -> io::Result<Self> {
        // Without link headers.
        let (family, kind) = (AddressFamily::PACKET, SocketType::DGRAM);
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        Ok(Self(socket_with(family, kind, flags, Some(eth::ALL))?))
    }

    /// Who was addressed since the last call by packets that the board sent, its own or its containers': each once, in order.
    /// ICMPv6, which neighbours speak, and complaints about answers that nobody asked for are left out.
    pub fn sent_by_the_board(&self) -> Vec<Packet> {
        let mut all = BTreeSet::new();
        let mut buffer = vec![0; 65_536];
        while let Ok((bytes, length, _)) = recvfrom(&self.0, &mut buffer[..], RecvFlags::empty()) {
            let _ = bytes;
            all.extend(read(&buffer[..length]));
        }
        all.into_iter().collect()
    }

    /// Every IP packet since the last call: each kind once. ICMPv6 and what hosts say of multicast are left out, since links
    /// speak that among themselves.
    pub fn flows(&self) -> BTreeSet<Flow> {
        self.collect(|_| true)
    }

    /// The same of one interface.
    pub fn flows_of(&self, interface: &str) -> BTreeSet<Flow> {
        let index = nix::net::if_::if_nametoindex(interface).unwrap();
        self.collect(|at| at == index as usize)
    }

    fn collect(&self, passes: impl Fn(usize) -> bool) -> BTreeSet<Flow> {
        let mut all = BTreeSet::new();
        let mut buffer = vec![0; 65_536];
        while let Ok((length, at)) =
            nix::sys::socket::recvfrom::<LinkAddr>(self.0.as_raw_fd(), &mut buffer)
        {
            if at.is_some_and(|at| passes(at.ifindex())) {
                all.extend(flow(&buffer[..length]));
            }
        }
        all
    }
}

fn flow(packet: &[u8]) -> Option<Flow> {
    let (protocol, from, to, header) = addresses(packet)?;
    // RFC 4890: what IPv6 needs between neighbours, and hop-by-hop options of multicast listeners; IGMP.
    let is_of_links = [0, 2, 58].contains(&protocol);
    let has_ports = [6, 17, 132].contains(&protocol);
    let to_port = match has_ports {
        true => packet.get(header + 2..header + 4)?,
        false => &[0, 0],
    };
    (!is_of_links).then(|| Flow {
        protocol,
        from,
        to,
        to_port: u16::from_be_bytes([to_port[0], to_port[1]]),
    })
}

/// Protocol, sender, receiver and where the rest begins.
fn addresses(packet: &[u8]) -> Option<(u8, IpAddr, IpAddr, usize)> {
    match packet.first()? >> 4 {
        4 => {
            let part = |at: usize| <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok();
            let ip = |at| Some(IpAddr::from(Ipv4Addr::from(part(at)?)));
            Some((
                *packet.get(9)?,
                ip(12)?,
                ip(16)?,
                usize::from(packet[0] & 15) * 4,
            ))
        }
        6 => {
            let part = |at: usize| <[u8; 16]>::try_from(packet.get(at..at + 16)?).ok();
            let ip = |at| Some(IpAddr::from(Ipv6Addr::from(part(at)?)));
            Some((*packet.get(6)?, ip(8)?, ip(24)?, 40))
        }
        _ => None,
    }
}

fn read(packet: &[u8]) -> Option<Packet> {
    let (protocol, from, to, header) = addresses(packet)?;
    let ipv6 = from.is_ipv6();
    let ports = packet.get(header..header + 4)?;
    let sent_by_board = [super::BOARD.into(), "2001:db8:77::1".parse().unwrap()].contains(&from);
    // RFC 4890: what IPv6 needs between neighbours.
    let is_neighbourly = [0, 58].contains(&protocol) && ipv6;
    // RFC 792: the board itself, to whoever answers where nobody asked.
    let is_unreachable = protocol == 1 && ports[0] == 3;
    (sent_by_board && !is_neighbourly && !is_unreachable).then(|| Packet {
        protocol,
        to,
        port: u16::from_be_bytes([ports[2], ports[3]]),
    })
}

//! A router of a wire: says its prefix as RFC 4861 4.2 has it.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};

use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, ipproto, sendto, socket_with, sockopt,
};

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ROUTER_ADVERTISEMENT: u8 = 134;
const PREFIX_INFORMATION: u8 = 3;
/// On this link, and for addresses of one's own making.
const ON_LINK_AND_AUTONOMOUS: u8 = 0xc0;

/// Once, on a link of this thread's namespace, whose own address there must be settled. A prefix of 64 bits.
pub fn advertise(link: &str, prefix: Ipv6Addr) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    let (family, kind) = (AddressFamily::INET6, SocketType::RAW);
    let socket = socket_with(family, kind, flags, Some(ipproto::ICMPV6))?;
    // Whoever hears it takes no other (RFC 4861 6.1.2).
    sockopt::set_ipv6_multicast_hops(&socket, 255)?;
    // The checksum is the kernel's to fill in.
    let mut message = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0];
    message.extend(1800u16.to_be_bytes());
    message.extend([0; 8]);
    message.extend([PREFIX_INFORMATION, 4, 64, ON_LINK_AND_AUTONOMOUS]);
    message.extend(3600u32.to_be_bytes());
    message.extend(3600u32.to_be_bytes());
    message.extend([0; 4]);
    message.extend(prefix.octets());
    let scope = nix::net::if_::if_nametoindex(link)?;
    let to = SocketAddrV6::new(ALL_NODES, 0, 0, scope);
    sendto(&socket, &message, SendFlags::empty(), &to)?;
    Ok(())
}

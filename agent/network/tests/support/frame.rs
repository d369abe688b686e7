//! Frames as no kernel would send them, from inside of a container.

use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, sendto, socket};

const ETH_P_IP: u16 = 0x0800;
const IPPROTO_UDP: u8 = 17;

/// An Ethernet frame with these bytes between the addresses and the Ethernet type of IPv4, and a datagram in it.
pub fn datagram(
    to_mac: [u8; 6],
    tags: &[u8],
    (from, to): (Ipv4Addr, Ipv4Addr),
    port: u16,
) -> Vec<u8> {
    let payload = b"hello";
    let mut frame = to_mac.to_vec();
    frame.extend([2, 0, 0, 0, 0, 9]);
    frame.extend(tags);
    frame.extend(ETH_P_IP.to_be_bytes());
    let mut head = vec![0x45, 0];
    head.extend((20 + 8 + payload.len() as u16).to_be_bytes());
    head.extend([0, 1, 0, 0, 64, IPPROTO_UDP, 0, 0]);
    head.extend(from.octets());
    head.extend(to.octets());
    let sum: u32 = head
        .chunks(2)
        .map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])))
        .sum();
    let sum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    head[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(head);
    frame.extend(port.to_be_bytes());
    frame.extend(port.to_be_bytes());
    frame.extend((8 + payload.len() as u16).to_be_bytes());
    // RFC 768: no checksum.
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

/// Sends the frame by that interface of this thread's namespace, four times while the caller goes on to listen.
pub fn send_soon(interface: &'static str, frame: Vec<u8>) {
    let packet = |a: &nix::ifaddrs::InterfaceAddress| {
        let link = *a.address.as_ref()?.as_link_addr()?;
        (a.interface_name == interface).then_some(link)
    };
    let link = getifaddrs().unwrap().find_map(|a| packet(&a)).unwrap();
    assert_eq!(link.family(), Some(AddressFamily::Packet));
    let kind = (AddressFamily::Packet, SockType::Raw);
    let socket = socket(kind.0, kind.1, SockFlag::empty(), None).unwrap();
    std::thread::spawn(move || {
        for _ in 0..4 {
            std::thread::sleep(std::time::Duration::from_millis(100));
            sendto(socket.as_raw_fd(), &frame, &link, MsgFlags::empty()).unwrap();
        }
    });
}

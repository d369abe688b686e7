//! Which subnet a new network gets, where nobody says one.

use std::fs::File;
use std::io::{self, Read};
use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::link::Route;

/// Where networks' subnets are taken from, in this order; parts of RFC 1918 that home and office routers seldom use.
const SPACES: [&str; 3] = ["10.89.0.0/16", "172.29.0.0/16", "192.168.208.0/20"];
/// Room for 253 containers.
const PREFIX: u8 = 24;

/// The first subnet that overlaps no route of the board and no other network's.
pub(super) fn free(routes: &[Route], taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let spaces = SPACES
        .iter()
        .filter_map(|space| space.parse::<Ipv4Net>().ok());
    let mut subnets = spaces.flat_map(|space| space.subnets(PREFIX).into_iter().flatten());
    subnets.find(|subnet| {
        let routed = routes.iter().any(|r| r.overlaps(IpNet::V4(*subnet)));
        !routed && !taken.iter().any(|other| overlap(*other, *subnet))
    })
}

pub(super) fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// RFC 4193 3.2: fd, forty random bits, and the network's number.
pub(super) fn unique_local(slot: u8) -> io::Result<Ipv6Net> {
    let mut random = [0; 5];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    let [a, b, c, d, e] = random;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&[0xfd, a, b, c, d, e, 0, slot]);
    Ok(Ipv6Net::new_assert(Ipv6Addr::from(bytes), 64))
}

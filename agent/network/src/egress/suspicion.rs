//! Addresses that no name server of the world may open to a container, whatever it says of an allowed name (DNS rebinding).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// 0.0.0.0/8, "this network" (RFC 1122 3.2.1.3), and 240.0.0.0/4, reserved with the broadcast address in it.
const THIS_NETWORK: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 8);
const RESERVED: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(240, 0, 0, 0), 4);
/// Deprecated forms with an IPv4 address inside: `::a.b.c.d` and `::ffff:a.b.c.d` (RFC 4291 2.5.5), loopback and
/// unspecified among them.
const WITH_IPV4: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 80);

/// Translators take these for the IPv4 address inside: NAT64's well-known prefix (RFC 6052 2.1), and 6to4 (RFC 3056 2).
const NAT64: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);
const SIX_TO_FOUR: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16);

/// What is the board's.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// Addresses of its interfaces, and their broadcast addresses.
    pub board: Vec<IpAddr>,
    /// Subnets of its networks.
    pub networks: Vec<IpNet>,
}

/// Why the address is not opened; none where it may be. Private addresses (RFC 1918, RFC 4193) may: boards have their
/// servers beside them.
pub(crate) fn suspicion(ip: IpAddr, places: &Places) -> Option<&'static str> {
    let kind = match ip {
        IpAddr::V4(ip) => of_four(ip),
        IpAddr::V6(ip) => of_six(ip),
    };
    if kind.is_some() {
        return kind;
    }
    if places.board.contains(&ip) {
        return Some("is the board's own");
    }
    let inside = places.networks.iter().any(|net| net.contains(&ip));
    inside.then_some("is on a network of the board's containers")
}

fn of_four(ip: Ipv4Addr) -> Option<&'static str> {
    if ip.is_loopback() {
        Some("is loopback")
    } else if ip.is_link_local() {
        Some("is link-local")
    } else if ip.is_multicast() {
        Some("is multicast")
    } else if THIS_NETWORK.contains(&ip) || RESERVED.contains(&ip) {
        Some("is reserved")
    } else {
        None
    }
}

fn of_six(ip: Ipv6Addr) -> Option<&'static str> {
    if ip.is_loopback() {
        Some("is loopback")
    } else if ip.is_unicast_link_local() {
        Some("is link-local")
    } else if ip.is_multicast() {
        Some("is multicast")
    } else if [WITH_IPV4, NAT64, SIX_TO_FOUR]
        .iter()
        .any(|net| net.contains(&ip))
    {
        Some("is reserved")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_lying_name_server_would_like_to_open() {
        let places = Places {
            board: vec![[192, 168, 1, 5].into(), "2001:db8::5".parse().unwrap()],
            networks: vec![
                "10.89.0.0/24".parse().unwrap(),
                "fd00:1::/64".parse().unwrap(),
            ],
        };
        for (ip, reason) in [
            ("127.0.0.53", Some("is loopback")),
            ("::1", Some("is loopback")),
            ("169.254.169.254", Some("is link-local")),
            ("fe80::1", Some("is link-local")),
            ("224.0.0.251", Some("is multicast")),
            ("ff02::fb", Some("is multicast")),
            ("0.0.0.0", Some("is reserved")),
            ("255.255.255.255", Some("is reserved")),
            ("::", Some("is reserved")),
            ("::ffff:192.168.1.5", Some("is reserved")),
            ("::10.89.0.2", Some("is reserved")),
            ("64:ff9b::192.168.1.5", Some("is reserved")),
            ("64:ff9b:1::1", None),
            ("2002:c0a8:105::1", Some("is reserved")),
            ("192.168.1.5", Some("is the board's own")),
            ("2001:db8::5", Some("is the board's own")),
            (
                "10.89.0.2",
                Some("is on a network of the board's containers"),
            ),
            (
                "fd00:1::2",
                Some("is on a network of the board's containers"),
            ),
            ("192.168.1.6", None),
            ("93.184.216.34", None),
            ("2001:db8::6", None),
        ] {
            assert_eq!(suspicion(ip.parse().unwrap(), &places), reason, "{ip}");
        }
    }
}

//! Which link of the board leads to an address, as the kernel lists its routes (proc_net(5), /proc/net/route and
//! /proc/net/ipv6_route). Rules that choose by more than the address (ip-rule(8)) are not seen here.

use crate::smallest::smallest;
use crate::text::{Text, cut, read_text};
use heapless::Vec;
use serde::Serialize;
use std::cmp::Reverse;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Bytes of a list of routes: some 128 a line.
const LIST_BYTES: u64 = 256 * 1024;
/// RTF_UP and RTF_REJECT of linux/route.h.
const UP: u32 = 0x1;
const REJECT: u32 = 0x200;

/// A route that fits: the longer prefix wins, then the lower metric.
type Fit = (u32, Reverse<u32>);

/// A way to all that no other route leads to. The lower metric is taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DefaultRoute {
    /// Of routes alike the lower one is taken.
    pub metric: u32,
    /// `eth0`.
    pub link: Text,
}

/// The link by which packets to `to` leave; `root` is `/` on a board. `None` where no route leads there.
pub fn link_to(root: &Path, to: IpAddr) -> Option<Text> {
    let best = match to {
        IpAddr::V4(to) => best(
            list(root, "route")
                .lines()
                .filter_map(|line| four(line, to)),
        ),
        IpAddr::V6(to) => best(
            list(root, "ipv6_route")
                .lines()
                .filter_map(|line| six(line, to)),
        ),
    };
    // The list does not have the loopback's own routes.
    best.filter(|((prefix, _), _)| !to.is_loopback() || *prefix > 0)
        .map(|(_, link)| link)
}

/// Default routes, the lowest metric first; those of IPv6 where IPv4 has none.
pub(crate) fn defaults(root: &Path) -> Vec<DefaultRoute, 16> {
    fn sorted(routes: impl Iterator<Item = (Fit, Text)>) -> Vec<DefaultRoute, 16> {
        smallest(routes.filter_map(|((prefix, Reverse(metric)), link)| {
            (prefix == 0).then_some(DefaultRoute { metric, link })
        }))
    }
    let routes = list(root, "route");
    let found = sorted(
        routes
            .lines()
            .filter_map(|line| four(line, Ipv4Addr::UNSPECIFIED)),
    );
    if !found.is_empty() {
        return found;
    }
    let routes = list(root, "ipv6_route");
    sorted(
        routes
            .lines()
            .filter_map(|line| six(line, Ipv6Addr::UNSPECIFIED)),
    )
}

fn list(root: &Path, name: &str) -> String {
    read_text(&root.join("proc/net").join(name), LIST_BYTES)
}

fn best(fitting: impl Iterator<Item = (Fit, Text)>) -> Option<(Fit, Text)> {
    fitting.max_by_key(|(fit, _)| *fit)
}

/// `eth0 00000000 0100A8C0 0003 0 0 100 00000000 0 0 0`; addresses as they lie in memory.
fn four(line: &str, to: Ipv4Addr) -> Option<(Fit, Text)> {
    let fields: std::vec::Vec<&str> = line.split_whitespace().take(8).collect();
    let hex = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
    let address = |at| Some(u32::from_be_bytes(hex(at)?.to_ne_bytes()));
    let (destination, mask, flags) = (address(1)?, address(7)?, hex(3)?);
    let metric: u32 = fields.get(6)?.parse().ok()?;
    let fits = u32::from(to) & mask == destination && flags & UP != 0 && flags & REJECT == 0;
    let fit = (mask.count_ones(), Reverse(metric));
    fits.then(|| (fit, cut(fields[0])))
}

/// Destination, its prefix, source, its prefix, gateway, metric, two counters, flags, link; all in hex.
fn six(line: &str, to: Ipv6Addr) -> Option<(Fit, Text)> {
    let fields: std::vec::Vec<&str> = line.split_whitespace().take(10).collect();
    let hex = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
    let destination = u128::from_str_radix(fields.first()?, 16).ok()?;
    let (prefix, metric, flags) = (hex(1)?, hex(5)?, hex(8)?);
    let mask = match prefix {
        0 => 0,
        1..=128 => u128::MAX << (128 - prefix),
        _ => return None,
    };
    let fits = u128::from(to) & mask == destination && flags & UP != 0 && flags & REJECT == 0;
    let link = cut(fields.get(9)?);
    fits.then_some(((prefix, Reverse(metric)), link))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn board(four: &str, six: &str) -> tempfile::TempDir {
        let board = tempfile::tempdir().unwrap();
        let folder = board.path().join("proc/net");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("route"), four).unwrap();
        fs::write(folder.join("ipv6_route"), six).unwrap();
        board
    }

    /// As the kernel of this machine would write an address.
    fn raw(address: [u8; 4]) -> String {
        format!("{:08X}", u32::from_ne_bytes(address))
    }

    fn line(link: &str, to: [u8; 4], mask: [u8; 4], metric: u32) -> String {
        let (to, mask) = (raw(to), raw(mask));
        format!("{link}\t{to}\t00000000\t0003\t0\t0\t{metric}\t{mask}\t0\t0\t0\n")
    }

    #[test]
    fn the_longest_prefix_leads_and_then_the_lowest_metric() {
        let head =
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let any = [0, 0, 0, 0];
        let list = [
            head.to_owned(),
            line("wwan0", any, any, 700),
            line("eth0", any, any, 100),
            line("wwan0", [10, 9, 0, 0], [255, 255, 0, 0], 700),
            line("wg0", [10, 9, 8, 0], [255, 255, 255, 0], 900).replace("0003", "0200"),
        ];
        let six = "\
            20010db8000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001    wwan0\n\
            00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003    eth0\n\
            00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n";
        let board = board(&list.concat(), six);
        let to = |address: &str| {
            let link = link_to(board.path(), address.parse().unwrap());
            link.map(|link| link.as_str().to_owned())
        };
        assert_eq!(to("192.0.2.1").as_deref(), Some("eth0"));
        assert_eq!(
            to("10.9.8.7").as_deref(),
            Some("wwan0"),
            "a reject is no way"
        );
        assert_eq!(to("2001:db8::1").as_deref(), Some("wwan0"));
        assert_eq!(to("2001:db9::1").as_deref(), Some("eth0"));
        assert_eq!(to("127.0.0.1"), None);
        assert_eq!(to("::1"), None);
        let ways = |board: &Path| {
            let ways = defaults(board).into_iter();
            ways.map(|way| (way.metric, way.link.as_str().to_owned()))
                .collect::<std::vec::Vec<_>>()
        };
        let both = [(100, "eth0".to_owned()), (700, "wwan0".to_owned())];
        assert_eq!(ways(board.path()), both);
        fs::write(board.path().join("proc/net/route"), head).unwrap();
        assert_eq!(ways(board.path()), [(0x400, "eth0".to_owned())], "IPv6's");
        fs::remove_dir_all(board.path().join("proc")).unwrap();
        assert_eq!(to("192.0.2.1"), None);
    }

    #[test]
    fn this_machines_own_list_is_read() {
        let list = fs::read_to_string("/proc/net/route").unwrap();
        let default = |line: &&str| line.split_whitespace().nth(1) == Some("00000000");
        let expected = list.lines().any(|line| default(&line));
        let link = link_to(Path::new("/"), "192.0.2.1".parse().unwrap());
        assert!(!expected || link.is_some(), "{list}");
    }

    proptest! {
        #[test]
        fn no_list_makes_it_panic(list in "[ -~\n\t]{0,300}", hex in "[0-9a-f \n]{0,300}", to in any::<u32>()) {
            let board = board(&list, &hex);
            let _ = link_to(board.path(), Ipv4Addr::from(to).into());
            let _ = link_to(board.path(), Ipv6Addr::from(u128::from(to)).into());
            let _ = defaults(board.path());
        }
    }
}

//! The three small files that give a container its names. Pure: text in, text out.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

/// glibc reads three (resolv.conf(5), MAXNS).
const MAX_NAMESERVERS: usize = 3;
/// Lines of a host's resolv.conf that are looked at.
const MAX_LINES: usize = 256;

/// `/etc/hosts` of a container: itself at `address` (none: only loopback), and further names, such as other apps.
pub fn hosts(hostname: &str, address: Option<Ipv4Addr>, others: &[(&str, IpAddr)]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    let own = address.unwrap_or(Ipv4Addr::new(127, 0, 1, 1));
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{own}\t{hostname}");
    for (name, ip) in others {
        let _ = writeln!(text, "{ip}\t{name}");
    }
    text
}

/// `/etc/hostname`.
pub fn hostname(name: &str) -> String {
    format!("{name}\n")
}

/// `/etc/resolv.conf` of a container, from the board's. Resolvers on loopback are left out, since a container has a
/// loopback of its own; so are IPv6 ones, since not every network carries it and each would cost a time-out of 5 s.
/// `servers` and `search` stand instead of the board's where they are not empty.
/// `search` and `options` lines go over unchanged; the last `search` counts, as in resolv.conf(5).
pub fn resolv_conf(host: &str, servers: &[IpAddr], search: &[String]) -> String {
    let boards = entries(host);
    let mut servers = servers.to_vec();
    if servers.is_empty() {
        servers.extend(
            boards
                .servers
                .iter()
                .filter(|ip| reachable_from_container(ip)),
        );
    }
    servers.truncate(MAX_NAMESERVERS);
    let mut text = String::new();
    match (search.is_empty(), boards.search) {
        (false, _) => drop(writeln!(text, "search {}", search.join(" "))),
        (true, Some(search)) => drop(writeln!(text, "search {search}")),
        (true, None) => {}
    }
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !boards.options.is_empty() {
        let _ = writeln!(text, "options {}", boards.options.join(" "));
    }
    text
}

/// The board's own resolvers, for a process on the board: those on loopback too, but no address of `ours`.
pub fn resolvers(host: &str, ours: &[IpAddr]) -> Vec<IpAddr> {
    let mut servers = entries(host).servers;
    servers.retain(|ip| !ip.is_unspecified() && !ours.contains(ip));
    servers.truncate(MAX_NAMESERVERS);
    servers
}

/// What a resolv.conf says.
#[derive(Default)]
struct Entries<'a> {
    servers: Vec<IpAddr>,
    search: Option<&'a str>,
    options: Vec<&'a str>,
}

fn entries(host: &str) -> Entries<'_> {
    let mut found = Entries::default();
    for line in host.lines().take(MAX_LINES) {
        let line = line.trim();
        let (key, rest) = line
            .split_once(char::is_whitespace)
            .map_or((line, ""), |(k, r)| (k, r.trim()));
        match key {
            "nameserver" => found.servers.extend(rest.parse::<IpAddr>().ok()),
            "search" | "domain" if !rest.is_empty() => found.search = Some(rest),
            "options" if !rest.is_empty() => found.options.push(rest),
            _ => {}
        }
    }
    found
}

/// Where systemd-resolved keeps the resolvers that its loopback stub stands for; read it when the board's
/// resolv.conf names nothing but 127.0.0.53.
pub const SYSTEMD_RESOLVED_UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";

/// Whether the text names resolvers, and each of them is on loopback: then another source is worth reading.
pub fn only_loopback_resolvers(host: &str) -> bool {
    let servers = entries(host).servers;
    !servers.is_empty() && !servers.iter().any(reachable_from_container)
}

fn reachable_from_container(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_unspecified(),
        IpAddr::V6(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_names_the_container_and_its_neighbours() {
        let text = hosts(
            "web",
            Some(Ipv4Addr::new(172, 30, 0, 2)),
            &[("db", Ipv4Addr::new(172, 30, 0, 3).into())],
        );
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("172.30.0.2\tweb\n172.30.0.3\tdb\n"));
        assert!(hosts("web", None, &[]).ends_with("127.0.1.1\tweb\n"));
        assert_eq!(hostname("web"), "web\n");
    }

    #[test]
    fn loopback_resolvers_stay_on_the_board() {
        let host = "# made by hand\nsearch lan example.org\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver ::1\n\
                    nameserver 2001:db8::1\nnameserver fe80::1%eth0\nnameserver nonsense\noptions edns0\n options trust-ad\n";
        assert_eq!(
            resolv_conf(host, &[], &[]),
            "search lan example.org\nnameserver 192.0.2.1\noptions edns0 trust-ad\n"
        );
        assert!(!only_loopback_resolvers(host));
    }

    #[test]
    fn what_is_asked_for_stands_instead() {
        let host = "search lan\nnameserver 192.0.2.7\noptions edns0\n";
        let servers = [IpAddr::from([9, 9, 9, 9]), "fd00::1".parse().unwrap()];
        let search = ["a.example".to_owned(), "b.example".to_owned()];
        assert_eq!(
            resolv_conf(host, &servers, &search),
            "search a.example b.example\nnameserver 9.9.9.9\nnameserver fd00::1\noptions edns0\n"
        );
        assert_eq!(resolv_conf(host, &[], &[]), host);
    }

    #[test]
    fn the_boards_own_resolvers_are_asked_on_loopback_too() {
        let host = "nameserver 127.0.0.53\nnameserver 0.0.0.0\nnameserver 10.89.0.1\nnameserver fd00::1\n\
                    nameserver 192.0.2.1\nnameserver 192.0.2.2\n";
        let found = resolvers(host, &[IpAddr::from([10, 89, 0, 1])]);
        let expected: Vec<IpAddr> = ["127.0.0.53", "fd00::1", "192.0.2.1"]
            .map(|ip| ip.parse().unwrap())
            .into();
        assert_eq!(found, expected);
        assert!(only_loopback_resolvers("nameserver 127.0.0.53"));
        assert!(!only_loopback_resolvers(""));
    }

    #[test]
    fn no_more_than_three_resolvers_go_over() {
        let host: String = (1..9)
            .map(|n| format!("nameserver 192.0.2.{n}\n"))
            .collect();
        assert_eq!(resolv_conf(&host, &[], &[]).lines().count(), 3);
    }
}

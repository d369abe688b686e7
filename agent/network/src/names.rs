//! The three small files that give a container its names. Pure: text in, text out.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

/// glibc reads three (resolv.conf(5), MAXNS).
const MAX_NAMESERVERS: usize = 3;
/// Lines of a host's resolv.conf that are looked at.
const MAX_LINES: usize = 256;

/// `/etc/hosts` of a container: itself at `address` (none: only loopback), and further names, such as other apps.
pub fn hosts(hostname: &str, address: Option<Ipv4Addr>, others: &[(&str, Ipv4Addr)]) -> String {
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
/// loopback of its own; so are IPv6 ones, since the bridge carries IPv4 alone and each would cost a time-out of 5 s.
/// `fallback` is for when none remains.
/// `search` and `options` lines go over unchanged; the last `search` counts, as in resolv.conf(5).
pub fn resolv_conf(host: &str, fallback: &[IpAddr]) -> String {
    let mut servers: Vec<IpAddr> = Vec::new();
    let mut search = None;
    let mut options = Vec::new();
    for line in host.lines().take(MAX_LINES) {
        let line = line.trim();
        let (key, rest) = line
            .split_once(char::is_whitespace)
            .map_or((line, ""), |(k, r)| (k, r.trim()));
        match key {
            "nameserver" => {
                servers.extend(rest.parse::<IpAddr>().ok().filter(reachable_from_container))
            }
            "search" | "domain" if !rest.is_empty() => search = Some(rest),
            "options" if !rest.is_empty() => options.push(rest),
            _ => {}
        }
    }
    if servers.is_empty() {
        servers.extend(fallback);
    }
    servers.truncate(MAX_NAMESERVERS);
    let mut text = String::new();
    if let Some(search) = search {
        let _ = writeln!(text, "search {search}");
    }
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    text
}

/// Where systemd-resolved keeps the resolvers that its loopback stub stands for; read it when the board's
/// resolv.conf names nothing but 127.0.0.53.
pub const SYSTEMD_RESOLVED_UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";

/// Whether the text names resolvers, and each of them is on loopback: then another source is worth reading.
pub fn only_loopback_resolvers(host: &str) -> bool {
    let mut found = false;
    for line in host.lines().take(MAX_LINES) {
        if let Some(server) = line.trim().strip_prefix("nameserver")
            && let Ok(ip) = server.trim().parse::<IpAddr>()
        {
            found = true;
            if reachable_from_container(&ip) {
                return false;
            }
        }
    }
    found
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
            &[("db", Ipv4Addr::new(172, 30, 0, 3))],
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
            resolv_conf(host, &[]),
            "search lan example.org\nnameserver 192.0.2.1\noptions edns0 trust-ad\n"
        );
        assert!(!only_loopback_resolvers(host));
    }

    #[test]
    fn the_fallback_is_used_only_when_nothing_remains() {
        let fallback = [IpAddr::from([9, 9, 9, 9])];
        assert_eq!(
            resolv_conf("nameserver 127.0.0.1\n", &fallback),
            "nameserver 9.9.9.9\n"
        );
        assert_eq!(
            resolv_conf("nameserver 192.0.2.7\n", &fallback),
            "nameserver 192.0.2.7\n"
        );
        assert!(only_loopback_resolvers("nameserver 127.0.0.53"));
        assert!(!only_loopback_resolvers(""));
    }

    #[test]
    fn no_more_than_three_resolvers_go_over() {
        let host: String = (1..9)
            .map(|n| format!("nameserver 192.0.2.{n}\n"))
            .collect();
        assert_eq!(resolv_conf(&host, &[]).lines().count(), 3);
    }
}

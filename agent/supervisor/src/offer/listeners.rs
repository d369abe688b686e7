//! What programs of the board listen on, held against the ports that a release publishes: whoever asks for such a port, the
//! board itself too, would reach the app in their place.

use coracle_protocol::names::AppName;
use coracle_protocol::release::{Port, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Bytes of one table: 7000 sockets of 150.
const TABLE_BYTES: u64 = 1 << 20;
/// As `include/net/tcp_states.h` has them: TCP_LISTEN, and of UDP what is bound and not connected (TCP_CLOSE).
const LISTENS: &str = "0A";
const BOUND: &str = "07";

/// Somebody's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listener {
    protocol: Protocol,
    at: SocketAddr,
    inode: u64,
}

impl Listener {
    /// As bind(2) sees it: every address is in the way of each one, and each one of every address.
    fn is_in_the_way_of(&self, port: &Port) -> bool {
        let same = self.protocol == port.protocol && self.at.port() == port.host;
        let everywhere = match (self.at.ip(), port.host_ip) {
            (_, None) => true,
            // One of IPv6 takes IPv4 too, unless it says otherwise, which nobody can see.
            (IpAddr::V6(six), Some(_)) if six.is_unspecified() => true,
            (IpAddr::V4(four), Some(IpAddr::V4(_))) if four.is_unspecified() => true,
            (ip, Some(host)) => ip == host,
        };
        same && everywhere
    }
}

/// Ports of apps that a program of the board has, each in a line with who that is. `gateways`: where resolvers of ours
/// listen. `parent`: the cgroup of apps, whose own sockets go with them.
pub fn taken<'a>(
    published: impl Iterator<Item = (&'a AppName, &'a Port)>,
    gateways: &[IpAddr],
    parent: &str,
) -> Vec<String> {
    let mut listeners = Vec::new();
    for (name, protocol, state) in [
        ("tcp", Protocol::Tcp, LISTENS),
        ("tcp6", Protocol::Tcp, LISTENS),
        ("udp", Protocol::Udp, BOUND),
        ("udp6", Protocol::Udp, BOUND),
    ] {
        listeners.extend(sockets(&table(name), protocol, state));
    }
    listeners.extend(endpoints(&table("sctp/eps")));
    listeners.retain(|listener| !gateways.contains(&listener.at.ip()));
    let lowest = first_of_passing_ports();
    // What a program asks from, and has for a moment.
    listeners.retain(|one| one.protocol != Protocol::Udp || one.at.port() < lowest);
    let published: Vec<_> = published.collect();
    let in_the_way = |port| {
        let all = listeners.iter();
        all.filter(move |one: &&Listener| one.is_in_the_way_of(port))
    };
    let inodes = published.iter().flat_map(|(_, port)| in_the_way(port));
    let owners = owners(
        Path::new("/proc"),
        inodes.map(|one| one.inode).collect(),
        parent,
    );
    let mut problems = Vec::new();
    for (app, port) in published {
        let told = in_the_way(port).find_map(|one| Some((one.at, owners.get(&one.inode)?)));
        if let Some((at, owner)) = told {
            problems.push(format!(
                "app `{app}`: port {}/{} is that of {owner} of this board, which listens on {at}: stop it, publish another \
                 port, or name a `host_ip` that is not its",
                port.host,
                word(port.protocol)
            ));
        }
    }
    problems
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

fn table(name: &str) -> String {
    let mut text = String::new();
    // One that is not there (no IPv6) or cut off says less, and that is all.
    if let Ok(file) = File::open(Path::new("/proc/self/net").join(name)) {
        let _ = file.take(TABLE_BYTES).read_to_string(&mut text);
    }
    text
}

/// Lines of proc_net_tcp.rst: number, local and remote address, state, queues, timer, retransmits, uid, timeout, inode.
fn sockets(table: &str, protocol: Protocol, state: &str) -> Vec<Listener> {
    let socket = |line: &str| {
        let mut fields = line.split_whitespace();
        let local = fields.nth(1)?;
        let is_open = fields.nth(1)? == state;
        let inode = fields.nth(5)?.parse().ok()?;
        is_open.then_some(Listener {
            protocol,
            at: address(local)?,
            inode,
        })
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// Lines of net/sctp/proc.c (`sctp_eps_seq_show`): endpoint, socket, style, state, bucket, port, uid, inode, and each local address.
fn endpoints(table: &str) -> Vec<Listener> {
    // SCTP_SS_LISTENING is TCP_LISTEN (include/net/sctp/constants.h), in decimal.
    const LISTENS: &str = "10";
    let endpoint = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (port, inode) = (fields.get(5)?.parse().ok()?, fields.get(7)?.parse().ok()?);
        let addresses = fields.get(8..).filter(|_| fields[3] == LISTENS)?;
        let ips = addresses.iter().filter_map(|ip| ip.parse::<IpAddr>().ok());
        let listener = |ip: IpAddr| Listener {
            protocol: Protocol::Sctp,
            at: SocketAddr::new(ip.to_canonical(), port),
            inode,
        };
        Some(ips.map(listener).collect::<Vec<_>>())
    };
    let lines = table.lines().skip(1);
    lines.filter_map(endpoint).flatten().collect()
}

/// `0100007F:1F90`: words of 32 bits as this machine has them, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| {
        let word = u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        32 => {
            let bytes = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            let bytes: [u8; 16] = bytes.try_into().ok()?;
            IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// From which port on the kernel gives some to whoever asks for none.
fn first_of_passing_ports() -> u16 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|port| port.parse().ok()).unwrap_or(u16::MAX)
}

/// Who has each of these sockets, but for those of apps: one pass over all processes' files, however many sockets there are.
fn owners(proc: &Path, mut inodes: BTreeSet<u64>, parent: &str) -> BTreeMap<u64, String> {
    let mut owners = BTreeMap::new();
    let processes = fs::read_dir(proc).into_iter().flatten().flatten();
    for process in processes {
        if inodes.is_empty() {
            return owners;
        }
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let folder = process.path();
        let files = fs::read_dir(folder.join("fd")).into_iter().flatten();
        let sockets = files.flatten().filter_map(|file| socket(&file.path()));
        let its: Vec<u64> = sockets.filter(|inode| inodes.remove(inode)).collect();
        if its.is_empty() || is_app(&folder, parent) {
            continue;
        }
        let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
        let who = format!("`{}` (process {pid})", name.trim().escape_debug());
        owners.extend(its.into_iter().map(|inode| (inode, who.clone())));
    }
    let nobody = "the kernel or a program that has just ended";
    owners.extend(inodes.into_iter().map(|inode| (inode, nobody.to_owned())));
    owners
}

/// The inode number of the socket that a process's file is.
fn socket(file: &Path) -> Option<u64> {
    let to = fs::read_link(file).ok()?;
    let number = to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
    number.parse().ok()
}

/// By its cgroups, one a line (cgroups(7)): those of apps lie below the parent.
fn is_app(process: &Path, parent: &str) -> bool {
    let text = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    let below = format!("/{parent}/");
    text.lines().any(|line| line.contains(&below))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1145 1 0 100 0 0 10 0
   1: 3500007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000   102        0 7 1 0 100 0 0 10 0
   2: 0100007F:8C3E 0100007F:07E8 01 00000000:00000000 00:00000000 00000000   102        0 8 1 0 100 0 0 10 0
   3: 0100007F
";
    const TCP6: &str = "  sl  local_address                         remote_address                        st tx_queue
   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 9 1
   1: B80D012000000000000000000100000:0051 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 10 1
   2: 0000000000000000FFFF00000100007F:0052 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 11 1
";

    fn port(host: u16, host_ip: Option<&str>) -> Port {
        let mut json = serde_json::json!({"host": host, "container": 80});
        if let Some(ip) = host_ip {
            json["host_ip"] = ip.into();
        }
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_kernels_tables_are_read() {
        let four = sockets(TCP, Protocol::Tcp, LISTENS);
        let at: Vec<String> = four.iter().map(|one| one.at.to_string()).collect();
        let expected = match cfg!(target_endian = "little") {
            true => ["0.0.0.0:2024", "127.0.0.53:53"],
            false => ["0.0.0.0:2024", "53.0.0.127:53"],
        };
        assert_eq!(at, expected);
        assert_eq!(four[0].inode, 1145);
        let six = sockets(TCP6, Protocol::Tcp, LISTENS);
        assert_eq!(six.len(), 2, "{six:?}");
        assert_eq!(
            (six[0].at.to_string().as_str(), six[0].inode),
            ("[::]:80", 9)
        );
        assert!(six[1].at.is_ipv4());
    }

    #[test]
    fn sctps_own_table_is_read() {
        let table = " ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS
00000000a1b2c3d4 00000000d4c3b2a1 2   10  25   3868    0 2101 192.0.2.1 2001:0db8:0000:0000:0000:0000:0000:0001 
00000000a1b2c3d5 00000000d4c3b2a2 2   7   26   3869    0 2102 0.0.0.0 
00000000a1b2c3d6
";
        let at: Vec<String> = endpoints(table)
            .iter()
            .map(|one| one.at.to_string())
            .collect();
        assert_eq!(at, ["192.0.2.1:3868", "[2001:db8::1]:3868"]);
        let first = endpoints(table)[0];
        assert_eq!((first.inode, first.protocol), (2101, Protocol::Sctp));
        let mut sctp = port(3868, None);
        sctp.protocol = Protocol::Sctp;
        assert!(first.is_in_the_way_of(&sctp) && !first.is_in_the_way_of(&port(3868, None)));
    }

    #[test]
    fn who_has_the_sockets_is_found_for_all_of_them_at_once() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, comm, cgroup, sockets) in [
            ("10", "sshd", "0::/system.slice/ssh.service", &[1, 2][..]),
            ("11", "web", "0::/coracle/web", &[3]),
            ("12", "dnsmasq", "0::/", &[4]),
        ] {
            let folder = proc.path().join(pid);
            fs::create_dir_all(folder.join("fd")).unwrap();
            fs::write(folder.join("comm"), format!("{comm}\n")).unwrap();
            fs::write(folder.join("cgroup"), format!("{cgroup}\n")).unwrap();
            let link = |to: &str, name: &str| {
                std::os::unix::fs::symlink(to, folder.join("fd").join(name)).unwrap();
            };
            link("/dev/null", "0");
            for inode in sockets {
                link(&format!("socket:[{inode}]"), &inode.to_string());
            }
        }
        let owners = owners(proc.path(), BTreeSet::from([2, 3, 4, 5]), "coracle");
        let owners: Vec<_> = owners
            .iter()
            .map(|(inode, who)| (*inode, who.as_str()))
            .collect();
        let expected = [
            (2, "`sshd` (process 10)"),
            (4, "`dnsmasq` (process 12)"),
            (5, "the kernel or a program that has just ended"),
        ];
        assert_eq!(owners, expected);
    }

    #[test]
    fn every_address_is_in_the_way_of_each_one() {
        let listener = |at: &str| Listener {
            protocol: Protocol::Tcp,
            at: at.parse().unwrap(),
            inode: 1,
        };
        for (at, host_ip, collides) in [
            ("0.0.0.0:80", None, true),
            ("0.0.0.0:80", Some("10.0.0.1"), true),
            ("0.0.0.0:80", Some("2001:db8::1"), false),
            ("[::]:80", Some("10.0.0.1"), true),
            ("127.0.0.53:80", None, true),
            ("127.0.0.53:80", Some("10.0.0.1"), false),
            ("10.0.0.1:80", Some("10.0.0.1"), true),
            ("0.0.0.0:81", None, false),
        ] {
            let found = listener(at).is_in_the_way_of(&port(80, host_ip));
            assert_eq!(found, collides, "{at} and {host_ip:?}");
        }
    }
}

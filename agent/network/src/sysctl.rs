//! The kernel's switches under /proc/sys/net, which show the namespace of the thread that looks. Source: ip-sysctl.rst.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
const FORWARDING6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
/// As `sysctl` names them.
pub(crate) const FORWARDING_NAME: &str = "net.ipv4.ip_forward";
pub(crate) const FORWARDING6_NAME: &str = "net.ipv6.conf.all.forwarding";
/// Of br_netfilter; without that module there is no such folder.
const BRIDGES: &str = "/proc/sys/net/bridge";
const BRIDGE_NF: [&str; 3] = [
    "bridge-nf-call-iptables",
    "bridge-nf-call-ip6tables",
    "bridge-nf-call-arptables",
];
const INTERFACES6: &str = "/proc/sys/net/ipv6/conf";

#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}{}", hint(.path, .source))]
pub struct SysctlError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn hint(path: &Path, source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound if path.starts_with("/proc/sys/net/ipv6") => {
            " (the kernel needs CONFIG_IPV6, and no ipv6.disable=1)"
        }
        _ => "",
    }
}

/// Whether the board passes IPv4 packets on between interfaces.
pub(crate) fn forwarding() -> Result<bool, SysctlError> {
    Ok(read(Path::new(FORWARDING))? != "0")
}

pub(crate) fn set_forwarding(on: bool) -> Result<(), SysctlError> {
    write(Path::new(FORWARDING), if on { "1" } else { "0" })
}

/// The switches that are on, by which packets within a bridge pass rules for routed ones.
pub(crate) fn bridge_nf_on() -> Vec<&'static str> {
    let is_on = |name: &&str| read(&Path::new(BRIDGES).join(name)).is_ok_and(|text| text != "0");
    BRIDGE_NF.into_iter().filter(is_on).collect()
}

/// One whose module is gone by now is no error.
pub(crate) fn set_bridge_nf(name: &str, on: bool) -> Result<(), SysctlError> {
    let path = Path::new(BRIDGES).join(name);
    match path.exists() {
        true => write(&path, if on { "1" } else { "0" }),
        false => Ok(()),
    }
}

/// Whether new interfaces speak IPv6.
pub(crate) fn has_ipv6() -> bool {
    let disabled = Path::new(INTERFACES6).join("default/disable_ipv6");
    read(&disabled).is_ok_and(|text| text == "0")
}

/// There is one switch for all interfaces, and no way to let a single one pass packets on (before Linux 6.17).
pub(crate) fn forwarding6() -> Result<bool, SysctlError> {
    Ok(read(Path::new(FORWARDING6))? != "0")
}

pub(crate) fn set_forwarding6(on: bool) -> Result<(), SysctlError> {
    write(Path::new(FORWARDING6), if on { "1" } else { "0" })
}

/// `accept_ra`: when an interface takes addresses and routes from routers' advertisements.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Listen {
    AsHostOnly,
    AsRouterToo,
}

/// The interfaces that stop listening to routers once the board forwards.
pub(crate) fn listening_to_routers() -> Result<Vec<String>, SysctlError> {
    let folder = Path::new(INTERFACES6);
    let entries = fs::read_dir(folder).map_err(|source| failed("list", folder, source))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let listens = |name: &String| {
        let path = folder.join(name).join("accept_ra");
        !["all", "default", "lo"].contains(&name.as_str()) && read(&path).is_ok_and(|t| t == "1")
    };
    Ok(names.filter(listens).collect())
}

/// An interface that is gone is no error.
pub(crate) fn set_listening_to_routers(interface: &str, when: Listen) -> Result<(), SysctlError> {
    let folder = Path::new(INTERFACES6).join(interface);
    if !folder.exists() {
        return Ok(());
    }
    let value = match when {
        Listen::AsHostOnly => "1",
        Listen::AsRouterToo => "2",
    };
    write(&folder.join("accept_ra"), value)
}

/// A bridge of ours speaks IPv6, believes no router, and uses its addresses at once.
pub(crate) fn set_ipv6_of_bridge(interface: &str) -> Result<(), SysctlError> {
    let folder = Path::new(INTERFACES6).join(interface);
    for (name, value) in [
        ("disable_ipv6", "0"),
        ("accept_ra", "0"),
        ("accept_dad", "0"),
    ] {
        write(&folder.join(name), value)?;
    }
    Ok(())
}

/// How soon the kernel asks again for a neighbour's hardware address. The first question to a container is often lost: its port
/// of the bridge is not open yet when the container is up, and a second is long for whoever waits for an answer.
pub(crate) const ASK_AGAIN_MILLIS: u64 = 50;
/// And how often: for the three seconds that are usual, since who connects to a container that is about to come counts on them.
pub(crate) const ASK_TIMES: u32 = 60;

/// On a bridge of ours.
pub(crate) fn set_ask_again_soon(interface: &str) -> Result<(), SysctlError> {
    for family in ["ipv4", "ipv6"] {
        let folder = Path::new("/proc/sys/net").join(family).join("neigh");
        let folder = folder.join(interface);
        // No IPv6, or none on this one.
        if folder.exists() {
            write(
                &folder.join("retrans_time_ms"),
                &ASK_AGAIN_MILLIS.to_string(),
            )?;
            write(&folder.join("mcast_solicit"), &ASK_TIMES.to_string())?;
        }
    }
    Ok(())
}

/// Where the kernel has IPv6 at all.
pub(crate) fn switch_ipv6_off(interface: &str) -> Result<(), SysctlError> {
    match Path::new(INTERFACES6).exists() {
        true => write(
            &Path::new(INTERFACES6).join(interface).join("disable_ipv6"),
            "1",
        ),
        false => Ok(()),
    }
}

/// `route_localnet`: answers to 127.0.0.1:port on the board come back through the bridge to a loopback address.
/// On this one interface only; our raw chain drops what containers would send to loopback by it.
pub(crate) fn set_route_localnet(interface: &str) -> Result<(), SysctlError> {
    let folder = Path::new("/proc/sys/net/ipv4/conf").join(interface);
    write(&folder.join("route_localnet"), "1")
}

fn read(path: &Path) -> Result<String, SysctlError> {
    let text = fs::read_to_string(path).map_err(|source| failed("read", path, source))?;
    Ok(text.trim().to_owned())
}

fn write(path: &Path, value: &str) -> Result<(), SysctlError> {
    fs::write(path, value).map_err(|source| failed("write", path, source))
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> SysctlError {
    SysctlError {
        action,
        path: path.to_owned(),
        source,
    }
}

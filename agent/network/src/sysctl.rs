//! The kernel's switches under /proc/sys/net, which show the namespace of the thread that looks.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}")]
pub struct SysctlError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// ip-sysctl.rst, ip_forward: whether the board passes packets on between interfaces.
pub(crate) fn forwarding() -> Result<bool, SysctlError> {
    let path = Path::new("/proc/sys/net/ipv4/ip_forward");
    let text = fs::read_to_string(path).map_err(|source| SysctlError {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    Ok(text.trim() != "0")
}

pub(crate) fn set_forwarding(on: bool) -> Result<(), SysctlError> {
    write(Path::new("/proc/sys/net/ipv4/ip_forward"), on)
}

/// ip-sysctl.rst, route_localnet: answers to 127.0.0.1:port on the board come back through the bridge to a loopback address.
/// On this one interface only; our raw chain drops what containers would send to loopback by it.
pub(crate) fn set_route_localnet(interface: &str) -> Result<(), SysctlError> {
    let folder = Path::new("/proc/sys/net/ipv4/conf").join(interface);
    write(&folder.join("route_localnet"), true)
}

fn write(path: &Path, on: bool) -> Result<(), SysctlError> {
    fs::write(path, if on { "1" } else { "0" }).map_err(|source| SysctlError {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

//! Network devices of the host that become the container's (runtime-spec config-linux.md, Network Devices).
//!
//! The command moves them from outside, with their new names; the first process gives them their addresses back, which the
//! kernel takes away with the move, and brings them up. At the container's end the kernel returns what is hardware.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::OwnedFd;

use coracle_runtime::NetNs;
use nix::sched::{CloneFlags, setns};
use oci_spec::runtime::Linux;

use crate::failure::{Doing, Failure};

mod socket;

use socket::{Address, RouteSocket};

/// IFNAMSIZ less the zero.
const NAME_MAX: usize = 15;

/// Found on the host, with what is to be kept.
pub struct NetDevice {
    host_name: String,
    name: String,
    index: u32,
    was_up: bool,
    addresses: Vec<Address>,
}

/// Looks for those that the configuration names, and changes nothing.
pub fn find(linux: &Linux) -> Result<Vec<NetDevice>, Failure> {
    let Some(wanted) = linux.net_devices().as_ref().filter(|all| !all.is_empty()) else {
        return Ok(Vec::new());
    };
    let mut socket = RouteSocket::open()?;
    let mut names = HashSet::new();
    let mut found = Vec::new();
    for (host_name, device) in wanted {
        let name = device.name().clone().filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| host_name.clone());
        for name in [host_name, &name] {
            check_name(name)?;
        }
        if !names.insert(name.clone()) {
            let reason = format!("linux.netDevices: two devices are to be {name}");
            return Err(Failure::Config(reason));
        }
        let link = socket.find(host_name)?;
        found.push(NetDevice {
            host_name: host_name.clone(),
            name,
            index: link.index,
            was_up: link.up,
            addresses: socket.addresses(link.index)?,
        });
    }
    Ok(found)
}

/// As the kernel has it (net/core/dev.c, dev_valid_name), without `%`, which would make it choose one.
fn check_name(name: &str) -> Result<(), Failure> {
    let bad = |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c.is_control();
    if name.is_empty() || name.len() > NAME_MAX || name == "." || name == ".." || name.contains(bad)
    {
        let reason = format!("linux.netDevices: {name:?} cannot be the name of a device");
        return Err(Failure::Config(reason));
    }
    Ok(())
}

/// The namespace to move them to. One of the container's that is made by its first process is known by `first`.
pub fn namespace(network: &NetNs, first: i32) -> Result<OwnedFd, Failure> {
    match network {
        NetNs::Join(namespace) => namespace.try_clone(),
        NetNs::New | NetNs::Host => File::open(format!("/proc/{first}/ns/net")).map(OwnedFd::from),
    }
    .doing("the container's network namespace")
}

/// From the host to the container, under their new names; all or none.
pub fn move_to(devices: &[NetDevice], namespace: &OwnedFd) -> Result<(), Failure> {
    if devices.is_empty() {
        return Ok(());
    }
    let mut socket = RouteSocket::open()?;
    for (count, device) in devices.iter().enumerate() {
        let (from, to) = (&device.host_name, &device.name);
        let what = format!("linux.netDevices: moving {from} into the container as {to}");
        if let Err(failure) = socket.move_link(what, device.index, namespace, to) {
            // The first failure is the one to tell.
            let _ = give_back(&devices[..count], device, namespace);
            return Err(failure);
        }
    }
    Ok(())
}

/// The kernel moves first and renames then: a device that it did not `rename` may be there too, under its old name.
fn give_back(moved: &[NetDevice], renamed: &NetDevice, namespace: &OwnedFd) -> Result<(), Failure> {
    let home = File::open("/proc/self/ns/net").doing("the host's network namespace")?;
    let mut here = RouteSocket::open()?;
    let mut there = socket_in(namespace, &home)?;
    let home = OwnedFd::from(home);
    let is_gone = here.find(&renamed.host_name).is_err();
    let last = is_gone.then_some((renamed, &renamed.host_name));
    for (device, name) in moved.iter().map(|one| (one, &one.name)).chain(last) {
        let index = there.find(name)?.index;
        let what = format!("linux.netDevices: giving {} back", device.host_name);
        there.move_link(what, index, &home, &device.host_name)?;
        revive(&mut here, &device.host_name, device, device.was_up)?;
    }
    Ok(())
}

/// This process has one thread, which comes back at once.
#[allow(
    clippy::disallowed_methods,
    reason = "the command line has one thread and is no part of a runtime"
)]
fn socket_in(namespace: &OwnedFd, home: &File) -> Result<RouteSocket, Failure> {
    let network = CloneFlags::CLONE_NEWNET;
    setns(namespace, network).doing("entering the container's network")?;
    let socket = RouteSocket::open();
    if setns(home, network).is_err() {
        // What this process does next is meant for the host.
        std::process::abort();
    }
    socket
}

/// In the container's namespace.
pub fn bring_up(devices: &[NetDevice]) -> Result<(), Failure> {
    if devices.is_empty() {
        return Ok(());
    }
    let mut socket = RouteSocket::open()?;
    devices
        .iter()
        .try_for_each(|device| revive(&mut socket, &device.name, device, true))
}

/// What the kernel has taken away with the move.
fn revive(
    socket: &mut RouteSocket,
    name: &str,
    device: &NetDevice,
    up: bool,
) -> Result<(), Failure> {
    let index = socket.find(name)?.index;
    for address in &device.addresses {
        socket.add(name, index, address)?;
    }
    if up {
        socket.set_up(name, index)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernel_s() {
        for name in ["eth0", "a.1", "fifteen-letters"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "a:1",
            "eth%d",
            "sixteen-letters-",
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}

//! One switch of one link, read and set by SIOCETHTOOL (linux/ethtool.h), of the namespace of the thread that asks. These are
//! the commands that every kernel has; the netlink ones came with 5.8.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_ulong};
use std::io;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// What the driver says to a command that reads.
pub(crate) fn get(link: &str, command: u32) -> io::Result<u32> {
    exchange(link, Value { command, data: 0 })
}

/// What the driver takes over it tells to whoever reads afterwards: one that leaves things as they are is no error.
pub(crate) fn set(link: &str, command: u32, data: u32) -> io::Result<()> {
    exchange(link, Value { command, data }).map(|_| ())
}

fn exchange(link: &str, mut value: Value) -> io::Result<u32> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    let mut name = [0 as c_char; libc::IFNAMSIZ];
    // The last byte stays zero.
    if link.len() >= name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in name.iter_mut().zip(link.bytes()) {
        *to = from as c_char;
    }
    let mut request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_data: (&raw mut value).cast(),
        },
    };
    // SAFETY: the request is a `struct ifreq` with a name that ends in zero and a pointer to a `struct ethtool_value`, and both
    // outlive the call; the kernel reads and writes no more than those of the commands that are used (dev_ethtool).
    let answer = unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            (libc::SIOCETHTOOL as c_ulong) as _,
            &raw mut request,
        )
    };
    match answer {
        0 => Ok(value.data),
        _ => Err(io::Error::last_os_error()),
    }
}

//! A rtnetlink socket of the namespace that it was opened in, and the five messages that are needed (rtnetlink(7)), by hand:
//! a library of all of them is a third of this program. The kernel answers within `send`, so nothing waits.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::failure::{Doing, Failure};

/// The kernel makes its parts of a long answer no larger (netlink(7)).
const ANSWER_BYTES: usize = 32 << 10;
const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const ACK: u16 = REQUEST | libc::NLM_F_ACK as u16;
const MAKE: u16 = ACK | (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
const UP: u32 = libc::IFF_UP as u32;
/// struct nlmsghdr.
const HEADER: usize = 16;
/// struct ifaddrmsg.
const ADDRESS: usize = 8;

#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) up: bool,
}

/// What an interface loses when it is moved.
#[derive(Debug, Clone)]
pub(super) struct Address {
    index: u32,
    family: u8,
    prefix: u8,
    /// IFA_* that are to be asked for again.
    attributes: Vec<u8>,
}

pub(super) struct RouteSocket {
    socket: Socket,
    sequence: u32,
}

impl RouteSocket {
    pub(super) fn open() -> Result<RouteSocket, Failure> {
        let mut socket = Socket::new(NETLINK_ROUTE).doing("opening a rtnetlink socket")?;
        socket.bind_auto().doing("binding a rtnetlink socket")?;
        let sequence = 0;
        Ok(RouteSocket { socket, sequence })
    }

    pub(super) fn find(&mut self, name: &str) -> Result<Link, Failure> {
        let mut body = link_body(0, 0, 0);
        text(&mut body, libc::IFLA_IFNAME, name);
        let mut found = None;
        self.exchange(libc::RTM_GETLINK, REQUEST, &body, &mut |kind, body| {
            if kind == libc::RTM_NEWLINK {
                found = word(body, 4).zip(word(body, 8));
            }
        })
        .and_then(|()| found.ok_or_else(|| io::ErrorKind::InvalidData.into()))
        .map(|(index, flags)| Link {
            index,
            up: flags & UP != 0,
        })
        .map_err(|source| failed(format!("linux.netDevices: finding {name}"), source))
    }

    /// Permanent ones of a device that reach beyond its link; the others come by themselves.
    pub(super) fn addresses(&mut self, index: u32) -> Result<Vec<Address>, Failure> {
        let mut all = Vec::new();
        let dump = REQUEST | libc::NLM_F_DUMP as u16;
        self.exchange(libc::RTM_GETADDR, dump, &[0; ADDRESS], &mut |kind, body| {
            if kind == libc::RTM_NEWADDR {
                all.extend(address(body).filter(|one| one.index == index));
            }
        })
        .doing("linux.netDevices: listing addresses")?;
        Ok(all)
    }

    pub(super) fn add(&mut self, name: &str, index: u32, address: &Address) -> Result<(), Failure> {
        let mut body = vec![address.family, address.prefix, 0, libc::RT_SCOPE_UNIVERSE];
        body.extend(index.to_ne_bytes());
        body.extend(&address.attributes);
        let what = || format!("linux.netDevices: giving {name} its addresses back");
        self.exchange(libc::RTM_NEWADDR, MAKE, &body, &mut |_, _| {})
            .map_err(|source| failed(what(), source))
    }

    pub(super) fn set_up(&mut self, name: &str, index: u32) -> Result<(), Failure> {
        let body = link_body(index, UP, UP);
        let what = || format!("linux.netDevices: bringing {name} up");
        self.exchange(libc::RTM_SETLINK, ACK, &body, &mut |_, _| {})
            .map_err(|source| failed(what(), source))
    }

    pub(super) fn move_link(
        &mut self,
        what: String,
        index: u32,
        namespace: &OwnedFd,
        name: &str,
    ) -> Result<(), Failure> {
        let mut body = link_body(index, 0, 0);
        let namespace = namespace.as_raw_fd().to_ne_bytes();
        attribute(&mut body, libc::IFLA_NET_NS_FD, &namespace);
        text(&mut body, libc::IFLA_IFNAME, name);
        self.exchange(libc::RTM_SETLINK, ACK, &body, &mut |_, _| {})
            .map_err(|source| failed(what, source))
    }

    /// Until the answer to a question, the last part of a list, or the word that a change is made.
    fn exchange(
        &mut self,
        kind: u16,
        flags: u16,
        body: &[u8],
        hear: &mut dyn FnMut(u16, &[u8]),
    ) -> io::Result<()> {
        self.sequence += 1;
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        bytes.extend(((HEADER + body.len()) as u32).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(self.sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        let is_list = flags & libc::NLM_F_DUMP as u16 == libc::NLM_F_DUMP as u16;
        loop {
            let mut answer = Vec::with_capacity(ANSWER_BYTES);
            self.socket.recv(&mut answer, 0)?;
            let mut rest = answer.as_slice();
            while let Some(length) = word(rest, 0) {
                let length = length as usize;
                let (Some(kind), Some(body)) = (half(rest, 4), rest.get(HEADER..length)) else {
                    return Err(io::ErrorKind::InvalidData.into());
                };
                match i32::from(kind) {
                    libc::NLMSG_ERROR => {
                        let code = word(body, 0).unwrap_or_default() as i32;
                        return match code {
                            0 => Ok(()),
                            _ => Err(io::Error::from_raw_os_error(-code)),
                        };
                    }
                    libc::NLMSG_DONE => return Ok(()),
                    _ => hear(kind, body),
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
            if !is_list && flags & libc::NLM_F_ACK as u16 == 0 {
                return Ok(());
            }
        }
    }
}

/// struct ifinfomsg.
fn link_body(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = Vec::with_capacity(64);
    for part in [0, index, flags, change] {
        body.extend(part.to_ne_bytes());
    }
    body
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(((4 + value.len()) as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn text(body: &mut Vec<u8>, kind: u16, value: &str) {
    let mut value = value.as_bytes().to_vec();
    value.push(0);
    attribute(body, kind, &value);
}

/// From struct ifaddrmsg and what follows it.
fn address(body: &[u8]) -> Option<Address> {
    let [family, prefix, _, scope] = *body.first_chunk()?;
    if scope != libc::RT_SCOPE_UNIVERSE {
        return None;
    }
    let mut attributes = Vec::new();
    let mut rest = body.get(ADDRESS..)?;
    while let Some(length) = half(rest, 0) {
        let (kind, value) = (half(rest, 2)?, rest.get(4..length.into())?);
        match kind {
            libc::IFA_ADDRESS | libc::IFA_LOCAL | libc::IFA_BROADCAST => {
                attribute(&mut attributes, kind, value);
            }
            // Seconds that it is still good for (struct ifa_cacheinfo).
            libc::IFA_CACHEINFO if word(value, 4) != Some(u32::MAX) => return None,
            _ => {}
        }
        let next = usize::from(length).next_multiple_of(4);
        rest = rest.get(next..).unwrap_or_default();
    }
    if i32::from(family) == libc::AF_INET6 {
        // It was in use a moment ago, and the test for doubles takes a second.
        let flags = libc::IFA_F_NODAD.to_ne_bytes();
        attribute(&mut attributes, libc::IFA_FLAGS, &flags);
    }
    Some(Address {
        index: word(body, 4)?,
        family,
        prefix,
        attributes,
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let part = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*part))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let part = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*part))
}

fn failed(what: String, source: io::Error) -> Failure {
    Failure::Network { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 192.0.2.7/24 on device 5, with the life that is given.
    fn told(scope: u8, seconds: u32) -> Vec<u8> {
        let mut body = vec![2, 24, 0x80, scope, 5, 0, 0, 0];
        attribute(&mut body, libc::IFA_ADDRESS, &[192, 0, 2, 7]);
        text(&mut body, libc::IFA_LABEL, "eth0");
        let mut life = [0; 16];
        life[4..8].copy_from_slice(&seconds.to_ne_bytes());
        attribute(&mut body, libc::IFA_CACHEINFO, &life);
        body
    }

    #[test]
    fn addresses_that_stay_are_kept_without_what_was_only_told() {
        let one = address(&told(0, u32::MAX)).unwrap();
        assert_eq!((one.index, one.family, one.prefix), (5, 2, 24));
        assert_eq!(one.attributes, [8, 0, 1, 0, 192, 0, 2, 7]);
        assert!(address(&told(0, 60)).is_none(), "it will run out");
        assert!(address(&told(253, u32::MAX)).is_none(), "of the link only");
    }

    #[test]
    fn what_is_cut_short_is_no_address_and_no_panic() {
        let whole = told(0, u32::MAX);
        for length in 0..whole.len() {
            let _ = address(&whole[..length]);
        }
        let mut endless = whole.clone();
        endless[8..10].copy_from_slice(&[0, 0]);
        assert!(address(&endless).is_none());
    }
}

//! A rtnetlink socket of the namespace that it was opened in. The kernel answers within `send`, so nothing waits.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkHeader, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::failure::{Doing, Failure};

/// The kernel makes its parts of a long answer no larger (netlink(7)).
const ANSWER_BYTES: usize = 32 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Change,
    Make,
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

    pub(super) fn find(&mut self, name: &str) -> Result<LinkHeader, Failure> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let what = || format!("linux.netDevices: finding {name}");
        self.send(RouteNetlinkMessage::GetLink(link), NLM_F_REQUEST)
            .map_err(|source| failed(what(), source))?;
        for payload in self.receive().map_err(|source| failed(what(), source))? {
            if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = payload {
                return Ok(link.header);
            }
        }
        Err(failed(what(), io::ErrorKind::InvalidData.into()))
    }

    /// Of all devices.
    pub(super) fn addresses(&mut self) -> Result<Vec<AddressMessage>, Failure> {
        let read = || -> io::Result<Vec<AddressMessage>> {
            let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
            self.send(all, NLM_F_REQUEST | NLM_F_DUMP)?;
            let mut found = Vec::new();
            loop {
                for payload in self.receive()? {
                    match payload {
                        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(one)) => {
                            found.push(one);
                        }
                        NetlinkPayload::Done(_) => return Ok(found),
                        _ => {}
                    }
                }
            }
        };
        let mut read = read;
        read().doing("linux.netDevices: listing addresses")
    }

    pub(super) fn ask(
        &mut self,
        what: String,
        message: RouteNetlinkMessage,
        request: Request,
    ) -> Result<(), Failure> {
        let more = match request {
            Request::Change => 0,
            Request::Make => NLM_F_CREATE | NLM_F_EXCL,
        };
        self.send(message, NLM_F_REQUEST | NLM_F_ACK | more)
            .and_then(|()| self.receive())
            .map_err(|source| failed(what, source))?;
        Ok(())
    }

    pub(super) fn move_link(
        &mut self,
        what: String,
        index: u32,
        namespace: &OwnedFd,
        name: &str,
    ) -> Result<(), Failure> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes = vec![
            LinkAttribute::NetNsFd(namespace.as_raw_fd()),
            LinkAttribute::IfName(name.to_owned()),
        ];
        self.ask(what, RouteNetlinkMessage::SetLink(link), Request::Change)
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence += 1;
        let mut packet = NetlinkMessage::from(message);
        packet.header.flags = flags;
        packet.header.sequence_number = self.sequence;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        Ok(())
    }

    /// One datagram, which may hold several messages; a refusal is an error.
    fn receive(&mut self) -> io::Result<Vec<NetlinkPayload<RouteNetlinkMessage>>> {
        let mut bytes = Vec::with_capacity(ANSWER_BYTES);
        self.socket.recv(&mut bytes, 0)?;
        let unreadable = |_| io::Error::from(io::ErrorKind::InvalidData);
        let (mut rest, mut all) = (bytes.as_slice(), Vec::new());
        while !rest.is_empty() {
            let one =
                NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(unreadable)?;
            let length = (one.header.length as usize).next_multiple_of(4);
            match one.payload {
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(io::Error::from_raw_os_error(-error.raw_code()));
                }
                payload => all.push(payload),
            }
            rest = rest.get(length.max(16)..).unwrap_or_default();
        }
        Ok(all)
    }
}

fn failed(what: String, source: io::Error) -> Failure {
    Failure::Network { what, source }
}

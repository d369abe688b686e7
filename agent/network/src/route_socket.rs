//! A blocking rtnetlink socket of one namespace: one request at a time, each answered by the kernel inside `send`.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::link::{
    CanBitTiming, InfoCan, InfoData, InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour_table::{
    NeighbourTableAttribute, NeighbourTableMessage, NeighbourTableParameter,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::inside::{InsideError, SET_BITRATE};
use crate::link::Namespace;
use crate::sysctl;

/// Linux gives each namespace's loopback this index.
const LOOPBACK_INDEX: u32 = 1;
const ANSWER_BYTES: usize = 8192;
/// The kernel fills no more of a listing at once than was ever asked for, 32 KiB at most (net/netlink/af_netlink.c).
const DUMP_BYTES: usize = 32_768;

pub(crate) struct RouteSocket {
    socket: Socket,
    sequence: u32,
}

impl RouteSocket {
    pub fn open() -> Result<Self, InsideError> {
        let failed = |action| move |source| InsideError::Socket { action, source };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed("open"))?;
        socket.bind_auto().map_err(failed("bind"))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// A socket of the namespace in which it was opened: this thread goes there, opens it and comes back.
    pub fn open_in(namespace: Namespace<'_>) -> Result<Self, InsideError> {
        within(namespace, Self::open)?
    }

    pub fn loopback_up(&mut self) -> Result<(), InsideError> {
        self.set_up(LOOPBACK_INDEX, "lo")
    }

    pub fn set_up(&mut self, index: u32, name: &str) -> Result<(), InsideError> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.request(
            &format!("bring {name} up"),
            RouteNetlinkMessage::SetLink(link),
            0,
        )
    }

    pub fn index_of(&mut self, name: &str) -> Result<u32, InsideError> {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let action = format!("find {name}");
        match self.exchange(&action, RouteNetlinkMessage::GetLink(link), NLM_F_REQUEST)? {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                Ok(link.header.index)
            }
            _ => Err(InsideError::Answer { action }),
        }
    }

    /// The link goes to another namespace, with the name there that is given: one with `%d` is of the kernel's choice where the
    /// link's own is taken.
    pub fn move_link(
        &mut self,
        (index, name): (u32, &str),
        to: Namespace<'_>,
        name_there: Option<&str>,
    ) -> Result<(), InsideError> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes.push(match to {
            Namespace::Pid(pid) => LinkAttribute::NetNsPid(pid),
            Namespace::Fd(fd) => LinkAttribute::NetNsFd(std::os::fd::AsRawFd::as_raw_fd(&fd)),
        });
        link.attributes
            .extend(name_there.map(|n| LinkAttribute::IfName(n.to_owned())));
        let action = format!("move {name}");
        self.request(&action, RouteNetlinkMessage::SetLink(link), 0)
    }

    /// How soon and how often the kernel asks for a neighbour's hardware address on a link.
    pub fn ask_again_soon(&mut self, index: u32) -> Result<(), InsideError> {
        for (family, table) in [
            (AddressFamily::Inet, "arp_cache"),
            (AddressFamily::Inet6, "ndisc_cache"),
        ] {
            let mut message = NeighbourTableMessage::default();
            message.header.family = family;
            message.attributes = vec![
                NeighbourTableAttribute::Name(table.to_owned()),
                NeighbourTableAttribute::Parms(vec![
                    NeighbourTableParameter::Ifindex(index),
                    NeighbourTableParameter::RetransTime(sysctl::ASK_AGAIN_MILLIS),
                    NeighbourTableParameter::McastProbes(sysctl::ASK_TIMES),
                ]),
            ];
            let action = format!("shorten the patience of {table}");
            self.request(&action, RouteNetlinkMessage::SetNeighbourTable(message), 0)?;
        }
        Ok(())
    }

    /// A text that the link keeps in every namespace; an empty one is none.
    pub fn set_alias(
        &mut self,
        (index, name): (u32, &str),
        alias: &str,
    ) -> Result<(), InsideError> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes
            .push(LinkAttribute::IfAlias(alias.to_owned()));
        let action = format!("note something at {name}");
        self.request(&action, RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Of a CAN controller, which has to be down.
    pub fn set_bitrate(
        &mut self,
        (index, name): (u32, &str),
        bitrate: u32,
    ) -> Result<(), InsideError> {
        let timing = InfoCan::BitTiming(CanBitTiming::new(bitrate));
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Can),
            LinkInfo::Data(InfoData::Can(vec![timing])),
        ]));
        let action = format!("{SET_BITRATE} {bitrate} of {name}");
        // RTM_SETLINK does not look at what is of one kind of links alone.
        self.request(&action, RouteNetlinkMessage::NewLink(link), 0)
    }

    pub fn rename(&mut self, (index, name): (u32, &str), to: &str) -> Result<(), InsideError> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes.push(LinkAttribute::IfName(to.to_owned()));
        let action = format!("rename {name} to {to}");
        self.request(&action, RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Links whose text begins so: number, name, and the rest of the text.
    pub fn with_alias(&mut self, start: &str) -> Result<Vec<(u32, String, String)>, InsideError> {
        let action = "list links";
        let ask = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.send(action, ask, NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut found = Vec::new();
        loop {
            let mut answer = Vec::with_capacity(DUMP_BYTES);
            self.receive(action, &mut answer)?;
            let mut rest = &answer[..];
            while !rest.is_empty() {
                let message = message(action, rest)?;
                let length = message.header.length as usize;
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(refused(action, error.raw_code()));
                    }
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                        found.extend(aliased(&link, start));
                    }
                    _ => {}
                }
                // Each begins at a multiple of four (netlink(7)).
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
            }
        }
    }

    pub fn remove(&mut self, index: u32, name: &str) -> Result<(), InsideError> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        let action = format!("remove {name}");
        self.request(&action, RouteNetlinkMessage::DelLink(link), 0)
    }

    pub fn request(
        &mut self,
        action: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), InsideError> {
        self.exchange(action, message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        Ok(())
    }

    fn exchange(
        &mut self,
        action: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<NetlinkPayload<RouteNetlinkMessage>, InsideError> {
        self.send(action, message, flags)?;
        let mut answer = Vec::with_capacity(ANSWER_BYTES);
        self.receive(action, &mut answer)?;
        match self::message(action, &answer)?.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => {
                Err(refused(action, error.raw_code()))
            }
            payload => Ok(payload),
        }
    }

    fn send(
        &mut self,
        action: &str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), InsideError> {
        self.sequence += 1;
        let mut packet = NetlinkMessage::from(message);
        packet.header.flags = flags;
        packet.header.sequence_number = self.sequence;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        let sent = self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0);
        sent.map_err(|source| failed(action, source))?;
        Ok(())
    }

    fn receive(&mut self, action: &str, answer: &mut Vec<u8>) -> Result<(), InsideError> {
        let received = self.socket.recv(answer, 0);
        received.map_err(|source| failed(action, source))?;
        Ok(())
    }
}

fn message(action: &str, bytes: &[u8]) -> Result<NetlinkMessage<RouteNetlinkMessage>, InsideError> {
    NetlinkMessage::deserialize(bytes).map_err(|_| InsideError::Answer {
        action: action.to_owned(),
    })
}

fn failed(action: &str, source: io::Error) -> InsideError {
    InsideError::Refused {
        action: action.to_owned(),
        source,
    }
}

fn refused(action: &str, code: i32) -> InsideError {
    failed(action, io::Error::from_raw_os_error(code.saturating_neg()))
}

fn aliased(link: &LinkMessage, start: &str) -> Option<(u32, String, String)> {
    let text = link.attributes.iter().find_map(|one| match one {
        LinkAttribute::IfAlias(text) => text.strip_prefix(start),
        _ => None,
    })?;
    let name = link.attributes.iter().find_map(|one| match one {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    Some((link.header.index, name, text.to_owned()))
}

/// Does something in another network namespace, on this very thread.
pub(crate) fn within<T>(
    namespace: Namespace<'_>,
    what: impl FnOnce() -> T,
) -> Result<T, InsideError> {
    let failed = |action| move |source| InsideError::Namespace { action, source };
    let open = |path: &str| File::open(path);
    let home = open("/proc/thread-self/ns/net").map_err(failed("find our own"))?;
    let by_pid;
    let there = match namespace {
        Namespace::Fd(fd) => fd,
        Namespace::Pid(pid) => {
            by_pid = open(&format!("/proc/{pid}/ns/net")).map_err(failed("find"))?;
            by_pid.as_fd()
        }
    };
    let enter = |fd| move_into_link_name_space(fd, Some(LinkNameSpaceType::Network));
    enter(there).map_err(|e| failed("enter")(e.into()))?;
    let done = what();
    if enter(home.as_fd()).is_err() {
        // What this thread does next is meant for the board; in a container it would be wrong.
        std::process::abort();
    }
    Ok(done)
}

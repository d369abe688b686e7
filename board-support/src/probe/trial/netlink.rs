//! Links, rates and NAT, asked of the kernel over netlink in a network namespace that goes with the
//! thread. Each message is a fixed one, written out here (rtnetlink(7); linux/netfilter/nf_tables.h).

use rustix::net::netlink::NETFILTER;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};
use std::io;
use std::time::Duration;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const EXCLUSIVE: u16 = 0x200;
const NESTED: u16 = 0x8000;
const ERROR: u16 = 2;

/// Links of the trials have numbers that a fresh network namespace does not give by itself, and names after them.
const FIRST: u32 = 70;
/// The one that others are put on.
const BASE: u32 = FIRST;

/// Makes a link of this kind.
pub(super) fn make_link(kind: &str) -> io::Result<()> {
    let number = FIRST + 1 + kind.len() as u32;
    link(number, kind, None, None)
}

/// Makes a link of this kind on another one.
pub(super) fn on_a_wire(kind: &str, vlan: Option<u16>) -> io::Result<()> {
    base()?;
    let number = FIRST + 20 + kind.len() as u32;
    link(number, kind, Some(BASE), vlan)
}

/// There is a link to try things on.
fn base() -> io::Result<()> {
    let made =
        ["veth", "bridge", "dummy"]
            .iter()
            .find_map(|kind| match link(BASE, kind, None, None) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => None,
                _ => Some(()),
            });
    made.ok_or_else(|| io::Error::other("there is no link that it could be tried on"))
}

fn link(number: u32, kind: &str, on: Option<u32>, vlan: Option<u16>) -> io::Result<()> {
    const NEWLINK: u16 = 16;
    const IFNAME: u16 = 3;
    const LINK: u16 = 5;
    const LINKINFO: u16 = 18;
    const INFO_KIND: u16 = 1;
    const INFO_DATA: u16 = 2;
    const VLAN_ID: u16 = 1;
    // struct ifinfomsg: any family, this index.
    let mut body = vec![0; 16];
    body[4..8].copy_from_slice(&number.to_ne_bytes());
    put(&mut body, IFNAME, format!("check{number}\0").as_bytes());
    if let Some(on) = on {
        put(&mut body, LINK, &on.to_ne_bytes());
    }
    let mut info = Vec::new();
    put(&mut info, INFO_KIND, kind.as_bytes());
    if let Some(vlan) = vlan {
        let mut data = Vec::new();
        put(&mut data, VLAN_ID, &vlan.to_ne_bytes());
        put(&mut info, INFO_DATA | NESTED, &data);
    }
    put(&mut body, LINKINFO | NESTED, &info);
    // Without EXCLUSIVE one of that name would be changed, whatever its kind is.
    let flags = REQUEST | ACK | CREATE | EXCLUSIVE;
    exchange(None, &message(NEWLINK, flags, 1, &body), 1)
}

/// Puts a token bucket at the way out of a link (tc-tbf(8); linux/pkt_sched.h).
pub(super) fn token_bucket() -> io::Result<()> {
    const NEWQDISC: u16 = 36;
    const KIND: u16 = 1;
    const OPTIONS: u16 = 2;
    const PARAMETERS: u16 = 1;
    const BURST: u16 = 6;
    base()?;
    // struct tcmsg: any family, the link, handle 1:0, at the root.
    let mut body = vec![0; 4];
    for number in [BASE, 0x1_0000, u32::MAX, 0] {
        body.extend(number.to_ne_bytes());
    }
    // struct tc_tbf_qopt: an Ethernet's rate of 125000 bytes a second, no peak rate, a queue of 64 KiB; the burst is said apart.
    let mut parameters = vec![0, 1, 0, 0, 0, 0, 0, 0];
    parameters.extend(125_000u32.to_ne_bytes());
    parameters.extend([0; 12]);
    parameters.extend(65_536u32.to_ne_bytes());
    parameters.extend([0; 8]);
    let mut options = Vec::new();
    put(&mut options, PARAMETERS, &parameters);
    put(&mut options, BURST, &32_768u32.to_ne_bytes());
    put(&mut body, KIND, b"tbf\0");
    put(&mut body, OPTIONS | NESTED, &options);
    let flags = REQUEST | ACK | CREATE;
    exchange(None, &message(NEWQDISC, flags, 1, &body), 1)
}

/// Makes a chain where packets of a link come in; `limit`: with a rule that holds them to a rate.
pub(super) fn entrance(limit: bool) -> io::Result<()> {
    const NETDEV: u8 = 5;
    base()?;
    let device = format!("check{BASE}\0");
    // A priority for each, or the second would be a change of the first.
    let place = (0, u32::from(limit), Some(device.as_bytes()));
    let mut rate = Vec::new();
    put(&mut rate, 1, &125_000u64.to_be_bytes()); // NFTA_LIMIT_RATE
    put(&mut rate, 2, &1u64.to_be_bytes()); // NFTA_LIMIT_UNIT
    put(&mut rate, 3, &65_536u32.to_be_bytes()); // NFTA_LIMIT_BURST
    put(&mut rate, 4, &1u32.to_be_bytes()); // NFTA_LIMIT_TYPE: bytes
    let rule = limit.then_some((&b"limit\0"[..], &rate[..]));
    let name: &[u8] = if limit { b"rate\0" } else { b"list\0" };
    chain(NETDEV, name, b"filter\0", place, rule)
}

/// Makes a table with a chain of type `nat` and a rule that masquerades: what an app's way to the
/// world needs.
pub(super) fn masquerade() -> io::Result<()> {
    const IPV4: u8 = 2;
    const POSTROUTING: u32 = 4;
    const SRCNAT: u32 = 100;
    let place = (POSTROUTING, SRCNAT, None);
    let rule = Some((&b"masq\0"[..], &b""[..]));
    chain(IPV4, b"check\0", b"nat\0", place, rule)
}

/// Makes a table with one chain, at this hook with this priority, of this device, and one rule of this expression and what it says.
fn chain(
    family: u8,
    name: &[u8],
    kind: &[u8],
    (number, priority, device): (u32, u32, Option<&[u8]>),
    expression: Option<(&[u8], &[u8])>,
) -> io::Result<()> {
    const BATCH_BEGIN: u16 = 0x10;
    const BATCH_END: u16 = 0x11;
    const NFTABLES: u16 = 10;
    const NEWTABLE: u16 = NFTABLES << 8;
    const NEWCHAIN: u16 = (NFTABLES << 8) | 3;
    const NEWRULE: u16 = (NFTABLES << 8) | 6;
    // struct nfgenmsg: family, version 0, and for a batch the subsystem.
    let batch = [0, 0, 0, NFTABLES as u8];
    let start = || vec![family, 0, 0, 0];

    let mut table = start();
    put(&mut table, 1, name); // NFTA_TABLE_NAME
    let mut hook = Vec::new();
    put(&mut hook, 1, &number.to_be_bytes()); // NFTA_HOOK_HOOKNUM
    put(&mut hook, 2, &priority.to_be_bytes()); // NFTA_HOOK_PRIORITY
    if let Some(device) = device {
        put(&mut hook, 3, device); // NFTA_HOOK_DEV
    }
    let mut chain = start();
    put(&mut chain, 1, name); // NFTA_CHAIN_TABLE
    put(&mut chain, 3, name); // NFTA_CHAIN_NAME
    put(&mut chain, 4 | NESTED, &hook); // NFTA_CHAIN_HOOK
    put(&mut chain, 7, kind); // NFTA_CHAIN_TYPE

    let flags = REQUEST | ACK | CREATE;
    let mut messages = message(BATCH_BEGIN, REQUEST, 1, &batch);
    messages.extend(message(NEWTABLE, flags, 2, &table));
    messages.extend(message(NEWCHAIN, flags, 3, &chain));
    if let Some((what, says)) = expression {
        let mut expression = Vec::new();
        put(&mut expression, 1, what); // NFTA_EXPR_NAME
        if !says.is_empty() {
            put(&mut expression, 2 | NESTED, says); // NFTA_EXPR_DATA
        }
        let mut list = Vec::new();
        put(&mut list, 1 | NESTED, &expression); // NFTA_LIST_ELEM
        let mut rule = start();
        put(&mut rule, 1, name); // NFTA_RULE_TABLE
        put(&mut rule, 2, name); // NFTA_RULE_CHAIN
        put(&mut rule, 4 | NESTED, &list); // NFTA_RULE_EXPRESSIONS
        messages.extend(message(NEWRULE, flags, 4, &rule));
    }
    messages.extend(message(BATCH_END, REQUEST, 5, &batch));
    let acknowledgements = 2 + usize::from(expression.is_some());
    exchange(Some(NETFILTER), &messages, acknowledgements)
}

/// An attribute: length and kind, the content, and zeros up to the next multiple of four.
fn put(to: &mut Vec<u8>, kind: u16, content: &[u8]) {
    let length = content.len() as u16 + 4;
    to.extend(length.to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(content);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// A message: struct nlmsghdr and the body.
fn message(kind: u16, flags: u16, number: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + body.len());
    bytes.extend((16 + body.len() as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(body);
    bytes
}

/// Sends (without a protocol: to NETLINK_ROUTE, which is 0), and waits for so many acknowledgements; the first that is an error ends it.
fn exchange(protocol: Option<Protocol>, bytes: &[u8], acknowledgements: usize) -> io::Result<()> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        protocol,
    )?;
    // A kernel without the subsystem answers at once; one that loads modules takes a while.
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(10)))?;
    send(&socket, bytes, SendFlags::empty())?;
    let mut left = acknowledgements;
    while left > 0 {
        let mut buffer = [0u8; 8192];
        let (read, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        left = left.saturating_sub(acknowledged(&buffer[..read])?);
    }
    Ok(())
}

/// How many acknowledgements stand in an answer.
pub(super) fn acknowledged(mut answer: &[u8]) -> io::Result<usize> {
    let mut count = 0;
    while let Some((header, _)) = answer.split_first_chunk::<16>() {
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        if length < 16 || length > answer.len() {
            return Err(io::Error::other("a netlink answer that is cut off"));
        }
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        if kind == ERROR {
            let Some((code, _)) = answer[16..length].split_first_chunk::<4>() else {
                return Err(io::Error::other("a netlink answer without a code"));
            };
            match i32::from_ne_bytes(*code) {
                0 => count += 1,
                code => return Err(io::Error::from_raw_os_error(code.saturating_neg())),
            }
        }
        answer = &answer[length.next_multiple_of(4).min(answer.len())..];
    }
    Ok(count)
}

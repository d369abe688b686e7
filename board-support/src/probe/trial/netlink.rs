//! Links and NAT, asked of the kernel over netlink in a network namespace that goes with the
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
const NESTED: u16 = 0x8000;
const ERROR: u16 = 2;

/// Makes a link of this kind.
pub(super) fn make_link(kind: &str) -> io::Result<()> {
    const NEWLINK: u16 = 16;
    const IFNAME: u16 = 3;
    const LINKINFO: u16 = 18;
    const INFO_KIND: u16 = 1;
    // struct ifinfomsg, all zero: any family, a new index.
    let mut body = vec![0; 16];
    put(&mut body, IFNAME, b"check0\0");
    let mut info = Vec::new();
    put(&mut info, INFO_KIND, kind.as_bytes());
    put(&mut body, LINKINFO | NESTED, &info);
    exchange(None, &message(NEWLINK, REQUEST | ACK | CREATE, 1, &body), 1)
}

/// Makes a table with a chain of type `nat` and a rule that masquerades: what an app's way to the
/// world needs.
pub(super) fn masquerade() -> io::Result<()> {
    const BATCH_BEGIN: u16 = 0x10;
    const BATCH_END: u16 = 0x11;
    const NFTABLES: u16 = 10;
    const NEWTABLE: u16 = NFTABLES << 8;
    const NEWCHAIN: u16 = (NFTABLES << 8) | 3;
    const NEWRULE: u16 = (NFTABLES << 8) | 6;
    const POSTROUTING: u32 = 4;
    const SRCNAT: u32 = 100;
    const NAME: &[u8] = b"check\0";
    // struct nfgenmsg: family, version 0, and for a batch the subsystem.
    let batch = [0, 0, 0, NFTABLES as u8];
    let ipv4 = || vec![2, 0, 0, 0];

    let mut table = ipv4();
    put(&mut table, 1, NAME); // NFTA_TABLE_NAME
    let mut hook = Vec::new();
    put(&mut hook, 1, &POSTROUTING.to_be_bytes()); // NFTA_HOOK_HOOKNUM
    put(&mut hook, 2, &SRCNAT.to_be_bytes()); // NFTA_HOOK_PRIORITY
    let mut chain = ipv4();
    put(&mut chain, 1, NAME); // NFTA_CHAIN_TABLE
    put(&mut chain, 3, NAME); // NFTA_CHAIN_NAME
    put(&mut chain, 4 | NESTED, &hook); // NFTA_CHAIN_HOOK
    put(&mut chain, 7, b"nat\0"); // NFTA_CHAIN_TYPE
    let mut expression = Vec::new();
    put(&mut expression, 1, b"masq\0"); // NFTA_EXPR_NAME
    let mut list = Vec::new();
    put(&mut list, 1 | NESTED, &expression); // NFTA_LIST_ELEM
    let mut rule = ipv4();
    put(&mut rule, 1, NAME); // NFTA_RULE_TABLE
    put(&mut rule, 2, NAME); // NFTA_RULE_CHAIN
    put(&mut rule, 4 | NESTED, &list); // NFTA_RULE_EXPRESSIONS

    let flags = REQUEST | ACK | CREATE;
    let messages = [
        message(BATCH_BEGIN, REQUEST, 1, &batch),
        message(NEWTABLE, flags, 2, &table),
        message(NEWCHAIN, flags, 3, &chain),
        message(NEWRULE, flags, 4, &rule),
        message(BATCH_END, REQUEST, 5, &batch),
    ];
    exchange(Some(NETFILTER), &messages.concat(), 3)
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

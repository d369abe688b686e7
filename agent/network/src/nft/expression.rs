//! The expressions that rules are made of. Each loads, compares or acts on registers of four bytes, counted from 0 here.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::message::Attributes;
use super::uapi::*;

/// IFNAMSIZ: interface names are compared with their padding.
const IFNAMSIZ: usize = 16;

#[derive(Debug, Clone)]
pub(crate) struct Expression {
    pub name: &'static str,
    pub attributes: Attributes,
    /// The kernel option of its own, where it has one.
    pub needs: Option<&'static str>,
}

/// One of the two addresses in a header.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Address {
    Source,
    Destination,
}

impl Address {
    /// Offset and length in the header (RFC 791 3.1, RFC 8200 3).
    fn place(self, ipv6: bool) -> (u32, u32) {
        match (self, ipv6) {
            (Self::Source, false) => (12, 4),
            (Self::Destination, false) => (16, 4),
            (Self::Source, true) => (8, 16),
            (Self::Destination, true) => (24, 16),
        }
    }
}

/// The bytes of an address.
pub(crate) fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

fn expression(name: &'static str, attributes: Attributes) -> Expression {
    Expression {
        name,
        attributes,
        needs: None,
    }
}

fn value(bytes: &[u8]) -> Attributes {
    Attributes::default().bytes(NFTA_DATA_VALUE, bytes)
}

fn meta(key: u32, register: u32) -> Expression {
    let attributes = Attributes::default()
        .number(NFTA_META_KEY, key)
        .number(NFTA_META_DREG, NFT_REG32_00 + register);
    expression("meta", attributes)
}

fn compare(operator: u32, bytes: &[u8]) -> Expression {
    let attributes = Attributes::default()
        .number(NFTA_CMP_SREG, NFT_REG32_00)
        .number(NFTA_CMP_OP, operator)
        .nested(NFTA_CMP_DATA, value(bytes));
    expression("cmp", attributes)
}

fn payload(base: u32, offset: u32, length: u32, register: u32) -> Expression {
    let attributes = Attributes::default()
        .number(NFTA_PAYLOAD_DREG, NFT_REG32_00 + register)
        .number(NFTA_PAYLOAD_BASE, base)
        .number(NFTA_PAYLOAD_OFFSET, offset)
        .number(NFTA_PAYLOAD_LEN, length);
    expression("payload", attributes)
}

fn mask(bits: &[u8]) -> Expression {
    let attributes = Attributes::default()
        .number(NFTA_BITWISE_SREG, NFT_REG32_00)
        .number(NFTA_BITWISE_DREG, NFT_REG32_00)
        .number(NFTA_BITWISE_LEN, bits.len() as u32)
        .nested(NFTA_BITWISE_MASK, value(bits))
        .nested(NFTA_BITWISE_XOR, value(&vec![0; bits.len()]));
    expression("bitwise", attributes)
}

fn interface(key: u32, operator: u32, name: &str) -> [Expression; 2] {
    let mut padded = [0; IFNAMSIZ];
    for (to, from) in padded.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    [meta(key, 0), compare(operator, &padded)]
}

pub(crate) fn arrives_on(name: &str) -> [Expression; 2] {
    interface(NFT_META_IIFNAME, NFT_CMP_EQ, name)
}

pub(crate) fn leaves_by(name: &str) -> [Expression; 2] {
    interface(NFT_META_OIFNAME, NFT_CMP_EQ, name)
}

pub(crate) fn leaves_elsewhere_than(name: &str) -> [Expression; 2] {
    interface(NFT_META_OIFNAME, NFT_CMP_NEQ, name)
}

/// Needed in `inet` tables before looking into a header; NFPROTO_….
pub(crate) fn family_is(family: u8) -> [Expression; 2] {
    [meta(NFT_META_NFPROTO, 0), compare(NFT_CMP_EQ, &[family])]
}

fn subnet(address: Address, operator: u32, net: IpNet) -> Vec<Expression> {
    let (offset, length) = address.place(net.addr().is_ipv6());
    let mut rule = vec![payload(NFT_PAYLOAD_NETWORK_HEADER, offset, length, 0)];
    if net.prefix_len() < net.max_prefix_len() {
        rule.push(mask(&octets(net.netmask())));
    }
    rule.push(compare(operator, &octets(net.network())));
    rule
}

pub(crate) fn in_subnet(address: Address, net: IpNet) -> Vec<Expression> {
    subnet(address, NFT_CMP_EQ, net)
}

pub(crate) fn outside_subnet(address: Address, net: IpNet) -> Vec<Expression> {
    subnet(address, NFT_CMP_NEQ, net)
}

/// The bits are in host order, unlike everything that was on the wire.
fn connection(key: u32, bits: u32) -> [Expression; 3] {
    let attributes = Attributes::default()
        .number(NFTA_CT_KEY, key)
        .number(NFTA_CT_DREG, NFT_REG32_00);
    let ct = Expression {
        needs: Some("CONFIG_NFT_CT"),
        ..expression("ct", attributes)
    };
    [ct, mask(&bits.to_ne_bytes()), compare(NFT_CMP_NEQ, &[0; 4])]
}

pub(crate) fn established_or_related() -> [Expression; 3] {
    connection(NFT_CT_STATE, CT_STATE_ESTABLISHED | CT_STATE_RELATED)
}

pub(crate) fn came_through_a_published_port() -> [Expression; 3] {
    connection(NFT_CT_STATUS, IPS_DST_NAT)
}

/// The destination is one of the board's own addresses, whatever DHCP makes of them.
pub(crate) fn to_this_board(ipv6: bool) -> [Expression; 2] {
    let attributes = Attributes::default()
        .number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE)
        .number(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR)
        .number(NFTA_FIB_DREG, NFT_REG32_00);
    let fib = Expression {
        needs: Some(if ipv6 {
            "CONFIG_NFT_FIB_IPV6"
        } else {
            "CONFIG_NFT_FIB_IPV4"
        }),
        ..expression("fib", attributes)
    };
    [fib, compare(NFT_CMP_EQ, &RTN_LOCAL.to_ne_bytes())]
}

/// Sends to the address and port which `map` gives for the packet's [address,] protocol and port; no entry, no effect.
pub(crate) fn destination_from_map(map: &str, with_address: bool, ipv6: bool) -> Vec<Expression> {
    let mut rule = Vec::new();
    let mut register = 0;
    if with_address {
        let (offset, length) = Address::Destination.place(ipv6);
        rule.push(payload(NFT_PAYLOAD_NETWORK_HEADER, offset, length, 0));
        register = length / 4;
    }
    rule.push(meta(NFT_META_L4PROTO, register));
    // TCP, UDP and SCTP have the destination port at the same place.
    rule.push(payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, register + 1));
    let lookup = Attributes::default()
        .text(NFTA_LOOKUP_SET, map)
        .number(NFTA_LOOKUP_SREG, NFT_REG32_00)
        .number(NFTA_LOOKUP_DREG, NFT_REG32_00);
    rule.push(expression("lookup", lookup));
    let nat = Attributes::default()
        .number(NFTA_NAT_TYPE, NFT_NAT_DNAT)
        .number(NFTA_NAT_FAMILY, u32::from(ip_family(ipv6)))
        .number(NFTA_NAT_REG_ADDR_MIN, NFT_REG32_00)
        .number(
            NFTA_NAT_REG_PROTO_MIN,
            NFT_REG32_00 + Address::Destination.place(ipv6).1 / 4,
        );
    rule.push(Expression {
        needs: Some("CONFIG_NFT_NAT"),
        ..expression("nat", nat)
    });
    rule
}

/// Sends to that address, whatever others would make of the destination; to the same port.
pub(crate) fn destination_is(ip: IpAddr) -> [Expression; 2] {
    let address = Attributes::default()
        .number(NFTA_IMMEDIATE_DREG, NFT_REG32_00)
        .nested(NFTA_IMMEDIATE_DATA, value(&octets(ip)));
    let nat = Attributes::default()
        .number(NFTA_NAT_TYPE, NFT_NAT_DNAT)
        .number(NFTA_NAT_FAMILY, u32::from(ip_family(ip.is_ipv6())))
        .number(NFTA_NAT_REG_ADDR_MIN, NFT_REG32_00);
    let nat = Expression {
        needs: Some("CONFIG_NFT_NAT"),
        ..expression("nat", nat)
    };
    [expression("immediate", address), nat]
}

pub(crate) fn masquerade() -> Expression {
    Expression {
        needs: Some("CONFIG_NFT_MASQ"),
        ..expression("masq", Attributes::default())
    }
}

fn verdict(code: u32) -> Expression {
    let code = Attributes::default().number(NFTA_VERDICT_CODE, code);
    let attributes = Attributes::default()
        .number(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT)
        .nested(
            NFTA_IMMEDIATE_DATA,
            Attributes::default().nested(NFTA_DATA_VERDICT, code),
        );
    expression("immediate", attributes)
}

pub(crate) fn accept() -> Expression {
    verdict(NF_ACCEPT)
}

pub(crate) fn drop() -> Expression {
    verdict(NF_DROP)
}

/// NFPROTO_IPV4 or NFPROTO_IPV6.
pub(crate) fn ip_family(ipv6: bool) -> u8 {
    if ipv6 { NFPROTO_IPV6 } else { NFPROTO_IPV4 }
}

/// TCP or UDP to one of these ports.
pub(crate) fn to_ports(protocol: u8, (first, last): (u16, u16)) -> Vec<Expression> {
    if first == last {
        return to_port(protocol, first).into();
    }
    let mut rule = to_protocol(protocol).to_vec();
    rule.push(payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 0));
    rule.push(compare(NFT_CMP_GTE, &first.to_be_bytes()));
    rule.push(compare(NFT_CMP_LTE, &last.to_be_bytes()));
    rule
}

pub(crate) fn to_protocol(protocol: u8) -> [Expression; 2] {
    [meta(NFT_META_L4PROTO, 0), compare(NFT_CMP_EQ, &[protocol])]
}

/// The destination is in a set of addresses.
pub(crate) fn destination_in(set: &str, ipv6: bool) -> [Expression; 2] {
    let (offset, length) = Address::Destination.place(ipv6);
    let lookup = Attributes::default()
        .text(NFTA_LOOKUP_SET, set)
        .number(NFTA_LOOKUP_SREG, NFT_REG32_00);
    [
        payload(NFT_PAYLOAD_NETWORK_HEADER, offset, length, 0),
        expression("lookup", lookup),
    ]
}

/// On to the chain that `map` gives for the source; no entry, no effect.
pub(crate) fn way_of_source(map: &str, ipv6: bool) -> [Expression; 2] {
    let (offset, length) = Address::Source.place(ipv6);
    let lookup = Attributes::default()
        .text(NFTA_LOOKUP_SET, map)
        .number(NFTA_LOOKUP_SREG, NFT_REG32_00)
        .number(NFTA_LOOKUP_DREG, NFT_REG_VERDICT);
    [
        payload(NFT_PAYLOAD_NETWORK_HEADER, offset, length, 0),
        expression("lookup", lookup),
    ]
}

/// ETH_P_…: what a frame carries.
pub(crate) fn carries(kind: u16) -> [Expression; 2] {
    [
        meta(NFT_META_PROTOCOL, 0),
        compare(NFT_CMP_EQ, &kind.to_be_bytes()),
    ]
}

/// A frame that carries nothing of all these.
pub(crate) fn carries_none_of(kinds: &[u16]) -> Vec<Expression> {
    let others = kinds.iter().map(|k| compare(NFT_CMP_NEQ, &k.to_be_bytes()));
    [meta(NFT_META_PROTOCOL, 0)]
        .into_iter()
        .chain(others)
        .collect()
}

/// An ARP packet whose sender says another IPv4 address than this one (RFC 826).
pub(crate) fn arp_sender_is_not(ip: Ipv4Addr) -> [Expression; 2] {
    [
        payload(NFT_PAYLOAD_NETWORK_HEADER, 14, 4, 0),
        compare(NFT_CMP_NEQ, &ip.octets()),
    ]
}

/// TCP or UDP to that port.
pub(crate) fn to_port(protocol: u8, port: u16) -> [Expression; 4] {
    [
        meta(NFT_META_L4PROTO, 0),
        compare(NFT_CMP_EQ, &[protocol]),
        payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, 0),
        compare(NFT_CMP_EQ, &port.to_be_bytes()),
    ]
}

/// An ICMPv6 message of that type.
pub(crate) fn icmp6(kind: u8) -> Vec<Expression> {
    icmp6_of((kind, kind))
}

/// An ICMPv6 message of one of these types.
pub(crate) fn icmp6_of((first, last): (u8, u8)) -> Vec<Expression> {
    let mut rule = to_protocol(IPPROTO_ICMPV6).to_vec();
    rule.push(payload(NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, 0));
    if first == last {
        rule.push(compare(NFT_CMP_EQ, &[first]));
    } else {
        rule.push(compare(NFT_CMP_GTE, &[first]));
        rule.push(compare(NFT_CMP_LTE, &[last]));
    }
    rule
}

/// Matches what goes beyond so many bytes a second, after a burst.
pub(crate) fn faster_than(bytes_per_second: u64, burst: u32) -> Expression {
    let attributes = Attributes::default()
        .bytes(NFTA_LIMIT_RATE, &bytes_per_second.to_be_bytes())
        .bytes(NFTA_LIMIT_UNIT, &1u64.to_be_bytes())
        .number(NFTA_LIMIT_BURST, burst)
        .number(NFTA_LIMIT_TYPE, NFT_LIMIT_PKT_BYTES)
        .number(NFTA_LIMIT_FLAGS, NFT_LIMIT_F_INV);
    Expression {
        needs: Some("CONFIG_NFT_LIMIT"),
        ..expression("limit", attributes)
    }
}

/// A map's key or value: each part padded to the four bytes of a register.
pub(crate) fn concatenation(address: Option<IpAddr>, protocol: Option<u8>, port: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24);
    bytes.extend(address.map(octets).into_iter().flatten());
    bytes.extend(protocol.map(|p| [p, 0, 0, 0]).into_iter().flatten());
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 0]);
    bytes
}

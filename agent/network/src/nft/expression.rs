//! The expressions that rules are made of. Each loads, compares or acts on registers of four bytes, counted from 0 here.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

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

/// Offsets in the IPv4 header.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Address {
    Source = 12,
    Destination = 16,
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

fn mask(bits: [u8; 4]) -> Expression {
    let attributes = Attributes::default()
        .number(NFTA_BITWISE_SREG, NFT_REG32_00)
        .number(NFTA_BITWISE_DREG, NFT_REG32_00)
        .number(NFTA_BITWISE_LEN, 4)
        .nested(NFTA_BITWISE_MASK, value(&bits))
        .nested(NFTA_BITWISE_XOR, value(&[0; 4]));
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

fn subnet(address: Address, operator: u32, net: Ipv4Net) -> [Expression; 3] {
    [
        payload(NFT_PAYLOAD_NETWORK_HEADER, address as u32, 4, 0),
        mask(net.netmask().octets()),
        compare(operator, &net.network().octets()),
    ]
}

pub(crate) fn in_subnet(address: Address, net: Ipv4Net) -> [Expression; 3] {
    subnet(address, NFT_CMP_EQ, net)
}

pub(crate) fn outside_subnet(address: Address, net: Ipv4Net) -> [Expression; 3] {
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
    [ct, mask(bits.to_ne_bytes()), compare(NFT_CMP_NEQ, &[0; 4])]
}

pub(crate) fn established_or_related() -> [Expression; 3] {
    connection(NFT_CT_STATE, CT_STATE_ESTABLISHED | CT_STATE_RELATED)
}

pub(crate) fn came_through_a_published_port() -> [Expression; 3] {
    connection(NFT_CT_STATUS, IPS_DST_NAT)
}

/// The destination is one of the board's own addresses, whatever DHCP makes of them.
pub(crate) fn to_this_board() -> [Expression; 2] {
    let attributes = Attributes::default()
        .number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE)
        .number(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR)
        .number(NFTA_FIB_DREG, NFT_REG32_00);
    let fib = Expression {
        needs: Some("CONFIG_NFT_FIB_IPV4"),
        ..expression("fib", attributes)
    };
    [fib, compare(NFT_CMP_EQ, &RTN_LOCAL.to_ne_bytes())]
}

/// Sends to the address and port which `map` gives for the packet's [address,] protocol and port; no entry, no effect.
pub(crate) fn destination_from_map(map: &str, with_address: bool) -> Vec<Expression> {
    let mut rule = Vec::new();
    let mut register = 0;
    if with_address {
        let offset = Address::Destination as u32;
        rule.push(payload(NFT_PAYLOAD_NETWORK_HEADER, offset, 4, 0));
        register = 1;
    }
    rule.push(meta(NFT_META_L4PROTO, register));
    // TCP and UDP have the destination port at the same place.
    rule.push(payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, register + 1));
    let lookup = Attributes::default()
        .text(NFTA_LOOKUP_SET, map)
        .number(NFTA_LOOKUP_SREG, NFT_REG32_00)
        .number(NFTA_LOOKUP_DREG, NFT_REG32_00);
    rule.push(expression("lookup", lookup));
    let nat = Attributes::default()
        .number(NFTA_NAT_TYPE, NFT_NAT_DNAT)
        .number(NFTA_NAT_FAMILY, u32::from(NFPROTO_IPV4))
        .number(NFTA_NAT_REG_ADDR_MIN, NFT_REG32_00)
        .number(NFTA_NAT_REG_PROTO_MIN, NFT_REG32_00 + 1);
    rule.push(Expression {
        needs: Some("CONFIG_NFT_NAT"),
        ..expression("nat", nat)
    });
    rule
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

/// A map's key or value: each part padded to the four bytes of a register.
pub(crate) fn concatenation(address: Option<Ipv4Addr>, protocol: Option<u8>, port: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12);
    bytes.extend(address.map(|a| a.octets()).into_iter().flatten());
    bytes.extend(protocol.map(|p| [p, 0, 0, 0]).into_iter().flatten());
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 0]);
    bytes
}

//! Sets and maps, and what is put into them and taken out.

use super::message::{Attributes, CREATE, Message};
use super::uapi::*;

const SETS: &str = "CONFIG_NF_TABLES (where the kernel has them, also CONFIG_NFT_SET_HASH, until Linux 4.17, or CONFIG_NF_TABLES_SET, from 4.18 to before 5.10)";

/// A map whose key and value are concatenations of `TYPE_…`, each part padded to four bytes.
pub(crate) fn new_map(
    family: u8,
    table: &str,
    name: &str,
    id: u32,
    key: &[u32],
    value: &[u32],
) -> Message {
    let joined = |types: &[u32]| types.iter().fold(0, |all, t| all << 6 | t);
    let padded = |t: &u32| if *t == TYPE_IPV6_ADDR { 16 } else { 4 };
    let length = |types: &[u32]| types.iter().map(padded).sum();
    Message {
        kind: NFT_MSG_NEWSET,
        flags: CREATE,
        family,
        attributes: Attributes::default()
            .text(NFTA_SET_TABLE, table)
            .text(NFTA_SET_NAME, name)
            .number(NFTA_SET_FLAGS, NFT_SET_MAP)
            .number(NFTA_SET_KEY_TYPE, joined(key))
            .number(NFTA_SET_KEY_LEN, length(key))
            .number(NFTA_SET_DATA_TYPE, joined(value))
            .number(NFTA_SET_DATA_LEN, length(value))
            .number(NFTA_SET_ID, id),
        what: format!("map {table} {name}"),
        needs: SETS,
    }
}

/// A map from addresses to chains or an acceptance. Filled by `add_ways`.
pub(crate) fn new_ways(family: u8, table: &str, name: &str, id: u32, ipv6: bool) -> Message {
    new_set_of(family, table, name, id, ipv6, NFT_SET_MAP, |set| {
        set.number(NFTA_SET_DATA_TYPE, NFT_DATA_VERDICT)
    })
}

/// A set of at most so many addresses that leave it by themselves. Filled by `add_for_a_while`.
pub(crate) fn new_fading_set(
    family: u8,
    table: &str,
    name: &str,
    id: u32,
    ipv6: bool,
    most: usize,
) -> Message {
    new_set_of(family, table, name, id, ipv6, NFT_SET_TIMEOUT, |set| {
        let size = Attributes::default().number(NFTA_SET_DESC_SIZE, most as u32);
        set.nested(NFTA_SET_DESC, size)
    })
}

fn new_set_of(
    family: u8,
    table: &str,
    name: &str,
    id: u32,
    ipv6: bool,
    flags: u32,
    more: impl FnOnce(Attributes) -> Attributes,
) -> Message {
    let (kind, length) = match ipv6 {
        false => (TYPE_IPV4_ADDR, 4),
        true => (TYPE_IPV6_ADDR, 16),
    };
    let set = Attributes::default()
        .text(NFTA_SET_TABLE, table)
        .text(NFTA_SET_NAME, name)
        .number(NFTA_SET_FLAGS, flags)
        .number(NFTA_SET_KEY_TYPE, kind)
        .number(NFTA_SET_KEY_LEN, length);
    Message {
        kind: NFT_MSG_NEWSET,
        flags: CREATE,
        family,
        attributes: more(set).number(NFTA_SET_ID, id),
        what: format!("set {table} {name}"),
        needs: SETS,
    }
}

pub(crate) fn delete_set(family: u8, table: &str, name: &str) -> Message {
    Message {
        kind: NFT_MSG_DELSET,
        flags: 0,
        family,
        attributes: Attributes::default()
            .text(NFTA_SET_TABLE, table)
            .text(NFTA_SET_NAME, name),
        what: format!("removal of set {table} {name}"),
        needs: "CONFIG_NF_TABLES",
    }
}

/// From each address to a chain; without one, everywhere.
pub(crate) fn add_ways(
    family: u8,
    table: &str,
    map: &str,
    ways: &[(Vec<u8>, Option<String>)],
) -> Message {
    let elements = ways.iter().map(|(key, chain)| {
        let verdict = match chain {
            None => Attributes::default().number(NFTA_VERDICT_CODE, NF_ACCEPT),
            Some(chain) => Attributes::default()
                .number(NFTA_VERDICT_CODE, NFT_GOTO)
                .text(NFTA_VERDICT_CHAIN, chain),
        };
        let data = Attributes::default().nested(NFTA_DATA_VERDICT, verdict);
        element_with(key).nested(NFTA_SET_ELEM_DATA, data)
    });
    add_to(family, table, map, elements)
}

/// Addresses, each with its time in milliseconds.
pub(crate) fn add_for_a_while(
    family: u8,
    table: &str,
    set: &str,
    keys: &[(Vec<u8>, u64)],
) -> Message {
    let elements = keys
        .iter()
        .map(|(key, ms)| element_with(key).bytes(NFTA_SET_ELEM_TIMEOUT, &ms.to_be_bytes()));
    add_to(family, table, set, elements)
}

fn element_with(key: &[u8]) -> Attributes {
    let key = Attributes::default().bytes(NFTA_DATA_VALUE, key);
    Attributes::default().nested(NFTA_SET_ELEM_KEY, key)
}

fn add_to(
    family: u8,
    table: &str,
    set: &str,
    elements: impl Iterator<Item = Attributes>,
) -> Message {
    let list = elements.fold(Attributes::default(), |list, one| {
        list.nested(NFTA_LIST_ELEM, one)
    });
    Message {
        kind: NFT_MSG_NEWSETELEM,
        flags: CREATE,
        family,
        attributes: element_list(table, set).nested(NFTA_SET_ELEM_LIST_ELEMENTS, list),
        what: format!("elements of {table} {set}"),
        needs: "CONFIG_NF_TABLES",
    }
}

/// Key, value and a comment that `nft list` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub comment: String,
}

pub(crate) fn add_elements(family: u8, table: &str, map: &str, elements: &[Element]) -> Message {
    let data = |bytes: &[u8]| Attributes::default().bytes(NFTA_DATA_VALUE, bytes);
    let elements = elements.iter().map(|element| {
        let mut comment = vec![
            NFTNL_UDATA_SET_ELEM_COMMENT,
            element.comment.len() as u8 + 1,
        ];
        comment.extend(element.comment.as_bytes());
        comment.push(0);
        Attributes::default()
            .nested(NFTA_SET_ELEM_KEY, data(&element.key))
            .nested(NFTA_SET_ELEM_DATA, data(&element.value))
            .bytes(NFTA_SET_ELEM_USERDATA, &comment)
    });
    add_to(family, table, map, elements)
}

/// Removes every element (Linux 4.10 or later).
pub(crate) fn empty_map(family: u8, table: &str, map: &str) -> Message {
    Message {
        kind: NFT_MSG_DELSETELEM,
        flags: 0,
        family,
        attributes: element_list(table, map),
        what: format!("emptying of map {table} {map}"),
        needs: "CONFIG_NF_TABLES",
    }
}

fn element_list(table: &str, map: &str) -> Attributes {
    Attributes::default()
        .text(NFTA_SET_ELEM_LIST_TABLE, table)
        .text(NFTA_SET_ELEM_LIST_SET, map)
}

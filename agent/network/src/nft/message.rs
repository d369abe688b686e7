//! Messages as bytes: attributes, headers, and the few objects we make.

use super::expression::Expression;
use super::uapi::*;

/// Netlink attributes: length and kind in host order, payload padded to four bytes; nf_tables numbers are big-endian.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    pub fn bytes(mut self, kind: u16, payload: &[u8]) -> Self {
        // Payloads are our own: names, 16-byte keys, and lists that `MAX_PORTS_PER_APP` keeps below 64 KiB.
        let length = u16::try_from(4 + payload.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(payload);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub fn nested(self, kind: u16, inner: Self) -> Self {
        self.bytes(kind | libc::NLA_F_NESTED as u16, &inner.0)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// One instruction of a transaction, and what to say when the kernel refuses it.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// `NFT_MSG_…`, or a batch mark.
    pub kind: u16,
    /// NLM_F_CREATE and so on; NLM_F_REQUEST is added.
    pub flags: u16,
    pub family: u8,
    pub attributes: Attributes,
    /// For people: "map ports".
    pub what: String,
    /// The kernel option without which this can't work.
    pub needs: &'static str,
}

/// Writes nlmsghdr, nfgenmsg and attributes (linux/netlink.h, nfnetlink.h).
pub(crate) fn encode(
    out: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    sequence: u32,
    family: u8,
    resource: u16,
    attributes: &Attributes,
) {
    let length = 16 + 4 + attributes.len() as u32;
    out.extend(length.to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend(0u32.to_ne_bytes());
    out.push(family);
    out.push(0);
    out.extend(resource.to_be_bytes());
    out.extend(&attributes.0);
}

const CREATE: u16 = libc::NLM_F_CREATE as u16;
const SETS: &str = "CONFIG_NF_TABLES (before Linux 6.0 also CONFIG_NFT_SET_HASH)";

/// A table that exists afterwards; with `exclusive`, one that did not exist before.
pub(crate) fn new_table(family: u8, name: &str, exclusive: bool) -> Message {
    let excl = if exclusive {
        libc::NLM_F_EXCL as u16
    } else {
        0
    };
    Message {
        kind: NFT_MSG_NEWTABLE,
        flags: CREATE | excl,
        family,
        attributes: Attributes::default()
            .text(NFTA_TABLE_NAME, name)
            .number(NFTA_TABLE_FLAGS, 0),
        what: format!("table {name}"),
        needs: match family {
            NFPROTO_INET => "CONFIG_NF_TABLES_INET",
            NFPROTO_IPV6 => "CONFIG_NF_TABLES_IPV6",
            NFPROTO_NETDEV => "CONFIG_NF_TABLES_NETDEV",
            _ => "CONFIG_NF_TABLES_IPV4",
        },
    }
}

pub(crate) fn delete_table(family: u8, name: &str) -> Message {
    Message {
        kind: NFT_MSG_DELTABLE,
        flags: 0,
        family,
        attributes: Attributes::default().text(NFTA_TABLE_NAME, name),
        what: format!("removal of table {name}"),
        needs: "CONFIG_NF_TABLES",
    }
}

/// Where packets enter a chain of ours; the policy is always accept, we drop by rule.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hook<'a> {
    /// `filter` or `nat`.
    pub kind: &'static str,
    pub number: u32,
    pub priority: i32,
    /// Family `netdev`: the interface whose packets they are.
    pub device: Option<&'a str>,
}

pub(crate) fn new_chain(family: u8, table: &str, name: &str, hook: Hook<'_>) -> Message {
    let mut place = Attributes::default()
        .number(NFTA_HOOK_HOOKNUM, hook.number)
        .bytes(NFTA_HOOK_PRIORITY, &hook.priority.to_be_bytes());
    if let Some(device) = hook.device {
        place = place.text(NFTA_HOOK_DEV, device);
    }
    Message {
        kind: NFT_MSG_NEWCHAIN,
        flags: CREATE,
        family,
        attributes: Attributes::default()
            .text(NFTA_CHAIN_TABLE, table)
            .text(NFTA_CHAIN_NAME, name)
            .nested(NFTA_CHAIN_HOOK, place)
            .number(NFTA_CHAIN_POLICY, NF_ACCEPT)
            .text(NFTA_CHAIN_TYPE, hook.kind),
        what: format!("chain {table} {name}"),
        needs: match (hook.kind, hook.device) {
            ("nat", _) => "CONFIG_NF_NAT and CONFIG_NFT_NAT",
            (_, Some(_)) => "CONFIG_NETFILTER_INGRESS",
            _ => "CONFIG_NF_TABLES",
        },
    }
}

/// A chain that packets come to from others. One that is there is emptied.
pub(crate) fn new_inner_chain(family: u8, table: &str, name: &str) -> [Message; 2] {
    let what = format!("chain {table} {name}");
    let message = |kind, flags, (of_table, of_chain)| Message {
        kind,
        flags,
        family,
        attributes: Attributes::default()
            .text(of_table, table)
            .text(of_chain, name),
        what: what.clone(),
        needs: "CONFIG_NF_TABLES",
    };
    let chain = (NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME);
    let rules = (NFTA_RULE_TABLE, NFTA_RULE_CHAIN);
    [
        message(NFT_MSG_NEWCHAIN, CREATE, chain),
        message(NFT_MSG_DELRULE, 0, rules),
    ]
}

/// The chain has to be there, without rules and without a way to it.
pub(crate) fn delete_chain(family: u8, table: &str, name: &str) -> Message {
    Message {
        kind: NFT_MSG_DELCHAIN,
        flags: 0,
        family,
        attributes: Attributes::default()
            .text(NFTA_CHAIN_TABLE, table)
            .text(NFTA_CHAIN_NAME, name),
        what: format!("removal of chain {table} {name}"),
        needs: "CONFIG_NF_TABLES",
    }
}

pub(crate) fn new_rule(family: u8, table: &str, chain: &str, rule: &[Expression]) -> Message {
    let mut list = Attributes::default();
    let mut needs = "CONFIG_NF_TABLES";
    for expression in rule {
        let body = Attributes::default()
            .text(NFTA_EXPR_NAME, expression.name)
            .nested(NFTA_EXPR_DATA, expression.attributes.clone());
        list = list.nested(NFTA_LIST_ELEM, body);
        // The least common one of a rule is the one to name.
        if let Some(option) = expression.needs {
            needs = option;
        }
    }
    let names: Vec<&str> = rule.iter().map(|e| e.name).collect();
    Message {
        kind: NFT_MSG_NEWRULE,
        flags: CREATE | libc::NLM_F_APPEND as u16,
        family,
        attributes: Attributes::default()
            .text(NFTA_RULE_TABLE, table)
            .text(NFTA_RULE_CHAIN, chain)
            .nested(NFTA_RULE_EXPRESSIONS, list),
        what: format!("rule of {table} {chain} ({})", names.join(" ")),
        needs,
    }
}

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
    let mut list = Attributes::default();
    for element in elements {
        let mut comment = vec![
            NFTNL_UDATA_SET_ELEM_COMMENT,
            element.comment.len() as u8 + 1,
        ];
        comment.extend(element.comment.as_bytes());
        comment.push(0);
        let one = Attributes::default()
            .nested(NFTA_SET_ELEM_KEY, data(&element.key))
            .nested(NFTA_SET_ELEM_DATA, data(&element.value))
            .bytes(NFTA_SET_ELEM_USERDATA, &comment);
        list = list.nested(NFTA_LIST_ELEM, one);
    }
    Message {
        kind: NFT_MSG_NEWSETELEM,
        flags: CREATE,
        family,
        attributes: element_list(table, map).nested(NFTA_SET_ELEM_LIST_ELEMENTS, list),
        what: format!("elements of map {table} {map}"),
        needs: "CONFIG_NF_TABLES",
    }
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

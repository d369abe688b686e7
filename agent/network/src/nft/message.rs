//! Messages as bytes: attributes, headers, tables, chains and rules.

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

pub(super) const CREATE: u16 = libc::NLM_F_CREATE as u16;

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

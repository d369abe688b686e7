//! Where a container may open connections to, when it may not go everywhere: a list of addresses and names.
//!
//! Names are none of the kernel's business. It is told addresses when the network's resolver has found them for the
//! container that asked, and forgets them after a while; see `Networks::admit_answer`.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::port::Protocol;

mod learned;
mod suspicion;

pub(crate) use learned::{Learned, MAX_PER_NAME};
pub(crate) use suspicion::{Places, suspicion};

/// Rules of one container's list: with at most four rules of the kernel's each, all of it fits one netlink message of
/// 160 KiB, which is what a socket of a 32-bit kernel takes.
pub const MAX_EGRESS: usize = 64;
/// Addresses that one answer may bring.
pub const MAX_ADMITTED: usize = 16;
/// How long what a name was resolved to counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// At least, since programs keep what they were told for a while, whatever its time to live.
    pub shortest: Duration,
    /// At most. Who hands the answer on says no more either.
    pub longest: Duration,
    /// Beyond that, from an answer to the connection.
    pub grace: Duration,
}

/// An answer's time to live that is heard, at most.
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);
/// What a client may keep: a next supervisor knows nothing of what was opened, so it has to ask again soon.
pub(crate) const LONGEST_TOLD: Duration = Duration::from_secs(60);

impl Default for Admission {
    fn default() -> Self {
        Self {
            shortest: LONGEST_TOLD,
            longest: LONGEST,
            grace: Duration::from_secs(30),
        }
    }
}

/// One destination; without ports or a protocol, all of them. Ports without a protocol are TCP's and UDP's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressRule {
    pub to: EgressTo,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// First and last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<(u16, u16)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EgressTo {
    Net(IpNet),
    /// A name, or `*.` and one that others end with; in small letters.
    Name(String),
}

impl EgressRule {
    pub(crate) fn check(&self) -> Result<(), String> {
        if let EgressTo::Name(name) = &self.to {
            let bare = name.strip_prefix("*.").unwrap_or(name);
            if !crate::config::is_host_name(bare) || *name != name.to_ascii_lowercase() {
                return Err(format!("{name:?} is no name in small letters"));
            }
        }
        match self.ports {
            Some((first, last)) if first == 0 || first > last => {
                Err(format!("{first}-{last} are no ports"))
            }
            _ => Ok(()),
        }
    }

    fn is_net_with(&self, ip: IpAddr) -> bool {
        matches!(self.to, EgressTo::Net(net) if net.contains(&ip))
    }
}

/// The names of a list, each once. Their positions number the kernel's sets.
pub fn names(rules: &[EgressRule]) -> Vec<&str> {
    let mut names = Vec::new();
    for rule in rules {
        if let EgressTo::Name(name) = &rule.to
            && !names.contains(&name.as_str())
        {
            names.push(name.as_str());
        }
    }
    names
}

/// Whether an entry's name stands for this one. A dot inside of a label is none between labels, and a name that has what no
/// host's has is nobody's.
pub(crate) fn stands_for(entry: &str, name: &str) -> bool {
    match entry.strip_prefix("*.") {
        Some(end) => {
            let front = name.strip_suffix(end);
            let below = front.is_some_and(|front| front.len() > 1 && front.ends_with('.'));
            below && crate::config::is_host_name(name)
        }
        None => entry == name,
    }
}

/// The list itself says this address.
pub(crate) fn says(rules: &[EgressRule], ip: IpAddr) -> bool {
    rules.iter().any(|rule| rule.is_net_with(ip))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stand_for_their_names_and_no_others() {
        for (entry, name, stands) in [
            ("a.example", "a.example", true),
            ("a.example", "b.a.example", false),
            ("*.example", "a.example", true),
            ("*.example", "b.a.example", true),
            ("*.example", "example", false),
            ("*.example", ".example", false),
            ("*.example", "badexample", false),
            ("*.example", "_mqtt._tcp.a.example", true),
            ("*.example", "a\\.example", false),
            ("*.example", "a\\.b.example", false),
            ("*.example", "a b.example", false),
            ("*.example", "a..example", false),
        ] {
            assert_eq!(stands_for(entry, name), stands, "{entry} {name}");
        }
    }
}

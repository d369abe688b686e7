//! Devices of the board that an app asks for by name: which nodes they are, looked for at each start, and what that
//! comes to in the app's /dev and in the rules of its cgroup.
//!
//! A node belongs to the user that the app runs as: groups of the board (`dialout`, `gpio`) mean nothing in an image. The
//! rule is what holds: it names the node's number and what may be done, and nothing else of the board can be opened.

use crate::apps::user::User;
use coracle_board_support::devices::{self, Node};
use coracle_board_support::profile::{AppDevice as Entry, DeviceKind, Profile};
use coracle_protocol::names::DeviceName;
use coracle_protocol::release::{AppDevice, DeviceAccess};
use coracle_runtime::cgroup::DeviceRule;
use coracle_runtime::spec::{DeviceKind as NodeKind, DeviceNode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What every container has at these places below /dev (`coracle_runtime`'s own, and links).
const OWN: [&str; 16] = [
    "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr",
    "stdin", "stdout", "tty", "urandom", "zero",
];

/// Why an app does not get a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceFault {
    /// The profile does not know it.
    #[error(
        "device `{device}` is not among those of profile `{profile}`: {known} ([[devices]]; in the board's board.toml a \
         site can name more)"
    )]
    Unknown {
        /// What the release asks for.
        device: DeviceName,
        /// The board's profile.
        profile: String,
        /// What it has.
        known: String,
    },
    /// Links are given in another way.
    #[error(
        "device `{device}` of profile `{profile}` is a network link: ask for it in network.interfaces"
    )]
    Link {
        /// What the release asks for.
        device: DeviceName,
        /// The board's profile.
        profile: String,
    },
    /// No node is there.
    #[error(
        "device `{device}`: nothing on this board is {patterns}, as profile `{profile}` has it; plug it in, or let the \
         release say optional = true"
    )]
    Missing {
        /// What the release asks for.
        device: DeviceName,
        /// The board's profile.
        profile: String,
        /// What was looked for.
        patterns: String,
    },
    /// Nothing but the board's console is there.
    #[error(
        "device `{device}` is {console} on this board, which is its console: an app would read what is typed at the login \
         there; take `console=` of it off the kernel's command line, or name another in the board's board.toml"
    )]
    Console {
        /// What the release asks for.
        device: DeviceName,
        /// Its node.
        console: String,
    },
}

/// A device that an app is to have, and what the profile says of it.
#[derive(Debug, Clone)]
pub struct PlannedDevice {
    /// What was signed.
    pub wanted: AppDevice,
    entry: Entry,
    profile: String,
}

/// What an app was given of one at its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// As the profile calls it.
    pub name: DeviceName,
    /// None when the app does without.
    pub nodes: Vec<Node>,
}

impl PlannedDevice {
    /// What the profile means by a name.
    pub fn of(wanted: &AppDevice, profile: &Profile) -> Result<Self, DeviceFault> {
        let device = wanted.name.clone();
        let name = profile.name.as_str().to_owned();
        match profile.device(wanted.name.as_str()) {
            None => {
                let others = profile.devices.iter();
                let others = others.filter(|other| other.kind != DeviceKind::Can);
                let known: Vec<&str> = others.map(|other| other.name.as_str()).collect();
                Err(DeviceFault::Unknown {
                    device,
                    profile: name,
                    known: match known.is_empty() {
                        true => "it has none".to_owned(),
                        false => known.join(", "),
                    },
                })
            }
            Some(entry) if entry.kind == DeviceKind::Can => Err(DeviceFault::Link {
                device,
                profile: name,
            }),
            Some(entry) => Ok(Self {
                wanted: wanted.clone(),
                entry: entry.clone(),
                profile: name,
            }),
        }
    }

    /// Its nodes at this moment.
    pub fn nodes(&self, root: &Path) -> Vec<Node> {
        let mut nodes = devices::nodes(root, &self.entry);
        nodes.retain(|node| {
            let below = node.path.strip_prefix("/dev/").unwrap_or_default();
            let first = below.split('/').next().unwrap_or_default();
            !OWN.contains(&first)
        });
        nodes
    }

    /// Those that an app gets: no more than [`devices::NODE_LIMIT`]. An error where there is none and it cannot do without.
    pub fn find(&self, root: &Path) -> Result<Vec<Node>, DeviceFault> {
        let mut nodes = self.nodes(root);
        if nodes.len() > devices::NODE_LIMIT {
            let (device, found, limit) = (&self.wanted.name, nodes.len(), devices::NODE_LIMIT);
            tracing::warn!(%device, found, limit, "an app gets no more nodes of one device: the first by their names");
            nodes.truncate(limit);
        }
        if !nodes.is_empty() || self.wanted.optional {
            return Ok(nodes);
        }
        if let Some(console) = devices::console_nodes(root, &self.entry).pop() {
            return Err(DeviceFault::Console {
                device: self.wanted.name.clone(),
                console: console.path,
            });
        }
        let patterns: Vec<&str> = self.entry.nodes.iter().map(|text| text.as_str()).collect();
        Err(DeviceFault::Missing {
            device: self.wanted.name.clone(),
            profile: self.profile.clone(),
            patterns: patterns.join(" or "),
        })
    }

    /// Where its nodes come and go.
    pub fn folders(&self, root: &Path) -> impl Iterator<Item = std::path::PathBuf> {
        devices::folders(root, &self.entry).into_iter()
    }
}

/// Everything that a start gives.
#[derive(Debug, Default)]
pub struct Gift {
    /// By device.
    pub given: Vec<Given>,
    /// For its /dev.
    pub nodes: Vec<DeviceNode>,
    /// For its cgroup.
    pub rules: Vec<DeviceRule>,
    /// `CORACLE_DEVICE_SERIAL=/dev/ttyUSB0`: the same name has another node on another board.
    pub env: Vec<String>,
}

/// Looks for the devices of an app that runs as `user`.
pub fn give(planned: &[PlannedDevice], user: &User, root: &Path) -> Result<Gift, DeviceFault> {
    let mut gift = Gift::default();
    // A node of two devices is one node, with the rights of both.
    let mut all: BTreeMap<String, (Node, bool)> = BTreeMap::new();
    for device in planned {
        let nodes = device.find(root)?;
        let write = device.wanted.access == DeviceAccess::ReadWrite;
        for node in &nodes {
            let entry = (node.clone(), false);
            all.entry(node.path.clone()).or_insert(entry).1 |= write;
        }
        let paths: Vec<&str> = nodes.iter().map(|node| node.path.as_str()).collect();
        if !paths.is_empty() {
            let variable = device.wanted.name.variable();
            gift.env.push(format!("{variable}={}", paths.join(" ")));
        }
        gift.given.push(Given {
            name: device.wanted.name.clone(),
            nodes,
        });
    }
    for (node, write) in all.into_values() {
        gift.rules.push(DeviceRule {
            write,
            mknod: false,
            ..DeviceRule::char(node.major, Some(node.minor))
        });
        gift.nodes.push(DeviceNode {
            path: node.path.into(),
            kind: NodeKind::Char,
            major: node.major,
            minor: node.minor,
            mode: if write { 0o660 } else { 0o440 },
            uid: user.uid,
            gid: user.gid,
        });
    }
    Ok(gift)
}

mod held;

pub use held::{Held, held};

#[cfg(test)]
mod tests;

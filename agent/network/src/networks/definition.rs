//! Users' networks as a file: who they are, over restarts and crashes.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::MAX_NETWORKS;
use crate::config::{ConfigError, NetworkConfig};
use crate::link::Link;
use crate::pool::file::{remove, remove_half_written, replace};
use crate::underlay::{NO_GATEWAY, Underlay};

const VERSION: u32 = 1;
/// 32 networks of 400 bytes, with room.
const MAX_FILE_BYTES: u64 = 64 * 1024;
const BRIDGE: &str = "cor-n";

#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    #[error("definitions of networks {path}: cannot {action}")]
    File {
        path: PathBuf,
        action: &'static str,
        source: io::Error,
    },
}

/// A network that a user made, with everything decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkDefinition {
    pub name: String,
    /// 1 to `MAX_NETWORKS`; the names of bridge, table and veths come from it.
    pub(super) slot: u8,
    pub subnet: Ipv4Net,
    pub gateway: Ipv4Addr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<Ipv4Net>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet6: Option<Ipv6Net>,
    pub mtu: u32,
    #[serde(default)]
    pub internal: bool,
    #[serde(default)]
    pub allow_host_access: bool,
    #[serde(default)]
    pub resolver: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub underlay: Option<Underlay>,
}

impl NetworkDefinition {
    /// What the kernel is to hold.
    pub fn config(&self) -> NetworkConfig {
        NetworkConfig {
            gateway: (self.gateway != NO_GATEWAY).then_some(self.gateway),
            underlay: self.underlay.clone(),
            range: self.range,
            subnet6: self.subnet6,
            internal: self.internal,
            resolver: self.resolver,
            mtu: self.mtu,
            allow_host_access: self.allow_host_access,
            ifname_prefix: format!("vn{:02}-", self.slot),
            ..NetworkConfig::new(&bridge(self.slot), self.subnet)
        }
    }

    /// The name is one that a command line, a file and DNS can bear.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b);
        let starts = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let fits = (1..=63).contains(&self.name.len()) && self.name.bytes().all(good);
        if !fits || !self.name.as_bytes().first().is_some_and(starts) {
            return Err(ConfigError::NetworkName(self.name.clone()));
        }
        self.config().check()
    }
}

fn bridge(slot: u8) -> String {
    format!("{BRIDGE}{slot:02}")
}

/// Enough to find and remove what a lost definition made.
pub(super) fn config_of_stray(slot: u8) -> NetworkConfig {
    let subnet = Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 29);
    NetworkConfig {
        ifname_prefix: format!("vn{slot:02}-"),
        ..NetworkConfig::new(&bridge(slot), subnet)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    networks: Vec<NetworkDefinition>,
}

#[derive(Debug)]
pub(super) struct Definitions {
    path: PathBuf,
    networks: Vec<NetworkDefinition>,
}

impl Definitions {
    /// Reads the file; none is an empty one, and one that can't be understood is set aside as `.bad`.
    pub fn open(path: &Path) -> Result<Self, DefinitionError> {
        let failed = |action| move |source| error(path, action, source);
        let mut definitions = Self {
            path: path.to_owned(),
            networks: Vec::new(),
        };
        remove_half_written(path).map_err(failed("clear what was half written beside it"))?;
        let length = match fs::metadata(path) {
            Ok(metadata) => metadata.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(definitions),
            Err(e) => return Err(failed("look at it")(e)),
        };
        let bytes = match length {
            0..=MAX_FILE_BYTES => fs::read(path).map_err(failed("read it"))?,
            _ => Vec::new(),
        };
        match understand(&bytes) {
            Ok(networks) => definitions.networks = networks,
            Err(reason) => {
                let aside = path.with_extension("json.bad");
                tracing::warn!(path = %path.display(), reason, aside = %aside.display(), "definitions of networks set aside");
                fs::rename(path, &aside).map_err(failed("set it aside"))?;
            }
        }
        Ok(definitions)
    }

    pub fn all(&self) -> &[NetworkDefinition] {
        &self.networks
    }

    /// The lowest number that is free.
    pub fn free_slot(&self) -> Option<u8> {
        (1..=MAX_NETWORKS as u8).find(|slot| self.networks.iter().all(|n| n.slot != *slot))
    }

    /// Written before the kernel is asked for the network.
    pub fn add(&mut self, definition: NetworkDefinition) -> Result<(), DefinitionError> {
        self.networks.push(definition);
        self.save().inspect_err(|_| {
            self.networks.pop();
        })
    }

    /// Written after the kernel holds nothing of it any more.
    pub fn forget(&mut self, name: &str) -> Result<(), DefinitionError> {
        self.networks.retain(|n| n.name != name);
        self.save()
    }

    pub fn destroy(&mut self) -> Result<(), DefinitionError> {
        self.networks.clear();
        remove(&self.path).map_err(|e| error(&self.path, "remove it", e))
    }

    /// Numbers of bridges that are there and in no definition: the file was lost.
    pub fn strays(&self, links: &[Link]) -> Vec<u8> {
        let number = |link: &Link| {
            let slot = link.name.strip_prefix(BRIDGE)?.parse::<u8>().ok()?;
            let kind = ["bridge", "vlan"].contains(&link.kind.as_str());
            let ours = kind && link.name == bridge(slot);
            (ours && self.networks.iter().all(|n| n.slot != slot)).then_some(slot)
        };
        links.iter().filter_map(number).collect()
    }

    fn save(&self) -> Result<(), DefinitionError> {
        let stored = Stored {
            version: VERSION,
            networks: self.networks.clone(),
        };
        let bytes = serde_json::to_vec(&stored).map_err(io::Error::other);
        bytes
            .and_then(|bytes| replace(&self.path, &bytes))
            .map_err(|e| error(&self.path, "write it", e))
    }
}

/// The stored networks, or why the bytes are none.
fn understand(bytes: &[u8]) -> Result<Vec<NetworkDefinition>, String> {
    let stored: Stored = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if stored.version != VERSION {
        return Err(format!("version {} is not {VERSION}", stored.version));
    }
    for (index, network) in stored.networks.iter().enumerate() {
        network.check().map_err(|e| e.to_string())?;
        let mut others = stored.networks.iter().skip(index + 1);
        let same =
            |other: &NetworkDefinition| other.name == network.name || other.slot == network.slot;
        if !(1..=MAX_NETWORKS as u8).contains(&network.slot) || others.any(same) {
            return Err(format!("{} is there twice", network.name));
        }
    }
    Ok(stored.networks)
}

fn error(path: &Path, action: &'static str, source: io::Error) -> DefinitionError {
    DefinitionError::File {
        path: path.to_owned(),
        action,
        source,
    }
}

//! Board profiles: one TOML file says what a kind of board is. Strict (an unknown key is an error
//! with its line), with units in the names, and bounded: no list is longer than its type says.

mod values;

pub use crate::toml_file::TomlFileError as ProfileError;
pub use values::{Architecture, Count, DmiRule, NetworkMode, StorageRole};

use crate::config::{LinkName, Mtu, PlainName, Subnet};
use crate::text::{Text, matches};
use crate::toml_file;
use heapless::Vec;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A profile as its file says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The file's name without `.toml`.
    pub name: PlainName,
    /// For people.
    pub description: Text,
    /// What a release must name to be installed here.
    pub hardware_class: PlainName,
    /// What the programs are compiled for.
    pub architecture: Architecture,
    /// Memory of the smallest variant that is sold, in MiB. What the kernel shows wins.
    pub memory_mib: Count,
    /// Processor cores. What the kernel shows wins.
    pub cpus: Count,
    /// Storage that is there for Coracle at least, in MiB. What the file system shows wins.
    pub disk_mib: Count,
    /// How the board is recognised; a generic profile has no rule.
    #[serde(default, rename = "match")]
    pub matches: MatchRules,
    /// What the apps never get.
    pub reserve: Reserve,
    /// Which device is what, for IO limits.
    pub storage: Storage,
    /// The network's defaults.
    pub network: NetworkDefaults,
    /// Limits of an app that names none.
    pub quotas: Quotas,
    /// The hardware watchdog, where there is one.
    #[serde(default)]
    pub watchdog: Option<Watchdog>,
    /// What the kernel must have.
    #[serde(default)]
    pub kernel: KernelNeeds,
}

/// `[match]`: one rule that holds is enough.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MatchRules {
    /// Exact strings of the device tree's root node, `compatible`.
    pub device_tree_compatible: Vec<Text, 8>,
    /// Vendor and product as DMI says them.
    pub dmi: Vec<DmiRule, 8>,
}

/// `[reserve]`: kept for the kernel, the init system and Coracle itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reserve {
    /// In MiB.
    pub memory_mib: u32,
    /// In thousandths of a core.
    pub cpu_millis: u32,
    /// In MiB.
    pub disk_mib: u32,
}

/// `[storage]`: patterns over `/dev/…` of whole disks, `*` and `?`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// Where the state folder lies: what an app's IO limits are set on.
    pub state: Vec<Text, 4>,
    /// Where sticks appear.
    pub removable: Vec<Text, 4>,
}

/// `[network]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkDefaults {
    /// The apps' subnet, unless coracle.toml names one.
    #[serde(default)]
    pub subnet: Option<Subnet>,
    /// The bridge's MTU, unless coracle.toml names one; the uplink's when left out.
    #[serde(default)]
    pub mtu: Option<Mtu>,
    /// Links that lead to the world, the preferred one first.
    #[serde(default)]
    pub uplinks: Vec<LinkName, 4>,
    /// Modes that an app may ask for.
    pub modes: Vec<NetworkMode, 4>,
}

/// `[quotas]`: the limits of an app whose release names none. Rates are per second and on the
/// device of [`Storage::state`]; one that is left out is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    /// Memory in MiB.
    pub memory_mib: Count,
    /// Thousandths of a core.
    pub cpu_millis: Count,
    /// Processes and threads.
    pub pids: Count,
    /// Writable layer in MiB.
    pub disk_mib: Count,
    /// Logs in MiB.
    pub log_mib: Count,
    /// Open files of one process.
    pub open_files: Count,
    /// Bytes read per second.
    #[serde(default)]
    pub io_read_bytes_per_second: Option<u64>,
    /// Bytes written per second.
    #[serde(default)]
    pub io_write_bytes_per_second: Option<u64>,
}

/// `[watchdog]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watchdog {
    /// `/dev/watchdog0`.
    pub device: Text,
    /// The board resets when it is not fed for so long, in seconds. No longer than the hardware
    /// can count: the Raspberry Pi's stops at 15.
    pub timeout_seconds: Count,
}

/// `[kernel]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KernelNeeds {
    /// Options beyond those that Coracle asks for on each board: `CONFIG_BCM2835_WDT`.
    pub required_options: Vec<Text, 16>,
}

impl Profile {
    /// Reads a profile from a file.
    pub fn load(path: &Path) -> Result<Self, ProfileError> {
        let profile: Self = toml_file::read(path)?;
        profile.named_like(path)
    }

    /// Reads a profile from text; `path` is for messages only.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ProfileError> {
        toml_file::parse(text, path)
    }

    /// A profile is chosen by its file's name, so the two must not differ. `board.toml`, the
    /// override of one board, may hold any.
    fn named_like(self, path: &Path) -> Result<Self, ProfileError> {
        let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or("");
        if stem == self.name.as_str() || stem == "board" {
            return Ok(self);
        }
        Err(ProfileError::Invalid {
            path: path.to_owned(),
            line: 1,
            key: "name: ".to_owned(),
            message: format!(
                "`{}` is not the file's name; allowed is `{stem}`",
                self.name.as_str()
            ),
        })
    }

    /// The profile that needs no file: the generic one of an architecture.
    #[expect(
        clippy::expect_used,
        reason = "the text is compiled in, and a test parses all three"
    )]
    pub fn generic(architecture: Architecture) -> Self {
        let (name, text) = match architecture {
            Architecture::X86_64 => (
                "generic-x86-64",
                include_str!("../../config/boards/generic-x86-64.toml"),
            ),
            Architecture::Aarch64 => (
                "generic-arm64",
                include_str!("../../config/boards/generic-arm64.toml"),
            ),
            Architecture::Arm => (
                "generic-armv7",
                include_str!("../../config/boards/generic-armv7.toml"),
            ),
        };
        Self::parse(text, Path::new(name)).expect("a compiled-in profile is one")
    }

    /// Whether a whole disk (`/dev/mmcblk0`) plays a role on this board.
    pub fn is_storage(&self, role: StorageRole, device: &str) -> bool {
        let patterns = match role {
            StorageRole::State => &self.storage.state,
            StorageRole::Removable => &self.storage.removable,
        };
        patterns.iter().any(|pattern| matches(pattern, device))
    }
}

#[cfg(test)]
mod tests;

//! Board profiles: one TOML file says what a kind of board is. Strict (an unknown key is an error
//! with its line), with units in the names, and bounded: no list is longer than its type says.
//!
//! | file | sections |
//! |---|---|
//! | `resources` | `[reserve]`, `[storage]`, `[quotas]` |
//! | `network` | `[network]` |
//! | `offloads` | `[[network.offloads]]`, `[network.app_offloads]` |
//! | `hardware` | `[[devices]]`, `[watchdog]`, `[[leds]]`, `[thermal]`, `[identity]` |
//! | `kernel` | `[kernel]`, `[cgroup]` |
//! | `isolation` | `[isolation]` |
//! | `site` | what a board's own file puts over a profile, and where each value comes from |

mod hardware;
mod isolation;
mod kernel;
mod network;
mod offloads;
mod resources;
mod site;
mod values;

pub use crate::toml_file::TomlFileError as ProfileError;
pub use hardware::{
    AppDevice, DeviceKind, Identity, Led, LedPattern, LedState, Thermal, ThermalZone, Watchdog,
};
pub use isolation::{FirstId, IDS_PER_APP, Isolation, MOST_ID_RANGES, UserNamespaces};
pub(crate) use kernel::REQUIRED_OPTIONS;
pub use kernel::{CgroupLayout, CgroupNeeds, KernelNeeds};
pub use network::{
    BridgeNf, DefaultEgress, Forwarding, HostAccess, NetworkDefaults, NetworkMode, Uplink,
    UplinkCost, UplinkKind,
};
pub use offloads::{AppOffloads, LinkOffloads, Offload};
pub use resources::{IoCeilings, Medium, Quotas, Reserve, StateDisk, Storage, StorageRole, Wear};
pub(crate) use site::settings;
pub use site::{Origin, Setting, SiteFile};
pub use values::{Architecture, Count, DmiRule, Percent};

use crate::config::PlainName;
use crate::text::Text;
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
    /// What an app may ask for by name.
    #[serde(default)]
    pub devices: Vec<AppDevice, 16>,
    /// The hardware watchdog, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog: Option<Watchdog>,
    /// Lights that tell how the board is.
    #[serde(default)]
    pub leds: Vec<Led, 4>,
    /// When apps are slowed so that the board cools down; never where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thermal: Option<Thermal>,
    /// Where the serial number stands.
    #[serde(default)]
    pub identity: Identity,
    /// What the kernel must have.
    #[serde(default)]
    pub kernel: KernelNeeds,
    /// How control groups must be mounted.
    #[serde(default)]
    pub cgroup: CgroupNeeds,
    /// Whether apps have users of their own.
    #[serde(default)]
    pub isolation: Isolation,
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

impl Profile {
    /// Reads a profile from a file.
    pub fn load(path: &Path) -> Result<Self, ProfileError> {
        Self::parse(&toml_file::read_text(path)?, path)?.named_like(path)
    }

    /// Reads a profile from text; `path` is for messages only.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ProfileError> {
        let profile: Self = toml_file::parse(text, path)?;
        profile
            .consistent()
            .map_err(|(key, message)| toml_file::fault(text, path, key, message))?;
        Ok(profile)
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
        let (name, text) = Self::generic_text(architecture);
        Self::parse(text, Path::new(name)).expect("compiled in, and parsed by a test")
    }

    /// Name and text of [`Profile::generic`].
    pub(crate) fn generic_text(architecture: Architecture) -> (&'static str, &'static str) {
        match architecture {
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
        }
    }

    /// What an app that asks for this name gets.
    pub fn device(&self, name: &str) -> Option<&AppDevice> {
        self.devices
            .iter()
            .find(|device| device.name.as_str() == name)
    }

    /// Whether an app may have this link of the board whole: one of `network.interfaces`, or a CAN link of `devices`. An
    /// uplink is never given away.
    pub fn gives_away(&self, link: &str) -> bool {
        let named = |patterns: &[crate::text::Text]| {
            let mut patterns = patterns.iter();
            patterns.any(|pattern| crate::text::matches(pattern, link))
        };
        let can = |device: &AppDevice| device.kind == DeviceKind::Can && named(&device.nodes);
        !self.network.is_uplink(link)
            && (named(&self.network.interfaces) || self.devices.iter().any(can))
    }

    /// What no single value shows: a key, and what is wrong with it.
    fn consistent(&self) -> Result<(), (&'static str, String)> {
        for (at, device) in self.devices.iter().enumerate() {
            let name = device.name.as_str();
            if device.nodes.is_empty() {
                return Err(("devices", format!("`{name}` has no nodes")));
            }
            if let Some(node) = device.nodes.iter().find(|node| !device.may_have(node)) {
                let allowed = match device.kind {
                    DeviceKind::Can => "patterns over names of links",
                    _ => "patterns over paths below /dev/, without `..` and spaces",
                };
                let message =
                    format!("`{name}`: node `{node}` is not allowed; allowed are {allowed}");
                return Err(("devices", message));
            }
            if self.devices[..at].iter().any(|d| d.name == device.name) {
                return Err(("devices", format!("`{name}` is named twice")));
            }
        }
        for (at, uplink) in self.network.uplinks.iter().enumerate() {
            if self.network.uplinks[..at]
                .iter()
                .any(|u| u.link == uplink.link)
            {
                let message = format!("`{}` is named twice", uplink.link.as_str());
                return Err(("network.uplinks", message));
            }
        }
        let uplink = |name: &&crate::text::Text| self.network.is_uplink(name);
        if let Some(link) = self.network.interfaces.iter().find(uplink) {
            let message = format!("`{link}` is an uplink, which no app may take away");
            return Err(("network.interfaces", message));
        }
        let twice = |name| format!("`{name}` is named twice");
        if let Some(name) = offloads::doubled(self.network.app_offloads.wanted()) {
            return Err(("network.app_offloads", twice(name)));
        }
        for entry in &self.network.offloads {
            if let Some(name) = offloads::doubled(entry.wanted()) {
                return Err(("network.offloads", twice(name)));
            }
        }
        if let Some(led) = self.leds.iter().find(|led| !led.is_one()) {
            let message = format!("`{}` is no name in /sys/class/leds", led.name);
            return Err(("leds", message));
        }
        if let Some(thermal) = &self.thermal {
            let seconds = thermal.interval_seconds.get();
            if !(2..=3600).contains(&seconds) {
                let message = format!("{seconds} is not allowed; allowed are 2 to 3600");
                return Err(("thermal.interval_seconds", message));
            }
        }
        if self.reserve.memory_mib >= self.memory_mib.get() {
            let message = format!(
                "{} MiB leave nothing of memory_mib = {} for apps",
                self.reserve.memory_mib,
                self.memory_mib.get()
            );
            return Err(("reserve.memory_mib", message));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

//! What there is to share out, and what is kept back: `[reserve]`, `[storage]`, `[quotas]`.

use super::Count;
use crate::text::{Text, matches};
use heapless::Vec;
use serde::{Deserialize, Serialize};

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
    /// Where the state folder may lie: what an app's IO limits are set on.
    pub state: Vec<StateDisk, 4>,
    /// Where sticks appear.
    pub removable: Vec<Text, 4>,
    /// What a disk carries, for all apps together, where its entry in `state` does not say so itself.
    pub ceilings: IoCeilings,
    /// How much may be written without wearing the medium out early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wear: Option<Wear>,
}

/// One entry of `storage.state`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateDisk {
    /// `/dev/mmcblk?`; resolved to major:minor on the board.
    pub device: Text,
    /// What it is made of.
    pub medium: Medium,
    /// What it carries, figure by figure; `[storage.ceilings]` for the others.
    #[serde(default, skip_serializing_if = "IoCeilings::says_nothing")]
    pub ceilings: IoCeilings,
}

/// What a disk is made of, which says how it wears and how it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Medium {
    /// Soldered flash with a controller.
    Emmc,
    /// A card in a slot.
    Sd,
    /// A solid state disk on PCIe.
    Nvme,
    /// A disk on SATA or USB.
    Disk,
    /// A file or volume of the host that runs this machine.
    Virtual,
}

impl Medium {
    /// As a profile spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Emmc => "emmc",
            Self::Sd => "sd",
            Self::Nvme => "nvme",
            Self::Disk => "disk",
            Self::Virtual => "virtual",
        }
    }
}

/// `[storage.ceilings]`, and `ceilings` of an entry of [`Storage::state`]: per second; one that is left out is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IoCeilings {
    /// Bytes read per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_bytes_per_second: Option<u64>,
    /// Bytes written per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_bytes_per_second: Option<u64>,
    /// Reads per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_operations_per_second: Option<Count>,
    /// Writes per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_operations_per_second: Option<Count>,
}

impl IoCeilings {
    fn says_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn or(self, other: Self) -> Self {
        Self {
            read_bytes_per_second: self.read_bytes_per_second.or(other.read_bytes_per_second),
            write_bytes_per_second: self.write_bytes_per_second.or(other.write_bytes_per_second),
            read_operations_per_second: self
                .read_operations_per_second
                .or(other.read_operations_per_second),
            write_operations_per_second: self
                .write_operations_per_second
                .or(other.write_operations_per_second),
        }
    }
}

/// `[storage.wear]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wear {
    /// MiB a day that all apps together may write. A medium of `capacity` that bears `cycles` full
    /// writes lasts `capacity × cycles ÷ (365 × this)` years.
    pub write_mib_per_day: Count,
}

/// What a disk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageRole {
    /// The state folder.
    State,
    /// Sticks.
    Removable,
}

impl Storage {
    fn entry(&self, device: &str) -> Option<&StateDisk> {
        self.state.iter().find(|d| matches(&d.device, device))
    }

    /// What the whole disk `device` (`/dev/mmcblk0`) is made of, when it may hold the state folder.
    pub fn medium(&self, device: &str) -> Option<Medium> {
        self.entry(device).map(|disk| disk.medium)
    }

    /// What a whole disk carries: its entry's figures, and `[storage.ceilings]` for the others and for disks without one.
    pub fn carried_by(&self, device: &str) -> IoCeilings {
        let own = self.entry(device).map(|disk| disk.ceilings);
        own.unwrap_or_default().or(self.ceilings)
    }

    /// Whether a whole disk plays a role on this board.
    pub fn plays(&self, role: StorageRole, device: &str) -> bool {
        match role {
            StorageRole::State => self.medium(device).is_some(),
            StorageRole::Removable => self.removable.iter().any(|p| matches(p, device)),
        }
    }
}

/// `[quotas]`: the limits of an app whose release names none. Rates are per second and on each disk of [`Storage::state`]; one
/// that is left out is no limit, and on 32-bit ARM none is set ([`crate::budget::IoRates::default_of`]).
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_read_bytes_per_second: Option<u64>,
    /// Bytes written per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_write_bytes_per_second: Option<u64>,
}

//! What a board itself uses, beside its apps.

use crate::limits::LIMITS;
use serde::{Deserialize, Serialize};

/// What a board itself uses at one moment. What it cannot tell is left out, and so is what an older agent does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardUse {
    /// The kernel's `MemTotal`, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_total_bytes: Option<u64>,
    /// Of these, what is not to be had without swapping (`MemTotal` less `MemAvailable`), in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_used_bytes: Option<u64>,
    /// What the supervisor and the daemon hold of them, their shares of what is shared included (PSS), in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_memory_bytes: Option<u64>,
    /// Load average of the last minute, in hundredths: 100 is one task that always runs or waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_hundredths: Option<u64>,
    /// Since the kernel started, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<u64>,
    /// The kernel's name of the zone that is nearest to where apps are slowed; where nothing is slowed, of the hottest zone of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Its temperature, in thousandths of a degree Celsius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub millidegrees: Option<i32>,
    /// From here on apps are slowed, by the board's profile, in °C.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle_celsius: Option<u8>,
    /// Size of the file system of the state folder, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_total_bytes: Option<u64>,
    /// What is free there for whoever is not root, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_free_bytes: Option<u64>,
    /// Size of the file system of the unpacked images, in bytes; left out where that is the state folder's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_total_bytes: Option<u64>,
    /// What is free there for whoever is not root, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_free_bytes: Option<u64>,
    /// The kernel's name of the link that the default route leaves by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// What kind of link that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_kind: Option<LinkKind>,
}

/// Kinds of links to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    /// A cable.
    Ethernet,
    /// Wireless LAN.
    Wifi,
    /// A modem.
    Cellular,
    /// Another one: a bridge, a tunnel, or one that whoever reads this does not know.
    #[serde(other)]
    Other,
}

/// Coldest and hottest that a sensor of a board can mean, in thousandths of a degree Celsius.
const MILLIDEGREES: std::ops::RangeInclusive<i32> = -100_000..=250_000;
/// Tasks that a kernel can have (PID_MAX_LIMIT), as a load in hundredths.
const LOAD_MOST: u64 = (4 << 20) * 100;
/// A century, in seconds.
const UPTIME_MOST: u64 = 36_525 * 86_400;
/// Longest name of a zone or link, in bytes: the kernel's own have 19 and 15.
const NAME_BYTES: usize = 96;

impl BoardUse {
    /// Without what no board can mean, for whoever hears it of one: a wrong figure is left out, the others stay.
    pub fn in_sense(mut self) -> Self {
        (self.memory_used_bytes, self.memory_total_bytes) =
            part_of(self.memory_used_bytes, self.memory_total_bytes);
        (self.state_free_bytes, self.state_total_bytes) =
            part_of(self.state_free_bytes, self.state_total_bytes);
        (self.images_free_bytes, self.images_total_bytes) =
            part_of(self.images_free_bytes, self.images_total_bytes);
        self.agent_memory_bytes = self.agent_memory_bytes.filter(|n| *n <= LIMITS.integer);
        self.load_hundredths = self.load_hundredths.filter(|n| *n <= LOAD_MOST);
        self.uptime_seconds = self.uptime_seconds.filter(|n| *n <= UPTIME_MOST);
        self.millidegrees = self.millidegrees.filter(|n| MILLIDEGREES.contains(n));
        self.zone = self.zone.filter(|name| is_name(name));
        self.link = self.link.filter(|name| is_name(name));
        self
    }
}

/// A part, and the whole that it is of: both as they are, or none.
fn part_of(part: Option<u64>, whole: Option<u64>) -> (Option<u64>, Option<u64>) {
    let whole = whole.filter(|whole| (1..=LIMITS.integer).contains(whole));
    match (part, whole) {
        (Some(part), Some(whole)) if part > whole => (None, None),
        (_, None) => (None, None),
        fitting => fitting,
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES && name.chars().all(|c| c.is_ascii_graphic() || c == ' ')
}

#[cfg(test)]
mod tests;

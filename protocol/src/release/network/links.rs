//! What ties an app to a wire of the board: networks that lie on one of its links, and links that an app has whole.

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a network is made of. Docker's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A bridge of the board, with NAT to the world.
    #[default]
    Bridge,
    /// Each container is a station of its own on a link of the board, with a hardware address of its own.
    Macvlan,
    /// As `macvlan`, with the link's hardware address: for Wi-Fi, and switches that allow one address a port.
    Ipvlan,
}

impl Driver {
    pub(crate) fn is_bridge(&self) -> bool {
        *self == Self::Bridge
    }

    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
        }
    }
}

/// How containers on one link reach each other. Docker's `macvlan_mode` and `ipvlan_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkMode {
    /// macvlan, and its default: they reach each other.
    Bridge,
    /// macvlan: they do not.
    Private,
    /// macvlan: by a switch that sends packets back to where they came from (IEEE 802.1Qbg).
    Vepa,
    /// ipvlan, and its default: as on one wire.
    L2,
    /// ipvlan: by routes alone, without broadcasts and ARP.
    L3,
}

impl LinkMode {
    /// Whether a network of this kind can have it.
    pub(crate) fn fits(self, driver: Driver) -> bool {
        match self {
            Self::Bridge | Self::Private | Self::Vepa => driver == Driver::Macvlan,
            Self::L2 | Self::L3 => driver == Driver::Ipvlan,
        }
    }
}

/// A link of the board: 1 to 15 printable bytes without `/`, `:`, `%` and space (net/core/dev.c, dev_valid_name; `%` makes
/// the kernel choose a name), and not its loopback.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkName(String);

impl LinkName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LinkName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let good = |b: u8| b.is_ascii_graphic() && !b"/:%\"".contains(&b);
        let reserved = [".", "..", "lo"].contains(&text.as_str());
        if !reserved && (1..=15).contains(&text.len()) && text.bytes().all(good) {
            return Ok(Self(text));
        }
        Err(format!(
            "{text:?} is no link: 1 to 15 printable characters without space, `/`, `:`, `%` and `\"`"
        ))
    }
}

impl From<LinkName> for String {
    fn from(name: LinkName) -> Self {
        name.0
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A link of the board that an app has whole for as long as it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppInterface {
    /// Which; it has the same name inside.
    pub name: LinkName,
    /// The app's address on it; a CAN link has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Net>,
    /// Bits a second of a CAN bus; as the board has set it when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate: Option<u32>,
}

/// Bits a second that a CAN bus may have: classic CAN goes up to 1 Mbit/s (ISO 11898-1).
pub const CAN_BITRATES: std::ops::RangeInclusive<u32> = 1_000..=1_000_000;

//! Work that links take off the processor, which some drivers do wrong.

use crate::text::{Text, matches};
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// How many kinds there are.
const KINDS: usize = 5;

/// One kind of work. Source: Documentation/networking/segmentation-offloads.rst, checksum-offloads.rst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Offload {
    /// Cutting TCP's long packets, by the link.
    Tso,
    /// Cutting long packets late, by the kernel.
    Gso,
    /// Putting received packets together.
    Gro,
    /// Checksums of what is sent; without them there is no `tso`.
    TxChecksum,
    /// Checksums of what is received.
    RxChecksum,
}

impl Offload {
    /// As a profile spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tso => "tso",
            Self::Gso => "gso",
            Self::Gro => "gro",
            Self::TxChecksum => "tx-checksum",
            Self::RxChecksum => "rx-checksum",
        }
    }
}

/// An entry of `[[network.offloads]]`. What is in neither list stays as the driver has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkOffloads {
    /// A pattern over names of the board's links, `*` and `?`.
    pub links: Text,
    /// Switched on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<Offload, KINDS>,
    /// Switched off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub off: Vec<Offload, KINDS>,
}

/// `[network.app_offloads]`: both ends of the links that lead from a bridge into apps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AppOffloads {
    /// Switched on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<Offload, KINDS>,
    /// Switched off.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub off: Vec<Offload, KINDS>,
}

impl LinkOffloads {
    /// Whether a link of this name is meant.
    pub fn means(&self, link: &str) -> bool {
        matches(&self.links, link)
    }

    /// What it asks for.
    pub fn wanted(&self) -> impl Iterator<Item = (Offload, bool)> {
        wanted(&self.on, &self.off)
    }
}

impl AppOffloads {
    /// What it asks for.
    pub fn wanted(&self) -> impl Iterator<Item = (Offload, bool)> {
        wanted(&self.on, &self.off)
    }

    pub(super) fn is_none(&self) -> bool {
        self.on.is_empty() && self.off.is_empty()
    }
}

fn wanted(on: &[Offload], off: &[Offload]) -> impl Iterator<Item = (Offload, bool)> {
    let on = on.iter().map(|offload| (*offload, true));
    on.chain(off.iter().map(|offload| (*offload, false)))
}

/// The first that is asked for twice, in one list or in both.
pub(super) fn doubled(mut wanted: impl Iterator<Item = (Offload, bool)>) -> Option<&'static str> {
    let mut seen: Vec<Offload, KINDS> = Vec::new();
    let twice = wanted.find(|(offload, _)| seen.contains(offload) || seen.push(*offload).is_err());
    twice.map(|(offload, _)| offload.as_str())
}

//! What a board's kernel must have and how it must be started: `[kernel]` and `[cgroup]`.

use crate::text::Text;
use heapless::Vec;
use serde::{Deserialize, Serialize};

/// How many options a profile may name.
pub(crate) const REQUIRED_OPTIONS: usize = 16;

/// `[kernel]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KernelNeeds {
    /// Options beyond those that Coracle asks for on each board: `CONFIG_BCM2835_WDT`.
    pub required_options: Vec<Text, REQUIRED_OPTIONS>,
    /// Words that the command line must hold: `cgroup_enable=memory`.
    pub command_line: Vec<Text, 8>,
    /// Where the command line is written on this board, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_line_file: Option<Text>,
}

/// `[cgroup]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CgroupNeeds {
    /// Layouts that this kind of board is run with; any when empty.
    pub layouts: Vec<CgroupLayout, 3>,
}

/// How control groups are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupLayout {
    /// No hierarchy is mounted.
    #[serde(skip_deserializing)]
    None,
    /// One hierarchy per controller.
    V1,
    /// One hierarchy for all.
    V2,
    /// Controllers on v1, and a v2 hierarchy beside them that has none of those that limit.
    Hybrid,
}

impl CgroupLayout {
    /// As a profile spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Hybrid => "hybrid",
        }
    }
}

//! Single values that a profile may hold, checked while they are read.

use crate::text::{Text, matches};
use serde::{Deserialize, Serialize};

/// A number of something of which there is at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u32")]
pub struct Count(u32);

impl Count {
    /// For a default of this crate.
    pub(super) const fn new(number: u32) -> Self {
        assert!(number > 0);
        Self(number)
    }

    /// The number, 1 at least.
    pub fn get(self) -> u32 {
        self.0
    }

    /// MiB as bytes, for a key that ends in `_mib`.
    pub fn mib_in_bytes(self) -> u64 {
        u64::from(self.0) << 20
    }
}

impl TryFrom<i64> for Count {
    type Error = String;
    fn try_from(number: i64) -> Result<Self, String> {
        match u32::try_from(number) {
            Ok(number) if number > 0 => Ok(Self(number)),
            _ => Err(format!(
                "{number} is not allowed; allowed are 1 to {}",
                u32::MAX
            )),
        }
    }
}

impl From<Count> for u32 {
    fn from(count: Count) -> u32 {
        count.0
    }
}

/// 1 to 100 of a hundred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u8")]
pub struct Percent(u8);

impl Percent {
    /// 1 to 100.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<i64> for Percent {
    type Error = String;
    fn try_from(number: i64) -> Result<Self, String> {
        match u8::try_from(number) {
            Ok(number @ 1..=100) => Ok(Self(number)),
            _ => Err(format!("{number} is not allowed; allowed are 1 to 100")),
        }
    }
}

impl From<Percent> for u8 {
    fn from(percent: Percent) -> u8 {
        percent.0
    }
}

/// What the programs are compiled for, as Rust names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// 64-bit PC.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM, v7.
    Arm,
}

impl Architecture {
    /// What this program was compiled for: a 32-bit program on a 64-bit kernel runs 32-bit apps.
    pub fn of_this_program() -> Self {
        if cfg!(target_arch = "aarch64") {
            Self::Aarch64
        } else if cfg!(target_arch = "arm") {
            Self::Arm
        } else {
            Self::X86_64
        }
    }

    /// As Rust names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Arm => "arm",
        }
    }
}

/// DMI strings with `*` and `?`; both must match. `sys_vendor` and `product_name` of
/// /sys/class/dmi/id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DmiRule {
    /// `sys_vendor`.
    pub vendor: Text,
    /// `product_name`.
    pub product: Text,
}

impl DmiRule {
    /// Whether both strings match.
    pub fn holds(&self, vendor: &str, product: &str) -> bool {
        matches(&self.vendor, vendor) && matches(&self.product, product)
    }
}

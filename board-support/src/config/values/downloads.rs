//! When and how fast blobs are fetched.

use serde::{Deserialize, Serialize};

/// What is done where the board's profile calls the way to the console metered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MeteredPolicy {
    /// Fetch all the same.
    #[default]
    Allow,
    /// Wait for a way that is free.
    Wait,
}

/// Bytes a second: 1024 to 2^40. Less than a modem's is a fetch that never ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u64")]
pub struct Rate(u64);

impl Rate {
    /// The number.
    pub fn bytes_per_second(self) -> u64 {
        self.0
    }
}

impl TryFrom<i64> for Rate {
    type Error = String;
    fn try_from(number: i64) -> Result<Self, String> {
        match u64::try_from(number) {
            Ok(rate @ 1024..=0x100_0000_0000) => Ok(Self(rate)),
            _ => Err(format!(
                "{number} is not allowed; allowed are 1024 to {}",
                1u64 << 40
            )),
        }
    }
}

impl From<Rate> for u64 {
    fn from(rate: Rate) -> u64 {
        rate.0
    }
}

//! `[isolation]`: whether apps have users of their own, and which numbers these have on the board.

use serde::{Deserialize, Serialize};

/// Users and groups that an app has of its own: 0 to 65535 inside, as images have them.
pub const IDS_PER_APP: u32 = 65_536;

/// Apps that can have such ids on one board: those of a set and of the next one, twice over.
pub const MOST_ID_RANGES: u32 = 256;

/// `[isolation]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Isolation {
    /// Whether an app's root is nobody on the board.
    pub user_namespaces: UserNamespaces,
    /// The lowest of the board's ids that apps get: each 65536 of them, up to 256 apps.
    pub first_id: FirstId,
}

/// Whether an app's root is nobody on the board.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserNamespaces {
    /// Where the kernel can and nothing in the release stands against it.
    #[default]
    Auto,
    /// Never; a release that asks for it is refused.
    Off,
    /// Always; a release that cannot do with it is refused.
    Required,
}

impl UserNamespaces {
    /// As a profile spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Off => "off",
            Self::Required => "required",
        }
    }
}

/// A multiple of 65536, with room for all apps below 2^31: many programs read an id as a signed number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "u32")]
pub struct FirstId(u32);

impl FirstId {
    const HIGHEST: u32 = (1 << 31) - MOST_ID_RANGES * IDS_PER_APP;

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for FirstId {
    /// 0x7000_0000: above what systemd-nspawn takes (up to 0x6fff_ffff) and what shadow gives to people (from 100000 on).
    fn default() -> Self {
        Self(0x7000_0000)
    }
}

impl TryFrom<i64> for FirstId {
    type Error = String;
    fn try_from(number: i64) -> Result<Self, String> {
        match u32::try_from(number) {
            Ok(number)
                if number % IDS_PER_APP == 0 && (IDS_PER_APP..=Self::HIGHEST).contains(&number) =>
            {
                Ok(Self(number))
            }
            _ => Err(format!(
                "{number} is not allowed; allowed are multiples of {IDS_PER_APP} from {IDS_PER_APP} to {}",
                Self::HIGHEST
            )),
        }
    }
}

impl From<FirstId> for u32 {
    fn from(first: FirstId) -> u32 {
        first.0
    }
}

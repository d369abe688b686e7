//! What may be chosen: who starts containers by hand, what is logged, which profile.

use super::PlainName;
use serde::{Deserialize, Serialize};

/// What people other than root may do on the board through the local Docker Engine API, beside looking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LocalPolicy {
    /// Start and stop the apps of the release, make volumes and change their own.
    #[default]
    Signed,
    /// The same, and the daemon is believed that root asks: for programs in apps.
    Owner,
    /// Nothing.
    None,
}

/// What becomes of a stick that is plugged in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StickPolicy {
    /// What it brings is verified and installed.
    #[default]
    Apply,
    /// Nothing: a person runs `coracle usb apply`.
    Ignore,
}

/// Where the board's own key is made, and stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyHome {
    /// A file that only coracled's user reads.
    #[default]
    File,
    /// The board's TPM 2.0.
    Tpm,
}

/// The least severe event that is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed and a person may have to act.
    Error,
    /// Something failed and Coracle goes on by itself.
    Warn,
    /// State changes: a deployment, a start, a stop.
    #[default]
    Info,
    /// Each step.
    Debug,
    /// Each message.
    Trace,
}

impl LogLevel {
    /// As `tracing` spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Which board profile is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ProfileChoice {
    /// By device tree and DMI.
    #[default]
    Auto,
    /// The one of this name.
    Named(PlainName),
}

impl TryFrom<String> for ProfileChoice {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        PlainName::try_from(text)
            .map(Self::Named)
            .map_err(|fault| format!("{fault}; or \"auto\""))
    }
}

impl From<ProfileChoice> for String {
    fn from(choice: ProfileChoice) -> String {
        match choice {
            ProfileChoice::Auto => "auto".to_owned(),
            ProfileChoice::Named(name) => name.into(),
        }
    }
}

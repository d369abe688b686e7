//! How much an app waits for CPU, memory and disk (the kernel's accounting/psi.rst): boards with cgroup v2 tell it.

use serde::{Deserialize, Serialize};

/// For each; `None` where the kernel does not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppPressure {
    /// For its turn on a core, its own quota included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Pressure>,
    /// For memory that has to be taken back first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Pressure>,
    /// For the disk, its own rates included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io: Option<Pressure>,
}

impl AppPressure {
    /// Whether nothing is told.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// For one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pressure {
    /// At least one process waited.
    pub some: Stall,
    /// All of them waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<Stall>,
}

/// Time in which somebody waited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stall {
    /// Of the last ten seconds, in hundredths of a per cent.
    pub avg10_hundredths: u32,
    /// Since the app's start, in microseconds.
    pub total_us: u64,
}

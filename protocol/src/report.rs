//! What a board says over MQTT, and what its daemon and supervisor say of apps.

use crate::names::{AppName, DeviceName};
use crate::release::{AppLimits, DeviceAccess};
use crate::trust_state::TrustState;
use coracle_digest::Sha256Digest;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

mod board;
mod networks;
mod pressure;

pub use board::{BoardUse, LinkKind};
pub use networks::{NetworkStatus, PlaceStatus, SubnetStatus, Traffic};
pub use pressure::{AppPressure, Pressure, Stall};

/// Birth (`online`) and will (not `online`) of one session; a will of an older session than the
/// newest birth is stale (Sparkplug's bdSeq).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Whether the board is there.
    pub online: bool,
    /// Counts up with each start of the daemon's link.
    pub session: u64,
}

/// The retained message on `current`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Current {
    /// Counts up with each message.
    pub version: u64,
    /// What the board is.
    pub board: BoardFacts,
    /// The set that runs, when there is one.
    pub set: Option<SetStatus>,
    /// diff_ids of the layers that the board holds: what deltas can start from.
    pub layers: Vec<Sha256Digest>,
    /// What the board trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trust: Option<TrustState>,
    /// What runs as coracle-supervisor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervisor: Option<OwnProgram>,
    /// What runs as coracled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<OwnProgram>,
    /// Its last word: its key is gone, and nothing more comes under this certificate.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub decommissioned: bool,
}

/// What a board is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoardFacts {
    /// Profile name.
    pub profile: String,
    /// Hardware class.
    pub hardware: String,
    /// As `uname -m`.
    pub architecture: String,
    /// As `uname -r`.
    pub kernel: String,
    /// Version of the agent.
    pub agent: String,
    /// In bytes.
    pub memory_bytes: u64,
    /// Cores.
    pub cpus: u32,
}

/// One of the board's own programs, as it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnProgram {
    /// For people.
    pub version: String,
    /// SHA-256 of the one that a release brought; `None`: the root file system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brought: Option<Sha256Digest>,
}

/// A set of apps on a board.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetStatus {
    /// SHA-256 of the assignment's payload.
    pub deployment: Sha256Digest,
    /// SHA-256 of the release's payload.
    pub release: Sha256Digest,
    /// The product.
    pub product: String,
    /// The release's version text.
    pub version: String,
    /// Where the set is on its way.
    pub state: SetState,
    /// When the first of its documents expired, Unix seconds, once the board knows that the time is past it. The set runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_since: Option<u64>,
    /// Its apps.
    pub apps: Vec<AppStatus>,
}

/// Where a set is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SetState {
    /// Started, health window open.
    Trial,
    /// Kept.
    Committed,
}

/// One app as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Its name.
    pub name: AppName,
    /// Repository and tag.
    pub image: String,
    /// The image manifest.
    pub image_manifest: Sha256Digest,
    /// Its state.
    pub state: AppState,
    /// It is up, and somebody on the board has its processes stand still.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// Exit code of the last run, when it ended (128 + signal when killed by one).
    pub exit_code: Option<i32>,
    /// Whether the last end was an OOM kill.
    pub oom_killed: bool,
    /// Restarts since the set was activated.
    pub restarts: u32,
    /// What the health check says; `None` without one.
    pub healthy: Option<bool>,
    /// What the last failed probe said.
    pub health_text: Option<String>,
    /// What it waits for before it starts: `waiting for db: healthy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// Process id on the board.
    pub pid: Option<u32>,
    /// Unix seconds of the last start.
    pub started_at: Option<u64>,
    /// Address on the bridge.
    pub ip: Option<Ipv4Addr>,
    /// Its places on networks, in the order of its interfaces; none while it does not run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<PlaceStatus>,
    /// `host`, `none`, `container`, or the first network that the release puts it on, whether it runs or not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network_mode: String,
    /// Whose network it uses, when it has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_of: Option<AppName>,
    /// Published ports, as the release says.
    pub ports: Vec<crate::release::Port>,
    /// Arguments that run.
    pub args: Vec<String>,
    /// Whether its container's process 1 is an init, as the release says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub init: bool,
    /// Limits in force.
    pub limits: AppLimits,
    /// Name of its cgroup below each hierarchy.
    pub cgroup: Option<String>,
    /// Memory in use, in bytes.
    pub memory_bytes: Option<u64>,
    /// CPU time used, in microseconds.
    pub cpu_usage_us: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// How much it waits for what it needs; `None` where the kernel does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<AppPressure>,
    /// What its writable layer holds; `None` when it has none, or when nothing limits it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskUse>,
    /// Whose its users are on the board; `None` while it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<AppUsers>,
    /// The CPUs that it is kept to, as `0-3,6`; `None`: it may run on all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// Per cent of its CPU quota that it has while the board is hot; `None`: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u8>,
    /// Devices of the board that it asks for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceStatus>,
}

/// How hot the board is, of the zone that is nearest to where apps are slowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeatStatus {
    /// Against what the profile says.
    pub state: HeatState,
    /// The kernel's name of the zone.
    pub zone: String,
    /// Thousandths of a degree Celsius.
    pub millidegrees: i32,
    /// From here on apps are slowed, in °C.
    pub throttle_celsius: u8,
}

/// How hot a board is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HeatState {
    /// Apps get back what was taken.
    Cool,
    /// Nothing changes.
    Between,
    /// Apps are slowed.
    Hot,
}

/// What was written to a disk of the board, whoever did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageWear {
    /// `mmcblk0`.
    pub disk: String,
    /// In the last 24 hours in which the board ran.
    pub written_bytes: u64,
    /// What its profile allows in a day.
    pub budget_bytes: u64,
    /// At most so many per cent of its life are used, by what it says itself, in tens; 110: more than all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worn_percent: Option<u8>,
    /// What is left of its spare blocks, by what it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<FlashReserve>,
}

impl StorageWear {
    /// Whether more was written than the profile allows.
    pub fn is_too_much(&self) -> bool {
        self.written_bytes > self.budget_bytes
    }
}

/// Spare blocks of flash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlashReserve {
    /// Enough.
    Normal,
    /// Four fifths are used.
    Low,
    /// Nine tenths are used.
    Urgent,
}

/// A device of the board that an app asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// As the board's profile calls it.
    pub name: DeviceName,
    /// What the app may do with it.
    #[serde(default)]
    pub access: DeviceAccess,
    /// Its nodes, the same on the board and in the app; none while the app does not run or has to do without.
    pub nodes: Vec<String>,
    /// Those of them that are on the board no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
}

/// Whose an app's users are on the board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AppUsers {
    /// Its own: its root is nobody on the board.
    Own {
        /// What 0 inside is on the board.
        first: u32,
        /// Users, and as many groups.
        count: u32,
    },
    /// The board's: its root is the board's, with fewer rights.
    Board {
        /// Why.
        because: String,
    },
}

/// What a writable layer or a volume holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUse {
    /// In use, in bytes.
    pub bytes: u64,
    /// Files and folders.
    pub inodes: u64,
    /// At most so many bytes; `None`: nothing but the disk itself ends its growth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
    /// At most so many files and folders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_inodes: Option<u64>,
}

/// States of an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AppState {
    /// Made, not started.
    Created,
    /// Runs.
    Running,
    /// Ended, waiting to be started again.
    Restarting,
    /// Ended or stopped, and stays so.
    Exited,
}

/// Characters of the reason in a feedback: one that quotes a long path must not make the message too long.
pub const REASON_CHARS: usize = 1000;

/// A message on `feedback`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Feedback {
    /// From [`crate::desired::Desired::activity`].
    pub activity: String,
    /// Counts up within the activity.
    pub sequence: u64,
    /// Where it is.
    pub phase: Phase,
    /// 0 to 100, where a phase can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// A stable word, of [`crate::verify::Refusal::code`] or the supervisor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Why, in words: at most [`REASON_CHARS`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What came over the network for this activity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fetched: Option<Fetched>,
    /// The blob that comes now, in words: whose it is, how much of it is here, in what form and where from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<String>,
}

/// Bytes of an activity's fetch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// Bytes that came over the wire, bodies only.
    pub wire_bytes: u64,
    /// Of these, in deltas.
    pub delta_bytes: u64,
    /// What the same layers are as full blobs.
    pub full_bytes: u64,
}

/// Phases of a deployment, in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The documents are here.
    Received,
    /// Signatures, counters, board and budget are good.
    Verified,
    /// Blobs are on their way.
    Fetching,
    /// Layers are being unpacked.
    Staging,
    /// Everything is here; something on the board puts the switch off, see the reason.
    Waiting,
    /// The old set stops, the new one starts.
    Switching,
    /// The health window is open.
    Trial,
    /// End: the new set is kept.
    Committed,
    /// End: nothing was changed, see the reason.
    Refused,
    /// End: the new set did not prove healthy, the old one runs, see the reason.
    RolledBack,
    /// End: it could not be carried out, the old set runs, see the reason.
    Failed,
}

impl Phase {
    /// Whether nothing follows.
    pub fn is_end(self) -> bool {
        self >= Self::Committed
    }
}

/// The word on the wire.
impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Received => "received",
            Self::Verified => "verified",
            Self::Fetching => "fetching",
            Self::Staging => "staging",
            Self::Waiting => "waiting",
            Self::Switching => "switching",
            Self::Trial => "trial",
            Self::Committed => "committed",
            Self::Refused => "refused",
            Self::RolledBack => "rolled-back",
            Self::Failed => "failed",
        })
    }
}

/// A message on `telemetry`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Telemetry {
    /// Unix seconds by the board's clock, which may be wrong.
    pub at: u64,
    /// Its apps' use.
    pub apps: Vec<AppUse>,
    /// What was written to its disks, where its profile has a budget of that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storage: Vec<StorageWear>,
    /// What the board itself uses; an older agent says nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<BoardUse>,
}

/// What one app uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppUse {
    /// Its name.
    pub name: AppName,
    /// In bytes.
    pub memory_bytes: u64,
    /// In microseconds.
    pub cpu_usage_us: u64,
    /// Processes and threads.
    pub pids: u64,
}

#[cfg(test)]
mod tests {
    use super::Phase;

    #[test]
    fn a_phase_is_shown_as_it_is_on_the_wire() {
        let mut words = 0;
        for word in [
            "received",
            "verified",
            "fetching",
            "staging",
            "waiting",
            "switching",
            "trial",
            "committed",
            "refused",
            "rolled-back",
            "failed",
        ] {
            let phase: Phase = serde_json::from_value(word.into()).unwrap();
            assert_eq!(phase.to_string(), word);
            assert_eq!(phase as usize, words);
            words += 1;
        }
        assert_eq!(words, Phase::Failed as usize + 1);
    }
}

//! The release: what the developers signed. Everything that defines an app is in here, so that
//! whoever assigns releases to boards can choose among them and change nothing.

use crate::names::{AppName, HardwareClass, ProductName, SecretName, VolumeName};
use crate::site::Settable;
use coracle_digest::Sha256Digest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

mod actions;
mod agent;
mod app_limits;
mod checks;
mod dependencies;
mod devices;
mod hooks;
mod logs;
mod network;
#[cfg(test)]
mod plain_app;
mod strategy;
mod update_lock;

pub use actions::NamedAction;
pub use agent::{AGENT_FILE, Agent};
pub use app_limits::{AppLimits, DefaultLimits, DiskOn, InARelease, NamedLimits};
pub use dependencies::{Condition, start_order};
pub use devices::{AppDevice, DeviceAccess};
pub use hooks::{DEFAULT_HOOK_SECONDS, Hook, HookKind, Hooks};
pub use logs::{LogMode, Logs};
pub use network::{
    AppInterface, AppOnNetwork, DEFAULT_NETWORK, Driver, Egress, EgressTo, ExtraHost, HOST_GATEWAY,
    LinkMode, LinkName, Mac, NetworkSpec, Rates,
};
pub use strategy::Strategy;
pub use update_lock::{UPDATE_LOCK, UPDATE_LOCK_FOLDER, UpdateLock};

/// The payload type of a release.
pub const RELEASE_TYPE: &str = "application/vnd.coracle.release.v1+json";

/// A release as it was signed.
pub type SignedRelease = Release<NamedLimits>;
/// One of its apps.
pub type SignedApp = App<NamedLimits>;

/// A release, as a board runs it: with the board's own numbers where the release names none. Only a [`SignedRelease`] can be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "L: InARelease"))]
pub struct Release<L = AppLimits> {
    /// Always 1 in this version of the format.
    pub spec_version: u32,
    /// Extensions that a reader must know; none exist yet.
    #[serde(default)]
    pub critical: Vec<String>,
    /// The product; counters are kept for each.
    pub product: ProductName,
    /// For people; no program compares it.
    pub version: String,
    /// Epoch of role `release` in the root that the signer knew.
    pub epoch: u64,
    /// Goes up with each release of the product; a board never accepts a lower one.
    pub release_counter: u64,
    /// Unix seconds.
    pub issued_at: u64,
    /// Unix seconds.
    pub expires: u64,
    /// The hardware classes that it was built for.
    #[serde(deserialize_with = "crate::strict::set")]
    pub hardware: BTreeSet<HardwareClass>,
    /// Networks that its apps share, beside the board's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<NetworkSpec>,
    /// The board's own program from then on; the one that it has stays when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Agent>,
    /// The complete set of apps.
    pub apps: Vec<App<L>>,
}

/// One app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, bound(deserialize = "L: InARelease"))]
pub struct App<L = AppLimits> {
    /// Its name, and its container's.
    pub name: AppName,
    /// What it runs.
    pub image: Image,
    /// Apps of the release that it starts after, and once what is true of them. They are stopped after it.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "crate::strict::map"
    )]
    pub depends_on: BTreeMap<AppName, Condition>,
    /// How it takes the place of the version that runs.
    #[serde(default, skip_serializing_if = "Strategy::is_default")]
    pub strategy: Strategy,
    /// Volumes that both versions may write while both run.
    #[serde(
        default,
        skip_serializing_if = "BTreeSet::is_empty",
        deserialize_with = "crate::strict::set"
    )]
    pub both_write: BTreeSet<VolumeName>,
    /// Whether it may put off that its set is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_lock: Option<UpdateLock>,
    /// Replaces the image's entrypoint and command, when not empty.
    #[serde(default)]
    pub args: Vec<String>,
    /// Whether process 1 of its container is a small init of the board's, which passes signals on to it and reaps what is left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub init: bool,
    /// Added to the image's environment.
    #[serde(default, deserialize_with = "crate::strict::map")]
    pub env: BTreeMap<String, String>,
    /// Secrets that it needs: files in `/run/secrets`, readable by its user alone.
    #[serde(
        default,
        skip_serializing_if = "BTreeSet::is_empty",
        deserialize_with = "crate::strict::set"
    )]
    pub secrets: BTreeSet<SecretName>,
    /// What an assignment may set.
    #[serde(default, skip_serializing_if = "Settable::is_empty")]
    pub site_settable: Settable,
    /// Hard limits.
    pub limits: L,
    /// How it reaches the world.
    #[serde(default)]
    pub network: Network,
    /// Named volumes.
    #[serde(default)]
    pub volumes: Vec<VolumeMount>,
    /// What its volumes hold: goes up with the version that the one before it may not understand. The same for all apps of a volume.
    #[serde(
        default = "first_data_version",
        skip_serializing_if = "is_first_data_version"
    )]
    pub data_version: u32,
    /// Folders in memory, empty at each start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tmpfs: Vec<TmpfsMount>,
    /// Folders of the board itself, of those that its coracle.toml names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub binds: Vec<BindMount>,
    /// Devices of the board that it has while it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<AppDevice>,
    /// Whether the root file system cannot be written.
    #[serde(default)]
    pub read_only_root: bool,
    /// Whether its root is nobody on the board: `true` must be, `false` must not be; the board decides when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_namespace: Option<bool>,
    /// What becomes of its output while the disk is slow.
    #[serde(default, skip_serializing_if = "Logs::is_default")]
    pub logs: Logs,
    /// How the board knows that it works.
    #[serde(default)]
    pub health: Option<Health>,
    /// What a command may have it do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<NamedAction>,
    /// Programs of its own around its start and its end.
    #[serde(default, skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
    /// What happens when it exits.
    #[serde(default)]
    pub restart: Restart,
    /// How long a new version must stay healthy before it is kept, in seconds.
    #[serde(default = "default_trial")]
    pub trial_seconds: u32,
    /// Whether the board may be reset for it, by its watchdog, when it is down for good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub critical: bool,
    /// 0 to 100: its share of CPU and disk where others want them too, and who is ended last when memory runs out. While the board
    /// is hot, who has least loses CPU first and gets it back last.
    #[serde(
        default = "default_priority",
        skip_serializing_if = "is_default_priority"
    )]
    pub priority: u8,
    /// SIGTERM, then this many seconds, then SIGKILL.
    #[serde(default = "default_grace")]
    pub stop_grace_seconds: u32,
}

fn default_trial() -> u32 {
    10
}
fn default_grace() -> u32 {
    10
}
/// Of an app that says nothing.
pub const DEFAULT_PRIORITY: u8 = 50;
fn default_priority() -> u8 {
    DEFAULT_PRIORITY
}
fn is_default_priority(priority: &u8) -> bool {
    *priority == DEFAULT_PRIORITY
}

/// Of an app that says nothing.
pub const FIRST_DATA_VERSION: u32 = 1;
fn first_data_version() -> u32 {
    FIRST_DATA_VERSION
}
fn is_first_data_version(version: &u32) -> bool {
    *version == FIRST_DATA_VERSION
}

/// An image, down to the bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Repository and tag, for people and for the registry: `shop/web:1.4`.
    pub name: String,
    /// The image manifest.
    pub manifest: Blob,
    /// The image configuration.
    pub config: Blob,
    /// From the lowest up.
    pub layers: Vec<Layer>,
}

/// A blob by digest and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blob {
    /// SHA-256 of its bytes.
    pub digest: Sha256Digest,
    /// In bytes.
    pub size: u64,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// OCI media type of the blob.
    pub media_type: String,
    /// SHA-256 of the (compressed) blob.
    pub digest: Sha256Digest,
    /// Size of the blob in bytes.
    pub size: u64,
    /// SHA-256 of the uncompressed tar: what the supervisor checks over the bytes that it unpacked.
    pub diff_id: Sha256Digest,
    /// Size of the uncompressed tar in bytes: the bound on what unpacking may write.
    pub unpacked_size: u64,
    /// Members of that tar (files, folders, links; not the headers that extend them): the bound on the inodes that unpacking may
    /// take. Nobody counted them when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
}

/// How an app reaches the world.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The mode.
    #[serde(default)]
    pub mode: NetworkMode,
    /// The board's abstract unix sockets as well; only with `host`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub abstract_sockets: bool,
    /// Published ports; only with `bridge`.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// The networks it is on, the first one without `internal` with its default route and published ports; the
    /// board's own when empty. Only with `bridge`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<AppOnNetwork>,
    /// Whose network it uses: another app of the release. Only with `container`, and always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<AppName>,
    /// Resolvers instead of the board's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// Search domains instead of the board's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_search: Vec<String>,
    /// Further lines of its `/etc/hosts`.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "crate::strict::map"
    )]
    pub extra_hosts: BTreeMap<String, ExtraHost>,
    /// Most that may pass, on each of its networks.
    #[serde(default, skip_serializing_if = "Rates::is_none")]
    pub rates: Rates,
    /// Where it may open connections to, beside its neighbours; nowhere when empty, anywhere when left out. Only with
    /// `bridge`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<Egress>>,
    /// Links of the board that it has whole while it runs, of those that the board's profile gives away. Only with
    /// `bridge` and `none`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<AppInterface>,
}

/// Network modes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// The board's own network.
    Host,
    /// A loopback and nothing else.
    None,
    /// An address on a bridge of the board, NAT to the world.
    #[default]
    Bridge,
    /// The network of another app.
    Container,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// On the board.
    pub host: u16,
    /// In the container.
    pub container: u16,
    /// `tcp`, `udp` or `sctp`.
    #[serde(default)]
    pub protocol: Protocol,
    /// Address on the board; all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

/// Transport protocols that can be published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP, where the board's kernel can.
    Sctp,
}

/// A named volume at a path in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeMount {
    /// The volume.
    pub name: VolumeName,
    /// Absolute path in the container.
    pub target: String,
    /// Whether the app cannot write.
    #[serde(default)]
    pub read_only: bool,
    /// Bytes that the volume may hold; the board's own limit when left out. Apps that share a volume say the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Files and folders that it may hold; one for 16 KiB when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inodes: Option<u64>,
}

/// A folder in memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TmpfsMount {
    /// Absolute path in the container.
    pub target: String,
    /// Bytes that it may hold; they count against the app's memory.
    pub size_bytes: u64,
}

/// A folder of the board.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BindMount {
    /// Absolute path on the board, as its coracle.toml allows it.
    pub source: String,
    /// Absolute path in the container.
    pub target: String,
    /// Whether the app cannot write.
    #[serde(default)]
    pub read_only: bool,
}

/// A health check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// What is asked.
    pub probe: Probe,
    /// Between two probes, in milliseconds.
    #[serde(default = "default_interval")]
    pub interval_ms: u32,
    /// For one probe, in milliseconds.
    #[serde(default = "default_timeout")]
    pub timeout_ms: u32,
    /// Failures in a row that mean unhealthy.
    #[serde(default = "default_retries")]
    pub retries: u32,
    /// Failures do not count so long after the start, in milliseconds.
    #[serde(default = "default_start_period")]
    pub start_period_ms: u32,
}

fn default_interval() -> u32 {
    2_000
}
fn default_timeout() -> u32 {
    2_000
}
fn default_retries() -> u32 {
    3
}
fn default_start_period() -> u32 {
    5_000
}

/// What a health check asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Probe {
    /// GET must answer 200 to 399.
    Http {
        /// Port in the container.
        port: u16,
        /// Path, with its leading slash.
        path: String,
    },
    /// A connection must open.
    Tcp {
        /// Port in the container.
        port: u16,
    },
    /// A command in the container must exit 0.
    Exec {
        /// The command.
        argv: Vec<String>,
    },
}

/// Restart policies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Whatever the exit code.
    #[default]
    Always,
    /// When the exit code is not 0.
    OnFailure,
    /// Never.
    No,
}

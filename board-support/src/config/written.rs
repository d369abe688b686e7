//! coracle.toml as its author wrote it.

use super::values::{
    BrokerUrl, ConsoleUrl, HoursUp, KeyHome, LinkName, LocalPolicy, LogLevel, MeteredPolicy, Mtu,
    PlainName, ProfileChoice, ProxyUrl, Rate, StickPolicy, Subnet, UnknownTime, Window, Zone,
};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::path::PathBuf;

/// coracle.toml as it is written: any key may be left out, an unknown one is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenConfig {
    /// Of which version the file is, when it is not 1; see [`super::CONFIG_VERSION`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_version: Option<NonZeroU32>,
    /// Folders, user, board profile.
    pub agent: WrittenAgent,
    /// Where the fleet console is.
    pub console: WrittenConsole,
    /// The board's own key.
    pub identity: WrittenIdentity,
    /// When and how fast coracled fetches.
    pub downloads: WrittenDownloads,
    /// The bridge that apps are on.
    pub network: WrittenNetwork,
    /// What people on the board may do.
    pub local: WrittenLocal,
    /// What apps may have of the board's own folders.
    pub volumes: WrittenVolumes,
    /// Sticks.
    pub usb: WrittenUsb,
    /// When a release may replace what runs.
    pub deploy: WrittenDeploy,
    /// The hardware watchdog.
    pub watchdog: WrittenWatchdog,
    /// Logging.
    pub log: WrittenLog,
}

/// `[agent]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenAgent {
    /// Tells two agents on one machine apart; `coracle`.
    pub instance: Option<PlainName>,
    /// What outlives a reboot; `/var/lib/coracle`. A relative path begins at the file's folder.
    pub state_dir: Option<PathBuf>,
    /// Sockets; `/run/coracle`. A relative path begins at the file's folder.
    pub run_dir: Option<PathBuf>,
    /// Who coracled runs as; `coracle`.
    pub user: Option<PlainName>,
    /// `auto` or the name of a profile; `auto`.
    pub board_profile: Option<ProfileChoice>,
    /// Whether a layer's files that did not change since the version before share its bytes on the disk; `true`.
    pub share_files: Option<bool>,
    /// The cgroup that holds each app's cgroup, below the hierarchy's root; the instance's name.
    pub cgroup_parent: Option<PlainName>,
    /// What the profile's devices, lights and temperatures, and the routes to the console, are looked for below; `/`. A relative path begins at the
    /// file's folder.
    pub hardware_root: Option<PathBuf>,
}

/// `[console]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenConsole {
    /// The console's REST API and registry; from the enrolment when left out.
    pub url: Option<ConsoleUrl>,
    /// The MQTT broker; from the enrolment when left out.
    pub mqtt: Option<BrokerUrl>,
}

/// `[identity]`: the key by which console and broker know the board.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenIdentity {
    /// `file` or `tpm`, for the next key that is made; `file`.
    pub key: Option<KeyHome>,
    /// The TPM: a device, or a unix socket that takes its commands; `/dev/tpmrm0`. A relative path begins at the file's folder.
    pub tpm: Option<PathBuf>,
}

/// `[downloads]`: of what a deployment needs; documents are small and come at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenDownloads {
    /// `allow` or `wait`, where the way to the console is metered by the board's profile; `allow`.
    pub metered: Option<MeteredPolicy>,
    /// At most so many bytes a second; no limit.
    pub bytes_per_second: Option<Rate>,
    /// At most so many where the way is metered; as elsewhere.
    pub metered_bytes_per_second: Option<Rate>,
    /// Parts of the day, in UTC; the whole day.
    pub hours: heapless::Vec<Window, 8>,
    /// Servers that are asked for blobs before the console is, the first one first; none.
    pub mirrors: heapless::Vec<ConsoleUrl, 4>,
    /// `http://host:port` through which the console is asked for blobs; none.
    pub proxy: Option<ProxyUrl>,
}

/// `[network]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenNetwork {
    /// The bridge's name; `cor0`.
    pub bridge: Option<LinkName>,
    /// The apps' subnet; the board profile's, or `172.30.0.0/16`.
    pub subnet: Option<Subnet>,
    /// The bridge's MTU; the board profile's, or the uplink's.
    pub mtu: Option<Mtu>,
}

/// `[local]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenLocal {
    /// `signed`, `owner` or `none`; `signed`.
    pub allow: Option<LocalPolicy>,
}

/// `[volumes]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenVolumes {
    /// Folders of the board that a release may give to its apps, each by exactly this absolute path; none.
    #[serde(deserialize_with = "absolute_paths")]
    pub binds: Vec<PathBuf>,
}

/// `[usb]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenUsb {
    /// `apply` or `ignore`; `apply`.
    pub plugged: Option<StickPolicy>,
}

/// `[deploy]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenDeploy {
    /// Maintenance windows; always when left out.
    #[serde(deserialize_with = "windows")]
    pub window: Vec<Window>,
    /// Whether somebody on the board has to accept each release; `false`.
    pub consent: Option<bool>,
    /// `utc` or `local`; `utc`.
    pub zone: Option<Zone>,
    /// Whether the clock is right although nobody keeps it; `false`.
    pub clock_is_right: Option<bool>,
    /// `apply` or `wait`; `apply`.
    pub when_time_unknown: Option<UnknownTime>,
    /// For `apply`: 1 to 720 hours of being up; 24.
    pub time_unknown_hours: Option<HoursUp>,
}

/// `[watchdog]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenWatchdog {
    /// Whether the supervisor arms and feeds the profile's watchdog; `false`.
    pub feed: Option<bool>,
}

/// `[log]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenLog {
    /// `error`, `warn`, `info`, `debug` or `trace`; `info`.
    pub level: Option<LogLevel>,
}

/// Maintenance windows of a day.
const WINDOWS: usize = 16;

fn windows<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Window>, D::Error> {
    use serde::de::Error;
    let windows = Vec::<Window>::deserialize(deserializer)?;
    match windows.len() {
        0..=WINDOWS => Ok(windows),
        count => {
            let text = format!("{count} windows are listed; at most {WINDOWS} are allowed");
            Err(D::Error::custom(text))
        }
    }
}

/// Folders that may be given to apps.
const BINDS: usize = 64;

fn absolute_paths<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<PathBuf>, D::Error> {
    use serde::de::Error;
    let paths = Vec::<PathBuf>::deserialize(deserializer)?;
    if paths.len() > BINDS {
        let text = format!(
            "{} folders are listed; at most {BINDS} are allowed",
            paths.len()
        );
        return Err(D::Error::custom(text));
    }
    let plain = |path: &PathBuf| {
        use std::path::Component::{Normal, RootDir};
        path.is_absolute()
            && path
                .components()
                .all(|part| matches!(part, RootDir | Normal(_)))
    };
    match paths.iter().find(|path| !plain(path)) {
        Some(path) => {
            let text = format!("`{}` is not an absolute path without `..`", path.display());
            Err(D::Error::custom(text))
        }
        None => Ok(paths),
    }
}

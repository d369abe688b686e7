//! coracle.toml: what its author wrote ([`WrittenConfig`]) and what the programs run with
//! ([`Config`], each default applied, each path absolute). The supervisor, the daemon and the
//! command line read the same file, so that they cannot disagree about where things are.

mod values;

pub use crate::toml_file::TomlFileError as ConfigError;
pub use values::{
    BrokerUrl, ConsoleUrl, HoursUp, LinkName, LocalPolicy, LogLevel, MeteredPolicy, Mtu, PlainName,
    ProfileChoice, ProxyUrl, Rate, StickPolicy, Subnet, UnknownTime, Window, Zone,
};

use crate::toml_file;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where coracle.toml is when nobody says otherwise.
pub const DEFAULT_CONFIG_FILE: &str = "/etc/coracle/coracle.toml";

/// coracle.toml as it is written: any key may be left out, an unknown one is refused.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WrittenConfig {
    /// Folders, user, board profile.
    pub agent: WrittenAgent,
    /// Where the fleet console is.
    pub console: WrittenConsole,
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

/// What the programs run with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Absolute folder of coracle.toml; root.json and the profiles lie beside it.
    pub config_dir: PathBuf,
    /// Tells two agents on one machine apart.
    pub instance: String,
    /// Absolute; what outlives a reboot.
    pub state_dir: PathBuf,
    /// Absolute; sockets.
    pub run_dir: PathBuf,
    /// Who coracled runs as.
    pub user: String,
    /// How the board profile is found.
    pub board_profile: ProfileChoice,
    /// The cgroup that holds each app's cgroup.
    pub cgroup_parent: String,
    /// Absolute; `dev` and `sys` of the profile's devices, lights and temperatures lie below it, and `proc/net`.
    pub hardware_root: PathBuf,
    /// The console, when coracle.toml says where it is.
    pub console_url: Option<ConsoleUrl>,
    /// The broker, when coracle.toml says where it is.
    pub mqtt_url: Option<BrokerUrl>,
    /// When and how fast coracled fetches.
    pub downloads: Downloads,
    /// The apps' bridge.
    pub bridge: String,
    /// The apps' subnet, when coracle.toml names one. The profile's comes next, then
    /// [`Subnet::default`]; see [`Config::subnet_or`].
    pub subnet: Option<Subnet>,
    /// The bridge's MTU, when coracle.toml names one.
    pub mtu: Option<Mtu>,
    /// Who may start containers by hand.
    pub local_allow: LocalPolicy,
    /// Folders of the board that a release may give to its apps.
    pub binds: Vec<PathBuf>,
    /// What becomes of a stick that is plugged in.
    pub plugged: StickPolicy,
    /// When a release may replace what runs; always when there are none.
    pub windows: Vec<Window>,
    /// Whether somebody on the board has to accept each release.
    pub consent: bool,
    /// In which time the windows are.
    pub window_zone: Zone,
    /// Whether the clock is right although nobody keeps it.
    pub clock_is_right: bool,
    /// How long the board is up with a release that waits for a window while it does not know the time, before that one goes
    /// on; `None` is without an end.
    pub without_clock: Option<Duration>,
    /// Whether the supervisor arms and feeds the board's watchdog.
    pub feed_watchdog: bool,
    /// The least severe event that is logged.
    pub log_level: LogLevel,
}

/// When and how fast coracled fetches what a deployment needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Downloads {
    /// What is done where the way to the console is metered.
    pub metered: MeteredPolicy,
    /// At most so many bytes a second.
    pub bytes_per_second: Option<u64>,
    /// At most so many where the way is metered.
    pub metered_bytes_per_second: Option<u64>,
    /// Parts of the day; none is the whole day.
    pub hours: heapless::Vec<Window, 8>,
    /// Servers that are asked for blobs before the console is: `blobs/sha256/…` below each.
    pub mirrors: heapless::Vec<ConsoleUrl, 4>,
    /// Through which the console is asked for blobs.
    pub proxy: Option<ProxyUrl>,
}

impl Config {
    /// Reads coracle.toml. A key that is not known or a value that is not allowed is an error that
    /// names file, line, key and what is allowed.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = absolute(path)?;
        let written: WrittenConfig = toml_file::read(&file)?;
        let folder = file.parent().unwrap_or(Path::new("/"));
        Ok(Self::from_written(written, folder))
    }

    /// Applies the defaults. `config_dir` is the absolute folder that the file is in, and where
    /// relative paths begin.
    pub fn from_written(written: WrittenConfig, config_dir: &Path) -> Self {
        let WrittenConfig {
            agent,
            console,
            downloads,
            network,
            local,
            volumes,
            usb,
            deploy,
            watchdog,
            log,
        } = written;
        let name = |given: Option<PlainName>, default: &str| {
            given.map_or_else(|| default.to_owned(), String::from)
        };
        let folder = |given: Option<PathBuf>, default: &str| {
            config_dir.join(given.unwrap_or_else(|| default.into()))
        };
        let instance = name(agent.instance, "coracle");
        Self {
            state_dir: folder(agent.state_dir, "/var/lib/coracle"),
            run_dir: folder(agent.run_dir, "/run/coracle"),
            user: name(agent.user, "coracle"),
            board_profile: agent.board_profile.unwrap_or_default(),
            cgroup_parent: name(agent.cgroup_parent, &instance),
            hardware_root: folder(agent.hardware_root, "/"),
            console_url: console.url,
            mqtt_url: console.mqtt,
            downloads: Downloads {
                metered: downloads.metered.unwrap_or_default(),
                bytes_per_second: downloads.bytes_per_second.map(Rate::bytes_per_second),
                metered_bytes_per_second: downloads
                    .metered_bytes_per_second
                    .or(downloads.bytes_per_second)
                    .map(Rate::bytes_per_second),
                hours: downloads.hours,
                mirrors: downloads.mirrors,
                proxy: downloads.proxy,
            },
            bridge: network
                .bridge
                .map_or_else(|| "cor0".to_owned(), String::from),
            subnet: network.subnet,
            mtu: network.mtu,
            local_allow: local.allow.unwrap_or_default(),
            binds: volumes.binds,
            plugged: usb.plugged.unwrap_or_default(),
            windows: deploy.window,
            consent: deploy.consent.unwrap_or(false),
            window_zone: deploy.zone.unwrap_or_default(),
            clock_is_right: deploy.clock_is_right.unwrap_or(false),
            without_clock: match deploy.when_time_unknown.unwrap_or_default() {
                UnknownTime::Apply => Some(deploy.time_unknown_hours.unwrap_or_default().time()),
                UnknownTime::Wait => None,
            },
            feed_watchdog: watchdog.feed.unwrap_or(false),
            log_level: log.level.unwrap_or_default(),
            config_dir: config_dir.to_owned(),
            instance,
        }
    }

    /// The apps' subnet: coracle.toml's, else the profile's, else [`Subnet::default`].
    pub fn subnet_or(&self, profile: Option<Subnet>) -> Subnet {
        self.subnet.or(profile).unwrap_or_default()
    }

    /// The trust root that the board was provisioned with: `root.json` beside coracle.toml.
    pub fn root_file(&self) -> PathBuf {
        self.config_dir.join("root.json")
    }
    /// Where the console of the fleet is that this board was made for: `fleet.json` beside coracle.toml.
    pub fn fleet_file(&self) -> PathBuf {
        self.config_dir.join("fleet.json")
    }
    /// What the board's maker gave it to show who it is: `manufacturing.crt` and `manufacturing.key` beside coracle.toml.
    pub fn manufacturing(&self) -> [PathBuf; 2] {
        ["manufacturing.crt", "manufacturing.key"].map(|name| self.config_dir.join(name))
    }
    /// Board profiles: `boards/` beside coracle.toml.
    pub fn profiles_dir(&self) -> PathBuf {
        self.config_dir.join("boards")
    }
    /// What this one board changes about its profile, or with a `name` a profile of its own.
    pub fn board_override_file(&self) -> PathBuf {
        self.config_dir.join("board.toml")
    }

    /// OCI layout of what was downloaded; written by coracled.
    pub fn store_dir(&self) -> PathBuf {
        self.state_dir.join("store")
    }
    /// Key, certificate, enrolment; coracled's, mode 0700.
    pub fn identity_dir(&self) -> PathBuf {
        self.state_dir.join("identity")
    }
    /// Reports that wait for the link; coracled's.
    pub fn spool_dir(&self) -> PathBuf {
        self.state_dir.join("spool")
    }
    /// Unpacked layers by diff_id; root's, never changed.
    pub fn layers_dir(&self) -> PathBuf {
        self.state_dir.join("layers")
    }
    /// Layers that are being unpacked; root's.
    pub fn staging_dir(&self) -> PathBuf {
        self.state_dir.join("staging")
    }
    /// The current root and the counters; root's.
    pub fn trust_dir(&self) -> PathBuf {
        self.state_dir.join("trust")
    }
    /// There while the board is no fleet's any more; root's, for all to read.
    pub fn decommissioned_file(&self) -> PathBuf {
        self.state_dir.join("decommissioned")
    }
    /// The agent's own programs, where releases bring them; root's.
    pub fn agent_dir(&self) -> PathBuf {
        self.state_dir.join("agent")
    }
    /// Journal and sets; root's.
    pub fn deployments_dir(&self) -> PathBuf {
        self.state_dir.join("deployments")
    }
    /// One folder per app, with `upper`, `work` and `merged`; root's.
    pub fn containers_dir(&self) -> PathBuf {
        self.state_dir.join("containers")
    }
    /// Which app has which of the board's ids; root's.
    pub fn ids_file(&self) -> PathBuf {
        self.state_dir.join("ids.json")
    }
    /// One folder per volume; root's.
    pub fn volumes_dir(&self) -> PathBuf {
        self.state_dir.join("volumes")
    }
    /// One folder per app; root's, readable by coracled's group.
    pub fn logs_dir(&self) -> PathBuf {
        self.state_dir.join("logs")
    }

    /// Where the supervisor listens; root:coracle 0660.
    pub fn supervisor_socket(&self) -> PathBuf {
        self.run_dir.join("supervisor.sock")
    }
    /// What root alone looks into, while it runs.
    pub fn supervisor_dir(&self) -> PathBuf {
        self.run_dir.join("supervisor")
    }
    /// Where coracled serves the Docker Engine API.
    pub fn docker_socket(&self) -> PathBuf {
        self.run_dir.join("docker.sock")
    }
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

/// An absolute form of `path` without asking the disk.
fn absolute(path: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;

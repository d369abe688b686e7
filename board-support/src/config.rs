//! coracle.toml: what its author wrote ([`WrittenConfig`]) and what the programs run with
//! ([`Config`], each default applied, each path absolute). The supervisor, the daemon and the
//! command line read the same file, so that they cannot disagree about where things are.

mod newer;
mod places;
mod running;
mod values;
mod written;

pub use crate::toml_file::TomlFileError as ConfigError;
pub use values::{
    BrokerUrl, ConsoleUrl, HoursUp, KeyHome, LinkName, LocalPolicy, LogLevel, MeteredPolicy, Mtu,
    PlainName, ProfileChoice, ProxyUrl, Rate, StickPolicy, Subnet, UnknownTime, Window, Zone,
};

pub use written::{
    WrittenAgent, WrittenConfig, WrittenConsole, WrittenDeploy, WrittenDownloads, WrittenIdentity,
    WrittenLocal, WrittenLog, WrittenNetwork, WrittenUsb, WrittenVolumes, WrittenWatchdog,
};

use crate::toml_file;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where coracle.toml is when nobody says otherwise.
pub const DEFAULT_CONFIG_FILE: &str = "/etc/coracle/coracle.toml";

/// Version of coracle.toml that these programs know all keys of.
pub const CONFIG_VERSION: u32 = 1;

/// What the programs run with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// Absolute; where it was read.
    pub file: PathBuf,
    /// Keys of a newer version, which these programs do not know.
    pub passed_over: Vec<String>,
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
    /// Whether a layer's files that did not change since the version before share its bytes on the disk.
    pub share_files: bool,
    /// The cgroup that holds each app's cgroup.
    pub cgroup_parent: String,
    /// Absolute; `dev` and `sys` of the profile's devices, lights and temperatures lie below it, and `proc/net`.
    pub hardware_root: PathBuf,
    /// The console, when coracle.toml says where it is.
    pub console_url: Option<ConsoleUrl>,
    /// The broker, when coracle.toml says where it is.
    pub mqtt_url: Option<BrokerUrl>,
    /// Where the next key of the board's is made.
    pub identity_key: KeyHome,
    /// Absolute; the board's TPM, which may be a socket.
    pub tpm: PathBuf,
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
    /// names file, line, key and what is allowed; in a file of a newer version it is passed over.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = absolute(path)?;
        let text = toml_file::read_text(&file)?;
        let (written, passed_over) = match toml_file::parse(&text, &file) {
            Ok(written) => (written, Vec::new()),
            Err(error) => newer::read(&text, &file).ok_or(error)?,
        };
        let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Self {
            file,
            passed_over,
            ..Self::from_written(written, &folder)
        })
    }

    /// What a program that runs cannot take from a newer file, because others look for it where it is, or because apps that run
    /// have their addresses from there.
    fn fixed_keys(&self) -> [(&'static str, String); 7] {
        let folder = |path: &Path| format!("{path:?}");
        let subnet = self.subnet.map(|subnet| subnet.to_string());
        [
            ("agent.instance", self.instance.clone()),
            ("agent.state_dir", folder(&self.state_dir)),
            ("agent.run_dir", folder(&self.run_dir)),
            ("agent.user", self.user.clone()),
            ("agent.cgroup_parent", self.cgroup_parent.clone()),
            ("network.bridge", self.bridge.clone()),
            ("network.subnet", subnet.unwrap_or_default()),
        ]
    }

    /// The first of them that is another in a newer file.
    pub fn fixed_key_that_differs(&self, newer: &Self) -> Option<&'static str> {
        let pairs = self.fixed_keys().into_iter().zip(newer.fixed_keys());
        let mut differ = pairs.filter(|(own, newer)| own != newer);
        differ.next().map(|((key, _), _)| key)
    }

    /// Applies the defaults. `config_dir` is the absolute folder that the file is in, and where
    /// relative paths begin.
    pub fn from_written(written: WrittenConfig, config_dir: &Path) -> Self {
        let WrittenConfig {
            config_version: _,
            agent,
            console,
            identity,
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
            file: config_dir.join("coracle.toml"),
            passed_over: Vec::new(),
            state_dir: folder(agent.state_dir, "/var/lib/coracle"),
            run_dir: folder(agent.run_dir, "/run/coracle"),
            user: name(agent.user, "coracle"),
            board_profile: agent.board_profile.unwrap_or_default(),
            share_files: agent.share_files.unwrap_or(true),
            cgroup_parent: name(agent.cgroup_parent, &instance),
            hardware_root: folder(agent.hardware_root, "/"),
            console_url: console.url,
            mqtt_url: console.mqtt,
            identity_key: identity.key.unwrap_or_default(),
            tpm: folder(identity.tpm, "/dev/tpmrm0"),
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

//! What this supervisor runs with: coracle.toml, the board's profile and budget, and who the daemon is.

use crate::apps::user::{self, UserError};
use crate::disk::{self, About, DiskError};
use crate::limiter::Limiter;
use crate::users::UsersPolicy;
use coracle_board_support::budget::{Budget, IoRates, can_be_asked_for};
use coracle_board_support::config::{Config, ConfigError};
use coracle_board_support::detect::{DetectError, Detected, choose};
use coracle_board_support::probe::{Outcome, Trials};
use coracle_board_support::profile::{Profile, StorageRole};
use coracle_board_support::storage::{self, Disk};
use coracle_network::NetworkConfig;
use coracle_protocol::names::{HardwareClass, NameError};
use coracle_protocol::release::DefaultLimits;
use coracle_protocol::report::BoardFacts;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// An app that starts again and again has it tried again so often: trying takes what is free on the disk for a moment.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// coracle.toml.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The profile.
    #[error(transparent)]
    Detect(#[from] DetectError),
    /// The profile's hardware class.
    #[error("the board profile's hardware class: {0}")]
    Hardware(#[from] NameError),
    /// A folder.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The host's passwd.
    #[error(transparent)]
    User(#[from] UserError),
}

/// A user and the group that may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// A disk that IO limits are set on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RatedDisk {
    /// First half of its number.
    pub major: u32,
    /// Second half of its number.
    pub minor: u32,
    /// For all apps together, as far as it is known.
    pub carries: IoRates,
}

impl RatedDisk {
    fn of(disk: &Disk, profile: &Profile) -> Self {
        Self {
            major: disk.major,
            minor: disk.minor,
            carries: IoRates::carried_by(profile, Some(&disk.name)),
        }
    }
}

/// Everything that is decided before the supervisor starts.
#[derive(Debug)]
pub struct Settings {
    /// coracle.toml, defaults applied.
    pub config: Config,
    /// The board's profile.
    pub profile: Profile,
    /// What a release must name.
    pub hardware: HardwareClass,
    /// What all apps may use together.
    pub budget: Budget,
    /// Which limits this kernel keeps: tried at start. What else apps need is tried when a release asks for it.
    pub trials: Trials,
    /// What holds limits of the disk: tried at start.
    pub limiter: Limiter,
    tried_at: Instant,
    /// Whether apps have users of their own.
    pub users: UsersPolicy,
    /// For the status.
    pub facts: BoardFacts,
    /// The daemon's user, when the board has it. Without one only root may talk to the supervisor.
    pub daemon: Option<Owner>,
    /// The disks that IO limits are set on.
    pub disks: Vec<RatedDisk>,
    /// The apps' bridge.
    pub network: NetworkConfig,
}

impl Settings {
    /// Whether the site's files let a supervisor run.
    pub fn can_be_read(config: &Config) -> Result<(), SettingsError> {
        let chosen = choose(config, &Detected::read(Path::new("/")))?;
        HardwareClass::new(chosen.profile.hardware_class.as_str())?;
        Ok(())
    }

    /// Reads everything, and makes the folders that are missing.
    pub fn load(file: &Path) -> Result<Self, SettingsError> {
        let config = Config::load(file)?;
        let daemon = match user::look_up(&config.user, &[PathBuf::from("/")]) {
            Ok(user) => Some(Owner {
                uid: user.uid,
                gid: user.gid,
            }),
            Err(UserError::Unknown { .. }) => {
                tracing::warn!(
                    user = config.user,
                    "there is no such user; only root may talk to the supervisor"
                );
                None
            }
            Err(other) => return Err(other.into()),
        };
        make_folders(&config, daemon)?;
        let disk_bytes = rustix::fs::statvfs(&config.state_dir)
            .map(|fs| fs.f_blocks * fs.f_frsize)
            .about("ask the size of", &config.state_dir)?;
        let detected = Detected::read(Path::new("/"))
            .with_disk_bytes(disk_bytes)
            .with_state_disk(storage::under(&config.state_dir));
        let chosen = choose(&config, &detected)?;
        tracing::info!(profile = chosen.profile.name.as_str(), reason = %chosen.reason, "board profile");
        for left_out in &chosen.left_out {
            tracing::warn!(left_out, "a board profile could not be considered");
        }
        let profile = chosen.profile;
        let disks = disks(&profile, &config.state_dir);
        let hardware = HardwareClass::new(profile.hardware_class.as_str())?;
        Ok(Self {
            limiter: Limiter::find(&config),
            tried_at: Instant::now(),
            budget: Budget::of(&profile, &detected),
            facts: facts(&profile, &hardware, &detected),
            trials: tried(&disks),
            disks: disks
                .iter()
                .map(|disk| RatedDisk::of(disk, &profile))
                .collect(),
            network: network(&config, &profile),
            users: UsersPolicy::of(&config, &profile.isolation),
            hardware,
            daemon,
            profile,
            config,
        })
    }

    /// The supervisor's own folder for what a reboot forgets: nobody else can put anything there.
    pub fn run_state_dir(&self) -> PathBuf {
        run_state_dir(&self.config)
    }

    /// What a full disk could not show is tried again, now and then. Whether it is known now whose users apps can have.
    pub fn try_again(&mut self) -> bool {
        self.tried_at.elapsed() >= TRY_AGAIN && self.try_now()
    }

    /// The same, whenever it was tried last.
    pub fn try_now(&mut self) -> bool {
        let was_open = self.users.is_open();
        if self.limiter.is_open() {
            self.limiter.look_again(&self.config);
        }
        if was_open {
            self.users = UsersPolicy::of(&self.config, &self.profile.isolation);
        }
        self.tried_at = Instant::now();
        was_open && !self.users.is_open()
    }

    /// Of apps whose release names none of their own.
    pub fn default_limits(&self) -> DefaultLimits {
        let quotas = &self.profile.quotas;
        DefaultLimits {
            memory_bytes: quotas.memory_mib.mib_in_bytes(),
            cpu_millis: quotas.cpu_millis.get(),
            pids: quotas.pids.get(),
        }
    }

    /// Where the sockets of transfers come: root's, and the daemon passes through it.
    pub fn transfers_dir(&self) -> PathBuf {
        transfers_dir(&self.config)
    }

    /// The daemon's group, which may read logs.
    pub fn daemon_group(&self) -> Option<u32> {
        self.daemon.map(|owner| owner.gid)
    }
}

fn run_state_dir(config: &Config) -> PathBuf {
    config.supervisor_dir()
}

fn transfers_dir(config: &Config) -> PathBuf {
    config.run_dir.join("transfers")
}

/// The run folder is shared with the daemon, which makes its socket there. Sticky: it cannot take away
/// what is root's.
fn make_folders(config: &Config, daemon: Option<Owner>) -> Result<(), DiskError> {
    disk::make_folder(&config.state_dir, 0o755)?;
    // Whoever owns it can swap what is in it: a packaging mistake must not give the daemon that.
    std::os::unix::fs::chown(&config.state_dir, Some(0), Some(0))
        .about("take back", &config.state_dir)?;
    disk::make_folder(&config.run_dir, 0o1775)?;
    let gid = daemon.map(|owner| owner.gid);
    std::os::unix::fs::chown(&config.run_dir, Some(0), gid).about("give away", &config.run_dir)?;
    for (folder, mode) in [
        (config.store_dir(), 0o750),
        (config.identity_dir(), 0o700),
        (config.spool_dir(), 0o700),
    ] {
        if !folder.exists() {
            disk::make_folder(&folder, mode)?;
            let uid = daemon.map(|owner| owner.uid);
            std::os::unix::fs::chown(&folder, uid, gid).about("give away", &folder)?;
        }
    }
    for (folder, mode) in [
        (config.trust_dir(), 0o700),
        (config.deployments_dir(), 0o700),
        (config.layers_dir(), 0o700),
        (config.staging_dir(), 0o700),
        (config.containers_dir(), 0o700),
        (config.volumes_dir(), 0o700),
        (config.logs_dir(), 0o755),
        (config.agent_dir(), 0o755),
    ] {
        disk::own_folder(&folder, mode)?;
    }
    let transfers = transfers_dir(config);
    disk::own_folder(&transfers, 0o710)?;
    std::os::unix::fs::chown(&transfers, Some(0), gid).about("give away", &transfers)?;
    disk::own_folder(&run_state_dir(config), 0o700)
}

fn facts(profile: &Profile, hardware: &HardwareClass, detected: &Detected) -> BoardFacts {
    let system = rustix::system::uname();
    BoardFacts {
        profile: profile.name.as_str().to_owned(),
        hardware: hardware.to_string(),
        architecture: system.machine().to_string_lossy().into_owned(),
        kernel: system.release().to_string_lossy().into_owned(),
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        memory_bytes: detected.memory_bytes.unwrap_or_default(),
        cpus: detected.cpus.unwrap_or(1),
    }
}

/// The profile's disks; where none of them is here, the whole disk that the state folder lies on.
fn disks(profile: &Profile, state_dir: &Path) -> Vec<Disk> {
    let named = storage::disks(Path::new("/"), profile, StorageRole::State);
    match named.is_empty() {
        false => named.into_iter().collect(),
        true => storage::under(state_dir).into_iter().collect(),
    }
}

fn tried(disks: &[Disk]) -> Trials {
    let trials = Trials::limits(disks.first());
    for trial in trials.iter() {
        if let Outcome::Fails(why) = &trial.outcome
            && can_be_asked_for(&trial.subject)
        {
            let limit = trial.subject.as_str();
            tracing::warn!(
                limit,
                why = why.as_str(),
                "this kernel does not keep it; apps that ask for it are refused"
            );
        }
    }
    trials
}

fn network(config: &Config, profile: &Profile) -> NetworkConfig {
    let subnet = config.subnet_or(profile.network.subnet);
    // Both sides hold a prefix of 8 to 29, so that this cannot fail; the default stands in all the same.
    let subnet = subnet.to_string().parse().unwrap_or_default();
    let mut network = NetworkConfig {
        resolver: true,
        ..NetworkConfig::new(&config.bridge, subnet)
    };
    if let Some(mtu) = config.mtu.or(profile.network.mtu) {
        network.mtu = u32::from(mtu.bytes());
    }
    network
}

//! `release.toml`: what the engineer wrote. `docs/release-file.md` describes it. Unknown keys are
//! refused: a limit with a typing error in its name would be no limit.

use crate::human::{Expiry, Size};
use crate::image::{ImageError, Measurer};
use crate::toml_file::{self, TomlFileError};
use coracle_protocol::names::{
    AppName, DeviceName, HardwareClass, ProductName, SecretName, VolumeName,
};
use coracle_protocol::release::{
    Agent, AppDevice, BindMount, Condition, DEFAULT_PRIORITY, DeviceAccess, DiskOn,
    FIRST_DATA_VERSION, Hooks, Image, LogMode, Logs, NamedAction, NamedLimits, NetworkSpec,
    Restart, SignedApp, SignedRelease, Strategy, TmpfsMount, UpdateLock, VolumeMount,
};
use coracle_protocol::site::Settable;
use health::HealthEntry;
use network::NetworkTable;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

mod health;
mod network;

/// A release.toml, in bytes: larger than any release that its limits allow.
const FILE_BYTES: u64 = 1 << 20;

/// Why a release file was refused.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseFileError {
    /// The file.
    #[error("{0}")]
    File(#[from] TomlFileError),
    /// An app's image.
    #[error("`{path}`: app `{app}`: image")]
    Image {
        /// The file.
        path: PathBuf,
        /// Whose.
        app: String,
        /// Why.
        #[source]
        source: Box<ImageError>,
    },
    /// The image that carries the agent.
    #[error("`{path}`: agent: image")]
    Agent {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<ImageError>,
    },
    /// Past a limit, or without sense.
    #[error("`{path}`: {fault}")]
    Fault {
        /// The file.
        path: PathBuf,
        /// Field and rule.
        fault: String,
    },
}

/// The file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseFile {
    product: ProductName,
    version: String,
    release_counter: u64,
    expires: Expiry,
    hardware: BTreeSet<HardwareClass>,
    /// Not by itself where there is an agent: the boards that it is for are of before it, and may not know the field.
    layer_entries: Option<bool>,
    #[serde(default)]
    networks: Vec<NetworkSpec>,
    agent: Option<AgentTable>,
    apps: Vec<AppTable>,
}

/// What a release file describes.
#[derive(Debug)]
pub struct Described {
    /// The release.
    pub release: SignedRelease,
    /// Apps whose health check is their image's `HEALTHCHECK`.
    pub health_of_image: Vec<AppName>,
}

/// As [`Agent`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentTable {
    version: String,
    counter: NonZeroU64,
    image: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AppTable {
    name: AppName,
    image: String,
    #[serde(default)]
    depends_on: BTreeMap<AppName, Condition>,
    #[serde(default)]
    strategy: Strategy,
    #[serde(default)]
    both_write: BTreeSet<VolumeName>,
    update_lock: Option<UpdateLock>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    init: bool,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    secrets: BTreeSet<SecretName>,
    #[serde(default)]
    site_settable: Settable,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    network: NetworkTable,
    #[serde(default)]
    volumes: Vec<VolumeTable>,
    #[serde(default = "first")]
    data_version: u32,
    #[serde(default)]
    tmpfs: Vec<TmpfsTable>,
    #[serde(default)]
    binds: Vec<BindMount>,
    #[serde(default)]
    devices: Vec<DeviceEntry>,
    #[serde(default)]
    read_only_root: bool,
    user_namespace: Option<bool>,
    #[serde(default)]
    logs: LogsTable,
    health: Option<HealthEntry>,
    #[serde(default)]
    actions: Vec<NamedAction>,
    #[serde(default)]
    hooks: Hooks,
    #[serde(default)]
    restart: Restart,
    #[serde(default = "ten")]
    trial_seconds: u32,
    #[serde(default = "ten")]
    stop_grace_seconds: u32,
    #[serde(default)]
    critical: bool,
    #[serde(default = "middle")]
    priority: u8,
}

/// A device's name, or a table with it.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "the name of a device, or { name, access, optional }"
)]
enum DeviceEntry {
    Name(DeviceName),
    Table(AppDevice),
}

/// As [`NamedLimits`], with sizes as people write them.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    memory: Option<Size>,
    memory_min: Option<Size>,
    memory_reservation: Option<Size>,
    memory_swap: Option<Size>,
    #[serde(default)]
    oom_group: bool,
    cpu_millis: Option<u32>,
    cpu_burst_micros: Option<u64>,
    cpus_exclusive: Option<u32>,
    pids: Option<u32>,
    io_read_per_second: Option<Size>,
    io_write_per_second: Option<Size>,
    io_read_operations_per_second: Option<u64>,
    io_write_operations_per_second: Option<u64>,
    open_files: Option<u64>,
    disk: Option<Size>,
    disk_inodes: Option<u64>,
    #[serde(default)]
    disk_on: DiskOn,
}

/// As [`Logs`].
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogsTable {
    #[serde(default)]
    mode: LogMode,
    max_buffer_size: Option<Size>,
}

/// As [`VolumeMount`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct VolumeTable {
    name: VolumeName,
    target: String,
    #[serde(default)]
    read_only: bool,
    size: Option<Size>,
    inodes: Option<u64>,
}

/// As [`TmpfsMount`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TmpfsTable {
    target: String,
    size: Size,
}

fn ten() -> u32 {
    10
}

fn first() -> u32 {
    FIRST_DATA_VERSION
}

fn middle() -> u8 {
    DEFAULT_PRIORITY
}

impl ReleaseFile {
    /// Reads and checks the file's form.
    pub fn read(path: &Path) -> Result<Self, ReleaseFileError> {
        Ok(toml_file::read(path, FILE_BYTES)?)
    }

    /// The release that it describes, its images measured, and held against every rule of the
    /// protocol. `path` is for the errors.
    pub fn release(
        self,
        path: &Path,
        issued_at: u64,
        epoch: u64,
        images: &mut Measurer<'_>,
    ) -> Result<Described, ReleaseFileError> {
        let mut apps = Vec::new();
        let mut health_of_image = Vec::new();
        if !self.layer_entries.unwrap_or(self.agent.is_none()) {
            images.without_entries();
        }
        for mut table in self.apps {
            let image =
                images
                    .measured(&table.image)
                    .map_err(|source| ReleaseFileError::Image {
                        path: path.to_owned(),
                        app: table.name.to_string(),
                        source: Box::new(source),
                    })?;
            let name = table.name.clone();
            let at_fault = |fault| ReleaseFileError::Fault {
                path: path.to_owned(),
                fault: format!("app `{name}`: {fault}"),
            };
            let check = image.healthcheck.filter(|_| table.health.is_none());
            let check = check.as_ref().map(health::of_image).transpose();
            if let Some(check) = check.map_err(at_fault)?.flatten() {
                table.health = Some(HealthEntry::Check(check));
                health_of_image.push(name.clone());
            }
            apps.push(table.app(image.image).map_err(at_fault)?);
        }
        let agent = self.agent.map(|table| table.agent(images)).transpose();
        let agent = agent.map_err(|source| ReleaseFileError::Agent {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let release = SignedRelease {
            spec_version: 1,
            critical: Vec::new(),
            product: self.product,
            version: self.version,
            epoch,
            release_counter: self.release_counter,
            issued_at,
            expires: self.expires.from(issued_at),
            hardware: self.hardware,
            networks: self.networks,
            agent,
            apps,
        };
        release.check().map_err(|fault| ReleaseFileError::Fault {
            path: path.to_owned(),
            fault,
        })?;
        Ok(Described {
            release,
            health_of_image,
        })
    }
}

impl AgentTable {
    fn agent(self, images: &mut Measurer<'_>) -> Result<Agent, ImageError> {
        let image = images.image(&self.image)?;
        Ok(Agent {
            version: self.version,
            counter: self.counter.get(),
            program: images.agent(&image)?,
            image,
        })
    }
}

impl AppTable {
    fn app(self, image: Image) -> Result<SignedApp, String> {
        let l = self.limits;
        Ok(SignedApp {
            name: self.name,
            image,
            depends_on: self.depends_on,
            strategy: self.strategy,
            both_write: self.both_write,
            update_lock: self.update_lock,
            args: self.args,
            init: self.init,
            env: self.env,
            limits: NamedLimits {
                memory_bytes: l.memory.map(|size| size.0),
                memory_min_bytes: l.memory_min.map(|size| size.0),
                memory_reservation_bytes: l.memory_reservation.map(|size| size.0),
                memory_swap_bytes: l.memory_swap.map(|size| size.0),
                oom_group: l.oom_group,
                cpu_millis: l.cpu_millis,
                cpu_burst_micros: l.cpu_burst_micros,
                cpus_exclusive: l.cpus_exclusive,
                pids: l.pids,
                io_read_bytes_per_second: l.io_read_per_second.map(|size| size.0),
                io_write_bytes_per_second: l.io_write_per_second.map(|size| size.0),
                io_read_operations_per_second: l.io_read_operations_per_second,
                io_write_operations_per_second: l.io_write_operations_per_second,
                open_files: l.open_files,
                disk_bytes: l.disk.map(|size| size.0),
                disk_inodes: l.disk_inodes,
                disk_on: l.disk_on,
            },
            network: self.network.network()?,
            volumes: self.volumes.into_iter().map(VolumeTable::mount).collect(),
            data_version: self.data_version,
            tmpfs: self.tmpfs.into_iter().map(TmpfsTable::mount).collect(),
            binds: self.binds,
            devices: self.devices.into_iter().map(DeviceEntry::device).collect(),
            read_only_root: self.read_only_root,
            user_namespace: self.user_namespace,
            logs: Logs {
                mode: self.logs.mode,
                max_buffer_bytes: self.logs.max_buffer_size.map(|size| size.0),
            },
            health: match self.health {
                Some(HealthEntry::Check(health)) => Some(health),
                Some(HealthEntry::Nothing) | None => None,
            },
            actions: self.actions,
            hooks: self.hooks,
            restart: self.restart,
            trial_seconds: self.trial_seconds,
            secrets: self.secrets,
            site_settable: self.site_settable,
            stop_grace_seconds: self.stop_grace_seconds,
            critical: self.critical,
            priority: self.priority,
        })
    }
}

impl DeviceEntry {
    fn device(self) -> AppDevice {
        match self {
            Self::Table(device) => device,
            Self::Name(name) => AppDevice {
                name,
                access: DeviceAccess::default(),
                optional: false,
            },
        }
    }
}

impl VolumeTable {
    fn mount(self) -> VolumeMount {
        VolumeMount {
            name: self.name,
            target: self.target,
            read_only: self.read_only,
            size_bytes: self.size.map(|size| size.0),
            inodes: self.inodes,
        }
    }
}

impl TmpfsTable {
    fn mount(self) -> TmpfsMount {
        TmpfsMount {
            target: self.target,
            size_bytes: self.size.0,
        }
    }
}

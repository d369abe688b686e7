//! What an app is to be, as data: the signed release and the image's configuration together. Nothing is
//! changed here; the layers are only read, for the user's number.

use crate::apps::devices::{DeviceFault, PlannedDevice};
use crate::apps::places::{self, NamesPlan, Place};
use crate::apps::user::{self, User, UserError};
use crate::settings::Settings;
use crate::stage::layer_dir;
use crate::trust::{Opened, SecretValue};
use crate::users::{self, Users, UsersRefused};
use coracle_images::layout::ImageConfig;
use coracle_network::{Protocol as NetProtocol, PublishedPort};
use coracle_protocol::names::{AppName, SecretName};
use coracle_protocol::release::{
    App, AppInterface, Egress, Logs, NetworkMode, Port, Protocol, Release,
};
use coracle_runtime::cgroup::{DeviceRule, Devices};
use coracle_runtime::spec::Rlimit;
use coracle_runtime::{Limits, Mount};
use std::collections::BTreeMap;
use std::path::PathBuf;

mod io;
mod priority;
pub mod signal;
mod storage;

pub use io::io_of;
pub use storage::{
    PlannedVolume, WritableLayer, default_limit, limit_of, planned_volumes, writable_layer,
};

/// As Docker sets it where an image says nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why an app cannot be started as the release says.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Who it runs as.
    #[error(transparent)]
    User(#[from] UserError),
    /// Neither the release nor the image names a program.
    #[error("neither the release nor the image says what to run")]
    NothingToRun,
    /// `StopSignal` of the image.
    #[error("the image's stop signal `{0}` is not known")]
    Signal(String),
    /// A link of the board that is not given away, or not any more.
    #[error(
        "link `{0}` is an uplink of this board or not among [network] interfaces and CAN devices of its profile"
    )]
    Link(String),
    /// A folder of the board that is not given away.
    #[error("the board's folder `{0}` is not among [volumes] binds of its coracle.toml")]
    Bind(String),
    /// A device that the board's profile does not give, or not any more.
    #[error(transparent)]
    Device(#[from] DeviceFault),
    /// Its users have to be its own, and cannot.
    #[error(transparent)]
    Users(#[from] UsersRefused),
}

/// An app, worked out.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Its name.
    pub name: AppName,
    /// What its container is called on the board.
    pub slot: String,
    /// Unpacked layers, topmost first.
    pub layers: Vec<PathBuf>,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Working folder.
    pub cwd: PathBuf,
    /// Who it runs as.
    pub user: User,
    /// Whose its users are.
    pub users: Users,
    /// Whether it is not process 1 of its container.
    pub init: bool,
    /// What ends it in peace.
    pub stop_signal: i32,
    /// Hard limits.
    pub limits: Limits,
    /// Its shares of what others want too, by its priority. They are no promise.
    pub weights: Limits,
    /// `oom_score_adj`, by its priority.
    pub oom_score: i32,
    /// Per process.
    pub rlimits: Vec<Rlimit>,
    /// What holds its writable layer; `None`: its root cannot be written.
    pub layer: Option<WritableLayer>,
    /// Volumes that must be there.
    pub volumes: Vec<PlannedVolume>,
    /// Volumes, folders in memory and of the board: outer paths first.
    pub mounts: Vec<Mount>,
    /// Its network.
    pub network: NetworkMode,
    /// In the board's network: the board's abstract sockets too.
    pub abstract_sockets: bool,
    /// Published ports.
    pub ports: Vec<PublishedPort>,
    /// Its places on networks.
    pub places: Vec<Place>,
    /// Where it may open connections to; none is everywhere.
    pub egress: Option<Vec<Egress>>,
    /// Links of the board that it has whole.
    pub interfaces: Vec<AppInterface>,
    /// Devices of the board that it has.
    pub devices: Vec<PlannedDevice>,
    /// The app whose network it uses.
    pub network_of: Option<AppName>,
    /// What its resolv.conf and hosts say beside the board's.
    pub names: NamesPlan,
    /// Whether its root cannot be written.
    pub read_only_root: bool,
    /// Whether it has a folder for an update lock.
    pub update_lock: bool,
    /// What becomes of its output while the disk is slow.
    pub logs: Logs,
    /// Whether `args` are a hook's: what it says last is kept beside the log.
    pub is_hook: bool,
    /// Files in `/run/secrets`.
    pub secrets: Vec<(SecretName, SecretValue)>,
}

impl Plan {
    /// The board's network would bring the board's abstract sockets along.
    pub fn keeps_to_own_sockets(&self) -> bool {
        self.network == NetworkMode::Host && !self.abstract_sockets
    }

    /// With those of `opened` that are for this app.
    pub fn with_secrets(mut self, opened: &[Opened]) -> Self {
        let own = opened.iter().filter(|(app, _, _)| *app == self.name);
        self.secrets = own
            .map(|(_, name, value)| (name.clone(), value.clone()))
            .collect();
        self
    }
}

/// Works an app of a release out.
pub fn plan(
    app: &App,
    release: &Release,
    image: &ImageConfig,
    settings: &Settings,
) -> Result<Plan, PlanError> {
    let config = &settings.config;
    let layers: Vec<PathBuf> = app
        .image
        .layers
        .iter()
        .rev()
        .map(|layer| layer_dir(config, layer.diff_id))
        .collect();
    let run = &image.config;
    let args = match app.args.is_empty() {
        true => [run.entrypoint.clone(), run.cmd.clone()].concat(),
        false => app.args.clone(),
    };
    if args.is_empty() {
        return Err(PlanError::NothingToRun);
    }
    for link in &app.network.interfaces {
        let name = link.name.as_str();
        if settings.profile.network.is_uplink(name) || !settings.profile.gives_away(name) {
            return Err(PlanError::Link(name.to_owned()));
        }
    }
    let asked = app.devices.iter();
    let devices = asked
        .map(|wanted| PlannedDevice::of(wanted, &settings.profile))
        .collect::<Result<_, _>>()?;
    let user = user::look_up(&run.user, &layers)?;
    let users = users::decide(app, Some(&user), &settings.users)?;
    let cwd = match run.working_dir.is_empty() {
        true => "/".into(),
        false => PathBuf::from("/").join(&run.working_dir),
    };
    let files = app
        .limits
        .open_files
        .unwrap_or_else(|| settings.profile.quotas.open_files.get().into());
    Ok(Plan {
        env: environment(app, image, &user),
        stop_signal: stop_signal(run.stop_signal.as_deref())?,
        limits: limits(app, release, settings),
        weights: priority::weights(app.priority, &settings.trials),
        oom_score: priority::oom_score(app.priority),
        rlimits: vec![open_files(files)],
        init: app.init,
        network: app.network.mode,
        abstract_sockets: app.network.abstract_sockets,
        ports: app.network.ports.iter().map(published).collect(),
        places: places::of(&app.network),
        egress: places::list(&app.network, &settings.profile),
        interfaces: app.network.interfaces.clone(),
        devices,
        network_of: app.network.container.clone(),
        names: NamesPlan::of(&app.network),
        read_only_root: app.read_only_root,
        layer: writable_layer(app, settings),
        volumes: planned_volumes(app, settings),
        mounts: storage::mounts(app, settings)?,
        update_lock: app.update_lock.is_some(),
        logs: app.logs,
        is_hook: false,
        secrets: Vec::new(),
        slot: app.name.to_string(),
        name: app.name.clone(),
        layers,
        args,
        cwd,
        user,
        users,
    })
}

/// No higher than the supervisor's own hard limit, which it may not be able to raise.
fn open_files(wanted: u64) -> Rlimit {
    let own = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let files = own.maximum.map_or(wanted, |most| wanted.min(most));
    Rlimit {
        resource: libc::RLIMIT_NOFILE as _,
        soft: files,
        hard: files,
    }
}

/// The image's variables, over them the release's; and those that programs take for granted.
fn environment(app: &App, image: &ImageConfig, user: &User) -> Vec<String> {
    let home = user.home.as_deref().filter(|home| !home.is_empty());
    let mut all = BTreeMap::new();
    all.extend([
        ("PATH".to_owned(), PATH.to_owned()),
        ("HOME".to_owned(), home.unwrap_or("/").to_owned()),
        ("HOSTNAME".to_owned(), app.name.to_string()),
    ]);
    for variable in &image.config.env {
        let (key, value) = variable.split_once('=').unwrap_or((variable, ""));
        all.insert(key.to_owned(), value.to_owned());
    }
    all.extend(app.env.clone());
    all.iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

fn limits(app: &App, release: &Release, settings: &Settings) -> Limits {
    let own = &app.limits;
    Limits {
        memory_bytes: Some(own.memory_bytes),
        // Memory that is swapped out is memory beyond the promise; without swap there is nothing to hold,
        // and kernels without swap accounting would refuse.
        memory_swap_bytes: has_swap().then(|| own.memory_swap_bytes.unwrap_or(own.memory_bytes)),
        memory_min_bytes: own.memory_min_bytes,
        memory_reservation_bytes: own.memory_reservation_bytes,
        oom_group: own.oom_group.then_some(true),
        cpu_millis: Some(own.cpu_millis.into()),
        cpu_burst_micros: own.cpu_burst_micros,
        pids: Some(own.pids.into()),
        io: io::limits(own, release, settings),
        devices: Devices::Only(DeviceRule::DEFAULTS.to_vec()),
        ..Limits::default()
    }
}

/// So much CPU and no more, while the board is hot: what is saved up is no more than that in one period either.
pub fn hold_cpu(limits: &mut Limits, millis: u32) {
    let burst = limits.cpu_burst_micros.as_mut();
    if let Some(burst) = burst {
        *burst = (*burst).min(100 * u64::from(millis));
    }
    limits.cpu_millis = Some(millis.into());
}

fn has_swap() -> bool {
    std::fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1)
}

fn published(port: &Port) -> PublishedPort {
    PublishedPort {
        host_ip: port.host_ip,
        host_port: port.host,
        container_port: port.container,
        protocol: match port.protocol {
            Protocol::Tcp => NetProtocol::Tcp,
            Protocol::Udp => NetProtocol::Udp,
            Protocol::Sctp => NetProtocol::Sctp,
        },
    }
}

/// The image's, or SIGTERM.
fn stop_signal(name: Option<&str>) -> Result<i32, PlanError> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Ok(libc::SIGTERM);
    };
    signal::number(name).ok_or_else(|| PlanError::Signal(name.chars().take(32).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_signals() {
        assert_eq!(stop_signal(None).unwrap(), libc::SIGTERM);
        assert_eq!(stop_signal(Some("")).unwrap(), libc::SIGTERM);
        assert_eq!(stop_signal(Some("SIGINT")).unwrap(), libc::SIGINT);
        assert!(stop_signal(Some("SIGNOPE")).is_err());
    }
}

//! One start of one app: folders, cgroup, output, process, network; and its twin, which takes all of it
//! away and goes on after a failure.

use crate::apps::devices::{self, DeviceFault, Given};
use crate::apps::interfaces::{self, InterfaceError};
use crate::apps::layer::{self, LayerError};
use crate::apps::plan::Plan;
use crate::apps::{etc, filter, lock, places, secrets, whole};
use crate::disk::{self, DiskError};
use crate::hooks::{self, Companion};
use crate::logs::{self, LogError, Output};
use crate::settings::Settings;
use crate::volumes::{VolumeError, Volumes};
use coracle_network::{Attachment, Endpoint, NetworkError, Networks};
use coracle_protocol::names::DeviceName;
use coracle_protocol::release::{AppInterface, NetworkMode};
use coracle_runtime::cgroup::{CgroupError, Devices};
use coracle_runtime::launch::Running;
use coracle_runtime::namespaces::{IdRange, UserNs};
use coracle_runtime::seccomp::SeccompError;
use coracle_runtime::{
    Cgroup, CgroupTree, Failure, LaunchSpec, Mount, NetNs, Rootfs, Stdio, prepare,
};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes of an app's endpoints as JSON: some 300 for each of 8, 300 for each of 16 aliases and 64 places to go, and 100 for
/// each of 128 ports.
const ENDPOINT_BYTES: u64 = 256 * 1024;

/// Why an app was not started. Nothing of it remains.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A folder or file.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The writable layer.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A volume.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// Limits.
    #[error("limits: {0}")]
    Cgroup(#[from] CgroupError),
    /// Output.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The network.
    #[error("network: {0}")]
    Network(#[from] NetworkError),
    /// One of its networks.
    #[error("network `{0}`: {1}")]
    Place(String, #[source] Box<NetworkError>),
    /// A link of the board.
    #[error(transparent)]
    Interface(#[from] InterfaceError),
    /// A device of the board.
    #[error(transparent)]
    Device(#[from] DeviceFault),
    /// There is no network to attach to.
    #[error("network: {0}")]
    NoNetwork(String),
    /// A step of the launch.
    #[error(transparent)]
    Launch(#[from] Failure),
    /// The filter.
    #[error(transparent)]
    Seccomp(#[from] SeccompError),
    /// Who keeps what a hook says.
    #[error("the companion of its hook: {0}")]
    Companion(String),
    /// The standard streams.
    #[error("standard streams: {0}")]
    Stdio(std::io::Error),
}

impl LaunchError {
    /// The device that is not there, when that is the reason.
    pub fn lacks(&self) -> Option<&DeviceName> {
        match self {
            Self::Device(DeviceFault::Missing { device, .. }) => Some(device),
            _ => None,
        }
    }
}

/// What the app's first process does in its network before it becomes the program.
#[derive(Debug, Serialize, Deserialize)]
struct Inside<'a> {
    endpoints: Cow<'a, [Endpoint]>,
    interfaces: Cow<'a, [AppInterface]>,
}

/// The networks, or why there are none. Apps without a network run all the same.
pub type Bridge = Result<Networks, String>;

/// An app that runs.
#[derive(Debug)]
pub struct Launched {
    /// The container's first process.
    pub running: Running,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// Its places on networks.
    pub places: Vec<Attachment>,
    /// Its output.
    pub output: Output,
    /// Process id of the log writer.
    pub log_writer: i32,
    /// Devices of the board that it was given.
    pub devices: Vec<Given>,
    /// With a hook.
    pub companion: Option<Companion>,
}

/// What every launch needs.
#[derive(Debug)]
pub struct Ground<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// Cgroups.
    pub tree: &'a CgroupTree,
    /// The network namespace of the app whose network it uses.
    pub netns: Option<OwnedFd>,
    /// Networks whose resolver can be asked.
    pub answering: &'a [String],
    /// The ids that the app has of its own.
    pub ids: Option<IdRange>,
}

/// Starts an app. `container`: the digest of its set, so that what an app of another set wrote into its
/// writable layer is not put over other layers.
pub async fn launch(
    ground: &Ground<'_>,
    bridge: &mut Bridge,
    plan: &Plan,
    container: &str,
) -> Result<Launched, LaunchError> {
    let outcome = try_launch(ground, bridge, plan, container).await;
    if outcome.is_err() {
        for fault in clear(ground, bridge, &plan.slot).await {
            tracing::warn!(app = %plan.name, fault, "after a failed start");
        }
    }
    outcome
}

async fn try_launch(
    ground: &Ground<'_>,
    bridge: &mut Bridge,
    plan: &Plan,
    container: &str,
) -> Result<Launched, LaunchError> {
    let settings = ground.settings;
    let slot = plan.slot.as_str();
    let gift = devices::give(&plan.devices, &plan.user, &settings.config.hardware_root)?;
    let place = layer::prepare(settings, plan, container)?;
    prepare_volumes(settings, plan)?;
    let mut limits = plan.limits.clone();
    if let Devices::Only(rules) = &mut limits.devices {
        rules.extend(gift.rules);
    }
    let cgroup = ground.tree.create(slot, &limits)?;
    if let Err(error) = cgroup.set_limits(&plan.weights) {
        tracing::warn!(app = %plan.name, %error, "its share is the usual one, whatever its priority");
    }
    let (output, ends) = logs::pipes(plan.user.on_board(ground.ids))?;
    let (ends, companion) = match plan.is_hook {
        false => (ends, None),
        true => {
            let user = plan.user.on_board(ground.ids);
            let (ends, companion) = hooks::between(ends, user).map_err(LaunchError::Companion)?;
            (ends, Some(companion))
        }
    };
    let stdin = File::open("/dev/null").map_err(LaunchError::Stdio)?;
    let seccomp = filter::of_all_apps()?;

    let rootfs = Rootfs::Overlay {
        lower: plan.layers.clone(),
        upper: place.join("layer/upper"),
        work: place.join("layer/work"),
        merged: place.join("merged"),
    };
    let mut spec =
        LaunchSpec::new(plan.name.as_str(), rootfs, &cgroup).map_err(LaunchError::Stdio)?;
    spec.args = plan.args.clone();
    spec.init = plan.init;
    spec.env = [plan.env.clone(), gift.env].concat();
    spec.devices = gift.nodes;
    spec.cwd = plan.cwd.clone();
    spec.uid = plan.user.uid;
    spec.gid = plan.user.gid;
    spec.additional_gids = plan.user.groups.clone();
    spec.mounts = mounts(settings, &place, plan);
    spec.mounts
        .extend(secrets::write(settings, plan, ground.ids)?);
    spec.mounts.extend(lock::give(settings, plan, ground.ids)?);
    if let Some(ids) = ground.ids {
        spec.namespaces.user = UserNs::Range(ids);
    }
    spec.rootfs_readonly = plan.read_only_root;
    spec.rlimits = plan.rlimits.clone();
    spec.oom_score_adj = Some(plan.oom_score);
    spec.seccomp = Some(seccomp);
    spec.stdio = Stdio {
        stdin: stdin.into(),
        stdout: ends.stdout,
        stderr: ends.stderr,
        terminal: false,
    };
    match (&ground.netns, plan.network) {
        (_, NetworkMode::Host) => {
            spec.netns = NetNs::Host;
            spec.hostname = None;
            spec.settings.own_sockets = plan.keeps_to_own_sockets();
        }
        (Some(netns), _) => {
            spec.netns = NetNs::Join(netns.try_clone().map_err(LaunchError::Stdio)?);
        }
        (None, _) => {}
    }
    match is_told(plan) {
        true => etc::make(&place)?,
        false => etc::write(&place, plan, &[], &[])?,
    }

    // The child is a copy of this process as it is now, before there is an endpoint: it reads it from
    // here once it is let go.
    let endpoint_file = settings
        .run_state_dir()
        .join(format!("endpoint-{slot}.json"));
    disk::remove_volatile(&endpoint_file)?;
    let (how, board) = ((plan.network, ground.ids.is_some()), own_network());
    let created = prepare(&spec, &|| configure(how, board, &endpoint_file))?;
    let lent = interfaces::lend(settings, plan, &created).map_err(LaunchError::from);
    let attached = match lent {
        Ok(()) => places::attach(bridge, plan, &created).await,
        Err(error) => Err(error),
    };
    let places = match attached {
        Ok(places) => places,
        Err(error) => {
            created.kill_and_reap();
            return Err(error);
        }
    };
    let servers = etc::servers(&plan.names, &places, ground.answering);
    let told = tell_child(&place, plan, (&places, &servers), &endpoint_file);
    if let Err(error) = told {
        created.kill_and_reap();
        return Err(error.into());
    }
    // What it says before somebody writes it waits in the pipes.
    let starting = created.release()?;
    let log_writer = logs::start_writer(&output, settings, (&plan.name, slot, plan.logs));
    let log_writer = match log_writer {
        Ok(log_writer) => log_writer,
        Err(error) => {
            starting.kill_and_reap();
            return Err(error.into());
        }
    };
    // The spec's copies of the write ends go at the end of this scope, so that the pipes end with the app.
    let running = starting.finish()?;
    drop(spec);
    Ok(Launched {
        running,
        cgroup,
        places,
        output,
        log_writer,
        devices: gift.given,
        companion,
    })
}

/// Which network namespace this process is in.
fn own_network() -> Option<u64> {
    std::fs::metadata("/proc/self/ns/net")
        .ok()
        .map(|found| found.ino())
}

/// In the child, inside its network namespace; `board` is the supervisor's.
fn configure(
    (mode, is_stranger): (NetworkMode, bool),
    board: Option<u64>,
    endpoint_file: &Path,
) -> Result<(), String> {
    match mode {
        // Never the board's own, whatever an app's host was allowed to use by an earlier version.
        NetworkMode::Container if is_stranger && own_network() != board => {
            return places::open_to_strangers();
        }
        NetworkMode::Host | NetworkMode::Container => return Ok(()),
        NetworkMode::None => coracle_network::configure_loopback().map_err(|e| whole(&e))?,
        NetworkMode::Bridge => {}
    }
    let json = disk::read_bounded(endpoint_file, ENDPOINT_BYTES).map_err(|e| whole(&e))?;
    let Some(json) = json else { return Ok(()) };
    let inside: Inside<'_> = serde_json::from_slice(&json).map_err(|e| whole(&e))?;
    for endpoint in inside.endpoints.iter() {
        coracle_network::configure_inside(endpoint).map_err(|e| whole(&e))?;
    }
    for link in inside.interfaces.iter() {
        let wanted = coracle_network::LentAs {
            address: link.address,
            bitrate: link.bitrate,
        };
        let configured = coracle_network::configure_lent(link.name.as_str(), wanted);
        configured.map_err(|e| whole(&e))?;
    }
    Ok(())
}

/// Whether the child is told of places on networks and links of the board once it has them.
fn is_told(plan: &Plan) -> bool {
    !(plan.places.is_empty() && plan.interfaces.is_empty())
}

fn tell_child(
    place: &Path,
    plan: &Plan,
    (places, servers): (&[Attachment], &[IpAddr]),
    endpoint_file: &Path,
) -> Result<(), DiskError> {
    if !is_told(plan) {
        return Ok(());
    }
    let endpoints: Vec<Endpoint> = places.iter().map(|place| place.endpoint.clone()).collect();
    let inside = Inside {
        endpoints: endpoints.into(),
        interfaces: (&plan.interfaces).into(),
    };
    let json = serde_json::to_vec(&inside).unwrap_or_default();
    disk::write_volatile(endpoint_file, &json)?;
    etc::write(place, plan, places, servers)
}

/// Volumes that are missing are made and are the app's user's.
pub(crate) fn prepare_volumes(settings: &Settings, plan: &Plan) -> Result<(), VolumeError> {
    let volumes = Volumes::of(settings);
    let user = (plan.user.uid, plan.user.gid);
    plan.volumes
        .iter()
        .try_for_each(|volume| volumes.ensure(volume, user))
}

fn mounts(settings: &Settings, place: &Path, plan: &Plan) -> Vec<Mount> {
    // Who shares a network shares what is known of it.
    let host = plan.network_of.as_ref();
    let of_host = host.map(|host| settings.config.containers_dir().join(host.as_str()));
    let names = etc::NAMES.iter().map(|name| {
        let of = match (&of_host, *name) {
            (Some(host), "hosts" | "resolv.conf") => host,
            _ => place,
        };
        let source = of.join("etc").join(name);
        // Read-only: they lie beside the writable layer, where nothing bounds them.
        Mount::bind(source, Path::new("/etc").join(name), true)
    });
    names.chain(plan.mounts.iter().cloned()).collect()
}

/// Takes a container's network and cgroup away, with every process that is left in it. What went wrong, in
/// words; nothing that is missing already is an error.
pub async fn clear(ground: &Ground<'_>, bridge: &mut Bridge, slot: &str) -> Vec<String> {
    let mut faults = Vec::new();
    match ground.tree.open(slot) {
        Ok(cgroup) => {
            let gone = cgroup.kill_all().and_then(|()| cgroup.remove());
            faults.extend(gone.err().map(|error| error.to_string()));
        }
        Err(error) => faults.push(error.to_string()),
    }
    let secrets = secrets::remove(ground.settings, slot);
    faults.extend(secrets.err().map(|error| error.to_string()));
    let lock = lock::take_back(ground.settings, slot);
    faults.extend(lock.err().map(|error| error.to_string()));
    faults.extend(interfaces::take_back(ground.settings, slot));
    if let Ok(networks) = bridge {
        faults.extend(
            networks
                .ended(slot)
                .await
                .err()
                .map(|error| error.to_string()),
        );
    }
    faults
}

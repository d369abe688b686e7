//! Shapes of the Docker Engine API 1.43 ("Engine API v1.43", docs.docker.com/reference/api/engine):
//! the fields that clients read. Pure: from what the supervisor says to JSON.

pub mod containers;
pub mod create;
pub mod filters;
pub mod logs;
pub mod networks;
pub mod stats;
pub mod volumes;

use coracle_protocol::Sha256Digest;
use coracle_protocol::local::Status;
use coracle_protocol::report::{AppState, AppStatus, AppUsers, SetStatus};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The newest version that is spoken.
pub const API_VERSION: &str = "1.43";
/// Its minor number.
pub const MINOR: u32 = 43;
/// The oldest that is spoken: what a docker 28 client still accepts.
pub const MIN_MINOR: u32 = 24;

/// What `docker version` says of the machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// As `uname -r`.
    pub kernel: String,
    /// As `uname -m`.
    pub architecture: String,
}

impl Machine {
    /// The machine that this runs on.
    pub fn this() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
        }
    }
}

/// The id of an app's container: SHA-256 of the assignment's digest (with its `sha256:`) and the
/// app's name, in hex. A new assignment makes a new container, as a new `docker run` would.
pub fn container_id(set: &SetStatus, app: &AppStatus) -> String {
    Sha256Digest::of(format!("{}{}", set.deployment, app.name).as_bytes()).hex()
}

/// `GET /version`.
pub fn version(machine: &Machine) -> Value {
    let version = env!("CARGO_PKG_VERSION");
    let arch = go_arch(&machine.architecture);
    json!({
        "Platform": {"Name": "Coracle"},
        "Components": [{
            "Name": "Engine",
            "Version": version,
            "Details": {
                "ApiVersion": API_VERSION,
                "MinAPIVersion": format!("1.{MIN_MINOR}"),
                "Arch": arch,
                "Os": "linux",
                "KernelVersion": machine.kernel,
                "GoVersion": "none (Rust)",
                "GitCommit": "",
                "Experimental": "false",
                "BuildTime": ""
            }
        }],
        "Version": version,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": format!("1.{MIN_MINOR}"),
        "GitCommit": "",
        "GoVersion": "none (Rust)",
        "Os": "linux",
        "Arch": arch,
        "KernelVersion": machine.kernel,
        "BuildTime": ""
    })
}

/// `GET /info`.
pub fn info(status: &Status, instance: &str) -> Value {
    let apps = status.current.as_ref().map_or(&[][..], |set| &set.apps);
    let count = |wanted: fn(&AppStatus) -> bool| apps.iter().filter(|app| wanted(app)).count();
    let up = count(|app| matches!(app.state, AppState::Running | AppState::Restarting));
    let paused = count(|app| app.paused);
    let mut options = vec!["name=seccomp,profile=builtin", "name=cgroupns"];
    // As an engine with `userns-remap` says it.
    let has_own_users = |app: &AppStatus| matches!(app.users, Some(AppUsers::Own { .. }));
    if apps.iter().any(has_own_users) {
        options.push("name=userns");
    }
    let mut warnings = Vec::new();
    if let Some(failure) = &status.last_failure {
        warnings.push(format!("last deployment that failed: {failure}"));
    }
    if let Some(over) = &status.over_budget {
        warnings.push(format!(
            "what runs does not fit this board any more: {over}"
        ));
    }
    json!({
        "ID": instance,
        "Name": instance,
        "Containers": apps.len(),
        "ContainersRunning": up - paused.min(up),
        "ContainersPaused": paused,
        "ContainersStopped": apps.len() - up,
        "Images": image_list(status).len(),
        "Driver": "overlayfs",
        "DriverStatus": [["Layers", status.layers.len().to_string()]],
        "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null, "Log": ["json-file"]},
        "MemoryLimit": true,
        "SwapLimit": false,
        "CpuCfsPeriod": true,
        "CpuCfsQuota": true,
        "CPUShares": true,
        "CPUSet": true,
        "PidsLimit": true,
        "IPv4Forwarding": true,
        "OomKillDisable": false,
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "KernelVersion": status.board.kernel,
        "OperatingSystem": format!("Coracle on {}", status.board.profile),
        "OSVersion": "",
        "OSType": "linux",
        "Architecture": status.board.architecture,
        "NCPU": status.board.cpus,
        "MemTotal": status.board.memory_bytes,
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "SystemTime": crate::clock::rfc3339(crate::clock::since_epoch()),
        "DefaultRuntime": "coracle",
        "Runtimes": {"coracle": {"path": "coracle-supervisor"}},
        "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "", "RemoteManagers": null},
        "SecurityOptions": options,
        "Labels": [format!("board.profile={}", status.board.profile), format!("board.hardware={}", status.board.hardware)],
        "IndexServerAddress": "",
        "RegistryConfig": {"InsecureRegistryCIDRs": [], "IndexConfigs": {}, "Mirrors": []},
        "LiveRestoreEnabled": true,
        "ExperimentalBuild": false,
        "DockerRootDir": "",
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Warnings": warnings
    })
}

/// `GET /images/json`: the images of the running set.
pub fn images(status: &Status) -> Value {
    Value::Array(image_list(status))
}

fn image_list(status: &Status) -> Vec<Value> {
    let apps = status.current.iter().flat_map(|set| &set.apps);
    let mut images: BTreeMap<Sha256Digest, (&str, usize)> = BTreeMap::new();
    for app in apps {
        images
            .entry(app.image_manifest)
            .or_insert((&app.image, 0))
            .1 += 1;
    }
    images
        .into_iter()
        .map(|(digest, (name, containers))| {
            let repository = name
                .rsplit_once(':')
                .map_or(name, |(repository, _)| repository);
            json!({
                "Id": digest,
                "ParentId": "",
                "RepoTags": [name],
                "RepoDigests": [format!("{repository}@{digest}")],
                "Created": 0,
                "Size": 0,
                "SharedSize": -1,
                "VirtualSize": 0,
                "Labels": null,
                "Containers": containers
            })
        })
        .collect()
}

/// One line of `GET /events`. The action is Docker's word where there is one.
pub fn event(id: &str, app: &AppStatus, what: &str) -> Value {
    let action = match app.state {
        _ if what.starts_with("unhealthy") => "health_status: unhealthy".to_owned(),
        _ if what.starts_with("healthy") => "health_status: healthy".to_owned(),
        _ if what.contains("OOM") => "oom".to_owned(),
        _ if what == "paused" => "pause".to_owned(),
        _ if what == "resumed" => "unpause".to_owned(),
        AppState::Running => "start".to_owned(),
        AppState::Created => "create".to_owned(),
        AppState::Restarting | AppState::Exited => "die".to_owned(),
    };
    let at = crate::clock::since_epoch();
    let mut attributes = json!({"name": app.name, "image": app.image, "what": what});
    if action == "die" {
        let code = app.exit_code.unwrap_or(0).to_string();
        attributes["exitCode"] = Value::String(code);
    }
    json!({
        "status": action,
        "id": id,
        "from": app.image,
        "Type": "container",
        "Action": action,
        "Actor": {"ID": id, "Attributes": attributes},
        "scope": "local",
        "time": at.as_secs(),
        "timeNano": at.as_nanos() as u64
    })
}

/// Go's name of an architecture.
fn go_arch(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        m if m.starts_with("armv") => "arm",
        other => other,
    }
}

#[cfg(test)]
mod tests;

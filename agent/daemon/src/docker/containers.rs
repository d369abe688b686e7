//! `GET /containers/json` and `GET /containers/<id>/json`.

use super::{container_id, networks};
use crate::clock;
use coracle_protocol::release::{DeviceAccess, Port, Protocol};
use coracle_protocol::report::{AppState, AppStatus, AppUsers, SetStatus};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Docker's word for a time that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// One entry of the list.
pub fn summary(set: &SetStatus, app: &AppStatus) -> Value {
    let ports: Vec<_> = app
        .ports
        .iter()
        .map(|port| {
            json!({
                "IP": host_ip(port),
                "PrivatePort": port.container,
                "PublicPort": port.host,
                "Type": protocol(port)
            })
        })
        .collect();
    json!({
        "Id": container_id(set, app),
        "Names": [format!("/{}", app.name)],
        "Image": app.image,
        "ImageID": app.image_manifest,
        "Command": app.args.join(" "),
        "Created": app.started_at.unwrap_or(0),
        "Ports": ports,
        "Labels": labels(set),
        "State": word(app),
        "Status": sentence(app, clock::now()),
        "HostConfig": {"NetworkMode": networks::mode(set, app)},
        "NetworkSettings": {"Networks": networks::of_container(set, app)},
        "Mounts": []
    })
}

/// Everything about one container. `log` is its newest log file.
pub fn inspect(set: &SetStatus, app: &AppStatus, log: Option<&Path>) -> Value {
    let started = app.started_at.map_or(NEVER.to_owned(), |at| {
        clock::rfc3339(Duration::from_secs(at))
    });
    let mut bindings = serde_json::Map::new();
    let mut exposed = serde_json::Map::new();
    for port in &app.ports {
        let name = format!("{}/{}", port.container, protocol(port));
        let binding = json!([{"HostIp": host_ip(port), "HostPort": port.host.to_string()}]);
        exposed.insert(name.clone(), json!({}));
        bindings.insert(name, binding);
    }
    let mut state = json!({
        "Status": word(app),
        "Running": app.state == AppState::Running,
        "Paused": app.paused,
        "Restarting": app.state == AppState::Restarting,
        "OOMKilled": app.oom_killed,
        "Dead": false,
        "Pid": app.pid.unwrap_or(0),
        "ExitCode": app.exit_code.unwrap_or(0),
        "Error": "",
        "StartedAt": started,
        "FinishedAt": NEVER
    });
    if let Some(healthy) = app.healthy {
        let log = app.health_text.as_deref().unwrap_or_default();
        state["Health"] = json!({
            "Status": if healthy { "healthy" } else { "unhealthy" },
            "FailingStreak": u8::from(!healthy),
            "Log": [{"Start": started, "End": started, "ExitCode": u8::from(!healthy), "Output": log}]
        });
    }
    let limits = &app.limits;
    json!({
        "Id": container_id(set, app),
        "Created": started,
        "Path": app.args.first().map_or("", String::as_str),
        "Args": app.args.get(1..).unwrap_or_default(),
        "State": state,
        "Image": app.image_manifest,
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": log.map_or(String::new(), |p| p.display().to_string()),
        "Name": format!("/{}", app.name),
        "RestartCount": app.restarts,
        "Driver": "overlayfs",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": {
            "NetworkMode": networks::mode(set, app),
            "UsernsMode": users(app),
            "Init": app.init,
            "PortBindings": bindings,
            "Memory": limits.memory_bytes,
            "MemoryReservation": limits.memory_reservation_bytes.unwrap_or(0),
            "NanoCpus": u64::from(limits.cpu_millis) * 1_000_000,
            "CpusetCpus": app.cpus.as_deref().unwrap_or_default(),
            "PidsLimit": limits.pids,
            "Devices": devices(app),
            "CgroupParent": app.cgroup,
            "LogConfig": {"Type": "json-file", "Config": {}},
            "RestartPolicy": {"Name": "", "MaximumRetryCount": 0},
            "Privileged": false,
            "Binds": null
        },
        "GraphDriver": {"Name": "overlayfs", "Data": null},
        "Mounts": [],
        "Config": {
            "Hostname": app.name,
            "User": "",
            "AttachStdin": false,
            "AttachStdout": false,
            "AttachStderr": false,
            "Tty": false,
            "OpenStdin": false,
            "StdinOnce": false,
            "Env": null,
            "Cmd": app.args,
            "Image": app.image,
            "Volumes": null,
            "WorkingDir": "",
            "Entrypoint": null,
            "ExposedPorts": exposed,
            "Labels": labels(set)
        },
        "NetworkSettings": {
            "Ports": bindings,
            "IPAddress": app.ip.map_or(String::new(), |ip| ip.to_string()),
            "Networks": networks::of_container(set, app)
        }
    })
}

/// Docker's word for users: `host` are the board's, and what is left empty is what the engine gives, as `userns-remap` does.
fn users(app: &AppStatus) -> &'static str {
    match app.users {
        Some(AppUsers::Board { .. }) => "host",
        Some(AppUsers::Own { .. }) | None => "",
    }
}

/// Docker's word for a state.
pub fn word(app: &AppStatus) -> &'static str {
    match app.state {
        _ if app.paused => "paused",
        AppState::Created => "created",
        AppState::Running => "running",
        AppState::Restarting => "restarting",
        AppState::Exited => "exited",
    }
}

/// As in the column STATUS of `docker ps`.
fn sentence(app: &AppStatus, now: u64) -> String {
    let since = app.started_at.map(|at| span(now.saturating_sub(at)));
    let since = since.as_deref().unwrap_or("a while");
    let code = app.exit_code.unwrap_or(0);
    match app.state {
        AppState::Created => "Created".to_owned(),
        AppState::Running if app.paused => format!("Up {since} (Paused)"),
        AppState::Running => match app.healthy {
            None => format!("Up {since}"),
            Some(true) => format!("Up {since} (healthy)"),
            Some(false) => format!("Up {since} (unhealthy)"),
        },
        AppState::Restarting => format!("Restarting ({code}), started {since} ago"),
        AppState::Exited => format!("Exited ({code}), started {since} ago"),
    }
}

/// A time span as Docker words it (go-units, `HumanDuration`).
fn span(seconds: u64) -> String {
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{} minutes", seconds / 60),
        3600..7200 => "About an hour".to_owned(),
        7200..172_800 => format!("{} hours", seconds / 3600),
        172_800..1_209_600 => format!("{} days", seconds / 86_400),
        1_209_600..5_184_000 => format!("{} weeks", seconds / 604_800),
        5_184_000..63_072_000 => format!("{} months", seconds / 2_592_000),
        _ => format!("{} years", seconds / 31_536_000),
    }
}

fn labels(set: &SetStatus) -> Value {
    json!({
        "coracle.product": set.product,
        "coracle.version": set.version,
        "coracle.release": set.release,
        "coracle.deployment": set.deployment
    })
}

fn host_ip(port: &Port) -> String {
    port.host_ip
        .map_or("0.0.0.0".to_owned(), |ip| ip.to_string())
}

fn protocol(port: &Port) -> &'static str {
    match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// Docker's form, of those that are there.
fn devices(app: &AppStatus) -> Vec<Value> {
    let nodes = app.devices.iter().flat_map(|device| {
        let access = match device.access {
            DeviceAccess::ReadWrite => "rw",
            DeviceAccess::Read => "r",
        };
        device.nodes.iter().map(move |node| {
            json!({"PathOnHost": node, "PathInContainer": node, "CgroupPermissions": access})
        })
    });
    nodes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        for (seconds, words) in [
            (0, "Less than a second"),
            (45, "45 seconds"),
            (61, "About a minute"),
            (7300, "2 hours"),
            (400_000, "4 days"),
        ] {
            assert_eq!(span(seconds), words);
        }
    }
}

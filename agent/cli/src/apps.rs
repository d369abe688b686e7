//! `ps`, `stats`, `images`, and what is done to one app.

use crate::args::Action;
use crate::client::Client;
use crate::failure::Failure;
use crate::human::{age, short, size};
use crate::{output, status, table};
use coracle_protocol::names::AppName;
use coracle_protocol::release::{Port, Protocol};
use coracle_protocol::report::{AppPressure, AppState, AppStatus};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Over which CPU use is taken.
const SAMPLE: Duration = Duration::from_secs(1);

async fn running(client: &Client) -> Result<Vec<AppStatus>, Failure> {
    let status = status::supervisor(client).await?;
    Ok(status.current.map(|set| set.apps).unwrap_or_default())
}

/// `coracle ps`
pub async fn ps(client: &Client, json: bool) -> Result<(), Failure> {
    let apps = running(client).await?;
    if json {
        return output::json(&apps);
    }
    let rows: Vec<_> = apps.iter().map(row).collect();
    let titles = [
        "NAME",
        "STATE",
        "UP",
        ">RESTARTS",
        "ADDRESS",
        "PORTS",
        "IMAGE",
    ];
    output::text(&table::layout(titles, &rows))
}

fn row(app: &AppStatus) -> [String; 7] {
    let up = match app.state {
        AppState::Running => age(app.started_at),
        _ => "-".to_owned(),
    };
    let ports: Vec<_> = app.ports.iter().map(port).collect();
    [
        app.name.to_string(),
        state(app),
        up,
        app.restarts.to_string(),
        app.ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string()),
        if ports.is_empty() {
            "-".to_owned()
        } else {
            ports.join(", ")
        },
        app.image.clone(),
    ]
}

/// The state, and what one wants to know at once with it.
fn state(app: &AppStatus) -> String {
    let word = match app.state {
        _ if app.paused => return "paused".to_owned(),
        AppState::Created => "created",
        AppState::Running => "running",
        AppState::Restarting => "restarting",
        AppState::Exited => "exited",
    };
    if let Some(what) = &app.waiting_for {
        return format!("{word} ({})", what.chars().take(80).collect::<String>());
    }
    let more = match (app.state, app.healthy, app.exit_code) {
        (AppState::Running, Some(true), _) => "healthy".to_owned(),
        (AppState::Running, Some(false), _) => match &app.health_text {
            Some(text) => format!("unhealthy: {}", text.chars().take(60).collect::<String>()),
            None => "unhealthy".to_owned(),
        },
        (AppState::Restarting | AppState::Exited, _, _) if app.oom_killed => {
            "out of memory".to_owned()
        }
        (AppState::Restarting | AppState::Exited, _, Some(code)) => code.to_string(),
        _ => return word.to_owned(),
    };
    format!("{word} ({more})")
}

fn port(port: &Port) -> String {
    let host = match port.host_ip {
        Some(ip) => format!("{ip}:{}", port.host),
        None => port.host.to_string(),
    };
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    format!("{host}->{}/{protocol}", port.container)
}

/// What one app uses, beside its limits.
#[derive(Debug, Serialize)]
struct Use<'a> {
    name: &'a AppName,
    /// 100 is one core; `None` when the app was not there for the whole sample.
    cpu_percent: Option<f64>,
    cpu_limit_percent: f64,
    memory_bytes: Option<u64>,
    memory_limit_bytes: u64,
    pids: Option<u64>,
    pids_limit: u32,
    /// How much it waits for what it needs, where the kernel tells it (cgroup v2).
    #[serde(skip_serializing_if = "Option::is_none")]
    pressure: Option<AppPressure>,
    /// Of its writable layer.
    disk_bytes: Option<u64>,
    disk_limit_bytes: Option<u64>,
}

/// `coracle stats`
pub async fn stats(client: &Client, json: bool) -> Result<(), Failure> {
    let before = running(client).await?;
    let began = Instant::now();
    tokio::time::sleep(SAMPLE).await;
    let after = running(client).await?;
    let seconds = began.elapsed().as_secs_f64();
    let uses: Vec<Use> = after
        .iter()
        .map(|app| used(app, &before, seconds))
        .collect();
    if json {
        return output::json(&uses);
    }
    let rows: Vec<_> = uses
        .iter()
        .map(|u| {
            let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
            let part = |used: u64| {
                format!(
                    "{:.0} %",
                    used as f64 * 100.0 / u.memory_limit_bytes.max(1) as f64
                )
            };
            [
                u.name.to_string(),
                or_dash(u.cpu_percent.map(|p| format!("{p:.1} %"))),
                format!("{:.0} %", u.cpu_limit_percent),
                or_dash(u.memory_bytes.map(size)),
                size(u.memory_limit_bytes),
                or_dash(u.memory_bytes.map(part)),
                or_dash(u.pids.map(|p| p.to_string())),
                u.pids_limit.to_string(),
                or_dash(u.disk_bytes.map(size)),
                or_dash(u.disk_limit_bytes.map(size)),
            ]
        })
        .collect();
    let titles = [
        "NAME", ">CPU", ">LIMIT", ">MEMORY", ">LIMIT", ">USED", ">PIDS", ">LIMIT", ">DISK",
        ">LIMIT",
    ];
    output::text(&table::layout(titles, &rows))
}

fn used<'a>(app: &'a AppStatus, before: &[AppStatus], seconds: f64) -> Use<'a> {
    // A restart begins a new cgroup, whose time starts at 0.
    let earlier = before
        .iter()
        .find(|b| b.name == app.name && b.pid == app.pid);
    let spent = earlier.and_then(|b| app.cpu_usage_us?.checked_sub(b.cpu_usage_us?));
    let percent = |us: u64| (us as f64 / seconds / 1_000.0).round() / 10.0;
    Use {
        name: &app.name,
        cpu_percent: spent.map(percent),
        cpu_limit_percent: f64::from(app.limits.cpu_millis) / 10.0,
        memory_bytes: app.memory_bytes,
        memory_limit_bytes: app.limits.memory_bytes,
        pids: app.pids,
        pids_limit: app.limits.pids,
        pressure: app.pressure,
        disk_bytes: app.disk.map(|disk| disk.bytes),
        disk_limit_bytes: app.disk.and_then(|disk| disk.limit_bytes),
    }
}

/// An image and the apps that run from it.
#[derive(Debug, Serialize)]
struct Image<'a> {
    name: &'a str,
    manifest: coracle_protocol::Sha256Digest,
    apps: Vec<&'a AppName>,
}

/// `coracle images`
pub async fn images(client: &Client, json: bool) -> Result<(), Failure> {
    let apps = running(client).await?;
    let images = of_apps(&apps);
    if json {
        return output::json(&images);
    }
    let row = |image: &Image| {
        let apps: Vec<_> = image.apps.iter().map(|app| app.as_str()).collect();
        [
            image.name.to_owned(),
            short(&image.manifest),
            apps.join(", "),
        ]
    };
    let rows: Vec<_> = images.iter().map(row).collect();
    output::text(&table::layout(["IMAGE", "MANIFEST", "APPS"], &rows))
}

fn of_apps(apps: &[AppStatus]) -> Vec<Image<'_>> {
    let mut images: Vec<Image> = Vec::new();
    for app in apps {
        let same = |i: &&mut Image| i.manifest == app.image_manifest && i.name == app.image;
        match images.iter_mut().find(same) {
            Some(image) => image.apps.push(&app.name),
            None => images.push(Image {
                name: &app.image,
                manifest: app.image_manifest,
                apps: vec![&app.name],
            }),
        }
    }
    images
}

/// `coracle restart`, `stop`, `start`, `pause`, `resume`
pub async fn control(client: &Client, action: Action, app: &AppName) -> Result<(), Failure> {
    let (verb, done) = match action {
        Action::Restart => ("restart", "restarted"),
        Action::Stop => ("stop", "stopped"),
        Action::Start => ("start", "started"),
        Action::Pause => ("pause", "paused"),
        Action::Resume => ("unpause", "resumed"),
    };
    client.order(&format!("/containers/{app}/{verb}")).await?;
    output::text(&format!("{app} {done}\n"))
}

/// `coracle kill`
pub async fn kill(client: &Client, app: &AppName, signal: &str) -> Result<(), Failure> {
    // A plus is a blank in a query.
    let escaped = signal.replace('+', "%2B");
    let path = format!("/containers/{app}/kill?signal={escaped}");
    client.order(&path).await?;
    output::text(&format!("{app} was sent {signal}\n"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn app() -> AppStatus {
        serde_json::from_value(serde_json::json!({
            "name": "web", "image": "shop/web:1", "image_manifest": format!("sha256:{}", "a".repeat(64)),
            "state": "running", "exit_code": null, "oom_killed": false, "restarts": 2, "healthy": true,
            "health_text": null, "pid": 7, "started_at": null, "ip": "172.30.0.2",
            "ports": [{"host": 8080, "container": 80}], "args": [],
            "limits": {"memory_bytes": 67108864, "cpu_millis": 500, "pids": 64},
            "cgroup": null, "memory_bytes": 1048576, "cpu_usage_us": 1_500_000, "pids": 3
        }))
        .unwrap()
    }

    #[test]
    fn a_row() {
        let mut app = app();
        let text = [
            "web",
            "running (healthy)",
            "-",
            "2",
            "172.30.0.2",
            "8080->80/tcp",
            "shop/web:1",
        ];
        assert_eq!(row(&app), text.map(str::to_owned));
        app.paused = true;
        assert_eq!(state(&app), "paused");
        app.paused = false;
        app.state = AppState::Created;
        app.waiting_for = Some("waiting for db: healthy".into());
        assert_eq!(state(&app), "created (waiting for db: healthy)");
        app.waiting_for = None;
        app.state = AppState::Exited;
        app.exit_code = Some(137);
        assert_eq!(state(&app), "exited (137)");
        app.oom_killed = true;
        assert_eq!(state(&app), "exited (out of memory)");
    }

    #[test]
    fn cpu_use_is_of_one_process_life() {
        let (mut before, after) = (app(), app());
        before.cpu_usage_us = Some(1_000_000);
        assert_eq!(used(&after, &[before.clone()], 1.0).cpu_percent, Some(50.0));
        before.pid = Some(6);
        assert_eq!(used(&after, &[before], 1.0).cpu_percent, None);
    }

    #[test]
    fn apps_share_an_image() {
        let mut other = app();
        other.name = AppName::new("api").unwrap();
        let apps = [app(), other];
        let images = of_apps(&apps);
        assert_eq!(images.len(), 1);
        assert_eq!(images[0].apps.len(), 2);
    }
}

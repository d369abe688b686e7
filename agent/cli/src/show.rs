//! Lists: what runs, what it uses, how the board is.

use crate::client::Client;
use crate::failure::Failure;
use crate::table::{self, plain};
use coracle_protocol::local::Status;
use coracle_protocol::release::{Port, Protocol};
use coracle_protocol::report::{AppState, AppStatus, SetState};
use serde::Deserialize;
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// Of `GET /coracle/v1/status`.
#[derive(Debug, Deserialize)]
struct Link {
    board: Option<String>,
    console: Option<String>,
    broker: Option<String>,
    connected: bool,
    since: u64,
    error: Option<String>,
    waiting: usize,
}

async fn raw(client: &Client) -> Result<Value, Failure> {
    client.get("/coracle/v1/status").await
}

async fn status_of(client: &Client) -> Result<Status, Failure> {
    let value = raw(client).await?;
    if value.get("supervisor_up") == Some(&Value::Bool(false)) {
        let text = "coracle-supervisor cannot be reached, so nothing is known of the apps; try `systemctl status coracle-supervisor`";
        return Err(Failure::Board(text.into()));
    }
    serde_json::from_value(value)
        .map_err(|e| Failure::Board(format!("coracled speaks another version: {e}")))
}

/// `coracle ps`.
pub async fn ps(client: &Client, json: bool) -> Result<(), Failure> {
    let status = status_of(client).await?;
    let apps = status.current.as_ref().map_or(&[][..], |set| &set.apps);
    if json {
        return table::json(&apps);
    }
    let rows: Vec<_> = apps
        .iter()
        .map(|app| {
            vec![
                app.name.to_string(),
                state(app),
                health(app),
                app.restarts.to_string(),
                memory(app),
                app.ports.iter().map(port).collect::<Vec<_>>().join(", "),
                plain(&app.image),
            ]
        })
        .collect();
    table::print(
        &[
            "APP", "STATE", "HEALTH", "RESTARTS", "MEMORY", "PORTS", "IMAGE",
        ],
        &rows,
    )
}

/// `coracle stats`.
pub async fn stats(client: &Client, json: bool) -> Result<(), Failure> {
    let before = status_of(client).await?;
    let begin = std::time::Instant::now();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let after = status_of(client).await?;
    let micros = begin.elapsed().as_micros() as f64;
    let apps = |status: &Status| status.current.clone().map_or(Vec::new(), |set| set.apps);
    let before = apps(&before);
    let mut rows = Vec::new();
    let mut values = Vec::new();
    for app in apps(&after) {
        let earlier = before.iter().find(|b| b.name == app.name);
        let used = app.cpu_usage_us.unwrap_or(0);
        let used = used.saturating_sub(earlier.and_then(|b| b.cpu_usage_us).unwrap_or(used));
        let cores = used as f64 / micros;
        values.push(serde_json::json!({
            "name": app.name, "memory_bytes": app.memory_bytes, "memory_limit_bytes": app.limits.memory_bytes,
            "cpu_cores": cores, "cpu_limit_cores": f64::from(app.limits.cpu_millis) / 1000.0,
            "pids": app.pids, "pids_limit": app.limits.pids,
        }));
        rows.push(vec![
            app.name.to_string(),
            format!("{:.1} %", cores * 100.0),
            format!("{:.0} %", f64::from(app.limits.cpu_millis) / 10.0),
            memory(&app),
            app.pids
                .map_or("-".into(), |p| format!("{p} / {}", app.limits.pids)),
        ]);
    }
    if json {
        return table::json(&values);
    }
    table::print(&["APP", "CPU", "CPU LIMIT", "MEMORY", "PIDS"], &rows)
}

/// `coracle images`.
pub async fn images(client: &Client, json: bool) -> Result<(), Failure> {
    let status = status_of(client).await?;
    let apps = status.current.as_ref().map_or(&[][..], |set| &set.apps);
    if json {
        let list: Vec<_> = apps
            .iter()
            .map(|a| serde_json::json!({"app": a.name, "image": a.image, "manifest": a.image_manifest}))
            .collect();
        return table::json(&list);
    }
    let rows: Vec<_> = apps
        .iter()
        .map(|app| {
            let digest = app.image_manifest.hex();
            vec![
                plain(&app.image),
                digest[..12].to_owned(),
                app.name.to_string(),
            ]
        })
        .collect();
    table::print(&["IMAGE", "MANIFEST", "APP"], &rows)
}

/// `coracle version`.
pub async fn version(client: &Client, json: bool) -> Result<(), Failure> {
    let own = env!("CARGO_PKG_VERSION");
    let value = raw(client).await;
    let text = |key: &str| match &value {
        Ok(value) => value.get(key).and_then(Value::as_str).map(str::to_owned),
        Err(_) => None,
    };
    let (daemon, supervisor) = (text("daemon"), text("version"));
    if json {
        return table::json(
            &serde_json::json!({"coracle": own, "coracled": daemon, "coracle-supervisor": supervisor}),
        );
    }
    let or = |v: Option<String>| v.unwrap_or_else(|| "cannot be reached".into());
    table::out(&format!(
        "coracle             {own}\ncoracled            {}\ncoracle-supervisor  {}\n",
        or(daemon),
        or(supervisor)
    ))
}

/// `coracle status`.
pub async fn status(client: &Client, json: bool) -> Result<(), Failure> {
    let value = raw(client).await?;
    if json {
        return table::json(&value);
    }
    let link: Link = serde_json::from_value(value["link"].clone())
        .map_err(|e| Failure::Board(format!("coracled speaks another version: {e}")))?;
    let mut rows = Vec::new();
    let mut row = |key: &str, value: String| rows.push((key.to_owned(), value));
    match &link.board {
        None => row(
            "board",
            "not enrolled; `coracle enrol FILE` joins a fleet".into(),
        ),
        Some(board) => {
            row("board", board.clone());
            let console = link.console.as_deref().unwrap_or("-");
            row("console", plain(console));
            let broker = plain(link.broker.as_deref().unwrap_or("-"));
            let since = table::span(now().saturating_sub(link.since));
            row(
                "link",
                match (&link.error, link.connected) {
                    (_, true) => format!("up for {since} ({broker})"),
                    (Some(error), false) => format!("down ({broker}): {}", plain(error)),
                    (None, false) => format!("connecting ({broker})"),
                },
            );
        }
    }
    if link.waiting > 0 {
        row(
            "waiting",
            format!("{} reports for the console", link.waiting),
        );
    }
    if value["supervisor_up"] == Value::Bool(false) {
        row(
            "supervisor",
            "cannot be reached; try `systemctl status coracle-supervisor`".into(),
        );
    } else if let Ok(status) = serde_json::from_value::<Status>(value.clone()) {
        let b = &status.board;
        row(
            "hardware",
            format!(
                "{} (profile {}), {} cores, {}",
                b.hardware,
                b.profile,
                b.cpus,
                table::bytes(b.memory_bytes)
            ),
        );
        row("kernel", format!("{} {}", b.kernel, b.architecture));
        match &status.current {
            None => row("running", "nothing".into()),
            Some(set) => {
                let state = match set.state {
                    SetState::Trial => "on trial",
                    SetState::Committed => "kept",
                };
                let up = set
                    .apps
                    .iter()
                    .filter(|a| a.state == AppState::Running)
                    .count();
                row(
                    "running",
                    format!(
                        "{} {} ({state}), {up} of {} apps up",
                        set.product,
                        plain(&set.version),
                        set.apps.len()
                    ),
                );
            }
        }
        if let Some((_, version)) = &status.previous {
            row("previous", plain(version));
        }
        if let Some(failure) = &status.last_failure {
            row("last failure", plain(failure));
        }
    }
    let text: String = rows.iter().map(|(k, v)| format!("{k:13}{v}\n")).collect();
    table::out(&text)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| d.as_secs())
}

fn state(app: &AppStatus) -> String {
    let since = app
        .started_at
        .map(|at| table::span(now().saturating_sub(at)));
    let code = app.exit_code.unwrap_or(0);
    match app.state {
        AppState::Created => "created".into(),
        AppState::Running => format!("up {}", since.unwrap_or_default()),
        AppState::Restarting => format!("restarting ({code})"),
        AppState::Exited if app.oom_killed => format!("out of memory ({code})"),
        AppState::Exited => format!("exited ({code})"),
    }
}

fn health(app: &AppStatus) -> String {
    match app.healthy {
        None => "-".into(),
        Some(true) => "healthy".into(),
        Some(false) => "unhealthy".into(),
    }
}

fn memory(app: &AppStatus) -> String {
    let limit = table::bytes(app.limits.memory_bytes);
    app.memory_bytes
        .map_or("-".into(), |m| format!("{} / {limit}", table::bytes(m)))
}

fn port(port: &Port) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "",
        Protocol::Udp => "/udp",
    };
    format!("{}→{}{protocol}", port.host, port.container)
}

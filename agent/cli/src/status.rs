//! `status` and `version`, and what other commands need of the daemon's status.

mod board;
mod storage;

use crate::client::{Client, ClientError};
use crate::failure::Failure;
use crate::human::{age, printable, short, size, span};
use crate::output;
use coracle_protocol::local::Status;
use coracle_protocol::names::BoardId;
use coracle_protocol::renewal::{Standing, State};
use coracle_protocol::report::{
    AppState, AppStatus, AppUsers, Feedback, HeatState, HeatStatus, OwnProgram, SetState,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Write;

pub const PATH: &str = "/coracle/v1/status";

/// How the daemon's link to the console is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Link {
    board: Option<String>,
    console: Option<String>,
    connected: bool,
    since: u64,
    error: Option<String>,
    waiting: u64,
}

/// What the console said of the board's certificate.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Certificate {
    standing: Option<Standing>,
    error: Option<String>,
}

/// Until a daemon that was started anew has found its supervisor; a minute, and no longer.
pub async fn wait(client: &Client) {
    for _ in 0..60 {
        match client.get::<Value>(PATH).await {
            Ok(body) if body["supervisor_up"] == false => {}
            Err(ClientError::Unreachable { .. } | ClientError::Broken(_)) => {}
            Ok(_) | Err(_) => return,
        }
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

/// What the supervisor says, through the daemon.
pub async fn supervisor(client: &Client) -> Result<Status, Failure> {
    of_supervisor(&client.get(PATH).await?)
}

/// The board's name, when it is enrolled.
pub async fn board(client: &Client) -> Result<Option<BoardId>, Failure> {
    Ok(board_of(&client.get(PATH).await?))
}

/// The same, of a status.
pub fn board_of(body: &Value) -> Option<BoardId> {
    let name = body["link"]["board"].as_str();
    name.and_then(|name| BoardId::new(name).ok())
}

fn of_supervisor(body: &Value) -> Result<Status, Failure> {
    if body["supervisor_up"] == false {
        return Err(Failure::NoSupervisor);
    }
    read(body).map_err(|e| Failure::Client(e.into()))
}

/// Through text, not from the value: one deserializer of each type in the program is enough.
pub fn read<T: DeserializeOwned>(part: &Value) -> serde_json::Result<T> {
    serde_json::from_slice(part.to_string().as_bytes())
}

/// `coracle status`
pub async fn show(client: &Client, json: bool) -> Result<(), Failure> {
    let body: Value = client.get(PATH).await?;
    if json {
        return output::json(&body);
    }
    let link: Link = read(&body["link"]).unwrap_or_default();
    let last: Option<Feedback> = read(&body["last_deployment"]).ok();
    let status = of_supervisor(&body);
    let certificate: Certificate = read(&body["certificate"]).unwrap_or_default();
    let mut text = describe(
        status.as_ref().ok(),
        &body["board_use"],
        &link,
        last.as_ref(),
    );
    let supervisor = status.as_ref().ok().and_then(|s| s.program.as_ref());
    let daemon: Option<OwnProgram> = read(&body["daemon_program"]).ok();
    if let (Some(supervisor), Some(daemon)) = (supervisor, daemon) {
        let words = describe_programs(supervisor, &daemon);
        let _ = writeln!(text, "{:<10}{}", "agent", printable(&words));
    }
    if let Some(words) = describe_certificate(&certificate) {
        let _ = writeln!(text, "{:<10}{}", "identity", printable(&words));
    }
    output::text(&text)?;
    status.map(drop)
}

fn describe(status: Option<&Status>, used: &Value, link: &Link, last: Option<&Feedback>) -> String {
    let mut text = String::new();
    let mut line = |title: &str, value: String| {
        let _ = writeln!(text, "{title:<10}{}", printable(&value));
    };
    line(
        "board",
        link.board.clone().unwrap_or_else(|| "not enrolled".into()),
    );
    if let Some(status) = status {
        let board = &status.board;
        let apps = status.current.as_ref().map_or(&[][..], |set| &set.apps);
        let heat = status.heat.as_ref().map(|heat| describe_heat(heat, apps));
        line(
            "hardware",
            format!(
                "{} (profile {}), {}, {} cores, {}",
                board.hardware,
                board.profile,
                board.architecture,
                board.cpus,
                size(board.memory_bytes)
            ),
        );
        line("kernel", board.kernel.clone());
        let is_told = heat.is_some();
        if let Some(heat) = heat {
            line("heat", heat);
        }
        for (title, value) in board::describe(used, is_told) {
            line(title, value);
        }
        for disk in &status.storage {
            line("storage", storage::describe(disk));
        }
        match &status.current {
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
                line("set", format!("{} {}, {state}", set.product, set.version));
                line("apps", format!("{up} of {} run", set.apps.len()));
                if let Some(users) = users(&set.apps) {
                    line("users", users);
                }
                if let Some(devices) = gone_devices(&set.apps) {
                    line("devices", devices);
                }
                line("release", short(&set.release));
                if let Some(stale) = set.stale_since.map(describe_stale) {
                    line("stale", stale);
                }
            }
            None => line("set", "none".into()),
        }
        if let Some(over) = &status.over_budget {
            line(
                "over",
                format!("what runs does not fit this board any more: {over}"),
            );
        }
        if let Some((_, version)) = &status.previous {
            line("previous", version.clone());
        }
        if let Some(set) = &status.waiting {
            line("waiting", format!("{}: {}", set.version, set.reason));
        }
        if let Some(failure) = &status.last_failure {
            line("failure", failure.clone());
        }
        if let Some(trust) = &status.trust {
            line("root", format!("version {}", trust.root_version));
            if let Some(key) = &trust.secret_key {
                line("secrets", format!("sealed to key {}", key.hint()));
            }
            if let Some(damage) = &trust.damage {
                line(
                    "trust",
                    format!("{damage}; nothing new is accepted, what runs goes on"),
                );
            }
        }
        line("layers", status.layers.len().to_string());
    }
    if let Some(last) = last {
        let phase = serde_json::to_value(last.phase).unwrap_or_default();
        let phase = phase.as_str().unwrap_or_default().to_owned();
        let percent = last.percent.map(|p| format!(" {p} %"));
        let words = last.reason.as_deref().or(last.blob.as_deref());
        let words = words.map(|w| format!(": {w}")).unwrap_or_default();
        line(
            "last",
            format!("{phase}{}{words}", percent.unwrap_or_default()),
        );
    }
    line("link", describe_link(link));
    text
}

/// Whether apps' roots are nobody on the board, and which ones are the board's root and why.
fn users(apps: &[AppStatus]) -> Option<String> {
    let running: Vec<&AppStatus> = apps.iter().filter(|app| app.users.is_some()).collect();
    let boards: Vec<String> = running
        .iter()
        .filter_map(|app| match &app.users {
            Some(AppUsers::Board { because }) => Some(format!("{}: {because}", app.name)),
            _ => None,
        })
        .collect();
    let own = running.len() - boards.len();
    let text = format!("{own} of {} apps have their own", running.len());
    match (running.is_empty(), boards.is_empty()) {
        (true, _) => None,
        (false, true) => Some(text),
        (false, false) => Some(format!("{text}; the board's has {}", boards.join("; "))),
    }
}

/// How hot it is, and who pays for it.
fn describe_heat(heat: &HeatStatus, apps: &[AppStatus]) -> String {
    let celsius = f64::from(heat.millidegrees) / 1000.0;
    let slowed: Vec<String> = apps
        .iter()
        .filter_map(|app| {
            Some(format!(
                "{} has {} % of its CPU",
                app.name, app.cpu_percent?
            ))
        })
        .collect();
    let state = match heat.state {
        HeatState::Cool => "cool",
        HeatState::Between => "warm",
        HeatState::Hot => "hot",
    };
    let mut text = format!(
        "{} {celsius:.1} °C, {state}; apps are slowed from {} °C",
        heat.zone, heat.throttle_celsius
    );
    if !slowed.is_empty() {
        text = format!("{text}: {}", slowed.join(", "));
    }
    text
}

/// What an operator is to do about it.
fn describe_stale(since: u64) -> String {
    let since = rfc3339(since);
    format!("expired {since}; it runs on, and is to be assigned anew or replaced by a newer one")
}

/// Devices that apps were given and that are not there any more.
fn gone_devices(apps: &[AppStatus]) -> Option<String> {
    let gone = apps.iter().flat_map(|app| {
        let devices = app.devices.iter().filter(|device| !device.gone.is_empty());
        devices.map(move |device| {
            let nodes = device.gone.join(", ");
            format!("{}: {} is gone ({nodes})", app.name, device.name)
        })
    });
    let gone: Vec<String> = gone.collect();
    (!gone.is_empty()).then(|| gone.join("; "))
}

fn describe_link(link: &Link) -> String {
    let console = link.console.as_deref().unwrap_or("the console");
    let mut text = match (&link.board, link.connected) {
        (None, _) => "none: the board is not enrolled (see `coracle enrol --help`)".to_owned(),
        (_, true) => format!("connected to {console} for {}", age(Some(link.since))),
        (_, false) => {
            let why = link.error.as_deref().unwrap_or("not tried yet");
            format!("not connected to {console}: {why}")
        }
    };
    if link.waiting > 0 {
        text.push_str(&format!(", {} reports wait", link.waiting));
    }
    text
}

/// What runs as the board's own two processes; `coracle` itself is always the root file system's.
fn describe_programs(supervisor: &OwnProgram, daemon: &OwnProgram) -> String {
    let one = |program: &OwnProgram| match &program.brought {
        Some(digest) => format!("{} of a release ({})", program.version, short(digest)),
        None => format!("{} of the root file system", program.version),
    };
    match supervisor == daemon {
        true => one(supervisor),
        false => format!("{}; coracled is {}", one(supervisor), one(daemon)),
    }
}

/// Until when the certificate is good, or why it is of no use.
fn describe_certificate(certificate: &Certificate) -> Option<String> {
    const AGAIN: &str = "enrol the board again with a new enrolment file (`coracle enrol FILE`)";
    let Some(standing) = &certificate.standing else {
        return certificate
            .error
            .as_ref()
            .map(|e| format!("certificate not looked after: {e}"));
    };
    let serial = &standing.serial;
    let end = rfc3339(standing.not_after);
    let why = standing.reason.as_deref().unwrap_or("no reason given");
    let mut text = match standing.state {
        State::Good => format!("certificate {serial}, until {end}"),
        State::Due | State::Expired => format!("certificate {serial}, until {end}, to be renewed"),
        State::Revoked | State::TooLate | State::Superseded | State::Unknown => {
            format!("certificate {serial}: {why}; {AGAIN}")
        }
        State::Other => format!("certificate {serial}: {why}"),
    };
    if let Some(error) = &certificate.error {
        text.push_str(&format!("; not renewed now: {error}"));
    }
    Some(text)
}

pub fn rfc3339(at: u64) -> String {
    // The last second that RFC 3339 has a year for.
    let at = std::time::Duration::from_secs(at.min(253_402_300_799));
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + at).to_string()
}

/// `coracle version`; whoever cannot be asked is left out.
pub async fn version(client: Option<&Client>, json: bool) -> Result<(), Failure> {
    let own = env!("CARGO_PKG_VERSION");
    let body: Value = match client {
        Some(client) => client.get(PATH).await.unwrap_or_default(),
        None => Value::Null,
    };
    let (daemon, supervisor) = (body["daemon"].as_str(), body["version"].as_str());
    if json {
        let versions =
            serde_json::json!({"coracle": own, "coracled": daemon, "supervisor": supervisor});
        return output::json(&versions);
    }
    let mut text = format!("coracle     {own}\n");
    for (name, version) in [("coracled", daemon), ("supervisor", supervisor)] {
        let version = version.map_or_else(|| "cannot be asked".to_owned(), printable);
        let _ = writeln!(text, "{name:<12}{version}");
    }
    output::text(&text)
}

/// `12 s` of a trial, from a release that the daemon has verified; for people only.
pub fn trial(release: &coracle_protocol::dsse::Envelope) -> Option<String> {
    let payload = release.payload_unverified().ok()?;
    let release: Value = serde_json::from_slice(&payload).ok()?;
    let apps = release["apps"].as_array()?;
    apps.iter()
        .filter_map(|app| app["trial_seconds"].as_u64())
        .max()
        .map(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_why_it_is_of_no_use_and_what_to_do() {
        assert_eq!(describe_certificate(&Certificate::default()), None);
        let said = |state: &str| {
            let json = serde_json::json!({"standing": {"board": "acme.b", "serial": "41", "state": state,
                "not_after": 1_800_000_000, "reason": "revoked: stolen", "ask_in_seconds": 9},
                "error": "no route to host"});
            describe_certificate(&Certificate::deserialize(&json).unwrap()).unwrap()
        };
        let good = said("good");
        assert!(
            good.starts_with("certificate 41, until 2027-01-15T08:00:00Z"),
            "{good}"
        );
        assert!(good.contains("no route to host"));
        let revoked = said("revoked");
        assert!(
            revoked.contains("stolen") && revoked.contains("coracle enrol FILE"),
            "{revoked}"
        );
        assert!(said("something new").contains("revoked: stolen"));
    }

    #[test]
    fn a_stale_set_is_told_and_what_to_do() {
        let status = |stale: Option<u64>| {
            let digest = coracle_protocol::Sha256Digest::of(b"x");
            let mut set = serde_json::json!({"deployment": digest, "release": digest, "product": "shop",
                "version": "2.0", "state": "committed", "apps": []});
            if let Some(since) = stale {
                set["stale_since"] = since.into();
            }
            let board = serde_json::json!({"profile": "pi", "hardware": "pi", "architecture": "aarch64",
                "kernel": "6.6", "agent": "0.1", "memory_bytes": 1, "cpus": 4});
            let status = serde_json::json!({"version": "0.1", "board": board, "current": set,
                "previous": null, "last_failure": null, "layers": []});
            describe(
                Some(&read(&status).unwrap()),
                &Value::Null,
                &Link::default(),
                None,
            )
        };
        let told = status(Some(1_800_000_000));
        assert!(
            told.contains("stale     expired 2027-01-15T08:00:00Z; it runs on"),
            "{told}"
        );
        assert!(!status(None).contains("stale"));
    }

    #[test]
    fn the_blob_that_comes_is_told() {
        let last = serde_json::json!({"activity": "a", "sequence": 1, "phase": "fetching", "percent": 40,
            "blob": "layer 2 of 3 of web: 8 of 20 bytes, from the console"});
        let last = read(&last).unwrap();
        let told = describe(None, &Value::Null, &Link::default(), Some(&last));
        let line = "last      fetching 40 %: layer 2 of 3 of web: 8 of 20 bytes, from the console";
        assert!(told.lines().any(|told| told == line), "{told}");
    }

    #[test]
    fn a_set_that_does_not_fit_any_more_is_told() {
        let board = serde_json::json!({"profile": "pi", "hardware": "pi", "architecture": "aarch64",
            "kernel": "6.6", "agent": "0.1", "memory_bytes": 1, "cpus": 4});
        let status = serde_json::json!({"version": "0.1", "board": board, "current": null, "previous": null,
            "last_failure": null, "over_budget": "memory: too much", "layers": []});
        let told = describe(
            Some(&read(&status).unwrap()),
            &Value::Null,
            &Link::default(),
            None,
        );
        let line = "over      what runs does not fit this board any more: memory: too much";
        assert!(told.lines().any(|told| told == line), "{told}");
    }

    #[test]
    fn users_say_who_is_the_boards_root() {
        let app = |name: &str, users| {
            let mut app = crate::apps::tests::app();
            app.name = coracle_protocol::names::AppName::new(name).unwrap();
            app.users = users;
            app
        };
        let own = || {
            Some(AppUsers::Own {
                first: 1 << 30,
                count: 65_536,
            })
        };
        let because = "it uses the board's network".to_owned();
        let board = Some(AppUsers::Board { because });
        assert_eq!(users(&[app("down", None)]), None);
        assert_eq!(
            users(&[app("web", own()), app("down", None)]).unwrap(),
            "1 of 1 apps have their own"
        );
        assert_eq!(
            users(&[app("web", own()), app("can", board)]).unwrap(),
            "1 of 2 apps have their own; the board's has can: it uses the board's network"
        );
    }

    #[test]
    fn heat_says_who_pays_for_it() {
        let heat = HeatStatus {
            state: HeatState::Hot,
            zone: "cpu-thermal".into(),
            millidegrees: 76_249,
            throttle_celsius: 75,
        };
        let mut web = crate::apps::tests::app();
        web.cpu_percent = Some(60);
        let other = crate::apps::tests::app();
        assert_eq!(
            describe_heat(&heat, std::slice::from_ref(&other)),
            "cpu-thermal 76.2 °C, hot; apps are slowed from 75 °C"
        );
        assert_eq!(
            describe_heat(&heat, &[web, other]),
            "cpu-thermal 76.2 °C, hot; apps are slowed from 75 °C: web has 60 % of its CPU"
        );
    }

    #[test]
    fn a_device_that_is_gone_is_said() {
        let mut app = crate::apps::tests::app();
        assert_eq!(gone_devices(std::slice::from_ref(&app)), None);
        app.devices = serde_json::from_value(serde_json::json!([
            {"name": "gpio", "nodes": ["/dev/gpiochip0"]},
            {"name": "serial", "nodes": ["/dev/ttyUSB0"], "gone": ["/dev/ttyUSB0"]},
        ]))
        .unwrap();
        assert_eq!(
            gone_devices(&[app]).unwrap(),
            "web: serial is gone (/dev/ttyUSB0)"
        );
    }

    #[test]
    fn programs_are_told_and_one_that_is_another_too() {
        let of = |version: &str, brought| OwnProgram {
            version: version.into(),
            brought,
        };
        let shipped = of("0.1.0", None);
        let brought = of("2", Some(coracle_protocol::Sha256Digest::of(b"agent")));
        let two = describe_programs(&brought, &brought);
        assert!(two.starts_with("2 of a release ("), "{two}");
        assert_eq!(
            describe_programs(&shipped, &shipped),
            "0.1.0 of the root file system"
        );
        assert_eq!(
            describe_programs(&brought, &shipped),
            format!("{two}; coracled is 0.1.0 of the root file system")
        );
    }

    #[test]
    fn a_link_says_what_is_wrong() {
        let mut link = Link::default();
        assert!(describe_link(&link).contains("not enrolled"));
        link.board = Some("acme.b".into());
        link.error = Some("no route to host".into());
        link.waiting = 3;
        assert_eq!(
            describe_link(&link),
            "not connected to the console: no route to host, 3 reports wait"
        );
    }
}

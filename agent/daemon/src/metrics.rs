//! Metrics as Prometheus reads them ("Exposition formats", text format 0.0.4).

use crate::link::LinkState;
use coracle_protocol::local::Status;
use coracle_protocol::report::{AppState, AppStatus, Phase, StorageWear, Traffic};
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is counted as it happens.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes of blobs that came over the network.
    pub fetched_bytes: AtomicU64,
    /// Requests on docker.sock.
    pub requests: AtomicU64,
    committed: AtomicU64,
    refused: AtomicU64,
    rolled_back: AtomicU64,
    failed: AtomicU64,
}

impl Counters {
    /// A deployment ended.
    pub fn ended(&self, phase: Phase) {
        let counter = match phase {
            Phase::Committed => &self.committed,
            Phase::Refused => &self.refused,
            Phase::RolledBack => &self.rolled_back,
            _ => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

type Value = fn(&AppStatus) -> Option<u64>;
type OfDisk = fn(&StorageWear) -> u64;

/// Everything, as text. Without a `status` the supervisor cannot be reached.
pub fn text(counters: &Counters, link: &LinkState, status: Option<&Status>) -> String {
    let mut out = String::new();
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let mut metric = |name: &str, kind: &str, help: &str, lines: &[(String, u64)]| {
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "# HELP coracle_{name} {help}\n# TYPE coracle_{name} {kind}"
        );
        for (labels, value) in lines {
            let _ = writeln!(out, "coracle_{name}{labels} {value}");
        }
    };
    let one = |value: u64| vec![(String::new(), value)];
    metric(
        "link_up",
        "gauge",
        "Whether the broker has the connection.",
        &one(link.connected.into()),
    );
    metric(
        "link_connects_total",
        "counter",
        "Connections to the broker.",
        &one(link.connects),
    );
    metric(
        "feedback_waiting",
        "gauge",
        "Feedback that waits for the link.",
        &one(link.waiting as u64),
    );
    metric(
        "fetched_bytes_total",
        "counter",
        "Bytes of blobs that came over the network.",
        &one(get(&counters.fetched_bytes)),
    );
    metric(
        "api_requests_total",
        "counter",
        "Requests on docker.sock.",
        &one(get(&counters.requests)),
    );
    let ends = [
        ("committed", &counters.committed),
        ("refused", &counters.refused),
        ("rolled-back", &counters.rolled_back),
        ("failed", &counters.failed),
    ];
    let ends = ends.map(|(end, n)| (format!("{{end=\"{end}\"}}"), get(n)));
    metric(
        "deployments_total",
        "counter",
        "Deployments since the daemon started, by their end.",
        &ends,
    );
    metric(
        "supervisor_up",
        "gauge",
        "Whether the supervisor answers.",
        &one(status.is_some().into()),
    );
    let Some(status) = status else {
        return out;
    };
    metric(
        "layers",
        "gauge",
        "Layers on the board.",
        &one(status.layers.len() as u64),
    );
    let disks: [(&str, &str, OfDisk); 2] = [
        (
            "disk_written_bytes",
            "Bytes written in the last 24 hours in which the board ran.",
            |disk| disk.written_bytes,
        ),
        (
            "disk_write_budget_bytes",
            "Bytes that the board's profile allows in a day.",
            |disk| disk.budget_bytes,
        ),
    ];
    for (name, help, value) in disks {
        let lines = status.storage.iter();
        let lines: Vec<_> = lines
            .map(|disk| (format!("{{disk=\"{}\"}}", disk.disk), value(disk)))
            .collect();
        metric(name, "gauge", help, &lines);
    }
    let apps = status.current.as_ref().map_or(&[][..], |set| &set.apps);
    let per_app: [(&str, &str, &str, Value); 11] = [
        ("app_running", "gauge", "Whether the app runs.", |a| {
            Some((a.state == AppState::Running).into())
        }),
        ("app_healthy", "gauge", "What its health check says.", |a| {
            a.healthy.map(u64::from)
        }),
        (
            "app_restarts_total",
            "counter",
            "Restarts since the set was activated.",
            |a| Some(a.restarts.into()),
        ),
        ("app_memory_bytes", "gauge", "Memory in use.", |a| {
            a.memory_bytes
        }),
        ("app_memory_limit_bytes", "gauge", "Memory limit.", |a| {
            Some(a.limits.memory_bytes)
        }),
        (
            "app_cpu_microseconds_total",
            "counter",
            "CPU time used.",
            |a| a.cpu_usage_us,
        ),
        ("app_pids", "gauge", "Processes and threads.", |a| a.pids),
        (
            "app_disk_bytes",
            "gauge",
            "Bytes in the writable layer.",
            |a| a.disk.map(|disk| disk.bytes),
        ),
        (
            "app_disk_limit_bytes",
            "gauge",
            "Limit of the writable layer.",
            |a| a.disk?.limit_bytes,
        ),
        (
            "app_network_received_bytes_total",
            "counter",
            "Bytes that came in on all of its networks.",
            |a| traffic(a, |traffic| traffic.received_bytes),
        ),
        (
            "app_network_sent_bytes_total",
            "counter",
            "Bytes that went out on all of its networks.",
            |a| traffic(a, |traffic| traffic.sent_bytes),
        ),
    ];
    for (name, kind, help, value) in per_app {
        let lines: Vec<_> = apps
            .iter()
            .filter_map(|app| Some((format!("{{app=\"{}\"}}", app.name), value(app)?)))
            .collect();
        metric(name, kind, help, &lines);
    }
    out
}

/// Over all networks; none where nothing is counted.
fn traffic(app: &AppStatus, of: fn(&Traffic) -> u64) -> Option<u64> {
    let counted = app.networks.iter().filter_map(|place| place.traffic);
    counted
        .map(|traffic| of(&traffic))
        .reduce(u64::saturating_add)
}

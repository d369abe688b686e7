//! Metrics as Prometheus reads them ("Exposition formats", text format 0.0.4).

mod board;

use crate::link::{LinkState, odd};
use coracle_protocol::local::Status;
use coracle_protocol::report::{
    AppState, AppStatus, BoardUse, Phase, PlaceStatus, Stall, StorageWear, Traffic,
};
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
type OfStall = fn(&Stall) -> u64;
type OfPlace = fn(&PlaceStatus) -> Option<u64>;

/// Everything, as text. Without a `status` the supervisor cannot be reached.
pub fn text(
    counters: &Counters,
    link: &LinkState,
    used: &BoardUse,
    status: Option<&Status>,
) -> String {
    let mut out = board::text(used);
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
    let odd = odd::seen().map(|(kind, n)| (format!("{{kind=\"{kind}\"}}"), n));
    metric(
        "link_messages_refused_total",
        "counter",
        "Messages from the broker that were of no use, by what was wrong with them.",
        &odd,
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
    metric(
        "set_stale",
        "gauge",
        "Whether the running set's documents have expired.",
        &one(status
            .current
            .as_ref()
            .is_some_and(|set| set.stale_since.is_some())
            .into()),
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
    let limits: [(&str, &str, OfPlace); 2] = [
        (
            "app_network_receive_limit_bytes_per_second",
            "Most that it is sent on a network.",
            |place| place.rates.ingress_bytes_per_second,
        ),
        (
            "app_network_send_limit_bytes_per_second",
            "Most that it sends on a network.",
            |place| place.rates.egress_bytes_per_second,
        ),
    ];
    for (name, help, value) in limits {
        let limited = |app: &AppStatus| -> Vec<_> {
            let of = |place: &PlaceStatus| {
                let labels = format!("{{app=\"{}\",network=\"{}\"}}", app.name, place.network);
                Some((labels, value(place)?))
            };
            app.networks.iter().filter_map(of).collect()
        };
        let lines: Vec<_> = apps.iter().flat_map(limited).collect();
        if !lines.is_empty() {
            metric(name, "gauge", help, &lines);
        }
    }
    // Two families of up to six lines for each app; none at all where no kernel tells.
    let stalls: [(&str, &str, &str, OfStall); 2] = [
        (
            "app_pressure_hundredths_of_percent",
            "gauge",
            "Part of the last ten seconds in which some, or all, of its processes waited for a resource.",
            |stall| stall.avg10_hundredths.into(),
        ),
        (
            "app_pressure_microseconds_total",
            "counter",
            "Time in which some, or all, of its processes waited for a resource.",
            |stall| stall.total_us,
        ),
    ];
    for (name, kind, help, value) in stalls {
        let lines: Vec<_> = apps.iter().flat_map(|app| waits(app, value)).collect();
        if !lines.is_empty() {
            metric(name, kind, help, &lines);
        }
    }
    out
}

/// A line for each resource and kind that the kernel tells of an app.
fn waits(app: &AppStatus, value: OfStall) -> Vec<(String, u64)> {
    let pressure = app.pressure.unwrap_or_default();
    let mut lines = Vec::new();
    for (resource, pressure) in [
        ("cpu", pressure.cpu),
        ("memory", pressure.memory),
        ("io", pressure.io),
    ] {
        let Some(pressure) = pressure else { continue };
        for (who, stall) in [("some", Some(pressure.some)), ("full", pressure.full)] {
            let Some(stall) = stall else { continue };
            let labels = format!(
                "{{app=\"{}\",resource=\"{resource}\",waiting=\"{who}\"}}",
                app.name
            );
            lines.push((labels, value(&stall)));
        }
    }
    lines
}

/// Over all networks; none where nothing is counted.
fn traffic(app: &AppStatus, of: fn(&Traffic) -> u64) -> Option<u64> {
    let counted = app.networks.iter().filter_map(|place| place.traffic);
    counted
        .map(|traffic| of(&traffic))
        .reduce(u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn waiting_is_told_of_what_the_kernel_tells_and_of_nothing_else() {
        let mut app = json!({
            "name": "web", "image": "shop/web:1", "image_manifest": format!("sha256:{}", "a".repeat(64)),
            "state": "running", "exit_code": null, "oom_killed": false, "restarts": 0, "healthy": null,
            "health_text": null, "pid": 7, "started_at": null, "ip": null, "ports": [], "args": [],
            "limits": {"memory_bytes": 67108864, "cpu_millis": 500, "pids": 64},
            "cgroup": null, "memory_bytes": null, "cpu_usage_us": null, "pids": null
        });
        let lines = |app: &serde_json::Value| {
            let app: AppStatus = serde_json::from_value(app.clone()).unwrap();
            waits(&app, |stall| stall.total_us)
        };
        assert_eq!(lines(&app), []);
        let stall = |us: u64| json!({"avg10_hundredths": 1, "total_us": us});
        app["pressure"] = json!({
            "cpu": {"some": stall(5), "full": stall(4)},
            "memory": {"some": stall(3)}
        });
        let of =
            |resource, who| format!("{{app=\"web\",resource=\"{resource}\",waiting=\"{who}\"}}");
        assert_eq!(
            lines(&app),
            [
                (of("cpu", "some"), 5),
                (of("cpu", "full"), 4),
                (of("memory", "some"), 3)
            ]
        );
    }
}

//! `GET /containers/<id>/stats`: two samples, from which clients compute the share of CPU.

use crate::clock;
use coracle_protocol::local::Status;
use coracle_protocol::report::{AppStatus, PlaceStatus};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// An app's use at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    at: Duration,
    cpu_ns: u64,
    system_ns: u64,
    cpus: u32,
}

impl Sample {
    /// As `status` says, now.
    pub fn now(app: &AppStatus, status: &Status) -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        Self {
            at: clock::since_epoch(),
            cpu_ns: app.cpu_usage_us.unwrap_or(0).saturating_mul(1000),
            system_ns: system_ns(&stat),
            cpus: status.board.cpus.max(1),
        }
    }
}

/// CPU time of the whole machine: the first line of /proc/stat without guest time, which is in
/// user time already (proc(5)); in ticks of 10 ms.
fn system_ns(stat: &str) -> u64 {
    const TICK_NS: u64 = 10_000_000;
    let line = stat.lines().next().unwrap_or_default();
    let ticks = line.split_whitespace().skip(1).take(8);
    let sum: u64 = ticks.filter_map(|t| t.parse::<u64>().ok()).sum();
    sum.saturating_mul(TICK_NS)
}

/// The shape.
pub fn shape(id: &str, app: &AppStatus, before: &Sample, after: &Sample) -> Value {
    let cpu = |sample: &Sample| {
        json!({
            "cpu_usage": {"total_usage": sample.cpu_ns, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
            "system_cpu_usage": sample.system_ns,
            "online_cpus": sample.cpus,
            "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0}
        })
    };
    json!({
        "id": id,
        "name": format!("/{}", app.name),
        "read": clock::rfc3339(after.at),
        "preread": clock::rfc3339(before.at),
        "num_procs": 0,
        "pids_stats": {"current": app.pids.unwrap_or(0), "limit": app.limits.pids},
        "cpu_stats": cpu(after),
        "precpu_stats": cpu(before),
        "memory_stats": {
            "usage": app.memory_bytes.unwrap_or(0),
            "limit": app.limits.memory_bytes,
            "stats": {}
        },
        "blkio_stats": {"io_service_bytes_recursive": null, "io_serviced_recursive": null},
        "storage_stats": {},
        "networks": interfaces(app)
    })
}

/// By interface, as the container counts.
fn interfaces(app: &AppStatus) -> Value {
    let counted = |place: &PlaceStatus| {
        let traffic = place.traffic?;
        let mut numbers = json!({
            "rx_bytes": traffic.received_bytes,
            "rx_packets": traffic.received_packets,
            "rx_errors": 0,
            "rx_dropped": 0,
            "tx_bytes": traffic.sent_bytes,
            "tx_packets": traffic.sent_packets,
            "tx_errors": 0,
            "tx_dropped": 0
        });
        // Docker has no such limits, and no word for them.
        for (key, rate) in [
            (
                "rx_limit_bytes_per_second",
                place.rates.ingress_bytes_per_second,
            ),
            (
                "tx_limit_bytes_per_second",
                place.rates.egress_bytes_per_second,
            ),
        ] {
            if let Some(rate) = rate {
                numbers[key] = rate.into();
            }
        }
        Some((place.interface.clone(), numbers))
    };
    let mut all = Map::new();
    all.extend(app.networks.iter().filter_map(counted));
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_app_may_pass_stands_beside_what_it_has_passed() {
        let place = |interface: &str, rates: Value| {
            json!({
                "network": "front", "interface": interface, "ip": "10.0.1.2", "prefix": 24, "gateway": "10.0.1.1",
                "mac": "02:c0:0a:00:01:02", "rates": rates,
                "traffic": {"received_bytes": 5, "received_packets": 1, "sent_bytes": 7, "sent_packets": 2}
            })
        };
        let app = json!({
            "name": "web", "image": "shop/web:1", "image_manifest": format!("sha256:{}", "a".repeat(64)),
            "state": "running", "exit_code": null, "oom_killed": false, "restarts": 0, "healthy": null,
            "health_text": null, "pid": 7, "started_at": null, "ip": null, "ports": [], "args": [],
            "limits": {"memory_bytes": 67108864, "cpu_millis": 500, "pids": 64},
            "cgroup": null, "memory_bytes": null, "cpu_usage_us": null, "pids": null,
            "networks": [
                place("eth0", json!({"ingress_bytes_per_second": 1000, "egress_bytes_per_second": 2000})),
                place("eth1", json!({}))
            ]
        });
        let shown = interfaces(&serde_json::from_value(app).unwrap());
        let limits = |interface: &str| {
            ["rx", "tx"]
                .map(|way| shown[interface][format!("{way}_limit_bytes_per_second")].as_u64())
        };
        assert_eq!(limits("eth0"), [Some(1000), Some(2000)]);
        assert_eq!(limits("eth1"), [None, None]);
        assert_eq!(shown["eth0"]["tx_bytes"], 7);
    }

    #[test]
    fn machine_time_leaves_out_guests() {
        assert_eq!(
            system_ns("cpu  1 2 3 4 5 6 7 8 100 100\ncpu0 1"),
            360_000_000
        );
        assert_eq!(system_ns(""), 0);
    }
}

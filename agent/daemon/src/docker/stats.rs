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
        let numbers = json!({
            "rx_bytes": traffic.received_bytes,
            "rx_packets": traffic.received_packets,
            "rx_errors": 0,
            "rx_dropped": 0,
            "tx_bytes": traffic.sent_bytes,
            "tx_packets": traffic.sent_packets,
            "tx_errors": 0,
            "tx_dropped": 0
        });
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
    fn machine_time_leaves_out_guests() {
        assert_eq!(
            system_ns("cpu  1 2 3 4 5 6 7 8 100 100\ncpu0 1"),
            360_000_000
        );
        assert_eq!(system_ns(""), 0);
    }
}

//! What the apps use, once a minute.

use crate::link::Outbox;
use crate::supervisor::Supervisor;
use coracle_protocol::local::Status;
use coracle_protocol::report::{AppUse, Telemetry};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between two messages.
const EVERY: Duration = Duration::from_secs(60);

/// Runs until shutdown.
pub async fn run(supervisor: Supervisor, outbox: Arc<Outbox>, mut shutdown: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = shutdown.changed() => return,
        }
        if let Ok(status) = supervisor.status().await {
            outbox.telemetry(&of(&status));
        }
    }
}

fn of(status: &Status) -> Telemetry {
    let apps = status.current.as_ref().map_or(&[][..], |set| &set.apps);
    let app = |app: &coracle_protocol::report::AppStatus| {
        Some(AppUse {
            name: app.name.clone(),
            memory_bytes: app.memory_bytes?,
            cpu_usage_us: app.cpu_usage_us?,
            pids: app.pids.unwrap_or(0),
        })
    };
    Telemetry {
        at: crate::clock::now(),
        apps: apps.iter().filter_map(app).collect(),
        storage: status.storage.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_written_to_the_boards_disks_is_told() {
        let board = json!({
            "profile": "raspberrypi4", "hardware": "raspberrypi4", "architecture": "aarch64", "kernel": "6.6",
            "agent": "0.1", "memory_bytes": 1, "cpus": 4,
        });
        let disk =
            json!({"disk": "mmcblk0", "written_bytes": 3, "budget_bytes": 2, "worn_percent": 20});
        let status = json!({
            "version": "0.1", "board": board, "current": null, "previous": null, "last_failure": null,
            "layers": [], "storage": [disk],
        });
        let status: Status = serde_json::from_value(status).unwrap();
        let told = of(&status);
        assert_eq!(told.storage, status.storage);
        assert!(told.storage[0].is_too_much());
        let metrics = crate::metrics::text(&Default::default(), &Default::default(), Some(&status));
        for line in [
            "coracle_disk_written_bytes{disk=\"mmcblk0\"} 3\n",
            "coracle_disk_write_budget_bytes{disk=\"mmcblk0\"} 2\n",
        ] {
            assert!(metrics.contains(line), "{line}: {metrics}");
        }
    }

    #[test]
    fn a_set_that_has_expired_is_a_metric() {
        let digest = coracle_protocol::Sha256Digest::of(b"x");
        let board = json!({
            "profile": "raspberrypi4", "hardware": "raspberrypi4", "architecture": "aarch64", "kernel": "6.6",
            "agent": "0.1", "memory_bytes": 1, "cpus": 4,
        });
        let set = json!({
            "deployment": digest, "release": digest, "product": "shop", "version": "1", "state": "committed",
            "stale_since": 1_800_000_000, "apps": [],
        });
        let status = json!({
            "version": "0.1", "board": board, "current": set, "previous": null, "last_failure": null,
            "layers": [],
        });
        let mut status: Status = serde_json::from_value(status).unwrap();
        let said = |status: &Status| {
            let text = crate::metrics::text(&Default::default(), &Default::default(), Some(status));
            let line = text
                .lines()
                .find(|line| line.starts_with("coracle_set_stale "));
            line.unwrap().to_owned()
        };
        assert_eq!(said(&status), "coracle_set_stale 1");
        status.current.as_mut().unwrap().stale_since = None;
        assert_eq!(said(&status), "coracle_set_stale 0");
    }
}

//! What the apps and the board use, once a minute.

use crate::board_use::Places;
use crate::link::Outbox;
use crate::rest::QUIET;
use crate::supervisor::Supervisor;
use coracle_board_support::memory;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::local::Status;
use coracle_protocol::report::{AppUse, BoardUse, Telemetry};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Between two messages.
const EVERY: Duration = Duration::from_secs(60);

/// Runs until shutdown.
pub async fn run(
    supervisor: Supervisor,
    places: Places,
    outbox: Arc<Outbox>,
    mut shutdown: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY - QUIET) => {}
            _ = shutdown.changed() => return,
        }
        if let Ok(status) = supervisor.status().await {
            let board = places.look(Some(&status)).await;
            outbox.telemetry(&of(&status, board));
        }
        // Once that is sent, what it took goes back.
        tokio::select! {
            () = tokio::time::sleep(QUIET) => memory::rest(),
            _ = shutdown.changed() => return,
        }
    }
}

fn of(status: &Status, board: BoardUse) -> Telemetry {
    let apps = status.current.as_ref().map_or(&[][..], |set| &set.apps);
    let app = |app: &coracle_protocol::report::AppStatus| {
        Some(AppUse {
            name: app.name.clone(),
            memory_bytes: app.memory_bytes?,
            cpu_usage_us: app.cpu_usage_us?,
            pids: app.pids.unwrap_or(0),
        })
    };
    let mut told = Telemetry {
        at: crate::clock::now(),
        apps: apps.iter().filter_map(app).collect(),
        storage: status.storage.clone(),
        board: Some(board),
    };
    // Many apps with long names: the last ones are told on the board alone.
    let bytes = |told: &Telemetry| serde_json::to_vec(told).map_or(0, |json| json.len());
    while bytes(&told) > LIMITS.mqtt_message_bytes && told.apps.pop().is_some() {}
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn metrics(status: &Status) -> String {
        let counters = crate::metrics::Counters::default();
        let board = BoardUse {
            millidegrees: Some(-5000),
            memory_used_bytes: Some(7),
            ..BoardUse::default()
        };
        crate::metrics::text(&counters, &Default::default(), &board, Some(status))
    }

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
        let told = of(&status, BoardUse::default());
        assert_eq!(told.storage, status.storage);
        assert!(told.storage[0].is_too_much());
        let metrics = metrics(&status);
        for line in [
            "coracle_disk_written_bytes{disk=\"mmcblk0\"} 3\n",
            "coracle_disk_write_budget_bytes{disk=\"mmcblk0\"} 2\n",
            "\ncoracle_board_memory_used_bytes 7\n",
            "\ncoracle_board_temperature_millidegrees -5000\n",
            "\ncoracle_layers 0\n",
        ] {
            assert!(metrics.contains(line), "{line}: {metrics}");
        }
        assert!(!metrics.contains("coracle_board_memory_bytes"), "{metrics}");
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
            let text = metrics(status);
            let line = text
                .lines()
                .find(|line| line.starts_with("coracle_set_stale "));
            line.unwrap().to_owned()
        };
        assert_eq!(said(&status), "coracle_set_stale 1");
        status.current.as_mut().unwrap().stale_since = None;
        assert_eq!(said(&status), "coracle_set_stale 0");
    }

    /// As many apps as a release may have, each with the longest name and the largest numbers.
    #[test]
    fn what_is_told_fits_a_message_whatever_runs() {
        let digest = coracle_protocol::Sha256Digest::of(b"x");
        let board = json!({
            "profile": "x", "hardware": "x", "architecture": "aarch64", "kernel": "6.6",
            "agent": "0.1", "memory_bytes": 1, "cpus": 4,
        });
        let most = LIMITS.integer - 1;
        let used = json!({"memory_total_bytes": most, "memory_used_bytes": most, "agent_memory_bytes": most,
            "load_hundredths": most, "uptime_seconds": most, "zone": "x".repeat(96), "millidegrees": i32::MIN,
            "throttle_celsius": 255, "state_total_bytes": most, "state_free_bytes": most,
            "images_total_bytes": most, "images_free_bytes": most, "link": "x".repeat(96), "link_kind": "ethernet"});
        let used: BoardUse = serde_json::from_value(used).unwrap();
        let app = |number: usize| {
            json!({"name": format!("{}{number:02}", "a".repeat(46)), "image": "x:1", "image_manifest": digest,
                "state": "running", "exit_code": null, "oom_killed": false, "restarts": 0, "healthy": null,
                "health_text": null, "pid": 1, "started_at": null, "ip": null, "ports": [], "args": [],
                "limits": {"memory_bytes": 1, "cpu_millis": 1, "pids": 1}, "cgroup": null,
                "memory_bytes": most, "cpu_usage_us": most, "pids": most})
        };
        let told = |count: usize| {
            let set = json!({"deployment": digest, "release": digest, "product": "shop", "version": "1",
                "state": "committed", "apps": (0..count).map(app).collect::<Vec<_>>()});
            let disk = json!({"disk": "mmcblk0", "written_bytes": most, "budget_bytes": most});
            let status = json!({"version": "0.1", "board": board, "current": set, "previous": null,
                "last_failure": null, "layers": [], "storage": vec![disk; 4]});
            let status: Status = serde_json::from_value(status).unwrap();
            assert_eq!(status.current.as_ref().unwrap().apps.len(), count);
            of(&status, used.clone())
        };
        assert_eq!(told(36).apps.len(), 36);
        let all = told(LIMITS.apps);
        assert!(
            (36..LIMITS.apps).contains(&all.apps.len()),
            "{}",
            all.apps.len()
        );
        assert!(serde_json::to_vec(&all).unwrap().len() <= LIMITS.mqtt_message_bytes);
        assert_eq!(all.storage.len(), 4);
        assert_eq!(all.board, Some(used));
    }
}

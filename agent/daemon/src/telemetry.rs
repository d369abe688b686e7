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

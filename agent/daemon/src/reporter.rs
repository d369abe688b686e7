//! Tells the console what runs, whenever that changes.

use crate::link::Outbox;
use crate::own_program;
use crate::supervisor::{Notice, Supervisor};
use coracle_protocol::local::{Event, Status};
use coracle_protocol::report::Current;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast::error::RecvError, watch};

/// Changes within this time make one report.
const GATHER: Duration = Duration::from_millis(300);
/// A look without any event: a report that was lost does not stay lost.
const LOOK: Duration = Duration::from_secs(600);

/// Reports until shutdown.
pub async fn run(supervisor: Supervisor, outbox: Arc<Outbox>, mut shutdown: watch::Receiver<bool>) {
    let mut notices = supervisor.watch();
    let mut last = None;
    loop {
        if let Ok(status) = supervisor.status().await {
            let current = of(status);
            if last.as_ref() != Some(&steady(&current)) {
                last = Some(steady(&current));
                outbox.current(current);
            }
        }
        tokio::select! {
            () = changed(&mut notices) => {}
            () = tokio::time::sleep(LOOK) => {}
            _ = shutdown.changed() => return,
        }
    }
}

/// Waits for a change and for those that come with it.
async fn changed(notices: &mut tokio::sync::broadcast::Receiver<Notice>) {
    loop {
        match notices.recv().await {
            Ok(
                Notice::Connected
                | Notice::Event(
                    Event::AppChanged { .. } | Event::Deployment { .. } | Event::Root { .. },
                ),
            ) => break,
            Ok(Notice::Lost) => {}
            Err(RecvError::Lagged(_)) => break,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
    tokio::time::sleep(GATHER).await;
    while notices.try_recv().is_ok() {}
}

/// As the console is told it.
pub fn of(status: Status) -> Current {
    Current {
        version: 0,
        board: status.board,
        set: status.current,
        layers: status.layers,
        trust: status.trust,
        daemon: Some(own_program::own(status.program.as_ref())),
        supervisor: status.program,
        decommissioned: status.decommissioned,
    }
}

/// Without what changes all the time: use of memory and CPU is telemetry.
fn steady(current: &Current) -> Current {
    let mut current = current.clone();
    for app in current.set.iter_mut().flat_map(|set| &mut set.apps) {
        app.memory_bytes = None;
        app.cpu_usage_us = None;
        app.pids = None;
        app.pressure = None;
        app.networks
            .iter_mut()
            .for_each(|place| place.traffic = None);
    }
    current
}

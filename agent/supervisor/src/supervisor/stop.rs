//! `stop-all`: every app ends, and the network that was made for them goes. Sets, layers and volumes stay; what is mounted for them does not.

use super::SupervisorError;
use super::start::lock;
use crate::adopt::{RunState, RunningApp};
use crate::apps::interfaces;
use crate::apps::secrets;
use crate::apps::whole;
use crate::apps::{layer, lock};
use crate::board_policy;
use crate::disk;
use crate::lights::Lights;
use crate::settings::Settings;
use crate::volumes::Volumes;
use coracle_network::Networks;
use coracle_runtime::CgroupTree;
use coracle_runtime::launch::Running;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long apps may take to end in peace, all together.
const GRACE: Duration = Duration::from_secs(10);

/// Ends everything; goes on after a failure and tells all of them.
///
/// # Errors
/// When a supervisor still runs, which would start the apps again; what stayed, one a line.
pub async fn stop_all(settings: &Settings) -> Result<(), SupervisorError> {
    let _lock = lock(settings)?;
    match end_everything(settings, GRACE).await {
        left if left.is_empty() => Ok(()),
        left => Err(SupervisorError::Left(left.join("\n"))),
    }
}

/// The same for whoever has the lock: what stayed, in words. Apps have so long to end in peace.
pub async fn end_everything(settings: &Settings, grace: Duration) -> Vec<String> {
    let config = &settings.config;
    let state_file = settings.run_state_dir().join("apps.json");
    let mut left = Vec::new();
    let tree = match CgroupTree::detect(&config.cgroup_parent) {
        Ok(tree) => tree,
        Err(error) => return vec![error.to_string()],
    };

    let apps = RunState::load(&state_file).apps;
    let patience = Instant::now() + grace;
    let mut told = BTreeSet::new();
    loop {
        let alive: Vec<&RunningApp> = apps
            .iter()
            .filter(|app| app.process.open().is_some())
            .collect();
        for app in &alive {
            let needed = alive.iter().any(|other| other.after.contains(&app.name));
            if needed || !told.insert(app.process.pid) {
                continue;
            }
            // One that is paused has to move for it; where there is no freezer none is.
            let slot = app.slot.as_deref().unwrap_or(app.name.as_str());
            let _ = tree.open(slot).and_then(|cgroup| cgroup.thaw());
            if let Some(pidfd) = app.process.open() {
                let pid = app.process.pid;
                // One that has ended meanwhile is what is wanted.
                let _ = Running { pid, pidfd }.signal(libc::SIGTERM);
            }
        }
        if alive.is_empty() || patience <= Instant::now() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for name in tree.list() {
        let gone = tree
            .open(&name)
            .and_then(|cgroup| cgroup.kill_all().and_then(|()| cgroup.remove()));
        left.extend(gone.err().map(|error| error.to_string()));
    }
    left.extend(tree.remove_parent().err().map(|error| error.to_string()));
    // First, so that what was switched on them is switched back too.
    for app in interfaces::borrowers(settings) {
        left.extend(interfaces::take_back(settings, &app));
    }
    let cleared = interfaces::clear_half_written(settings);
    left.extend(cleared.err().map(|error| error.to_string()));
    let renamed = coracle_network::lent::rename_back();
    left.extend(renamed.iter().map(|error| whole(error)));
    match Networks::open(settings.network.clone(), &config.state_dir) {
        Ok(networks) => {
            let networks = networks.with_policy(board_policy::of(&settings.profile));
            let gone = networks.destroy().await;
            left.extend(gone.err().map(|error| error.to_string()));
        }
        Err(error) => left.push(error.to_string()),
    }
    Lights::of(settings).give_back();
    left.extend(layer::close_all(config));
    left.extend(Volumes::of(settings).close_all());
    left.extend(lock::take_all_back(settings));
    let secrets = secrets::unmount_all(settings);
    left.extend(secrets.err().map(|error| error.to_string()));
    left.extend(
        disk::remove(&state_file)
            .err()
            .map(|error| error.to_string()),
    );
    if left.is_empty() {
        tracing::info!(apps = apps.len(), "everything has ended");
    }
    left
}

//! Apps of a release that are handed over, held against the versions of them that run: both run for a while.

use super::{Refused, promise_of, storage};
use crate::settings::Settings;
use coracle_board_support::budget::AppPromise;
use coracle_protocol::release::{App, Release};

/// The versions that would serve on.
fn serving_on<'a>(
    release: &Release,
    running: Option<&'a Release>,
) -> impl Iterator<Item = &'a App> {
    let handed_over = move |old: &&App| {
        let mut apps = release.apps.iter().filter(|app| app.is_handed_over());
        apps.any(|app| app.name == old.name)
    };
    let running = running.into_iter().flat_map(|running| &running.apps);
    running.filter(handed_over)
}

/// What they may use beside the new set.
pub(super) fn promises(
    release: &Release,
    running: Option<&Release>,
    settings: &Settings,
) -> Vec<AppPromise> {
    let promise = |old: &App| {
        let mut promise = promise_of(old, storage::layer_cost(old, settings));
        promise.name = format!(
            "{} (the version that runs, until the new one is ready)",
            old.name
        );
        promise.host_ports.clear();
        promise
    };
    serving_on(release, running).map(promise).collect()
}

/// What the versions that run have and no other container can have beside them, one a line.
pub fn check(release: &Release, running: Option<&Release>) -> Result<(), Refused> {
    let problems: Vec<String> = serving_on(release, running)
        .filter_map(|old| {
            let fault = fault_of(old, release, running?)?;
            Some(format!(
                "app `{}`: strategy = `start-then-kill`: the version that runs {fault}; deploy this one with strategy = `kill-then-start`",
                old.name
            ))
        })
        .collect();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Refused::new("cannot-overlap", problems.join("\n"))),
    }
}

fn fault_of(old: &App, release: &Release, running: &Release) -> Option<String> {
    if let Some((field, why)) = old.holds_alone() {
        return Some(format!("has {field}: {why}"));
    }
    let uses = |guest: &&App| guest.network.container.as_ref() == Some(&old.name);
    if let Some(guest) = running.apps.iter().find(uses) {
        return Some(format!("has a network that app `{}` uses", guest.name));
    }
    let spec = |of: &Release, name: &str| {
        of.networks
            .iter()
            .find(|n| n.name.as_str() == name)
            .cloned()
    };
    let changed = |name: &str| spec(running, name) != spec(release, name);
    let mut networks = old.network.networks.iter().map(|on| on.name.as_str());
    let network = networks.find(|name| changed(name))?;
    Some(format!(
        "is on network `{network}`, which this release declares otherwise or not at all"
    ))
}

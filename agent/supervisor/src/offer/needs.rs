//! What the apps of a release need of the kernel beside their limits. It is tried when a release asks for it first, in a child:
//! what is tried leaves the board's network and mounts, and this process stays in them. A kernel that could once can; one that
//! could not is asked again, since a module may have come.

use crate::apps::places;
use crate::settings::Settings;
use coracle_board_support::budget::{Problem, lacking};
use coracle_board_support::probe::{Need, Outcome, Trials};
use coracle_protocol::release::{App, Driver, Release};
use coracle_runtime::{Child, spawn_plain};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, pipe_with};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Modules are loaded from slow flash meanwhile; beyond that the release is let in, and its trial shows.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes of what the child says: eight lines.
const SAID: usize = 4096;

/// Of one app.
fn of(app: &App, release: &Release, settings: &Settings) -> BTreeSet<Need> {
    let network = &app.network;
    let mut needs = BTreeSet::from([Need::Layers, Need::Filters]);
    let places = places::of(network);
    let spec = |name: &str| {
        release
            .networks
            .iter()
            .find(|spec| spec.name.as_str() == name)
    };
    let mut on_bridge = false;
    for place in &places {
        let spec = spec(&place.network);
        let driver = spec.map_or(Driver::Bridge, |spec| spec.driver);
        match driver {
            Driver::Bridge => on_bridge = true,
            Driver::Macvlan => drop(needs.insert(Need::Macvlan)),
            Driver::Ipvlan => drop(needs.insert(Need::Ipvlan)),
        }
        if spec.is_some_and(|spec| spec.vlan.is_some()) {
            needs.insert(Need::Vlan);
        }
    }
    // Rates and lists are of bridges alone.
    let asked = [
        (
            Need::IngressRate,
            network.rates.ingress_bytes_per_second.is_some(),
        ),
        (
            Need::EgressRate,
            network.rates.egress_bytes_per_second.is_some(),
        ),
        (
            Need::EgressList,
            places::list(network, &settings.profile).is_some(),
        ),
    ];
    let asked = asked.into_iter().filter(|(_, asked)| on_bridge && *asked);
    needs.extend(asked.map(|(need, _)| need));
    needs
}

/// What is lacking, app by app.
pub(super) fn missing(release: &Release, settings: &Settings) -> Vec<Problem> {
    let mut problems = Vec::new();
    for app in &release.apps {
        let needs: Vec<Need> = of(app, release, settings).into_iter().collect();
        problems.extend(lacking(&settings.trials, app.name.as_str(), &needs));
    }
    problems
}

/// Tries what this release asks for and no earlier one did, or not with success.
pub fn try_out(release: &Release, settings: &mut Settings) {
    let apps = release.apps.iter();
    let mut wanted: BTreeSet<Need> = BTreeSet::new();
    wanted.extend(apps.flat_map(|app| of(app, release, settings)));
    let works = |need: &Need| settings.trials.outcome(need.subject()) == Some(&Outcome::Works);
    let wanted: Vec<Need> = wanted.into_iter().filter(|need| !works(need)).collect();
    if wanted.is_empty() {
        return;
    }
    let said = match ask_child(&settings.config.state_dir, &wanted) {
        Ok(said) => said,
        Err(why) => {
            tracing::warn!(why, "what apps need of the kernel was not tried");
            String::new()
        }
    };
    tracing::debug!(said, "tried what apps need of the kernel");
    for need in wanted {
        settings.trials.learn(need, &said);
    }
}

/// A line for each that was tried in time.
fn ask_child(state: &Path, wanted: &[Need]) -> Result<String, String> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| e.to_string())?;
    let child = spawn_plain(vec![write], |mut files: Vec<OwnedFd>| {
        let mut to = match files.pop() {
            Some(fd) => File::from(fd),
            None => return 1,
        };
        // One after the other, so that one that hangs hides no other.
        for need in wanted {
            let tried = Trials::needs(state, &[*need]);
            if to.write_all(tried.to_lines().as_bytes()).is_err() {
                return 1;
            }
        }
        0
    });
    let child = child.map_err(|e| e.to_string())?;
    let said = listen(File::from(read));
    end(child);
    Ok(said)
}

/// Up to its end, or until patience is.
fn listen(mut from: File) -> String {
    let end = Instant::now() + PATIENCE;
    let mut said = Vec::new();
    let mut piece = [0; 512];
    while said.len() < SAID {
        let left = end.saturating_duration_since(Instant::now());
        let Ok(left) = Timespec::try_from(left) else {
            break;
        };
        let mut looked = [PollFd::new(&from, PollFlags::IN)];
        if !matches!(retry_on_intr(|| poll(&mut looked, Some(&left))), Ok(1..)) {
            break;
        }
        match from.read(&mut piece) {
            Ok(count @ 1..) => said.extend_from_slice(&piece[..count]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&said).into_owned()
}

fn end(child: Child) {
    // One that has ended says so, and is reaped all the same.
    let _ = child.kill();
    child.wait();
}

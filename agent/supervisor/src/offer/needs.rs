//! What the apps of a release need of the kernel beside their limits. It is tried when a release asks for it first, in a child:
//! what is tried leaves the board's network and mounts, and this process stays in them. A kernel that could once can; one that
//! could not is asked again, since a module may have come.

use super::{Refused, storage, users};
use crate::apps::places;
use crate::said;
use crate::settings::Settings;
use coracle_board_support::budget::{Problem, lacking};
use coracle_board_support::probe::{Need, Outcome, Trials};
use coracle_protocol::release::{App, Driver, Release};
use coracle_runtime::{Child, spawn_plain};
use rustix::pipe::{PipeFlags, pipe_with};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// Modules are loaded from slow flash meanwhile; beyond that the release is let in, and its trial shows.
const PATIENCE: Duration = Duration::from_secs(5);

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

/// Code of a refusal that says nothing of the kernel: the same offer may be good a moment later.
pub const NOT_NOW: &str = "cannot-try";

/// The child that tries.
#[derive(Debug, Default)]
pub struct Tries {
    /// The last one, which nobody waits for: it may hang in the kernel, and cannot be killed then. It is reaped as any child.
    last: Option<Child>,
}

impl Tries {
    /// Whether the last one still lives, and with it what it hangs at.
    fn hangs(&self) -> bool {
        let last = self.last.as_ref();
        last.is_some_and(|child| !said::ends(child, KILLED))
    }
}

/// A child that was killed ends in that time, unless it hangs.
const KILLED: Duration = Duration::from_millis(100);

/// Tries what this release asks for and no earlier one did, or not with success; and limits of the disk, where it was full.
///
/// # Errors
/// When something is lacking for now that trying takes: room, memory, a process.
pub fn try_out(
    tries: &mut Tries,
    release: &Release,
    settings: &mut Settings,
) -> Result<(), Refused> {
    let not_now = |why: &str| {
        let reason =
            format!("what the apps need of this board's kernel cannot be tried now: {why}");
        Refused::new(NOT_NOW, reason)
    };
    settings.try_now();
    if !storage::not_limited(release, settings).is_empty() {
        settings.limiter.look_again(&settings.config);
        if let Some(why) = settings.limiter.not_now() {
            return Err(not_now(why));
        }
    }
    if settings.users.is_open() && !users::refused(release, settings).1.is_empty() {
        return Err(not_now(
            "whose users apps can have is not known while the disk is full",
        ));
    }
    let apps = release.apps.iter();
    let mut wanted: BTreeSet<Need> = BTreeSet::new();
    wanted.extend(apps.flat_map(|app| of(app, release, settings)));
    let works = |need: &Need| settings.trials.outcome(need.subject()) == Some(&Outcome::Works);
    let wanted: Vec<Need> = wanted.into_iter().filter(|need| !works(need)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let said = match tries.hangs() {
        true => {
            tracing::warn!(
                "what apps need of the kernel is not tried: the last try still hangs in it"
            );
            String::new()
        }
        false => {
            let (said, child) =
                ask_child(&settings.config.state_dir, &wanted).map_err(|why| not_now(&why))?;
            tries.last = Some(child);
            said
        }
    };
    tracing::debug!(said, "tried what apps need of the kernel");
    let mut short = None;
    for need in wanted {
        settings.trials.learn(need, &said);
        let outcome = settings.trials.outcome(need.subject());
        if let Some(why) = outcome.and_then(Outcome::not_now) {
            short.get_or_insert_with(|| format!("{}: {why}", need.subject()));
        }
    }
    match short {
        Some(why) => Err(not_now(&why)),
        None => Ok(()),
    }
}

/// A line for each that was tried in time, and the child, which is told to end.
fn ask_child(state: &Path, wanted: &[Need]) -> Result<(String, Child), String> {
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
    let said = said::listen(read, PATIENCE);
    // One that has ended says so.
    let _ = child.kill();
    Ok((said, child))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_child_that_hangs_is_not_waited_for_and_is_alone_in_that() {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let child = spawn_plain(vec![write], |mut files: Vec<OwnedFd>| {
            let mut to = File::from(files.pop().unwrap());
            let _ = to.write_all(b"VLANs\tworks\t\n");
            std::thread::sleep(Duration::from_secs(60));
            0
        });
        let begun = Instant::now();
        let said = said::listen(read, Duration::from_millis(300));
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(said, "VLANs\tworks\t\n");
        let tries = Tries {
            last: Some(child.unwrap()),
        };
        assert!(tries.hangs() && tries.hangs());
        tries.last.as_ref().unwrap().kill().unwrap();
        while tries.hangs() {}
        // Nobody has to have reaped it, and nobody must not.
        assert!(tries.last.unwrap().wait().is_some());
        assert!(!Tries::default().hangs());
    }
}

//! An offer: two documents from the daemon, believed in nothing. Verified here, by this process, held
//! against the board's budget, and answered with what is missing. Nothing is changed.

use crate::apps::plan::io_of;
use crate::journal::DeployedSet;
use crate::settings::Settings;
use crate::trust::{Trust, built_at};
use crate::users;
use coracle_board_support::budget::{AppPromise, Guarantees, HostPort, More, PortProtocol, unkept};
use coracle_board_support::profile::{Architecture, NetworkMode as BoardMode};
use coracle_digest::Sha256Digest;
use coracle_images::layout::LayerType;
use coracle_protocol::dsse::Envelope;
use coracle_protocol::local::{LayerNeed, Needs};
use coracle_protocol::release::{App, Blob, Layer, NetworkMode, Protocol, Release, SignedRelease};
use coracle_protocol::verify::{
    Board, Refusal as Verdict, VerifiedDeploy, VerifiedDeployment, VerifiedRelease,
};
use std::collections::BTreeSet;

mod beside;
pub mod data;
mod defaults;
pub mod devices;
pub mod hand_over;
mod links;
pub mod listeners;
pub mod needs;
mod storage;

pub use storage::Free;

/// Not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct Refused {
    /// A stable word.
    pub code: &'static str,
    /// In words.
    pub reason: String,
}

impl Refused {
    /// A refusal.
    pub fn new(code: &'static str, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }

    /// What two looks found, in one: all of it, under the first one's word.
    pub fn both(one: Result<(), Self>, other: Result<(), Self>) -> Result<(), Self> {
        match (one, other) {
            (Err(one), Err(other)) => {
                let reason = format!("{}\n{}", one.reason, other.reason);
                Err(Self::new(one.code, reason))
            }
            (one, other) => one.and(other),
        }
    }
}

/// An offer as it came.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Names it in events.
    pub activity: String,
    /// The assignment.
    pub deploy: Envelope,
    /// The release.
    pub release: Envelope,
}

/// An offer that was verified and fits.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// As it came.
    pub offer: Offer,
    /// What it says.
    pub deployment: VerifiedDeployment,
    release: Release,
}

impl Accepted {
    /// The release, with what the assignment sets, and the board's limits where it names none.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// What is missing for it on a board that has these layers.
    pub fn needs(&self, on_board: &BTreeSet<Sha256Digest>, already: bool) -> Needs {
        let apps = &self.release().apps;
        let mut configs = BTreeSet::new();
        configs.extend(apps.iter().map(|app| app.image.config));
        let mut asked = BTreeSet::new();
        let layers = self
            .release()
            .layers()
            .filter(|layer| !on_board.contains(&layer.diff_id) && asked.insert(layer.diff_id));
        let need = |layer| need(&self.deployment, layer, on_board);
        Needs {
            already,
            layers: layers.map(need).collect(),
            configs: if already {
                Vec::new()
            } else {
                configs.into_iter().collect()
            },
        }
    }

    /// The layer that an app of a set has where its next version has this one: most of their files are the same.
    pub fn in_place_of(&self, diff_id: Sha256Digest, old: &Release) -> Option<Sha256Digest> {
        self.release().apps.iter().find_map(|app| {
            let layers = &app.image.layers;
            let place = layers.iter().position(|layer| layer.diff_id == diff_id)?;
            let old = old.apps.iter().find(|old| old.name == app.name)?;
            Some(old.image.layers.get(place)?.diff_id)
        })
    }
}

/// What a layer of a deployment is made from, on a board that has these others.
pub fn need(
    deployment: &VerifiedDeployment,
    layer: &Layer,
    on_board: &BTreeSet<Sha256Digest>,
) -> LayerNeed {
    let deltas = deployment.deploy().document().deltas.iter();
    let usable = deltas.filter(|delta| {
        delta.to == layer.diff_id
            && on_board.contains(&delta.from)
            && coracle_images::delta::READABLE.contains(&delta.media_type.as_str())
    });
    let mut smallest_first: Vec<Blob> = Vec::new();
    for delta in usable {
        let at = smallest_first.partition_point(|blob| blob.size <= delta.size);
        let (digest, size) = (delta.digest, delta.size);
        smallest_first.insert(at, Blob { digest, size });
    }
    LayerNeed {
        diff_id: layer.diff_id,
        full: Blob {
            digest: layer.digest,
            size: layer.size,
        },
        deltas: smallest_first,
    }
}

/// Verifies an offer. `known`: the assignment that runs, which passes whatever the counters say.
pub fn verify(
    offer: Offer,
    trust: &Trust,
    settings: &Settings,
    known: &[Sha256Digest],
) -> Result<Accepted, Refused> {
    verify_by(offer, trust, settings, |release, deploy, board| {
        VerifiedDeployment::accept(release, deploy, board, known)
    })
}

/// The same for an assignment by which what runs, of this release, is to stay.
pub fn verify_to_stay(
    offer: Offer,
    trust: &Trust,
    settings: &Settings,
    runs: Sha256Digest,
) -> Result<Accepted, Refused> {
    verify_by(offer, trust, settings, |release, deploy, board| {
        VerifiedDeployment::accept_to_stay(release, deploy, board, runs)
    })
}

fn verify_by(
    offer: Offer,
    trust: &Trust,
    settings: &Settings,
    accept: impl FnOnce(
        VerifiedRelease,
        VerifiedDeploy,
        Board<'_>,
    ) -> Result<VerifiedDeployment, Verdict>,
) -> Result<Accepted, Refused> {
    let seen = trust
        .seen()
        .map_err(|damage| Refused::new(damage.code(), damage.to_string()))?;
    let refusal = |refusal: Verdict| Refused::new(refusal.code(), refusal.to_string());
    let release = VerifiedRelease::open(&offer.release, trust.root()).map_err(refusal)?;
    let deploy = VerifiedDeploy::open(&offer.deploy, trust.root()).map_err(refusal)?;
    let id = trust.board_or_unenrolled();
    let board = Board {
        id: &id,
        hardware: &settings.hardware,
        seen,
        built_at: built_at(),
    };
    let deployment = accept(release, deploy, board).map_err(refusal)?;
    trust
        .open_secrets(&deployment)
        .map_err(|error| Refused::new("bad-secret", error.to_string()))?;
    Ok(Accepted {
        release: settings.default_limits().fill(deployment.applied()),
        offer,
        deployment,
    })
}

/// Holds a release against the board: what it promises its apps, and the room for what is missing. All problems at once,
/// one a line.
pub fn check_budget(
    accepted: &Accepted,
    settings: &Settings,
    on_board: &BTreeSet<Sha256Digest>,
    free: Free,
    running: Option<&Release>,
) -> Result<(), Refused> {
    let release = accepted.release();
    let mut promises = promises(release, settings);
    promises.extend(hand_over::promises(release, running, settings));
    let unkept = unkept(&settings.trials, &promises);
    let lacking = needs::missing(release, settings);
    let no_limits = storage::not_limited(release, settings);
    let (by_kernel, no_users) = users::refused(release, settings);
    let code = match (
        unkept.is_empty() && lacking.is_empty() && no_limits.is_empty(),
        no_users.is_empty(),
    ) {
        (true, true) => "over-budget",
        (true, false) if !by_kernel => "users",
        _ => "kernel-lacks",
    };
    let by_kernel = unkept.iter().chain(&lacking);
    let mut problems: Vec<String> = by_kernel.map(ToString::to_string).collect();
    problems.extend(no_limits);
    problems.extend(no_users);
    problems.extend(over_budget(
        release,
        accepted.deployment.applied(),
        &promises,
        settings,
    ));
    problems.extend(links::not_allowed(release, &settings.profile));
    problems.extend(storage::volumes(release, settings));
    problems.extend(storage::inodes(release, settings, free));
    for image in release.images() {
        for layer in &image.layers {
            if LayerType::from_media_type(&layer.media_type).is_none() {
                problems.push(format!(
                    "image `{}`: layers of type `{}` cannot be unpacked",
                    image.name, layer.media_type
                ));
            }
        }
    }
    for app in &release.apps {
        if settings.disks.is_empty() && io_of(&app.limits).is_any() {
            problems.push(format!(
                "app `{}` asks for IO limits, and this board has no disk that they could be set on",
                app.name
            ));
        }
        if settings.profile.architecture == Architecture::Arm && io_of(&app.limits).is_any() {
            tracing::warn!(app = %app.name, "it names an IO rate, which may stop a 32-bit kernel (`coracle board check`)");
        }
    }
    let needs = accepted.needs(on_board, false);
    let missing = storage::Missing::of(release, &needs, settings);
    problems.extend(storage::room(release, settings, free, missing));
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Refused::new(code, problems.join("\n"))),
    }
}

/// Whether a set that was taken before still fits: the board's profile may be another by now. `running`: the one that it would
/// take the place of.
pub fn fits(
    set: &DeployedSet,
    running: Option<&Release>,
    settings: &Settings,
) -> Result<(), Refused> {
    let mut promises = promises(set.release(), settings);
    promises.extend(hand_over::promises(set.release(), running, settings));
    let named = set.deployment().applied();
    let problems = over_budget(set.release(), named, &promises, settings);
    match problems.is_empty() {
        true => Ok(()),
        false => Err(Refused::new("over-budget", problems.join("\n"))),
    }
}

/// What is more than the board has, one a line. `named`: the release as it was signed, without the board's own numbers.
fn over_budget(
    release: &Release,
    named: &SignedRelease,
    promises: &[AppPromise],
    settings: &Settings,
) -> Vec<String> {
    let kept = beside::KeptVolumes::beside(release, settings);
    let programs = beside::Programs::beside(release, settings);
    let copies = data::Copies::of(release, settings);
    let budget = copies.less_of(&programs.less_of(&kept.less_of(&settings.budget)));
    let mut problems: Vec<String> = defaults::no_sense(named, settings).into_iter().collect();
    if let Err(found) = budget.check(promises) {
        problems.extend(found.iter().map(ToString::to_string));
        problems.extend(defaults::hint(named, settings, &found));
        problems.extend(kept.hint(&found));
        problems.extend(programs.hint(&found));
        problems.extend(copies.hint(&found));
    }
    problems
}

/// Bytes of the disk that the apps of a release have.
pub fn disk_of_apps(release: &Release, settings: &Settings) -> u64 {
    let promises = promises(release, settings);
    promises.iter().map(|promise| promise.disk_bytes).sum()
}

/// What the apps promise not to pass. What several apps share counts once, for the first: layers and volumes.
fn promises(release: &Release, settings: &Settings) -> Vec<AppPromise> {
    let mut counted = BTreeSet::new();
    let mut volumes = BTreeSet::new();
    let logs = settings.profile.quotas.log_mib.mib_in_bytes();
    let mut promise = |app: &App| {
        let layers = app.image.layers.iter();
        let own = logs
            .saturating_add(storage::layer_cost(app, settings))
            .saturating_add(storage::volumes_cost(app, settings, &mut volumes));
        let disk_bytes = layers
            .filter(|layer| counted.insert(layer.diff_id))
            .fold(own, |sum, layer| sum.saturating_add(layer.unpacked_size));
        promise_of(app, disk_bytes)
    };
    release.apps.iter().map(&mut promise).collect()
}

/// Of one app, with so much of the disk.
fn promise_of(app: &App, disk_bytes: u64) -> AppPromise {
    AppPromise {
        name: app.name.to_string(),
        // What waits for a slow disk is in our memory, not in the app's.
        memory_bytes: app.limits.memory_bytes + app.logs.drop_beyond().unwrap_or(0),
        guarantees: Guarantees {
            memory_min_bytes: app.limits.memory_min_bytes.unwrap_or(0),
            memory_reservation_bytes: app.limits.memory_reservation_bytes.unwrap_or(0),
            cpus: app.limits.cpus_exclusive.unwrap_or(0),
        },
        more: More {
            swap: app.limits.memory_swap_bytes.is_some(),
            oom_group: app.limits.oom_group,
            cpu_burst: app.limits.cpu_burst_micros.is_some(),
        },
        cpu_millis: app.limits.cpu_millis.into(),
        pids: app.limits.pids.into(),
        disk_bytes,
        io: io_of(&app.limits),
        mode: match app.network.mode {
            NetworkMode::Host => BoardMode::Host,
            NetworkMode::None => BoardMode::None,
            NetworkMode::Bridge => BoardMode::Bridge,
            NetworkMode::Container => BoardMode::Container,
        },
        host_ports: app.network.ports.iter().map(host_port).collect(),
    }
}

fn host_port(port: &coracle_protocol::release::Port) -> HostPort {
    HostPort {
        protocol: match port.protocol {
            Protocol::Tcp => PortProtocol::Tcp,
            Protocol::Udp => PortProtocol::Udp,
            Protocol::Sctp => PortProtocol::Sctp,
        },
        address: port.host_ip,
        port: port.host,
    }
}

//! The board's links and routes change while apps run: by cable, by DHCP, by hand. What has to follow follows here; NAT and
//! published ports need nothing of it, since no rule of theirs names an uplink or an address of the board.

use super::{Supervisor, beat};
use crate::apps::{AppRun, Phase, interfaces, whole};
use coracle_network::Changes;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// From a change to the look: changes come in swarms, and one look serves them all.
const SETTLE: Duration = Duration::from_millis(500);
/// Between two looks whether our tables are there. Only while apps are on networks.
const MEND: Duration = Duration::from_secs(5);

/// What is watched, and what was seen.
#[derive(Default)]
pub(super) struct Following {
    changes: Option<Changes>,
    look_at: Option<Instant>,
    mend_at: Option<Instant>,
    /// By network: the route that leads to the same addresses.
    overlaps: BTreeMap<String, String>,
}

impl std::fmt::Debug for Following {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Following")
            .field("overlaps", &self.overlaps)
            .finish_non_exhaustive()
    }
}

impl Following {
    /// Begins to watch, and looks once soon.
    pub(super) fn begin() -> Self {
        let changes = Changes::open().inspect_err(|error| {
            tracing::error!(%error, "changes of the board's links are not followed");
        });
        Self {
            changes: changes.ok(),
            look_at: Some(Instant::now() + SETTLE),
            mend_at: None,
            overlaps: BTreeMap::new(),
        }
    }

    /// Until something has changed. Nothing is heard while a look is due anyway.
    pub(super) async fn changed(&mut self) {
        match &mut self.changes {
            Some(changes) if self.look_at.is_none() => changes.wait().await,
            _ => std::future::pending().await,
        }
    }

    pub(super) fn look_soon(&mut self) {
        self.look_at.get_or_insert(Instant::now() + SETTLE);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.look_at.into_iter().chain(self.mend_at).min()
    }

    /// The route that leads to a network's addresses.
    pub(super) fn overlap_of(&self, network: &str) -> Option<String> {
        self.overlaps.get(network).cloned()
    }
}

impl Supervisor {
    /// Looks when a look is due.
    pub(super) async fn follow_links(&mut self, now: Instant) {
        if self.following.look_at.is_none_or(|at| at > now) {
            return;
        }
        self.following.look_at = None;
        // A list of all links is more than all that is kept of the apps, and comes after a deployment's last word.
        self.worked();
        let Ok(networks) = &mut self.bridge.0 else {
            return;
        };
        let found = networks.follow().await;
        let mut overlaps = BTreeMap::new();
        overlaps.extend(found.overlaps);
        for (network, other) in &overlaps {
            if self.following.overlaps.get(network) != Some(other) {
                tracing::warn!(network, other, "its containers do not reach what is there");
            }
        }
        self.following.overlaps = overlaps;
        for name in found.restart {
            // A restart during a trial would count against the set. The look after it finds the app again.
            if !self.machine.is_idle() {
                tracing::warn!(
                    app = name,
                    "its link was unplugged and is back: it is started again once the deployment has ended"
                );
                continue;
            }
            if let Some(index) = self.find(|app| app.slot == name) {
                tracing::warn!(
                    app = name,
                    "its link was unplugged and is back: it is started again"
                );
                self.apps[index].stop(now);
            }
        }
        self.take_stray_links_back();
        self.arrange_late_networks(now).await;
    }

    /// Those of apps that have ended, which could not be taken back then.
    fn take_stray_links_back(&self) {
        for name in interfaces::borrowers(&self.settings) {
            let runs = |app: &AppRun| app.slot == name && !app.is_down();
            if self.apps.iter().any(runs) {
                continue;
            }
            for fault in interfaces::take_back(&self.settings, &name) {
                tracing::warn!(app = name, fault, "a link stays with it");
            }
        }
        for error in coracle_network::lent::rename_back() {
            tracing::warn!(fault = whole(&error), "a link that came back");
        }
    }

    /// Looks now and then whether somebody took our tables away, and with them what holds the apps.
    pub(super) async fn mend_networks(&mut self, now: Instant) {
        let due = match self.following.mend_at {
            Some(at) if at > now => return,
            due => due.is_some(),
        };
        let on_networks = |app: &AppRun| {
            let process = app.process.as_ref();
            process.is_some_and(|process| !process.places.is_empty())
        };
        let watched = self.apps.iter().any(on_networks);
        self.following.mend_at = watched.then(|| beat::next(now, MEND));
        if due
            && watched
            && let Ok(networks) = &mut self.bridge.0
        {
            networks.mend().await;
        }
    }

    /// Networks that wait for a link of the board; their apps start as soon as it is there.
    async fn arrange_late_networks(&mut self, now: Instant) {
        let missing = self.missing_networks();
        if missing.is_empty() {
            return;
        }
        self.arrange_networks().await;
        let still = self.missing_networks();
        for app in &mut self.apps {
            let on = app.app.network.networks.iter();
            let mut names = on.map(|on| on.name.to_string());
            let came = names.any(|name| missing.contains(&name) && !still.contains(&name));
            if came && matches!(app.phase, Phase::Waiting { .. }) {
                app.phase = Phase::Waiting { at: now };
            }
        }
    }
}

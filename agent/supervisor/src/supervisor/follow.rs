//! The board's links and routes change while apps run: by cable, by DHCP, by hand. What has to follow follows here; NAT and
//! published ports need nothing of it, since no rule of theirs names an uplink or an address of the board.

use super::Supervisor;
use crate::apps::Phase;
use coracle_network::Changes;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// From a change to the look: changes come in swarms, and one look serves them all.
const SETTLE: Duration = Duration::from_millis(500);

/// What is watched, and what was seen.
#[derive(Default)]
pub(super) struct Following {
    changes: Option<Changes>,
    look_at: Option<Instant>,
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
        self.look_at
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
        let Ok(networks) = &mut self.bridge.0 else {
            return;
        };
        let found = networks.follow().await;
        let overlaps: BTreeMap<_, _> = found.overlaps.into_iter().collect();
        for (network, other) in &overlaps {
            if self.following.overlaps.get(network) != Some(other) {
                tracing::warn!(network, other, "its containers do not reach what is there");
            }
        }
        self.following.overlaps = overlaps;
        for name in found.restart {
            if let Some(index) = self.find(|app| app.name().as_str() == name) {
                tracing::warn!(
                    app = name,
                    "its link was unplugged and is back: it is started again"
                );
                self.apps[index].stop(now);
            }
        }
        self.arrange_late_networks(now).await;
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

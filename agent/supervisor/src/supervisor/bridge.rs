//! The board's own network, and that all of them are as they should be.

use super::Supervisor;
use crate::apps::whole;
use crate::board_policy;
use crate::settings::Settings;
use coracle_network::{NetworkConfig, Networks, mtu_of_first};
use std::time::Instant;

/// As a bridge has it where nobody says anything. IPv6 asks for the first (RFC 8200 5).
const MTUS: std::ops::RangeInclusive<u32> = 1280..=9216;

impl Supervisor {
    /// Opens the networks and holds them against the apps that run.
    pub(super) async fn open_bridge(&mut self) {
        let live: Vec<_> = self
            .apps
            .iter()
            .filter_map(|app| {
                let places = app.process.as_ref()?.places.clone();
                Some((app.slot.clone(), places))
            })
            .collect();
        let config = with_mtu_of_uplink(&self.settings).await;
        let opened = Networks::open(config, &self.settings.config.state_dir);
        let policy = board_policy::of(&self.settings.profile);
        let opened = opened.map(|networks| networks.with_policy(policy));
        self.bridge.0 = match opened {
            Ok(mut networks) => match networks.reconcile(&live).await {
                Ok(done) => {
                    for (network, fault) in &done.faults {
                        let fault = whole(fault);
                        tracing::error!(
                            network,
                            fault,
                            "a network is not in order and is made anew"
                        );
                    }
                    for name in done.without_link {
                        tracing::warn!(app = name, "it has lost its network and is started again");
                        if let Some(index) = self.find(|app| app.slot == name) {
                            self.apps[index].stop(Instant::now());
                        }
                    }
                    Ok(networks)
                }
                Err(error) => Err(whole(&error)),
            },
            Err(error) => Err(whole(&error)),
        };
        if let Err(error) = &self.bridge.0 {
            tracing::error!(
                error,
                "the apps' networks are not there; they are tried again with each start"
            );
        }
    }
}

/// The bridge's packets are as large as the preferred uplink of those that are here takes them, unless coracle.toml or the
/// profile says their size: what is larger would be cut or sent back on the way out.
async fn with_mtu_of_uplink(settings: &Settings) -> NetworkConfig {
    let mut config = settings.network.clone();
    if settings
        .config
        .mtu
        .or(settings.profile.network.mtu)
        .is_some()
    {
        return config;
    }
    let uplinks = settings.profile.network.uplinks.iter();
    let uplinks: Vec<&str> = uplinks.map(|uplink| uplink.link.as_str()).collect();
    match mtu_of_first(&uplinks).await {
        Ok(mtu) => config.mtu = mtu.filter(|mtu| MTUS.contains(mtu)).unwrap_or(config.mtu),
        Err(error) => tracing::warn!(%error, "the MTU of the uplink"),
    }
    config
}

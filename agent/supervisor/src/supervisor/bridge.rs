//! The board's own network, and that all of them are as they should be.

use super::Supervisor;
use crate::apps::whole;
use coracle_network::Networks;
use std::time::Instant;

impl Supervisor {
    /// Opens the networks and holds them against the apps that run.
    pub(super) async fn open_bridge(&mut self) {
        let live: Vec<_> = self
            .apps
            .iter()
            .filter_map(|app| {
                let places = app.process.as_ref()?.places.clone();
                Some((app.name().to_string(), places))
            })
            .collect();
        let settings = &self.settings;
        let opened = Networks::open(settings.network.clone(), &settings.config.state_dir);
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
                        if let Some(index) = self.find(|app| app.name().as_str() == name) {
                            self.apps[index].stop(Instant::now());
                        }
                    }
                    Ok(networks)
                }
                Err(error) => Err(error.to_string()),
            },
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = &self.bridge.0 {
            tracing::error!(
                error,
                "the apps' networks are not there; they are tried again with each start"
            );
        }
    }
}

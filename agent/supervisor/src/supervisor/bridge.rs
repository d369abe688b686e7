//! The network that the apps share: its bridge, and their names on it.

use super::Supervisor;
use crate::apps::{AppRun, etc};
use coracle_network::Network;
use std::net::Ipv4Addr;
use std::time::Instant;

impl Supervisor {
    /// Apps on the bridge find each other by name.
    pub(super) fn share_names(&self) {
        let place = |app: &'_ AppRun| Some(app.process.as_ref()?.endpoint.as_ref()?.ip);
        let all = self
            .apps
            .iter()
            .filter_map(|app| Some((app.name().as_str(), place(app)?)));
        let all: Vec<(&str, Ipv4Addr)> = all.collect();
        for (name, own) in &all {
            let others = all.iter().filter(|(other, _)| other != name);
            let others: Vec<_> = others.copied().collect();
            if let Err(error) = etc::write_hosts(&self.settings, name, *own, &others) {
                tracing::warn!(app = name, %error, "it does not know the others by name");
            }
        }
    }

    /// Opens the bridge and holds it against the apps that run.
    pub(super) async fn open_bridge(&mut self) {
        let live: Vec<_> = self
            .apps
            .iter()
            .filter_map(|app| {
                let endpoint = app.process.as_ref()?.endpoint.clone()?;
                Some((app.name().to_string(), endpoint))
            })
            .collect();
        let settings = &self.settings;
        let opened = Network::open(settings.network.clone(), &settings.config.state_dir);
        self.bridge.0 = match opened {
            Ok(mut network) => match network.reconcile(&live).await {
                Ok(done) => {
                    for name in done.without_link {
                        tracing::warn!(app = name, "it has lost its network and is started again");
                        if let Some(index) = self.find(|app| app.name().as_str() == name) {
                            self.apps[index].stop(Instant::now());
                        }
                    }
                    Ok(network)
                }
                Err(error) => Err(error.to_string()),
            },
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = &self.bridge.0 {
            tracing::error!(
                error,
                "the apps' bridge is not there; it is tried again with each start"
            );
        }
    }
}

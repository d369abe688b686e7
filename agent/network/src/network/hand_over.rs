//! Published ports go from one app to another while both run.

use std::collections::BTreeMap;

use crate::endpoint::Endpoint;
use crate::error::NetworkError;
use crate::port::PublishedPort;

use super::Network;

impl Network {
    /// The apps of `from` that are here have no published ports any more, those of `to` have theirs where they have their
    /// default route: in one step of the kernel, so that no connection finds nobody. Those that are open stay where they are.
    ///
    /// # Errors
    /// Whoever had the ports has them still.
    pub(crate) async fn hand_over(
        &mut self,
        from: &[&str],
        to: &BTreeMap<&str, &[PublishedPort]>,
    ) -> Result<(), NetworkError> {
        let mut before = BTreeMap::new();
        for (app, endpoint) in &mut self.attached {
            let wanted = to.get(app.as_str()).copied();
            let ports = match ports_here(endpoint, wanted) {
                Some(ports) => ports.to_vec(),
                None if wanted.is_none() && from.contains(&app.as_str()) => Vec::new(),
                _ => continue,
            };
            if ports == endpoint.ports {
                continue;
            }
            before.insert(app.clone(), endpoint.clone());
            endpoint.relieved |= ports.is_empty();
            endpoint.ports = ports;
        }
        if before.is_empty() {
            return Ok(());
        }
        let done = self.open_ports_of(&before).await;
        if done.is_err() {
            self.attached.extend(before);
            // The kernel may have been told already.
            if let Err(error) = self.update_ports() {
                tracing::warn!(bridge = self.config.bridge, %error, "ports stay with whoever was to have them");
            }
        }
        done
    }

    async fn open_ports_of<T>(
        &mut self,
        changed: &BTreeMap<String, T>,
    ) -> Result<(), NetworkError> {
        let opened = |app: &String| self.attached.get(app).filter(|e| !e.ports.is_empty());
        let opened: Vec<_> = changed.keys().filter_map(opened).cloned().collect();
        for endpoint in &opened {
            self.links.allow_hairpin(&endpoint.host_if).await?;
        }
        self.update_ports()?;
        for endpoint in &opened {
            self.lead_datagrams_in(endpoint).await?;
        }
        Ok(())
    }

    /// Whether one of those is to have ports here that it does not have.
    pub(crate) fn gains_ports(&self, apps: &BTreeMap<&str, &[PublishedPort]>) -> bool {
        self.attached.iter().any(|(app, endpoint)| {
            let ports = ports_here(endpoint, apps.get(app.as_str()).copied());
            ports.is_some_and(|ports| ports.iter().any(|port| !endpoint.ports.contains(port)))
        })
    }
}

/// An app's ports are where its default route is.
fn ports_here<'a>(
    endpoint: &Endpoint,
    wanted: Option<&'a [PublishedPort]>,
) -> Option<&'a [PublishedPort]> {
    wanted.filter(|_| endpoint.default_route && endpoint.wire.is_none())
}

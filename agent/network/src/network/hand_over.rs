//! Published ports go from one app to another while both run.

use std::collections::BTreeMap;

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
            let ports = match to.get(app.as_str()) {
                Some(ports) if endpoint.default_route && endpoint.wire.is_none() => ports.to_vec(),
                None if from.contains(&app.as_str()) => Vec::new(),
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

    /// Whether one of those is here.
    pub(crate) fn has_any(&self, apps: &BTreeMap<&str, &[PublishedPort]>) -> bool {
        self.attached
            .keys()
            .any(|app| apps.contains_key(app.as_str()))
    }
}

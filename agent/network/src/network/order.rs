//! Back to order after a restart, and the end of a network.

use crate::config::check_request;
use crate::endpoint::Endpoint;
use crate::error::{NetworkError, all_of};
use crate::link::Link;
use crate::nft::Ruleset;
use crate::sysctl;

use super::{Ensured, Network};

/// What `reconcile` found and put right.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconciled {
    pub ensured: Ensured,
    pub removed_links: Vec<String>,
    /// Live apps whose veth is gone: they run without a network and need a restart.
    pub without_link: Vec<String>,
}

impl Network {
    /// Call once after `open`, with the apps that live and the places they had: takes their addresses, ensures the network,
    /// replaces the tables in one step, removes veths on our bridge that belong to nobody.
    /// Live apps' connections are not interrupted. Goes on after an error and tells all of them.
    pub async fn reconcile(
        &mut self,
        live: &[(String, Endpoint)],
    ) -> Result<Reconciled, NetworkError> {
        let mut errors = Vec::new();
        self.attached.clear();
        self.pool.release_all();
        for (app, endpoint) in live {
            match self.take_back(app, endpoint) {
                Ok(()) => {
                    self.attached.insert(app.clone(), endpoint.clone());
                }
                Err(e) => errors.push(e),
            }
        }
        self.reconciled = true;
        let mut done = Reconciled::default();
        match self.ensure().await {
            Ok(ensured) => done.ensured = ensured,
            Err(e) => errors.push(e),
        }
        match self.our_links().await {
            Ok(links) => {
                for link in &links {
                    if !self.attached.values().any(|e| e.host_if == link.name) {
                        match self.links.remove(&link.name).await {
                            Ok(_) => done.removed_links.push(link.name.clone()),
                            Err(e) => errors.push(e.into()),
                        }
                    }
                }
                let missing = self
                    .attached
                    .iter()
                    .filter(|(_, e)| links.iter().all(|l| l.name != e.host_if));
                done.without_link = missing.map(|(app, _)| app.clone()).collect();
            }
            Err(e) => errors.push(e),
        }
        all_of(errors)?;
        Ok(done)
    }

    fn take_back(&mut self, app: &str, endpoint: &Endpoint) -> Result<(), NetworkError> {
        check_request(app, &endpoint.ports)?;
        self.refuse_taken_ports(app, &endpoint.ports)?;
        Ok(self.pool.claim(app, endpoint.ip)?)
    }

    /// Removes everything this network ever made: veths, bridge, tables, address pool; forwarding is switched off if this
    /// network switched it on. Goes on after an error and tells all of them.
    pub async fn destroy(mut self) -> Result<(), NetworkError> {
        let mut errors = Vec::new();
        match self.our_links().await {
            Ok(links) => {
                for link in links {
                    errors.extend(
                        self.links
                            .remove(&link.name)
                            .await
                            .err()
                            .map(NetworkError::from),
                    );
                }
            }
            Err(e) => errors.push(e),
        }
        if let Ok(bridge) = self.bridge().await
            && bridge.kind == "bridge"
        {
            errors.extend(
                self.links
                    .remove(&bridge.name)
                    .await
                    .err()
                    .map(NetworkError::from),
            );
        }
        if self.pool.forwarding_was_off() {
            errors.extend(sysctl::set_forwarding(false).err().map(NetworkError::from));
        }
        // Isolation goes last.
        let tables = self.nft.commit(&Ruleset::new(&self.config).remove());
        errors.extend(tables.err().map(NetworkError::from));
        errors.extend(self.pool.destroy().err().map(NetworkError::from));
        all_of(errors)
    }

    /// Veths that bear our prefix and hang on our bridge or, half made, on none.
    pub(super) async fn our_links(&self) -> Result<Vec<Link>, NetworkError> {
        let links = self.links.list().await?;
        let bridge = links
            .iter()
            .find(|l| l.name == self.config.bridge)
            .map(|l| l.index);
        let ours = |link: &Link| {
            let digits = link.name.strip_prefix(&self.config.ifname_prefix);
            let named =
                digits.is_some_and(|d| d.len() == 8 && d.bytes().all(|b| b.is_ascii_hexdigit()));
            named && link.kind == "veth" && (link.controller.is_none() || link.controller == bridge)
        };
        Ok(links.into_iter().filter(ours).collect())
    }
}

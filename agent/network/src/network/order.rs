//! Back to order after a restart, and the end of a network.

use crate::config::check_request;
use crate::endpoint::{Endpoint, Wanted};
use crate::error::{NetworkError, all_of};
use crate::link::Link;
use crate::nft::Ruleset;
use crate::sysctl;

use super::{Ensured, Network, refuse_taken_ports};

/// What `reconcile` found and put right.
#[derive(Debug, Default)]
pub struct Reconciled {
    pub ensured: Ensured,
    pub removed_links: Vec<String>,
    /// Live apps whose veth is gone: they run without a network and need a restart.
    pub without_link: Vec<String>,
    /// Declared networks that are not in order, and why. The others are; `arrange` makes these anew.
    pub faults: Vec<(String, NetworkError)>,
}

impl Network {
    /// Call once after `open`, with the apps that live and the places they had: takes their addresses, ensures the network,
    /// replaces the tables in one step, removes veths on our bridge that belong to nobody.
    /// Live apps' connections are not interrupted. Goes on after an error and tells all of them.
    pub async fn reconcile(
        &mut self,
        live: &[(String, Endpoint)],
    ) -> Result<Reconciled, NetworkError> {
        let mut found = self.reconcile_walls(live).await;
        match (
            &mut found,
            self.switch_forwarding(self.config.subnet6.is_some()),
        ) {
            (Ok(done), Ok(switched)) => done.ensured.forwarding_switched_on = switched,
            (Ok(_), Err(error)) => return Err(error),
            (Err(_), _) => {}
        }
        found
    }

    /// `reconcile`, but for the board's forwarding.
    pub(crate) async fn reconcile_walls(
        &mut self,
        live: &[(String, Endpoint)],
    ) -> Result<Reconciled, NetworkError> {
        let mut errors = Vec::new();
        self.attached.clear();
        self.half_gone.clear();
        self.learned.clear();
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
        match self.set_up().await {
            Ok(created) => done.ensured.bridge_created = created,
            Err(e) => errors.push(e),
        }
        match self.config.underlay {
            None => errors.extend(self.sweep(&mut done).await.err()),
            Some(_) => match self.off_the_wire().await {
                Ok(apps) => done.without_link = apps,
                Err(e) => errors.push(e),
            },
        }
        all_of(errors)?;
        Ok(done)
    }

    /// Links and tables that belong to nobody go, and who has lost a link is noted.
    async fn sweep(&mut self, done: &mut Reconciled) -> Result<(), NetworkError> {
        let mut errors = Vec::new();
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
        errors.extend(self.remove_leftover_tables().err());
        errors.extend(self.update_limits().await.err());
        errors.extend(self.rebuild_egress().err());
        all_of(errors)
    }

    fn remove_leftover_tables(&mut self) -> Result<(), NetworkError> {
        let Some(messages) = Ruleset::new(&self.config).remove_leftovers() else {
            return Ok(());
        };
        match self.nft.commit(&messages) {
            Err(e) if e.is_missing_option() => Ok(()),
            other => Ok(other?),
        }
    }

    fn take_back(&mut self, app: &str, endpoint: &Endpoint) -> Result<(), NetworkError> {
        let asked = Wanted {
            ports: &endpoint.ports,
            egress: endpoint.egress.as_deref(),
            ..Wanted::default()
        };
        check_request(app, &asked)?;
        refuse_taken_ports(app, &endpoint.ports, self.endpoints())?;
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
            && ["bridge", "vlan"].contains(&bridge.kind.as_str())
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
        if let Some(listening) = self.pool.forwarding6_was_off() {
            errors.extend(sysctl::set_forwarding6(false).err().map(NetworkError::from));
            for interface in listening {
                let back = sysctl::set_listening_to_routers(interface, sysctl::Listen::AsHostOnly);
                errors.extend(back.err().map(NetworkError::from));
            }
        }
        // Isolation goes last.
        self.attached.clear();
        if self.config.underlay.is_none() {
            let tables = self.nft.commit(&Ruleset::new(&self.config).remove());
            errors.extend(tables.err().map(NetworkError::from));
            errors.extend(self.rebuild_egress().err());
            errors.extend(self.remove_leftover_tables().err());
            errors.extend(self.update_limits().await.err());
        }
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

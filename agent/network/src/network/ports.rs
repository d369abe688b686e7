//! Published ports: who has which, and the maps that say so to the kernel.

use crate::config::PublishedPort;
use crate::endpoint::Endpoint;
use crate::error::NetworkError;
use crate::nft::{Forward, Ruleset};

use super::Network;

impl Network {
    /// The maps follow who is attached. Should our table be gone, it is made anew.
    pub(super) fn update_ports(&mut self) -> Result<(), NetworkError> {
        let forwards = self.forwards();
        let rules = Ruleset::new(&self.config);
        match self.nft.commit(&rules.set_ports(&forwards)) {
            Err(e) if e.refused_with() == Some(libc::ENOENT) => {
                tracing::warn!(
                    table = self.config.table,
                    "our nftables table was gone; making it again"
                );
                Ok(self.nft.commit(&rules.replace(&forwards))?)
            }
            other => Ok(other?),
        }
    }

    pub(super) fn forwards(&self) -> Vec<Forward> {
        let of = |(app, endpoint): (&String, &Endpoint)| {
            let (app, to) = (app.clone(), endpoint.ip);
            let ports = endpoint.ports.clone();
            ports.into_iter().map(move |port| Forward {
                app: app.clone(),
                port,
                to,
            })
        };
        self.attached.iter().flat_map(of).collect()
    }

    pub(super) fn refuse_taken_ports(
        &self,
        app: &str,
        ports: &[PublishedPort],
    ) -> Result<(), NetworkError> {
        let taken = |port: &PublishedPort, owner: &str| NetworkError::PortTaken {
            port: *port,
            app: app.to_owned(),
            owner: owner.to_owned(),
        };
        for (index, port) in ports.iter().enumerate() {
            if ports.iter().skip(index + 1).any(|p| p.collides_with(port)) {
                return Err(taken(port, app));
            }
            let owner = self
                .attached
                .iter()
                .find(|(_, e)| e.ports.iter().any(|p| p.collides_with(port)));
            if let Some((owner, _)) = owner {
                return Err(taken(port, owner));
            }
        }
        Ok(())
    }
}

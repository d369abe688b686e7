//! Published ports and limits to sending: who has which, and the tables that say so to the kernel.

use crate::endpoint::Endpoint;
use crate::error::NetworkError;
use crate::nft::{Forward, Limit, Ruleset, replace_limits};
use crate::port::PublishedPort;

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

    /// Whether somebody has a list of places to go: then everyone is held to its own address, or it could ask the resolver
    /// as another and use that one's share up.
    pub(super) fn has_lists(&self) -> bool {
        self.attached.values().any(|e| e.egress.is_some())
    }

    /// Whether there is to be a table of limits.
    pub(super) fn has_limits(&self) -> bool {
        self.attached
            .values()
            .any(|e| e.is_counted() || e.egress.is_some())
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

    /// The table of limits follows who is attached and whose interface is there.
    pub(super) async fn update_limits(&mut self) -> Result<(), NetworkError> {
        let links = self.links.list().await?;
        let lists = self.has_lists();
        // Who has no list gains nothing by another's IPv6 address: the resolver is asked by IPv4.
        let six = |e: &Endpoint| e.egress.as_ref().and(e.ipv6).map(|six| six.ip);
        let limits: Vec<Limit<'_>> = self
            .attached
            .values()
            .filter(|e| links.iter().any(|l| l.name == e.host_if))
            .filter(|e| lists || e.is_counted())
            .map(|e| Limit {
                host_if: &e.host_if,
                bytes_per_second: e.rates.egress_bytes_per_second,
                only_from: lists.then_some((e.ip, six(e))),
            })
            .collect();
        let messages = replace_limits(&self.config, &limits);
        match self.nft.commit(&messages) {
            // Without the family there is no table, and none is wanted.
            Err(e) if limits.is_empty() && e.is_missing_option() => Ok(()),
            other => Ok(other?),
        }
    }
}

/// # Errors
/// `PortTaken` with the owner among `others`, or with the app itself.
pub(crate) fn refuse_taken_ports<'a>(
    app: &str,
    ports: &[PublishedPort],
    others: impl Iterator<Item = (&'a str, &'a Endpoint)> + Clone,
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
        let owner = others
            .clone()
            .find(|(_, e)| e.ports.iter().any(|p| p.collides_with(port)));
        if let Some((owner, _)) = owner {
            return Err(taken(port, owner));
        }
    }
    Ok(())
}

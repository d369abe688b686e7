//! Several networks beside each other: the board's default one, and those that users make.
//!
//! Each is a `Network` with a bridge, tables and a pool of its own; what is known only here is which there are (a file,
//! written before the kernel is asked for anything, and shortened only after the kernel holds nothing any more), which
//! subnet is free, and who has a published port on any of them.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config::NetworkConfig;
use crate::endpoint::{Endpoint, Wanted};
use crate::error::{NetworkError, all_of};
use crate::link::{Counters, Links, Namespace};
use crate::network::{Network, Reconciled, refuse_taken_ports};
use admit::Admitting;
use board::Board;
use definition::Definitions;

mod admit;
mod arrange;
mod board;
mod create;
mod definition;
mod follow;
mod hand_over;
mod subnet;
#[cfg(test)]
mod tests;

pub use create::{Ipv6, NetworkRequest};
pub use definition::{DefinitionError, NetworkDefinition};
pub use follow::{Changes, Followed, mtu_of_first};

/// The default network's name.
pub const DEFAULT_NETWORK: &str = "bridge";
/// Networks beside the default one. Each costs a bridge, two tables and about ten rules.
pub const MAX_NETWORKS: usize = 32;
/// Networks of one container.
pub const MAX_NETWORKS_PER_APP: usize = 8;

/// A container's place in one of the networks. Kept by whoever runs it, and handed back to `reconcile`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub network: String,
    pub endpoint: Endpoint,
}

/// All networks of one board.
///
/// Start: `open`, then `reconcile` with the live apps, then `connect` and `disconnect` as they come and go.
pub struct Networks {
    state_dir: PathBuf,
    links: Links,
    default: Network,
    definitions: Definitions,
    user: BTreeMap<String, Network>,
    admitting: Admitting,
    board: Board,
    /// Those of `user` that could not be put in order.
    broken: BTreeSet<String>,
}

impl Networks {
    /// Opens the sockets and reads the definitions `<state_dir>/networks.json` and the pools; changes nothing in the
    /// kernel. Needs a running tokio runtime.
    pub fn open(default: NetworkConfig, state_dir: &Path) -> Result<Self, NetworkError> {
        let links = Links::open()?;
        let definitions = Definitions::open(&state_dir.join("networks.json"))?;
        let mut user = BTreeMap::new();
        for definition in definitions.all() {
            let config = definition.config();
            let network = Network::open_with(config, state_dir, links.clone())?;
            user.insert(definition.name.clone(), network);
        }
        Ok(Self {
            default: Network::open_with(default, state_dir, links.clone())?,
            state_dir: state_dir.to_owned(),
            links,
            definitions,
            user,
            admitting: Admitting::default(),
            board: Board::open(state_dir),
            broken: BTreeSet::new(),
        })
    }

    /// Users' networks, in the order in which they were made.
    pub fn list(&self) -> &[NetworkDefinition] {
        self.definitions.all()
    }

    /// A network with its configuration and who is in it; `DEFAULT_NETWORK` is one too.
    pub fn inspect(&self, name: &str) -> Result<&Network, NetworkError> {
        match name {
            DEFAULT_NETWORK => Ok(&self.default),
            _ => self.user.get(name).ok_or_else(|| unknown(name)),
        }
    }

    /// Where an app is, in the order of the networks' names.
    pub fn attachments(&self, app: &str) -> Vec<Attachment> {
        let of = |(network, it): (&str, &Network)| {
            it.endpoint(app).map(|endpoint| Attachment {
                network: network.to_owned(),
                endpoint: endpoint.clone(),
            })
        };
        self.each().filter_map(of).collect()
    }

    /// What went through each of an app's interfaces, by network.
    pub async fn counters(&self, app: &str) -> Result<Vec<(String, Counters)>, NetworkError> {
        let mut all = Vec::new();
        for (name, network) in self.each() {
            if let Some(counters) = network.counters(app).await? {
                all.push((name.to_owned(), counters));
            }
        }
        Ok(all)
    }

    fn each(&self) -> impl Iterator<Item = (&str, &Network)> + Clone {
        let user = self.user.iter().map(|(name, n)| (name.as_str(), n));
        [(DEFAULT_NETWORK, &self.default)].into_iter().chain(user)
    }

    fn get(&mut self, name: &str) -> Result<&mut Network, NetworkError> {
        match name {
            DEFAULT_NETWORK => Ok(&mut self.default),
            _ => self.user.get_mut(name).ok_or_else(|| unknown(name)),
        }
    }

    /// Gives the app a place in the network, for a container whose process does its own side by `configure_inside`.
    ///
    /// # Errors
    /// `PortTaken` names the owner, on whichever network it is.
    pub async fn connect(
        &mut self,
        network: &str,
        app: &str,
        namespace: Namespace<'_>,
        wanted: &Wanted<'_>,
    ) -> Result<Endpoint, NetworkError> {
        self.admit(network, app, wanted)?;
        let attached = self.get(network)?.attach_as(app, namespace, wanted).await;
        attached.inspect(|endpoint| self.board.tune_app(endpoint, namespace))
    }

    /// As `connect`, for a container that runs: both sides are done.
    pub async fn connect_running(
        &mut self,
        network: &str,
        app: &str,
        namespace: Namespace<'_>,
        wanted: &Wanted<'_>,
    ) -> Result<Endpoint, NetworkError> {
        self.admit(network, app, wanted)?;
        let network = self.get(network)?;
        let attached = network.attach_running(app, namespace, wanted).await;
        attached.inspect(|endpoint| self.board.tune_app(endpoint, namespace))
    }

    fn admit(&self, network: &str, app: &str, wanted: &Wanted<'_>) -> Result<(), NetworkError> {
        self.inspect(network)?;
        if self.attachments(app).len() >= MAX_NETWORKS_PER_APP {
            return Err(NetworkError::TooManyNetworks {
                app: app.to_owned(),
            });
        }
        let everyone = self.each().flat_map(|(_, n)| n.endpoints());
        let others = everyone.filter(|(other, _)| *other != app);
        refuse_taken_ports(app, wanted.ports, others)
    }

    /// Takes the app out of one network; one that it isn't in is no error.
    pub async fn disconnect(&mut self, network: &str, app: &str) -> Result<(), NetworkError> {
        self.get(network)?.detach(app).await
    }

    /// As `detach`, of an app whose namespace has ended: nobody waits until its interfaces are gone. `follow` sees to that.
    pub async fn ended(&mut self, app: &str) -> Result<(), NetworkError> {
        let mut errors = Vec::new();
        errors.extend(self.default.ended(app).await.err());
        for network in self.user.values_mut() {
            errors.extend(network.ended(app).await.err());
        }
        all_of(errors)
    }

    /// Takes the app out of every network. Goes on after an error and tells all of them.
    pub async fn detach(&mut self, app: &str) -> Result<(), NetworkError> {
        let mut errors = Vec::new();
        errors.extend(self.default.detach(app).await.err());
        for network in self.user.values_mut() {
            errors.extend(network.detach(app).await.err());
        }
        all_of(errors)
    }

    /// Call once after `open`, with the apps that live and the places they had: every network is put in order, and bridges
    /// that no definition knows go. Goes on after an error; one of a declared network is told beside what was done, so that
    /// it takes no other network down.
    pub async fn reconcile(
        &mut self,
        live: &[(String, Vec<Attachment>)],
    ) -> Result<Reconciled, NetworkError> {
        let mut errors = Vec::new();
        let mut done = Reconciled::default();
        let in_network = |name: &str| -> Vec<(String, Endpoint)> {
            let of = |(app, places): &(String, Vec<Attachment>)| {
                let place = places.iter().find(|place| place.network == name)?;
                Some((app.clone(), place.endpoint.clone()))
            };
            live.iter().filter_map(of).collect()
        };
        let in_default = in_network(DEFAULT_NETWORK);
        match self.default.reconcile_walls(&in_default).await {
            Ok(found) => done = found,
            Err(e) => errors.push(e),
        }
        for (name, network) in &mut self.user {
            match network.reconcile_walls(&in_network(name)).await {
                Ok(found) => {
                    done.removed_links.extend(found.removed_links);
                    done.without_link.extend(found.without_link);
                }
                Err(e) => done.faults.push((name.clone(), e)),
            }
        }
        self.broken = done.faults.iter().map(|(name, _)| name.clone()).collect();
        match self.switch_forwarding() {
            Ok(switched) => done.ensured.forwarding_switched_on = switched,
            Err(e) => errors.push(e),
        }
        done.without_link = BinaryHeap::from(done.without_link).into_sorted_vec();
        done.without_link.dedup();
        match self.links.list().await {
            Ok(links) => {
                for slot in self.definitions.strays(&links) {
                    errors.extend(self.remove_stray(slot).await.err());
                }
                self.order_board(&links);
            }
            Err(e) => errors.push(e.into()),
        }
        self.tell_of_no_way_out();
        all_of(errors)?;
        Ok(done)
    }

    async fn remove_stray(&mut self, slot: u8) -> Result<(), NetworkError> {
        tracing::warn!(slot, "a bridge of ours that no definition knows is removed");
        let config = definition::config_of_stray(slot);
        let network = Network::open_with(config, &self.state_dir, self.links.clone())?;
        network.destroy().await
    }

    /// Removes every network and all that it made. Goes on after an error and tells all of them.
    pub async fn destroy(mut self) -> Result<(), NetworkError> {
        let mut errors = Vec::new();
        match self.links.list().await {
            Ok(links) => errors.extend(self.board.give_back(&links)),
            Err(e) => errors.push(e.into()),
        }
        if self.board.keeps_forwarding() {
            errors.extend(self.default.leave_forwarding().err());
        }
        for (_, network) in std::mem::take(&mut self.user) {
            errors.extend(network.destroy().await.err());
        }
        errors.extend(self.default.destroy().await.err());
        if errors.is_empty() {
            errors.extend(self.definitions.destroy().err().map(NetworkError::from));
        }
        all_of(errors)
    }
}

fn unknown(name: &str) -> NetworkError {
    NetworkError::NoNetwork {
        name: name.to_owned(),
    }
}

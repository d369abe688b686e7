//! One bridge network: setting it up, attaching apps, taking them away, finding back to order after a restart.
//!
//! What the kernel should hold is a function of the configuration and of who is attached; each step leads there by the
//! shortest way and can be repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use crate::config::NetworkConfig;
use crate::egress::Learned;
use crate::endpoint::Endpoint;
use crate::error::NetworkError;
use crate::link::{Counters, Link, Links};
use crate::nft::NftSocket;
use crate::pool::Pool;

mod attach;
mod egress;
mod ensure;
mod flows;
mod hand_over;
mod mend;
mod order;
mod ports;
mod wire;

pub use ensure::Ensured;
pub(crate) use ensure::overlap;
pub use order::Reconciled;
pub(crate) use ports::refuse_taken_ports;

/// A bridge network in the network namespace in which it was opened.
///
/// Start: `open`, then `reconcile` with the live apps, then `attach` and `detach` as they come and go.
pub struct Network {
    config: NetworkConfig,
    links: Links,
    nft: NftSocket,
    pool: Pool,
    attached: BTreeMap<String, Endpoint>,
    learned: Learned,
    reconciled: bool,
    /// Apps whose veth could not be removed.
    half_gone: BTreeSet<String>,
    /// Namespaces of apps whose interface is in them alone, without a half in ours.
    held: BTreeMap<String, File>,
    /// Interfaces of apps that have ended, which the kernel removes in its own time.
    leaving: BTreeSet<String>,
}

impl Network {
    /// Opens the sockets and reads the address pool `<state_dir>/network-<bridge>.json`; changes nothing in the kernel.
    /// Needs a running tokio runtime. The folder has to exist.
    pub fn open(config: NetworkConfig, state_dir: &Path) -> Result<Self, NetworkError> {
        Self::open_with(config, state_dir, Links::open()?)
    }

    pub(crate) fn open_with(
        config: NetworkConfig,
        state_dir: &Path,
        links: Links,
    ) -> Result<Self, NetworkError> {
        config.check()?;
        let file = state_dir.join(format!("network-{}.json", config.bridge));
        Ok(Self {
            links,
            nft: NftSocket::open()?,
            pool: Pool::open(&file, &config)?,
            attached: BTreeMap::new(),
            learned: Learned::default(),
            reconciled: false,
            half_gone: BTreeSet::new(),
            held: BTreeMap::new(),
            leaving: BTreeSet::new(),
            config,
        })
    }

    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// What went through an app's interface; none without one.
    pub async fn counters(&self, app: &str) -> Result<Option<Counters>, NetworkError> {
        match self.attached.get(app) {
            // What passes on a wire is not counted on the board.
            Some(endpoint) if endpoint.wire.is_some() => Ok(None),
            Some(endpoint) => Ok(self.links.counters(&endpoint.host_if).await?),
            None => Ok(None),
        }
    }

    /// Where an app is attached.
    pub fn endpoint(&self, app: &str) -> Option<&Endpoint> {
        self.attached.get(app)
    }

    /// Apps and their places, in the order of their names.
    pub fn endpoints(&self) -> impl Iterator<Item = (&str, &Endpoint)> + Clone {
        self.attached.iter().map(|(app, e)| (app.as_str(), e))
    }

    /// The board's link that the network is reached by.
    pub fn link(&self) -> &str {
        match &self.config.underlay {
            Some(underlay) if underlay.vlan.is_none() => &underlay.parent,
            _ => &self.config.bridge,
        }
    }

    pub(super) async fn bridge(&self) -> Result<Link, NetworkError> {
        let found = self.links.find(&self.config.bridge).await?;
        found.ok_or_else(|| NetworkError::NoBridge {
            bridge: self.config.bridge.clone(),
        })
    }
}

//! One bridge network: setting it up, attaching apps, taking them away, finding back to order after a restart.
//!
//! What the kernel should hold is a function of the configuration and of who is attached; each step leads there by the
//! shortest way and can be repeated.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::NetworkConfig;
use crate::endpoint::{Endpoint, mac};
use crate::error::NetworkError;
use crate::link::{Link, Links};
use crate::nft::{NftSocket, Ruleset};
use crate::pool::Pool;
use crate::sysctl;

mod attach;
mod order;
mod ports;

pub use order::Reconciled;

/// What `ensure` had to do, for the log and for `board check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ensured {
    pub bridge_created: bool,
    /// The board passes packets on from now on, between its other interfaces too unless a firewall says otherwise.
    pub forwarding_switched_on: bool,
}

/// A bridge network in the network namespace in which it was opened.
///
/// Start: `open`, then `reconcile` with the live apps, then `attach` and `detach` as they come and go.
pub struct Network {
    config: NetworkConfig,
    links: Links,
    nft: NftSocket,
    pool: Pool,
    attached: BTreeMap<String, Endpoint>,
    reconciled: bool,
}

impl Network {
    /// Opens the sockets and reads the address pool `<state_dir>/network-<bridge>.json`; changes nothing in the kernel.
    /// Needs a running tokio runtime. The folder has to exist.
    pub fn open(config: NetworkConfig, state_dir: &Path) -> Result<Self, NetworkError> {
        config.check()?;
        let file = state_dir.join(format!("network-{}.json", config.bridge));
        Ok(Self {
            links: Links::open()?,
            nft: NftSocket::open()?,
            pool: Pool::open(&file, config.subnet)?,
            attached: BTreeMap::new(),
            reconciled: false,
            config,
        })
    }

    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// Where an app is attached.
    pub fn endpoint(&self, app: &str) -> Option<&Endpoint> {
        self.attached.get(app)
    }

    /// Apps and their places, in the order of their names.
    pub fn endpoints(&self) -> impl Iterator<Item = (&str, &Endpoint)> {
        self.attached.iter().map(|(app, e)| (app.as_str(), e))
    }

    /// Bridge, gateway address, forwarding and tables are there afterwards. May be called again at any time: it puts back
    /// what somebody else removed, such as our tables after `nft flush ruleset`.
    ///
    /// # Errors
    /// `Overlap` when the bridge is new and another route leads to its subnet.
    pub async fn ensure(&mut self) -> Result<Ensured, NetworkError> {
        self.refuse_overlap().await?;
        let NetworkConfig {
            bridge,
            subnet,
            mtu,
            ..
        } = &self.config;
        let gateway = self.config.gateway();
        let (index, bridge_created) = self.links.ensure_bridge(bridge, mac(gateway), *mtu).await?;
        self.links
            .ensure_address(index, bridge, gateway, subnet.prefix_len())
            .await?;
        sysctl::set_route_localnet(bridge)?;
        // The isolation stands before the board starts passing packets on.
        self.ensure_tables()?;
        let forwarding_switched_on = !sysctl::forwarding()?;
        if forwarding_switched_on {
            self.pool.note_forwarding_was_off()?;
            sysctl::set_forwarding(true)?;
            tracing::info!(bridge = self.config.bridge, "IPv4 forwarding switched on");
        }
        Ok(Ensured {
            bridge_created,
            forwarding_switched_on,
        })
    }

    fn ensure_tables(&mut self) -> Result<(), NetworkError> {
        let rules = Ruleset::new(&self.config);
        if self.reconciled {
            return Ok(self.nft.commit(&rules.replace(&self.forwards()))?);
        }
        // Not knowing who lives, we leave the ports of a running table as they are.
        match self.nft.commit(&rules.create_first()) {
            Err(e) if e.refused_with() == Some(libc::EEXIST) => Ok(()),
            other => Ok(other?),
        }
    }

    async fn refuse_overlap(&self) -> Result<(), NetworkError> {
        let subnet = self.config.subnet;
        let links = self.links.list().await?;
        let name = |index: Option<u32>| {
            let link = links.iter().find(|l| Some(l.index) == index);
            link.map_or("no interface", |l| l.name.as_str())
        };
        let existing = links.iter().any(|l| l.name == self.config.bridge);
        for route in self.links.routes().await? {
            let overlaps = subnet.contains(&route.destination.network())
                || route.destination.contains(&subnet.network());
            let interface = name(route.interface);
            if !overlaps || interface == self.config.bridge {
                continue;
            }
            let overlap = NetworkError::Overlap {
                subnet,
                route: route.destination,
                interface: interface.to_owned(),
            };
            // A board that moved into such a network keeps its apps running; only a new bridge is refused.
            if !existing {
                return Err(overlap);
            }
            tracing::warn!(error = %overlap, "a new route overlaps the containers' subnet");
        }
        Ok(())
    }

    pub(super) async fn bridge(&self) -> Result<Link, NetworkError> {
        let found = self.links.find(&self.config.bridge).await?;
        found.ok_or_else(|| NetworkError::NoBridge {
            bridge: self.config.bridge.clone(),
        })
    }
}

//! One bridge network: setting it up, attaching apps, taking them away, finding back to order after a restart.
//!
//! What the kernel should hold is a function of the configuration and of who is attached; each step leads there by the
//! shortest way and can be repeated.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::{NetworkConfig, PublishedPort, check_request};
use crate::error::{NetworkError, all_of};
use crate::link::{Link, Links, Namespace, Veth};
use crate::nft::{Forward, NftSocket, Ruleset};
use crate::pool::Pool;
use crate::sysctl;

/// The interface's name inside each container.
const CONTAINER_INTERFACE: &str = "eth0";

/// A container's place in the network. Kept by whoever runs the container, and handed back to `reconcile`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub ip: Ipv4Addr,
    /// Length of the subnet's prefix, in bits.
    pub prefix: u8,
    pub gateway: Ipv4Addr,
    /// Locally administered and made from the address, so that neighbours' ARP tables stay right over a restart.
    pub mac: [u8; 6],
    pub mtu: u32,
    pub host_if: String,
    pub container_if: String,
    pub ports: Vec<PublishedPort>,
}

/// What `ensure` had to do, for the log and for `board check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ensured {
    pub bridge_created: bool,
    /// The board passes packets on from now on, between its other interfaces too unless a firewall says otherwise.
    pub forwarding_switched_on: bool,
}

/// What `reconcile` found and put right.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconciled {
    pub ensured: Ensured,
    pub removed_links: Vec<String>,
    /// Live apps whose veth is gone: they run without a network and need a restart.
    pub without_link: Vec<String>,
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

    /// Gives the app an address and a veth into its namespace, and opens its published ports.
    /// The container's own side is `configure_inside`. After an error nothing of it remains.
    ///
    /// # Errors
    /// `PortTaken` names the other owner. `Attached` when the app has a place already.
    pub async fn attach(
        &mut self,
        app: &str,
        namespace: Namespace<'_>,
        ports: &[PublishedPort],
    ) -> Result<Endpoint, NetworkError> {
        check_request(app, ports)?;
        if let Some(there) = self.attached.get(app) {
            return Err(NetworkError::Attached {
                app: app.to_owned(),
                ip: there.ip,
            });
        }
        self.refuse_taken_ports(app, ports)?;
        let bridge = self.bridge().await?;
        let ip = self.pool.allocate(app, self.reconciled)?;
        let endpoint = self.place(ip, ports);
        self.attached.insert(app.to_owned(), endpoint.clone());
        if let Err(error) = self.connect(&endpoint, bridge.index, namespace).await {
            if let Err(undo) = self.detach(app).await {
                tracing::warn!(app, error = %undo, "could not take back a failed attachment");
            }
            return Err(error);
        }
        Ok(endpoint)
    }

    async fn connect(
        &mut self,
        endpoint: &Endpoint,
        bridge: u32,
        namespace: Namespace<'_>,
    ) -> Result<(), NetworkError> {
        // One that bears the address's name is an orphan: the pool gives no address twice.
        self.links.remove(&endpoint.host_if).await?;
        let veth = Veth {
            host_name: &endpoint.host_if,
            inner_name: &endpoint.container_if,
            inner_mac: endpoint.mac,
            mtu: endpoint.mtu,
            bridge,
        };
        self.links.add_veth(&veth, namespace).await?;
        if endpoint.ports.is_empty() {
            return Ok(());
        }
        self.links.allow_hairpin(&endpoint.host_if).await?;
        self.update_ports()
    }

    /// Removes what `attach` made: veth, ports, hold on the address. Goes on after an error and tells all of them.
    /// An app that isn't attached is no error.
    pub async fn detach(&mut self, app: &str) -> Result<(), NetworkError> {
        let Some(endpoint) = self.attached.remove(app) else {
            return Ok(());
        };
        let mut errors = Vec::new();
        // Ports first, so that nothing is sent to an address that the next app may get.
        if !endpoint.ports.is_empty() {
            errors.extend(self.update_ports().err());
        }
        let removed = self.links.remove(&endpoint.host_if).await;
        errors.extend(removed.err().map(NetworkError::from));
        self.pool.release(endpoint.ip);
        all_of(errors)
    }

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

    /// The maps follow who is attached. Should our table be gone, it is made anew.
    fn update_ports(&mut self) -> Result<(), NetworkError> {
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

    fn forwards(&self) -> Vec<Forward> {
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

    fn place(&self, ip: Ipv4Addr, ports: &[PublishedPort]) -> Endpoint {
        Endpoint {
            ip,
            prefix: self.config.subnet.prefix_len(),
            gateway: self.config.gateway(),
            mac: mac(ip),
            mtu: self.config.mtu,
            host_if: format!("{}{:08x}", self.config.ifname_prefix, u32::from(ip)),
            container_if: CONTAINER_INTERFACE.to_owned(),
            ports: ports.to_vec(),
        }
    }

    fn refuse_taken_ports(&self, app: &str, ports: &[PublishedPort]) -> Result<(), NetworkError> {
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

    async fn bridge(&self) -> Result<Link, NetworkError> {
        let found = self.links.find(&self.config.bridge).await?;
        found.ok_or_else(|| NetworkError::NoBridge {
            bridge: self.config.bridge.clone(),
        })
    }

    /// Veths that bear our prefix and hang on our bridge or, half made, on none.
    async fn our_links(&self) -> Result<Vec<Link>, NetworkError> {
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

fn mac(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x02, 0xc0, a, b, c, d]
}

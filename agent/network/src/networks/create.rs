//! Networks come and go.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::definition::NetworkDefinition;
use super::{DEFAULT_NETWORK, MAX_NETWORKS, Networks, subnet, unknown};
use crate::config::ConfigError;
use crate::error::{NetworkError, all_of};
use crate::network::{Network, overlap};
use crate::sysctl;
use crate::underlay::{NO_GATEWAY, Underlay};

/// Whether a network speaks IPv6.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ipv6 {
    /// Where the kernel can, a unique local subnet (RFC 4193).
    #[default]
    Auto,
    Off,
    Subnet(Ipv6Net),
}

/// What a user asks a new network to be; only the name has to be said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkRequest {
    /// 1 to 63 of a-z 0-9 _ - and dots, starting with a letter or digit.
    pub name: String,
    /// None is one that is free.
    pub subnet: Option<Ipv4Net>,
    pub gateway: Option<Ipv4Addr>,
    pub range: Option<Ipv4Net>,
    pub ipv6: Ipv6,
    /// None is the default network's.
    pub mtu: Option<u32>,
    pub internal: bool,
    pub allow_host_access: bool,
    pub resolver: bool,
    /// The board's link that it lies on, without a bridge.
    pub underlay: Option<Underlay>,
}

impl NetworkRequest {
    /// Where nobody says one: a bridge has its subnet's first address, a wire no router.
    pub(super) fn default_gateway(&self, subnet: Ipv4Net) -> Ipv4Addr {
        match self.underlay {
            Some(_) => NO_GATEWAY,
            None => Ipv4Addr::from(u32::from(subnet.network()) + 1),
        }
    }
}

impl Networks {
    /// Makes a network; after an error nothing of it remains.
    ///
    /// # Errors
    /// `Overlap` names the route, `OverlapsNetwork` the network, that has the subnet already.
    pub async fn create(
        &mut self,
        request: &NetworkRequest,
    ) -> Result<NetworkDefinition, NetworkError> {
        let mut definition = self.decide(request).await?;
        let mut made = self.make(&definition).await;
        if let Err(error) = &made
            && request.ipv6 == Ipv6::Auto
            && definition.subnet6.take().is_some()
            && error.lacks_ipv6()
        {
            tracing::info!(name = request.name, error = %error, "the network is made without IPv6");
            made = self.make(&definition).await;
        }
        made?;
        Ok(definition)
    }

    async fn make(&mut self, definition: &NetworkDefinition) -> Result<(), NetworkError> {
        let name = &definition.name;
        let network = Network::open_with(definition.config(), &self.state_dir, self.links.clone())?;
        self.definitions.add(definition.clone())?;
        self.user.insert(name.clone(), network);
        let mut made = self.get(name)?.reconcile_walls(&[]).await.map(|_| ());
        if made.is_ok() {
            made = self.switch_forwarding().map(|_| ());
        }
        if let Err(error) = made {
            let mut errors = vec![error];
            errors.extend(self.remove(name).await.err());
            return all_of(errors);
        }
        Ok(())
    }

    /// Removes a network and all that it made.
    ///
    /// # Errors
    /// `InUse` names the apps in it.
    pub async fn remove(&mut self, name: &str) -> Result<(), NetworkError> {
        if name == DEFAULT_NETWORK {
            return Err(NetworkError::NotRemovable {
                name: name.to_owned(),
            });
        }
        let network = self.inspect(name)?;
        let apps: Vec<String> = network.endpoints().map(|(app, _)| app.to_owned()).collect();
        if !apps.is_empty() {
            return Err(NetworkError::InUse {
                name: name.to_owned(),
                apps: apps.join(", "),
            });
        }
        let network = self.user.remove(name).ok_or_else(|| unknown(name))?;
        let config = network.config().clone();
        if let Err(error) = network.destroy().await {
            // Its definition stays, so that the next try knows what to remove.
            let again = Network::open_with(config, &self.state_dir, self.links.clone())?;
            self.user.insert(name.to_owned(), again);
            return Err(error);
        }
        self.broken.remove(name);
        Ok(self.definitions.forget(name)?)
    }

    async fn decide(&self, request: &NetworkRequest) -> Result<NetworkDefinition, NetworkError> {
        let name = &request.name;
        if self.inspect(name).is_ok() || ["host", "none", DEFAULT_NETWORK].contains(&name.as_str())
        {
            return Err(NetworkError::NetworkExists { name: name.clone() });
        }
        self.refuse_no_way_out(request)?;
        let slot = self.definitions.free_slot();
        let slot = slot.ok_or(NetworkError::TooManyDefinitions(MAX_NETWORKS))?;
        let routes = self.links.routes().await?;
        let taken: Vec<Ipv4Net> = self.each().map(|(_, n)| n.config().subnet).collect();
        let subnet = match request.subnet {
            // Others are on that wire too; the board need not route to it.
            Some(wanted) if request.underlay.is_some() => wanted.trunc(),
            None if request.underlay.is_some() => return Err(ConfigError::WireSubnet.into()),
            Some(wanted) => self.refuse_overlaps(wanted.trunc()).await?,
            None => subnet::free(&routes, &taken).ok_or(NetworkError::NoFreeSubnet)?,
        };
        let subnet6 = match request.ipv6 {
            Ipv6::Off => None,
            Ipv6::Subnet(net) => Some(net.trunc()),
            Ipv6::Auto if request.underlay.is_some() => None,
            Ipv6::Auto if !sysctl::has_ipv6() => None,
            // Addresses that lead nowhere would be asked first, and waited for.
            Ipv6::Auto if !request.internal && self.leads_out6().is_err() => None,
            Ipv6::Auto => Some(subnet::unique_local(slot).map_err(NetworkError::Random)?),
        };
        let definition = NetworkDefinition {
            name: name.clone(),
            slot,
            subnet,
            gateway: request.gateway.unwrap_or(request.default_gateway(subnet)),
            range: request.range,
            subnet6,
            mtu: self.mtu_of(request).await?,
            internal: request.internal,
            allow_host_access: request.allow_host_access,
            resolver: request.resolver,
            underlay: request.underlay.clone(),
        };
        definition.check()?;
        Ok(definition)
    }

    async fn mtu_of(&self, request: &NetworkRequest) -> Result<u32, NetworkError> {
        match (request.mtu, &request.underlay) {
            (Some(mtu), _) => Ok(mtu),
            (None, None) => Ok(self.default.config().mtu),
            (None, Some(underlay)) => match self.links.find(&underlay.parent).await? {
                Some(link) => Ok(link.mtu),
                None => Err(NetworkError::NoParent {
                    link: underlay.parent.clone(),
                }),
            },
        }
    }

    async fn refuse_overlaps(&self, wanted: Ipv4Net) -> Result<Ipv4Net, NetworkError> {
        let other = self
            .each()
            .find(|(_, n)| subnet::overlap(n.config().subnet, wanted));
        if let Some((name, network)) = other {
            return Err(NetworkError::OverlapsNetwork {
                subnet: wanted,
                other: network.config().subnet,
                name: name.to_owned(),
            });
        }
        let (links, routes) = (self.links.list().await?, self.links.routes().await?);
        match overlap(IpNet::V4(wanted), "", &links, &routes) {
            Some(error) => Err(error),
            None => Ok(wanted),
        }
    }
}

//! The networks that are wanted, and no others.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{Ipv6, NetworkDefinition, NetworkRequest, Networks, subnet};
use crate::error::NetworkError;
use crate::link::Link;
use crate::network::overlap;

impl Networks {
    /// Makes what is missing and removes what nobody asks for any more; one that is asked to be something else is made
    /// anew, with a pool of its own. Goes on after an error and tells all of them, each with its network's name.
    ///
    /// # Errors
    /// `InUse` for a network that an app is still in; it stays as it is.
    pub async fn arrange(&mut self, wanted: &[NetworkRequest]) -> Vec<(String, NetworkError)> {
        let mut errors = Vec::new();
        let stale = |there: &&NetworkDefinition| {
            self.broken.contains(&there.name) || !wanted.iter().any(|w| there.is_what(w))
        };
        let stale: Vec<String> = self
            .list()
            .iter()
            .filter(stale)
            .map(|d| d.name.clone())
            .collect();
        for name in stale {
            tracing::info!(
                network = name,
                "not in order or no longer wanted as it is, and removed"
            );
            errors.extend(self.remove(&name).await.err().map(|error| (name, error)));
        }
        for request in wanted {
            if self.inspect(&request.name).is_err() {
                let made = self.create(request).await;
                errors.extend(made.err().map(|error| (request.name.clone(), error)));
            }
        }
        errors
    }

    /// Whether the board has this subnet to give: no route of its own and not the default network. Users' networks do not
    /// count, since they may go before it comes.
    ///
    /// # Errors
    /// `Overlap` names the route and its interface, `OverlapsNetwork` the default network.
    pub async fn could_have(&self, wanted: Ipv4Net) -> Result<(), NetworkError> {
        let default = self.default.config().subnet;
        if subnet::overlap(default, wanted) {
            return Err(NetworkError::OverlapsNetwork {
                subnet: wanted,
                other: default,
                name: super::DEFAULT_NETWORK.to_owned(),
            });
        }
        self.routed_by_others(IpNet::V4(wanted)).await
    }

    /// The same of an IPv6 subnet.
    ///
    /// # Errors
    /// `Overlap` names the route and its interface.
    pub async fn could_have6(&self, wanted: Ipv6Net) -> Result<(), NetworkError> {
        self.routed_by_others(IpNet::V6(wanted)).await
    }

    async fn routed_by_others(&self, wanted: IpNet) -> Result<(), NetworkError> {
        let links = self.links.list().await?;
        let ours = |link: &&Link| {
            let bridges = self.each().map(|(_, network)| &network.config().bridge);
            bridges.into_iter().any(|bridge| *bridge == link.name)
        };
        let ours: Vec<u32> = links.iter().filter(ours).map(|link| link.index).collect();
        let mut routes = self.links.routes().await?;
        routes.retain(|route| !route.interface.is_some_and(|index| ours.contains(&index)));
        match overlap(wanted, "", &links, &routes) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

impl NetworkDefinition {
    /// Whether it is what is asked for; what was left to us may be anything.
    fn is_what(&self, wanted: &NetworkRequest) -> bool {
        let default_gateway = wanted.default_gateway(self.subnet);
        let six = match wanted.ipv6 {
            Ipv6::Auto => true,
            Ipv6::Off => self.subnet6.is_none(),
            Ipv6::Subnet(net) => self.subnet6 == Some(net.trunc()),
        };
        self.name == wanted.name
            && wanted
                .subnet
                .is_none_or(|subnet| subnet.trunc() == self.subnet)
            && self.gateway == wanted.gateway.unwrap_or(default_gateway)
            && self.range == wanted.range
            && six
            && wanted.mtu.is_none_or(|mtu| mtu == self.mtu)
            && self.underlay == wanted.underlay
            && self.internal == wanted.internal
            && self.allow_host_access == wanted.allow_host_access
            && self.resolver == wanted.resolver
    }
}

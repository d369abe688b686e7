//! Bridge, addresses, forwarding and tables: what has to be there before the first app comes.

use ipnet::IpNet;

use super::Network;
use crate::config::NetworkConfig;
use crate::endpoint::{beside, mac};
use crate::error::NetworkError;
use crate::link::{Link, Route};
use crate::nft::Ruleset;
use crate::sysctl;

/// What `ensure` had to do, for the log and for `board check`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ensured {
    pub bridge_created: bool,
    /// The board passes packets on from now on, between its other interfaces too unless a firewall says otherwise.
    pub forwarding_switched_on: bool,
}

impl Network {
    /// Bridge, gateway address, forwarding and tables are there afterwards. May be called again at any time: it puts back
    /// what somebody else removed, such as our tables after `nft flush ruleset`, with who is attached in them.
    ///
    /// # Errors
    /// `Overlap` when the bridge is new and another route leads to its subnet.
    pub async fn ensure(&mut self) -> Result<Ensured, NetworkError> {
        let bridge_created = self.set_up().await?;
        self.mend().await?;
        let forwarding_switched_on = self.switch_forwarding(self.config.subnet6.is_some())?;
        Ok(Ensured {
            bridge_created,
            forwarding_switched_on,
        })
    }

    /// All but the board's forwarding; whether the bridge is new. The isolation stands before the board passes packets on.
    pub(crate) async fn set_up(&mut self) -> Result<bool, NetworkError> {
        if let Some(underlay) = self.config.underlay.clone() {
            return Ok(self.ensure_wire(&underlay).await?.1);
        }
        self.refuse_overlap().await?;
        let NetworkConfig {
            bridge,
            subnet,
            subnet6,
            mtu,
            ..
        } = &self.config;
        let gateway = self.config.gateway();
        let (index, bridge_created) = self.links.ensure_bridge(bridge, mac(gateway), *mtu).await?;
        self.links
            .ensure_address(index, bridge, gateway.into(), subnet.prefix_len())
            .await?;
        if let Some(net) = subnet6 {
            sysctl::set_ipv6_of_bridge(bridge)?;
            let gateway = beside(net.network(), gateway).into();
            self.links
                .ensure_address(index, bridge, gateway, net.prefix_len())
                .await?;
        }
        sysctl::set_route_localnet(bridge)?;
        sysctl::set_ask_again_soon(bridge)?;
        self.ensure_tables()?;
        Ok(bridge_created)
    }

    /// Whether it had to be switched on; noted, so that `destroy` switches off what was off.
    pub(crate) fn switch_forwarding(&mut self, ipv6: bool) -> Result<bool, NetworkError> {
        let switched_on = !sysctl::forwarding()?;
        if switched_on {
            self.pool.note_forwarding_was_off()?;
            sysctl::set_forwarding(true)?;
            tracing::info!(bridge = self.config.bridge, "IPv4 forwarding switched on");
        }
        if ipv6 && !sysctl::forwarding6()? {
            // A router ignores what routers say: interfaces that listened to them have to be told to go on.
            let listening = sysctl::listening_to_routers()?;
            self.pool.note_forwarding6_was_off(&listening)?;
            for interface in &listening {
                sysctl::set_listening_to_routers(interface, sysctl::Listen::AsRouterToo)?;
            }
            sysctl::set_forwarding6(true)?;
            tracing::info!(bridge = self.config.bridge, "IPv6 forwarding switched on");
        }
        Ok(switched_on)
    }

    /// Whoever owns the board's forwarding keeps it as it is from now on: nothing is switched back in the end.
    pub(crate) fn leave_forwarding(&mut self) -> Result<(), NetworkError> {
        Ok(self.pool.forget_forwarding()?)
    }

    /// Interfaces that came after IPv6 forwarding was switched on go on listening to routers too.
    pub(crate) fn keep_listening(&mut self, interfaces: &[String]) -> Result<(), NetworkError> {
        if self.pool.forwarding6_was_off().is_none() {
            return Ok(());
        }
        let mut late = sysctl::listening_to_routers()?;
        late.retain(|interface| interfaces.contains(interface));
        if late.is_empty() {
            return Ok(());
        }
        self.pool.note_forwarding6_was_off(&late)?;
        for interface in &late {
            sysctl::set_listening_to_routers(interface, sysctl::Listen::AsRouterToo)?;
            tracing::info!(interface, "it goes on listening to routers");
        }
        Ok(())
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
        let links = self.links.list().await?;
        let routes = self.links.routes().await?;
        let existing = links.iter().any(|l| l.name == self.config.bridge);
        let subnets = [
            Some(IpNet::V4(self.config.subnet)),
            self.config.subnet6.map(IpNet::V6),
        ];
        for subnet in subnets.into_iter().flatten() {
            let Some(overlap) = overlap(subnet, &self.config.bridge, &links, &routes) else {
                continue;
            };
            // A board that moved into such a network keeps its apps running; only a new bridge is refused.
            if !existing {
                return Err(overlap);
            }
            tracing::warn!(error = %overlap, "a new route overlaps the containers' subnet");
        }
        Ok(())
    }
}

/// The first route of another interface than `bridge` that leads to some address of the subnet.
pub(crate) fn overlap(
    subnet: IpNet,
    bridge: &str,
    links: &[Link],
    routes: &[Route],
) -> Option<NetworkError> {
    let name = |index: Option<u32>| {
        let link = links.iter().find(|l| Some(l.index) == index);
        link.map_or("no interface", |l| l.name.as_str())
    };
    let other = |route: &&Route| route.overlaps(subnet) && name(route.interface) != bridge;
    routes
        .iter()
        .find(other)
        .map(|route| NetworkError::Overlap {
            subnet,
            route: route.destination,
            interface: name(route.interface).to_owned(),
        })
}

//! What the resolver found for a container that may not go everywhere: which of it the container is told and may reach.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;

use super::Networks;
use crate::egress::{
    Admission, EgressRule, MAX_ADMITTED, Places, names, says, stands_for, suspicion,
};
use crate::error::NetworkError;

impl Networks {
    /// How long answers count from now on.
    pub fn set_admission(&mut self, admission: Admission) {
        self.admission = admission;
    }

    /// The container may reach those addresses that are given back, for the name's time to live within bounds. They are
    /// fewer than asked where an address is none to be opened by whoever answers for a name; an address that the list
    /// itself has needs no opening. Without a list it may go everywhere.
    ///
    /// The resolver is not trusted: neither the name nor the addresses are taken as right.
    ///
    /// # Errors
    /// `NotAllowed` for a name that is not on the container's list.
    pub async fn admit_answer(
        &mut self,
        network: &str,
        client: Ipv4Addr,
        name: &str,
        addresses: &[IpAddr],
        ttl: Duration,
    ) -> Result<Vec<IpAddr>, NetworkError> {
        let mut addresses = addresses.to_vec();
        addresses.truncate(MAX_ADMITTED);
        let found = self
            .inspect(network)?
            .endpoints()
            .find(|(_, e)| e.ip == client);
        let (app, endpoint) = found.ok_or_else(|| NetworkError::NoContainer {
            network: network.to_owned(),
            ip: client,
        })?;
        let Some(rules) = endpoint.egress.clone() else {
            return Ok(addresses);
        };
        let app = app.to_owned();
        if !names(&rules).iter().any(|entry| stands_for(entry, name)) {
            return Err(NetworkError::NotAllowed {
                app,
                name: name.to_owned(),
            });
        }
        let places = self.places().await?;
        addresses.retain(|ip| is_told(&app, name, *ip, &rules, &places));
        let to_open: Vec<IpAddr> = addresses
            .iter()
            .copied()
            .filter(|ip| suspicion(*ip, &places).is_none())
            .collect();
        // Whichever of its networks leads there.
        let ttl = (ttl, &self.admission);
        self.default.learn(&app, name, &to_open, ttl)?;
        for network in self.user.values_mut() {
            network.learn(&app, name, &to_open, ttl)?;
        }
        Ok(addresses)
    }

    async fn places(&self) -> Result<Places, NetworkError> {
        let subnets = self.each().flat_map(|(_, network)| {
            let config = network.config();
            [
                Some(IpNet::V4(config.subnet)),
                config.subnet6.map(IpNet::V6),
            ]
        });
        Ok(Places {
            networks: subnets.flatten().collect(),
            board: self.links.addresses().await?,
        })
    }
}

fn is_told(app: &str, name: &str, ip: IpAddr, rules: &[EgressRule], places: &Places) -> bool {
    match suspicion(ip, places) {
        Some(reason) if !says(rules, ip) => {
            tracing::warn!(
                app,
                name,
                %ip,
                "a name server says an address that {reason}; it is neither told nor opened"
            );
            false
        }
        _ => true,
    }
}

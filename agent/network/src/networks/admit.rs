//! What the resolver found for a container that may not go everywhere: which of it the container is told and may reach.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::Networks;
use crate::egress::{Admission, MAX_ADMITTED, Places, names, says, stands_for, suspicion};
use crate::error::{NetworkError, all_of};

/// Between two looks at the board's addresses, and between two lines about lies: both for as many answers as may come.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// What is kept from one answer to the next.
#[derive(Debug, Default)]
pub(super) struct Admitting {
    admission: Admission,
    board: Option<(Instant, Vec<IpAddr>)>,
    told_at: Option<Instant>,
    /// Lies since then.
    untold: usize,
}

impl Networks {
    /// How long answers count from now on.
    pub fn set_admission(&mut self, admission: Admission) {
        self.admitting.admission = admission;
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
        let lie = |ip: &IpAddr| suspicion(*ip, &places).filter(|_| !says(&rules, *ip));
        let first = addresses.iter().find_map(|ip| Some((*ip, lie(ip)?)));
        if let Some((ip, reason)) = first {
            let lies = addresses.iter().filter(|ip| lie(ip).is_some()).count();
            self.admitting.tell_of_lies(&app, name, (ip, reason), lies);
        }
        addresses.retain(|ip| lie(ip).is_none());
        let to_open: Vec<IpAddr> = addresses
            .iter()
            .copied()
            .filter(|ip| suspicion(*ip, &places).is_none())
            .collect();
        // Whichever of its networks leads there.
        let ttl = (ttl, &self.admitting.admission);
        let mut errors = Vec::new();
        errors.extend(self.default.learn(&app, name, &to_open, ttl).err());
        for network in self.user.values_mut() {
            errors.extend(network.learn(&app, name, &to_open, ttl).err());
        }
        all_of(errors)?;
        Ok(addresses)
    }

    async fn places(&mut self) -> Result<Places, NetworkError> {
        let now = Instant::now();
        let board = match self.admitting.board.take() {
            Some((at, board)) if now < at + AT_MOST_EVERY => (at, board),
            _ => (now, self.links.addresses().await?),
        };
        let board = self.admitting.board.insert(board).1.clone();
        let mut networks = Vec::new();
        for (_, network) in self.each() {
            let config = network.config();
            if config.underlay.is_some() {
                // The rest of the wire is the world.
                let stations = network.endpoints();
                networks.extend(stations.map(|(_, at)| IpNet::from(IpAddr::V4(at.ip))));
                continue;
            }
            networks.push(IpNet::V4(config.subnet));
            networks.extend(config.subnet6.map(IpNet::V6));
        }
        Ok(Places { networks, board })
    }
}

impl Admitting {
    /// One line for all of an answer, and not for each answer: who asks without end would fill the log.
    fn tell_of_lies(&mut self, app: &str, name: &str, (ip, reason): (IpAddr, &str), lies: usize) {
        let now = Instant::now();
        self.untold += lies;
        if self.told_at.is_some_and(|at| now < at + AT_MOST_EVERY) {
            return;
        }
        self.told_at = Some(now);
        let all = std::mem::take(&mut self.untold);
        tracing::warn!(
            app,
            name,
            %ip,
            all,
            "a name server says an address that {reason}; it is neither told nor opened"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_lies_are_one_line() {
        let mut admitting = Admitting::default();
        let lie = (IpAddr::from([127, 0, 0, 1]), "is loopback");
        admitting.tell_of_lies("web", "mqtt.example", lie, 16);
        assert_eq!(admitting.untold, 0);
        for _ in 0..100 {
            admitting.tell_of_lies("web", "mqtt.example", lie, 16);
        }
        assert_eq!(admitting.untold, 1600);
    }
}

//! What the resolver knows: the names of one network's containers, and the board's own resolvers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::egress::stands_for;
use crate::endpoint::Endpoint;

/// In small letters.
type Names = BTreeMap<String, Vec<IpAddr>>;

/// Told whole each time something changes: one line of JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    names: Names,
    /// Asked in this order for every other name.
    resolvers: Vec<IpAddr>,
    /// What is different for one container, by its address on this network.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    clients: BTreeMap<Ipv4Addr, Client>,
    /// Every address that a name has, and those of which more is known: who is on the network. Worked out by `known`.
    #[serde(skip)]
    members: BTreeSet<IpAddr>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    /// Names on other networks that it is on too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    names: Names,
    /// Asked instead of the board's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resolvers: Option<Vec<IpAddr>>,
    /// No other name is asked for it: a list's names, and `*.` with what others end with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allowed: Option<Vec<String>>,
}

impl Zone {
    /// A network's apps by their names and aliases; several that share an alias all answer to it.
    pub fn new<'a>(
        endpoints: impl Iterator<Item = (&'a str, &'a Endpoint)>,
        resolvers: &[IpAddr],
    ) -> Self {
        Self {
            names: names(endpoints),
            resolvers: resolvers.to_vec(),
            clients: BTreeMap::new(),
            members: BTreeSet::new(),
        }
    }

    /// What this container can be told beyond that: it is on other networks too.
    pub fn add_names<'a>(
        &mut self,
        client: Ipv4Addr,
        endpoints: impl Iterator<Item = (&'a str, &'a Endpoint)>,
    ) {
        self.clients.entry(client).or_default().names = names(endpoints);
    }

    /// For this container, these are asked instead of the board's.
    pub fn ask_instead(&mut self, client: Ipv4Addr, resolvers: &[IpAddr]) {
        self.clients.entry(client).or_default().resolvers = Some(resolvers.to_vec());
    }

    /// This container may not go everywhere: of names that are no container's, these alone are asked for it.
    pub fn allow_only(&mut self, client: Ipv4Addr, names: &[&str]) {
        let names = names.iter().map(|name| (*name).to_owned());
        self.clients.entry(client).or_default().allowed = Some(names.collect());
    }

    /// This container may ask, also while no name leads to it.
    pub fn add_client(&mut self, client: Ipv4Addr) {
        self.clients.entry(client).or_default();
    }

    /// As it was told, with who is on the network worked out.
    pub(super) fn known(mut self) -> Self {
        self.members.clear();
        let clients = self.clients.keys().map(|ip| IpAddr::V4(*ip));
        self.members.extend(clients);
        self.members.extend(self.names.values().flatten().copied());
        self
    }

    pub(super) fn knows(&self, client: IpAddr) -> bool {
        self.members.contains(&client)
    }

    pub(super) fn is_confined(&self, client: IpAddr) -> bool {
        self.client(client).is_some_and(|own| own.allowed.is_some())
    }

    /// Whether the name may be asked for this container.
    pub(super) fn permits(&self, client: IpAddr, name: &str) -> bool {
        let allowed = self.client(client).and_then(|own| own.allowed.as_ref());
        allowed.is_none_or(|all| all.iter().any(|entry| stands_for(entry, name)))
    }

    /// Both where both networks have the name.
    pub(super) fn addresses(&self, client: IpAddr, name: &str) -> Option<Vec<IpAddr>> {
        let here = self.names.get(name);
        let there = self.client(client).and_then(|own| own.names.get(name));
        let all: Vec<IpAddr> = here.into_iter().chain(there).flatten().copied().collect();
        (!all.is_empty()).then_some(all)
    }

    pub(super) fn resolvers(&self, client: IpAddr) -> &[IpAddr] {
        let own = self.client(client).and_then(|own| own.resolvers.as_ref());
        own.unwrap_or(&self.resolvers)
    }

    fn client(&self, ip: IpAddr) -> Option<&Client> {
        match ip {
            IpAddr::V4(ip) => self.clients.get(&ip),
            IpAddr::V6(_) => None,
        }
    }
}

fn names<'a>(endpoints: impl Iterator<Item = (&'a str, &'a Endpoint)>) -> Names {
    let mut names = Names::new();
    for (app, endpoint) in endpoints {
        for name in endpoint.aliases.iter().map(String::as_str).chain([app]) {
            let all = names.entry(name.to_ascii_lowercase()).or_default();
            let six = endpoint.ipv6.map(|six| IpAddr::V6(six.ip));
            all.extend([Some(IpAddr::V4(endpoint.ip)), six].into_iter().flatten());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NetworkConfig, Wanted};

    #[test]
    fn a_container_on_two_networks_finds_both_and_its_neighbour_does_not() {
        let config = |subnet: &str| NetworkConfig::new("cor0", subnet.parse().unwrap());
        let (front, back) = (config("10.1.0.0/24"), config("10.2.0.0/24"));
        let at = |config, ip: [u8; 4]| Endpoint::new(config, ip.into(), &Wanted::default());
        let (web, other, db) = (
            at(&front, [10, 1, 0, 2]),
            at(&front, [10, 1, 0, 3]),
            at(&back, [10, 2, 0, 2]),
        );
        let mut zone = Zone::new(
            [("web", &web), ("other", &other)].into_iter(),
            &[[9, 9, 9, 9].into()],
        );
        zone.add_names(web.ip, [("DB", &db)].into_iter());
        zone.ask_instead(other.ip, &[[1, 1, 1, 1].into()]);
        zone.add_client([10, 1, 0, 9].into());
        zone.allow_only(other.ip, &["mqtt.example", "*.cloud.example"]);
        let zone: Zone = serde_json::from_slice(&serde_json::to_vec(&zone).unwrap()).unwrap();
        let zone = zone.known();
        let (web, other) = (IpAddr::from(web.ip), IpAddr::from(other.ip));
        assert!(zone.knows(web) && zone.knows(other) && !zone.knows(db.ip.into()));
        let unnamed = IpAddr::from([10, 1, 0, 9]);
        assert!(zone.knows(unnamed));
        assert_eq!(zone.addresses(unnamed, "web"), Some(vec![web]));
        assert!(zone.permits(web, "evil.example") && !zone.is_confined(web));
        assert!(zone.is_confined(other) && !zone.permits(other, "evil.example"));
        assert!(zone.permits(other, "mqtt.example") && zone.permits(other, "a.cloud.example"));
        assert_eq!(zone.addresses(web, "db"), Some(vec![db.ip.into()]));
        assert_eq!(zone.addresses(other, "db"), None);
        assert_eq!(zone.addresses(other, "web"), Some(vec![web]));
        assert_eq!(zone.resolvers(web), [IpAddr::from([9, 9, 9, 9])]);
        assert_eq!(zone.resolvers(other), [IpAddr::from([1, 1, 1, 1])]);
    }
}

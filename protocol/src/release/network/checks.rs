//! The rules of networks, and of apps on them.

use super::{AppOnNetwork, DEFAULT_NETWORK, NetworkSpec};
use crate::document::{line, within};
use crate::limits::LIMITS;
use crate::release::{Network, NetworkMode, SignedApp, SignedRelease};
use ipnet::Ipv4Net;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

mod links;

/// Names that mean a mode.
const RESERVED: [&str; 4] = [DEFAULT_NETWORK, "host", "none", "container"];
/// Bytes a second. Less would hold up a single full packet for seconds; more is no limit on a board (100 Gbit/s).
const RATES: std::ops::RangeInclusive<u64> = 1024..=12_500_000_000;
/// Bytes: RFC 791 asks for the first, RFC 8200 5 for 1280 with IPv6, and jumbo frames end at the last.
const MTUS: std::ops::RangeInclusive<u32> = 576..=9216;
const LEAST_MTU_OF_IPV6: u32 = 1280;

impl SignedRelease {
    /// The networks, and how the apps are on them.
    pub(in crate::release) fn check_networks(&self) -> Result<(), String> {
        within(
            "networks",
            self.networks.len() as u64,
            LIMITS.networks as u64,
        )?;
        for (index, network) in self.networks.iter().enumerate() {
            let at = |fault: String| format!("network `{}`: {fault}", network.name);
            network.check().map_err(at)?;
            for earlier in &self.networks[..index] {
                if earlier.name == network.name {
                    return Err(at("is named twice".into()));
                }
                if let (Some(a), Some(b)) = (earlier.subnet, network.subnet)
                    && (a.contains(&b) || b.contains(&a))
                {
                    let other = &earlier.name;
                    return Err(at(format!("subnet {b} overlaps {a} of network `{other}`")));
                }
            }
        }
        for (index, app) in self.apps.iter().enumerate() {
            let at = |fault: String| format!("app `{}`: network.{fault}", app.name);
            self.check_host(app).map_err(at)?;
            for on in &app.network.networks {
                let at = |fault: String| at(format!("networks: `{}`: {fault}", on.name));
                self.check_place(on, &self.apps[..index]).map_err(at)?;
            }
            self.check_doors(app).map_err(at)?;
        }
        self.check_zones()?;
        self.check_links()
    }

    /// Published ports lead in by the network that has the default route, and by a bridge.
    fn check_doors(&self, app: &SignedApp) -> Result<(), String> {
        let on = &app.network.networks;
        let specs = on.iter().filter_map(|on| self.spec(on));
        if specs.clone().any(|spec| !spec.driver.is_bridge()) && !app.network.rates.is_none() {
            return Err(
                "rates: the board does not see what passes on a macvlan or ipvlan network".into(),
            );
        }
        if app.network.egress.is_some() {
            let unseen = |why: String| {
                Err(format!(
                    "egress: {why}, where the board does not see what passes"
                ))
            };
            if let Some(spec) = specs.clone().find(|spec| !spec.driver.is_bridge()) {
                return unseen(format!("network `{}` is no bridge", spec.name));
            }
            if let Some(link) = app.network.interfaces.first() {
                return unseen(format!("it has link `{}` whole", link.name));
            }
        }
        if app.network.ports.is_empty() || on.is_empty() {
            return Ok(());
        }
        let mut open = on
            .iter()
            .filter(|on| self.spec(on).is_none_or(NetworkSpec::leads_out));
        match open.next().map(|on| (on, self.spec(on))) {
            None => Err(
                "ports: it is on internal networks alone, which nothing reaches from outside"
                    .into(),
            ),
            Some((on, Some(spec))) if !spec.driver.is_bridge() => Err(format!(
                "ports: its way out is `{}`, where it has an address of its own and publishes nothing; name a bridge \
                 before it, or leave the ports out",
                on.name
            )),
            Some(_) => Ok(()),
        }
    }

    fn spec(&self, on: &AppOnNetwork) -> Option<&NetworkSpec> {
        self.networks.iter().find(|spec| spec.name == on.name)
    }

    /// Whose network an app uses.
    fn check_host(&self, app: &SignedApp) -> Result<(), String> {
        let Some(name) = &app.network.container else {
            return Ok(());
        };
        match self.apps.iter().find(|other| other.name == *name) {
            None => Err(format!("container: no app `{name}` is in this release")),
            Some(other) if other.network.mode == NetworkMode::Container => Err(format!(
                "container: `{name}` itself uses another app's network; name that one"
            )),
            Some(_) => Ok(()),
        }
    }

    /// The board's network is no app's to share.
    pub(in crate::release) fn check_guests(&self) -> Result<(), String> {
        let of_board = |app: &&SignedApp| app.network.mode == NetworkMode::Host;
        for app in &self.apps {
            let Some(name) = &app.network.container else {
                continue;
            };
            if self
                .apps
                .iter()
                .filter(of_board)
                .any(|host| host.name == *name)
            {
                return Err(format!(
                    "app `{}`: network.container: `{name}` uses the board's network; say mode `host` where that is meant",
                    app.name
                ));
            }
        }
        Ok(())
    }

    fn check_place(&self, on: &AppOnNetwork, others: &[SignedApp]) -> Result<(), String> {
        let spec = self.spec(on);
        if spec.is_none() && on.name.as_str() != DEFAULT_NETWORK {
            return Err("the release declares no such network; add it to [[networks]]".into());
        }
        if let Some(ip) = on.ip {
            let Some(subnet) = spec.and_then(|spec| spec.subnet) else {
                return Err(format!(
                    "ip {ip} needs a network that the release declares with its subnet"
                ));
            };
            let on_bridge = spec.is_some_and(|spec| spec.driver.is_bridge());
            let gateway = spec.and_then(|spec| spec.gateway);
            let gateway = gateway.or(on_bridge.then(|| first(subnet)));
            if !is_host(subnet, ip) || Some(ip) == gateway {
                let gateway = gateway.map_or("none".to_owned(), |ip| ip.to_string());
                return Err(format!(
                    "ip {ip} is no container's address of {subnet}, whose gateway is {gateway}"
                ));
            }
        }
        for other in others {
            let places = other.network.networks.iter();
            for place in places.filter(|place| place.name == on.name) {
                if on.ip.is_some() && place.ip == on.ip {
                    return Err(format!("ip: `{}` has the same", other.name));
                }
                if on.mac.is_some() && place.mac == on.mac {
                    return Err(format!("mac: `{}` has the same", other.name));
                }
            }
        }
        Ok(())
    }
}

impl NetworkSpec {
    fn check(&self) -> Result<(), String> {
        if RESERVED.contains(&self.name.as_str()) {
            return Err("the name is taken: each board has it already".into());
        }
        if let Some(subnet) = self.subnet {
            if !(8..=29).contains(&subnet.prefix_len()) {
                return Err(format!(
                    "subnet {subnet} must have a prefix from 8 to 29: room for a gateway and containers"
                ));
            }
            if subnet != subnet.trunc() {
                return Err(format!("subnet {subnet}: {} is meant", subnet.trunc()));
            }
        }
        let within_subnet = |field: &str, fits: &dyn Fn(Ipv4Net) -> bool| match self.subnet {
            None => Err(format!("{field} needs the subnet to be said")),
            Some(subnet) if !fits(subnet) => Err(format!("{field} is not within {subnet}")),
            Some(_) => Ok(()),
        };
        if let Some(gateway) = self.gateway {
            within_subnet("gateway", &|subnet| is_host(subnet, gateway))?;
        }
        if let Some(range) = self.ip_range {
            within_subnet("ip_range", &|subnet| subnet.contains(&range))?;
        }
        if let Some(subnet) = self.ipv6_subnet {
            if !self.ipv6 {
                return Err("ipv6 = false and ipv6_subnet contradict each other".into());
            }
            if !(48..=96).contains(&subnet.prefix_len()) || subnet != subnet.trunc() {
                return Err(format!(
                    "ipv6_subnet {subnet} must have a prefix from 48 to 96 and no bits behind it: addresses end with \
                     the IPv4 ones"
                ));
            }
        }
        self.check_driver()?;
        match self.mtu {
            Some(mtu) if !MTUS.contains(&mtu) => Err(format!("mtu {mtu} is outside 576 to 9216")),
            Some(mtu) if self.ipv6 && mtu < LEAST_MTU_OF_IPV6 => Err(format!(
                "mtu {mtu} is below {LEAST_MTU_OF_IPV6}, which IPv6 needs; say ipv6 = false"
            )),
            _ => Ok(()),
        }
    }
}

impl Network {
    /// What can be said about it alone.
    pub(in crate::release) fn check(&self) -> Result<(), String> {
        let l = &LIMITS;
        for (field, count, limit) in [
            ("networks", self.networks.len(), l.networks_per_app),
            ("dns", self.dns.len(), l.resolvers),
            ("dns_search", self.dns_search.len(), l.search_domains),
            ("extra_hosts", self.extra_hosts.len(), l.entries_per_app),
            ("egress", self.egress.as_ref().map_or(0, Vec::len), l.egress),
            ("interfaces", self.interfaces.len(), l.networks_per_app),
        ] {
            within(&format!("network.{field}"), count as u64, limit as u64)?;
        }
        self.check_mode()?;
        let mut on = BTreeSet::new();
        for place in &self.networks {
            let field = format!("network.networks: `{}`: aliases", place.name);
            if !on.insert(&place.name) {
                return Err(format!("network.networks: `{}` stands twice", place.name));
            }
            within(&field, place.aliases.len() as u64, l.aliases as u64)?;
            place
                .aliases
                .iter()
                .try_for_each(|alias| host_name(&field, alias))?;
        }
        for server in &self.dns {
            if server.is_unspecified() || server.is_multicast() {
                return Err(format!("network.dns: {server} is no resolver's address"));
            }
        }
        for domain in &self.dns_search {
            host_name("network.dns_search", domain)?;
        }
        for name in self.extra_hosts.keys() {
            host_name("network.extra_hosts", name)?;
        }
        let egress = self.egress.as_deref().unwrap_or_default();
        for (index, entry) in egress.iter().enumerate() {
            if egress[..index].contains(entry) {
                return Err(format!("network.egress: `{entry}` stands twice"));
            }
        }
        self.check_places_to_go()?;
        for (field, rate) in [
            ("ingress", self.rates.ingress_bytes_per_second),
            ("egress", self.rates.egress_bytes_per_second),
        ] {
            if rate.is_some_and(|rate| !RATES.contains(&rate)) {
                return Err(format!(
                    "network.rates.{field}_bytes_per_second is outside {} to {}; leave it out for no limit",
                    RATES.start(),
                    RATES.end()
                ));
            }
        }
        Ok(())
    }

    fn check_mode(&self) -> Result<(), String> {
        if (self.mode == NetworkMode::Container) != self.container.is_some() {
            return Err(
                "network: mode `container` and `container`, the name of an app, belong together"
                    .into(),
            );
        }
        let bridge = self.mode == NetworkMode::Bridge;
        let own_files = bridge || self.mode == NetworkMode::None;
        for (field, given, possible) in [
            ("ports", !self.ports.is_empty(), bridge),
            ("networks", !self.networks.is_empty(), bridge),
            ("rates", !self.rates.is_none(), bridge),
            ("egress", self.egress.is_some(), bridge),
            ("dns", !self.dns.is_empty(), own_files),
            ("dns_search", !self.dns_search.is_empty(), own_files),
            ("extra_hosts", !self.extra_hosts.is_empty(), own_files),
            ("interfaces", !self.interfaces.is_empty(), own_files),
        ] {
            if given && !possible {
                return Err(format!("network.{field} needs mode `bridge`"));
            }
        }
        if self.abstract_sockets && self.mode != NetworkMode::Host {
            return Err(
                "network.abstract_sockets needs mode `host`: other networks have their own".into(),
            );
        }
        self.check_interfaces()
    }
}

fn first(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()).saturating_add(1))
}

fn is_host(subnet: Ipv4Net, ip: Ipv4Addr) -> bool {
    subnet.contains(&ip) && ip != subnet.network() && ip != subnet.broadcast()
}

/// RFC 1035 2.3.4: labels of 1 to 63 bytes, 253 in all.
fn host_name(field: &str, name: &str) -> Result<(), String> {
    line(field, name)?;
    match is_host_name(name) {
        true => Ok(()),
        false => Err(format!(
            "{field}: {name:?} is no host name: labels of 1 to 63 of A-Z a-z 0-9 _ -, with dots between"
        )),
    }
}

pub(super) fn is_host_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(good);
    name.len() <= 253 && name.split('.').all(label)
}

//! `[apps.network]` as people write it: ranges of ports, networks by their bare names, rates with units.

use crate::human::Size;
use coracle_protocol::limits::LIMITS;
use coracle_protocol::names::{AppName, NetworkName};
use coracle_protocol::release::{
    AppInterface, AppOnNetwork, Egress, ExtraHost, LinkName, Network, NetworkMode, Port, Protocol,
    Rates,
};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// As [`Network`].
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NetworkTable {
    #[serde(default)]
    mode: NetworkMode,
    #[serde(default)]
    abstract_sockets: bool,
    #[serde(default)]
    ports: Vec<PortTable>,
    #[serde(default)]
    networks: Vec<On>,
    container: Option<AppName>,
    #[serde(default)]
    dns: Vec<IpAddr>,
    #[serde(default)]
    dns_search: Vec<String>,
    #[serde(default)]
    extra_hosts: BTreeMap<String, ExtraHost>,
    ingress_rate: Option<Size>,
    egress_rate: Option<Size>,
    egress: Option<Vec<String>>,
    #[serde(default)]
    interfaces: Vec<Interface>,
}

/// A link's name, or a table with it.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "the name of a link, or { name, address } or { name, bitrate }"
)]
enum Interface {
    Name(LinkName),
    Table(AppInterface),
}

/// A network's name, or a table with it.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "the name of a network, or { name, ip, mac, aliases }"
)]
enum On {
    Name(NetworkName),
    Table(AppOnNetwork),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PortTable {
    host: Ports,
    container: Ports,
    #[serde(default)]
    protocol: Protocol,
    host_ip: Option<IpAddr>,
}

/// One port, or `"8000-8010"`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a port, or a range such as \"8000-8010\"")]
enum Ports {
    One(u16),
    Range(String),
}

impl Ports {
    fn range(&self) -> Result<RangeInclusive<u16>, String> {
        let text = match self {
            Self::One(port) => return Ok(*port..=*port),
            Self::Range(text) => text,
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
            _ => Err(format!(
                "network.ports: {text:?} is neither a port nor a range such as \"8000-8010\""
            )),
        }
    }
}

impl PortTable {
    /// As many doors as there are ports.
    fn doors(self) -> Result<impl Iterator<Item = Port>, String> {
        let (host, container) = (self.host.range()?, self.container.range()?);
        if host.len() != container.len() {
            return Err(format!(
                "network.ports: {} ports of the board cannot lead to {} of the container",
                host.len(),
                container.len()
            ));
        }
        // Said here, before a range of 65535 becomes as many entries.
        if host.len() > LIMITS.entries_per_app {
            return Err(format!(
                "network.ports: a range of {}; the limit is {}",
                host.len(),
                LIMITS.entries_per_app
            ));
        }
        Ok(host.zip(container).map(move |(host, container)| Port {
            host,
            container,
            protocol: self.protocol,
            host_ip: self.host_ip,
        }))
    }
}

impl NetworkTable {
    pub(super) fn network(self) -> Result<Network, String> {
        let mut ports = Vec::new();
        for table in self.ports {
            ports.extend(table.doors()?);
        }
        let on = |on| match on {
            On::Table(on) => on,
            On::Name(name) => AppOnNetwork {
                name,
                ip: None,
                mac: None,
                aliases: Vec::new(),
            },
        };
        let entry = |text: String| text.parse::<Egress>();
        let egress = self
            .egress
            .map(|all| all.into_iter().map(entry).collect::<Result<_, _>>())
            .transpose()
            .map_err(|fault: String| format!("network.egress: {fault}"))?;
        let interface = |interface| match interface {
            Interface::Table(interface) => interface,
            Interface::Name(name) => AppInterface {
                name,
                address: None,
                bitrate: None,
            },
        };
        Ok(Network {
            mode: self.mode,
            abstract_sockets: self.abstract_sockets,
            interfaces: self.interfaces.into_iter().map(interface).collect(),
            ports,
            networks: self.networks.into_iter().map(on).collect(),
            container: self.container,
            dns: self.dns,
            dns_search: self.dns_search,
            extra_hosts: self.extra_hosts,
            rates: Rates {
                ingress_bytes_per_second: self.ingress_rate.map(|size| size.0),
                egress_bytes_per_second: self.egress_rate.map(|size| size.0),
            },
            egress,
        })
    }
}

//! Networks as Docker says them: `GET /networks`, and a container's places.

use super::container_id;
use crate::clock;
use coracle_protocol::Sha256Digest;
use coracle_protocol::local::Status;
use coracle_protocol::names::AppName;
use coracle_protocol::release::DEFAULT_NETWORK;
use coracle_protocol::report::{AppStatus, NetworkStatus, PlaceStatus, SetStatus};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// Docker has these on each host; their drivers are called `host` and `null`.
const WITHOUT_BRIDGE: [(&str, &str); 2] = [("host", "host"), ("none", "null")];

/// A network as it is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Known<'a> {
    /// With a bridge.
    Bridge(&'a NetworkStatus),
    /// `host` or `none`: its name and driver.
    Without(&'static str, &'static str),
}

/// All of them, the board's own first.
pub fn all(status: &Status) -> impl Iterator<Item = Known<'_>> {
    let without = WITHOUT_BRIDGE.map(|(name, driver)| Known::Without(name, driver));
    status.networks.iter().map(Known::Bridge).chain(without)
}

impl Known<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Bridge(network) => network.name.as_str(),
            Self::Without(name, _) => name,
        }
    }

    /// Its id: the same for a name on every board and for ever.
    pub fn id(&self) -> String {
        id(self.name())
    }

    /// Docker's word for how it is made.
    pub fn driver(&self) -> &str {
        match self {
            Self::Bridge(network) => &network.driver,
            Self::Without(_, driver) => driver,
        }
    }

    /// Whether every board has it.
    pub fn is_built_in(&self) -> bool {
        match self {
            Self::Bridge(network) => network.name.as_str() == DEFAULT_NETWORK,
            Self::Without(..) => true,
        }
    }

    /// The shape; with `containers` who is in it, as `docker network inspect` shows.
    pub fn shape(&self, status: &Status, containers: bool) -> Value {
        let (ipam, options, internal, ipv6) = match self {
            Self::Without(..) => (json!([]), json!({}), false, false),
            Self::Bridge(network) => (
                ipam(network),
                options(network),
                network.internal,
                has_ipv6(network),
            ),
        };
        let members = match containers {
            true => members(status, self.name()),
            false => Map::new(),
        };
        let labels = match self {
            Self::Bridge(NetworkStatus {
                overlaps: Some(other),
                ..
            }) => json!({"coracle.overlaps": other}),
            _ => json!({}),
        };
        json!({
            "Name": self.name(),
            "Id": self.id(),
            "Created": clock::rfc3339(std::time::Duration::ZERO),
            "Scope": "local",
            "Driver": self.driver(),
            "EnableIPv4": true,
            "EnableIPv6": ipv6,
            "IPAM": {"Driver": "default", "Options": null, "Config": ipam},
            "Internal": internal,
            "Attachable": false,
            "Ingress": false,
            "ConfigFrom": {"Network": ""},
            "ConfigOnly": false,
            "Containers": members,
            "Options": options,
            "Labels": labels
        })
    }
}

fn id(name: &str) -> String {
    Sha256Digest::of(format!("network {name}").as_bytes()).hex()
}

fn ipam(network: &NetworkStatus) -> Value {
    let subnet = |subnet: &coracle_protocol::report::SubnetStatus| {
        json!({
            "Subnet": format!("{}/{}", subnet.address, subnet.prefix),
            "Gateway": gateway(subnet.gateway)
        })
    };
    network.subnets.iter().map(subnet).collect()
}

fn has_ipv6(network: &NetworkStatus) -> bool {
    let mut addresses = network.subnets.iter().map(|subnet| subnet.address);
    addresses.any(|address| matches!(address, IpAddr::V6(_)))
}

/// Empty where nobody leads out.
fn gateway(ip: IpAddr) -> String {
    match ip.is_unspecified() {
        true => String::new(),
        false => ip.to_string(),
    }
}

fn options(network: &NetworkStatus) -> Value {
    if network.driver != "bridge" {
        return json!({
            "parent": network.bridge,
            "com.docker.network.driver.mtu": network.mtu.to_string()
        });
    }
    json!({
        "com.docker.network.bridge.name": network.bridge,
        "com.docker.network.driver.mtu": network.mtu.to_string()
    })
}

fn members(status: &Status, network: &str) -> Map<String, Value> {
    let apps = status
        .current
        .iter()
        .flat_map(|set| set.apps.iter().map(move |app| (set, app)));
    let mut all = Map::new();
    all.extend(apps.filter_map(|(set, app)| {
        let place = app.networks.iter().find(|place| place.network.as_str() == network)?;
        let member = json!({
            "Name": app.name,
            "EndpointID": endpoint_id(set, app, place),
            "MacAddress": place.mac,
            "IPv4Address": format!("{}/{}", place.ip, place.prefix),
            "IPv6Address": place.ipv6.map_or(String::new(), |(ip, prefix, _)| format!("{ip}/{prefix}"))
        });
        Some((container_id(set, app), member))
    }));
    all
}

fn endpoint_id(set: &SetStatus, app: &AppStatus, place: &PlaceStatus) -> String {
    Sha256Digest::of(format!("{} {}", container_id(set, app), place.network).as_bytes()).hex()
}

/// `HostConfig.NetworkMode`: the name of the first network, `host`, `none`, or `container:` and an id.
pub fn mode(set: &SetStatus, app: &AppStatus) -> String {
    match (&app.network_of, app.network_mode.as_str()) {
        (Some(host), _) => format!("container:{}", host_id(set, host)),
        // A supervisor that does not say so knows one network.
        (None, "") if app.ip.is_some() => DEFAULT_NETWORK.to_owned(),
        (None, "") => "host".to_owned(),
        (None, mode) => mode.to_owned(),
    }
}

fn host_id(set: &SetStatus, host: &AppName) -> String {
    let host = set.apps.iter().find(|app| app.name == *host);
    host.map_or(String::new(), |host| container_id(set, host))
}

/// `NetworkSettings.Networks`.
pub fn of_container(set: &SetStatus, app: &AppStatus) -> Value {
    let place = |place: &PlaceStatus| {
        let (ipv6, prefix6, gateway6) = place
            .ipv6
            .map_or(Default::default(), |(ip, prefix, gateway)| {
                (ip.to_string(), prefix, self::gateway(gateway.into()))
            });
        let mut names = vec![app.name.to_string()];
        names.extend(place.aliases.iter().cloned());
        let shape = json!({
            "IPAMConfig": null,
            "Links": null,
            "Aliases": place.aliases,
            "DNSNames": names,
            "NetworkID": id(place.network.as_str()),
            "EndpointID": endpoint_id(set, app, place),
            "Gateway": gateway(place.gateway.into()),
            "IPAddress": place.ip,
            "IPPrefixLen": place.prefix,
            "IPv6Gateway": gateway6,
            "GlobalIPv6Address": ipv6,
            "GlobalIPv6PrefixLen": prefix6,
            "MacAddress": place.mac,
            "DriverOpts": null
        });
        (place.network.to_string(), shape)
    };
    let mut all = Map::new();
    all.extend(app.networks.iter().map(place));
    let mode = mode(set, app);
    // Docker shows these two as networks without an address.
    if WITHOUT_BRIDGE.iter().any(|(name, _)| *name == mode) {
        let bare = json!({
            "IPAMConfig": null, "Links": null, "Aliases": null, "NetworkID": id(&mode), "EndpointID": "",
            "Gateway": "", "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "", "GlobalIPv6Address": "",
            "GlobalIPv6PrefixLen": 0, "MacAddress": "", "DriverOpts": null
        });
        all.insert(mode, bare);
    }
    Value::Object(all)
}

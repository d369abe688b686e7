//! Containers that may not go everywhere.

use std::net::IpAddr;

use coracle_network::{
    DEFAULT_NETWORK, EgressRule, EgressTo, Endpoint, NetworkConfig, Networks, Protocol, Wanted,
    configure_inside,
};

use super::{Netns, config};

pub fn rule(to: &str, protocol: Option<Protocol>, ports: Option<(u16, u16)>) -> EgressRule {
    let net = to.parse().or_else(|_| to.parse::<IpAddr>().map(Into::into));
    let to = match net {
        Ok(net) => EgressTo::Net(net),
        Err(_) => EgressTo::Name(to.to_owned()),
    };
    EgressRule {
        to,
        protocol,
        ports,
    }
}

pub fn dual_stack() -> NetworkConfig {
    NetworkConfig {
        subnet6: Some("fd12:3456:789a:1::/64".parse().unwrap()),
        resolver: true,
        ..config()
    }
}

pub async fn opened(config: NetworkConfig, state: &tempfile::TempDir) -> Networks {
    let mut networks = Networks::open(config, state.path()).unwrap();
    networks.reconcile(&[]).await.unwrap();
    networks
}

/// A container on the default network.
pub async fn confined(
    networks: &mut Networks,
    app: &str,
    egress: Option<&[EgressRule]>,
) -> (Netns, Endpoint) {
    let wanted = Wanted {
        egress,
        ..Wanted::default()
    };
    connected(networks, DEFAULT_NETWORK, app, &wanted).await
}

pub async fn connected(
    networks: &mut Networks,
    network: &str,
    app: &str,
    wanted: &Wanted<'_>,
) -> (Netns, Endpoint) {
    let space = Netns::new();
    let place = networks
        .connect(network, app, space.namespace(), wanted)
        .await
        .unwrap();
    let inside = place.clone();
    space.run(move || configure_inside(&inside).unwrap());
    (space, place)
}

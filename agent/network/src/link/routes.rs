//! The routes that are there already.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use rtnetlink::RouteMessageBuilder;

use super::{LinkError, Links, bounded, next};

/// A route that is already there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub destination: IpNet,
    pub interface: Option<u32>,
}

impl Route {
    /// Whether an address can be meant by both.
    pub fn overlaps(&self, subnet: IpNet) -> bool {
        subnet.contains(&self.destination.network()) || self.destination.contains(&subnet.network())
    }
}

impl Links {
    /// IPv4 and IPv6 routes of the main table, but for default ones and those of link-local addresses.
    pub async fn routes(&self) -> Result<Vec<Route>, LinkError> {
        let four = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let six = RouteMessageBuilder::<Ipv6Addr>::new().build();
        let mut routes = Vec::new();
        for query in [four, six] {
            let mut stream = std::pin::pin!(self.handle.route().get(query).execute());
            while let Some(message) = next(&mut stream, "list", "routes").await? {
                bounded(routes.len(), "routes")?;
                routes.extend(route(&message));
            }
        }
        Ok(routes)
    }
}

fn route(message: &RouteMessage) -> Option<Route> {
    if message.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let mut destination = None;
    let mut interface = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => destination = Some((*ip).into()),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => {
                destination = Some((*ip).into())
            }
            RouteAttribute::Oif(index) => interface = Some(*index),
            _ => {}
        }
    }
    let destination: IpAddr = destination?;
    let destination = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    let link_local = matches!(destination, IpNet::V6(net) if net.addr().is_unicast_link_local());
    (destination.prefix_len() > 0 && !link_local).then_some(Route {
        destination,
        interface,
    })
}

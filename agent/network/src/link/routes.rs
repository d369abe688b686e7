//! The routes that are there already.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use rtnetlink::RouteMessageBuilder;

use super::{LinkError, Links, bounded, next};

/// A route that is already there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub destination: Ipv4Net,
    pub interface: Option<u32>,
}

impl Links {
    /// IPv4 routes of the main table, but for default ones.
    pub async fn routes(&self) -> Result<Vec<Route>, LinkError> {
        let query = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let mut stream = std::pin::pin!(self.handle.route().get(query).execute());
        let mut routes = Vec::new();
        while let Some(message) = next(&mut stream, "list", "routes").await? {
            bounded(routes.len(), "routes")?;
            routes.extend(route(&message));
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
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => destination = Some(*ip),
            RouteAttribute::Oif(index) => interface = Some(*index),
            _ => {}
        }
    }
    let destination = Ipv4Net::new(destination?, message.header.destination_prefix_length).ok()?;
    (destination.prefix_len() > 0).then_some(Route {
        destination,
        interface,
    })
}

//! Connections that should not keep the way that they found.

use std::net::IpAddr;

use crate::conntrack::{self, Flow};
use crate::endpoint::Endpoint;
use crate::error::NetworkError;
use crate::port::Protocol;

use super::Network;

impl Network {
    /// A container has gone: nobody who gets its address takes its connections over.
    pub(super) fn forget_connections(&self, gone: &Endpoint) {
        // Without either nothing was let in and everything is let out anyway.
        if gone.ports.is_empty() && gone.egress.is_none() && !gone.relieved {
            return;
        }
        let four = IpAddr::V4(gone.ip);
        let six = gone.ipv6.map(|six| IpAddr::V6(six.ip));
        self.forget(|flow| flow.is_of(four) || six.is_some_and(|six| flow.is_of(six)));
    }

    /// Ports are published: datagrams that keep coming, and found nothing behind them so far, find it.
    pub(super) async fn lead_datagrams_in(&self, new: &Endpoint) -> Result<(), NetworkError> {
        let udp = |port: u16| {
            let mut ports = new.ports.iter().filter(|p| p.protocol == Protocol::Udp);
            ports.any(|p| p.host_port == port)
        };
        if new.ports.iter().all(|p| p.protocol != Protocol::Udp) {
            return Ok(());
        }
        let board = self.links.addresses().await?;
        self.forget(|Flow { there, back, .. }| {
            let untranslated = back.from == there.to;
            there.protocol == Protocol::Udp.number()
                && udp(there.to_port)
                && untranslated
                && board.contains(&there.to)
        });
        Ok(())
    }

    fn forget(&self, which: impl Fn(&Flow) -> bool) {
        let bridge = &self.config.bridge;
        match conntrack::forget(which) {
            Ok(0) => {}
            Ok(connections) => tracing::debug!(bridge, connections, "forgotten"),
            Err(error) => tracing::warn!(
                bridge,
                %error,
                "connections keep their old way until they end; the kernel may lack CONFIG_NF_CT_NETLINK"
            ),
        }
    }
}

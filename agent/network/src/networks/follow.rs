//! The board changes while apps run: links come, go and come back, routes appear. Apps are not restarted for it, but those
//! whose own link went with one of the board's.

use std::collections::BinaryHeap;

use ipnet::IpNet;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE};

use super::Networks;
use crate::error::NetworkError;
use crate::link::{LinkError, Links};
use crate::network::overlap;

/// RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE of linux/rtnetlink.h.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x400;
/// Messages that are thrown away at once; what is left wakes again.
const AT_ONCE: usize = 4096;

/// Tells that links, addresses or routes have changed. What has is looked up: a message may be lost, a look is not.
pub struct Changes(TokioSocket);

impl Changes {
    /// Of the namespace of this thread. Needs a running tokio runtime.
    pub fn open() -> Result<Self, NetworkError> {
        let open = || {
            let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
            socket.socket_mut().bind(&SocketAddr::new(0, GROUPS))?;
            Ok(socket)
        };
        open().map(Self).map_err(|e| LinkError::Open(e).into())
    }

    /// Until something has changed since the last time.
    pub async fn wait(&mut self) {
        // Cut short, since nobody reads it; an error such as a full queue (ENOBUFS) is news as well.
        let mut message = Vec::with_capacity(64);
        let _ = self.0.recv(&mut message).await;
        for _ in 0..AT_ONCE {
            message.clear();
            if self
                .0
                .socket_mut()
                .recv(&mut message, libc::MSG_DONTWAIT)
                .is_err()
            {
                return;
            }
        }
    }
}

/// The MTU of the first of these links that is here, in bytes. Needs a running tokio runtime.
///
/// # Errors
/// When the kernel does not tell.
pub async fn mtu_of_first(links: &[&str]) -> Result<Option<u32>, NetworkError> {
    let found = Links::open()?.first(links).await?;
    Ok(found.map(|link| link.mtu))
}

/// What became of the networks.
#[derive(Debug, Default)]
pub struct Followed {
    /// Apps that have lost an interface and need a restart to get it again.
    pub restart: Vec<String>,
    /// Networks by name, and which route of the board leads to the same addresses now.
    pub overlaps: Vec<(String, String)>,
}

impl Networks {
    /// Names of the board's links.
    ///
    /// # Errors
    /// When the kernel does not list them.
    pub async fn links(&self) -> Result<Vec<String>, NetworkError> {
        let links = self.links.list().await?;
        Ok(links.into_iter().map(|link| link.name).collect())
    }

    /// Makes tables again that somebody removed; the networks whose they were. Goes on after an error, which is logged.
    pub async fn mend(&mut self) -> Vec<String> {
        let default = [(super::DEFAULT_NETWORK, &mut self.default)];
        let user = self.user.iter_mut().map(|(name, n)| (name.as_str(), n));
        let mut mended = Vec::new();
        for (name, network) in default.into_iter().chain(user) {
            match network.mend().await {
                Ok(false) => {}
                Ok(true) => {
                    tracing::warn!(network = name, "our nftables tables were gone; made again");
                    mended.push(name.to_owned());
                }
                Err(error) => tracing::error!(network = name, %error, "our nftables tables"),
            }
        }
        mended
    }

    /// Holds the networks against the board as it is now. Goes on after an error, which is logged.
    pub async fn follow(&mut self) -> Followed {
        let mut found = Followed::default();
        let tell = |error: &NetworkError| tracing::warn!(%error, "following the board's links");
        let links = self.links.list().await.map_err(NetworkError::from);
        let links = links.inspect_err(tell).unwrap_or_default();
        let routes = self.links.routes().await.map_err(NetworkError::from);
        let routes = routes.inspect_err(tell).unwrap_or_default();
        for (name, network) in self.each() {
            let config = network.config();
            if config.underlay.is_some() {
                continue;
            }
            let subnets = [
                Some(IpNet::V4(config.subnet)),
                config.subnet6.map(IpNet::V6),
            ];
            let mut subnets = subnets.into_iter().flatten();
            if let Some(NetworkError::Overlap {
                route, interface, ..
            }) = subnets.find_map(|subnet| overlap(subnet, &config.bridge, &links, &routes))
            {
                let text = format!("route {route} of {interface}");
                found.overlaps.push((name.to_owned(), text));
            }
        }
        for network in self.user.values_mut().chain([&mut self.default]) {
            if let Err(error) = network.remove_leaving().await {
                tell(&error);
            }
            match network.off_the_wire().await {
                Ok(apps) => found.restart.extend(apps),
                Err(error) => tell(&error),
            }
        }
        self.order_board(&links);
        let others = self.links_of_others(&links);
        let others: Vec<String> = others
            .into_iter()
            .filter(|link| link.controller.is_none())
            .map(|link| link.name)
            .collect();
        if let Err(error) = self.default.keep_listening(&others) {
            tell(&error);
        }
        found.restart = BinaryHeap::from(found.restart).into_sorted_vec();
        found.restart.dedup();
        found
    }
}

//! Apps come and go: address, veth and ports of one.

use std::net::Ipv4Addr;

use crate::config::{PublishedPort, check_request};
use crate::endpoint::{CONTAINER_INTERFACE, Endpoint, mac};
use crate::error::{NetworkError, all_of};
use crate::link::{Namespace, Veth};

use super::Network;

impl Network {
    /// Gives the app an address and a veth into its namespace, and opens its published ports.
    /// The container's own side is `configure_inside`. After an error nothing of it remains.
    ///
    /// # Errors
    /// `PortTaken` names the other owner. `Attached` when the app has a place already.
    pub async fn attach(
        &mut self,
        app: &str,
        namespace: Namespace<'_>,
        ports: &[PublishedPort],
    ) -> Result<Endpoint, NetworkError> {
        check_request(app, ports)?;
        if let Some(there) = self.attached.get(app) {
            return Err(NetworkError::Attached {
                app: app.to_owned(),
                ip: there.ip,
            });
        }
        self.refuse_taken_ports(app, ports)?;
        let bridge = self.bridge().await?;
        let ip = self.pool.allocate(app, self.reconciled)?;
        let endpoint = self.place(ip, ports);
        self.attached.insert(app.to_owned(), endpoint.clone());
        if let Err(error) = self.connect(&endpoint, bridge.index, namespace).await {
            if let Err(undo) = self.detach(app).await {
                tracing::warn!(app, error = %undo, "could not take back a failed attachment");
            }
            return Err(error);
        }
        Ok(endpoint)
    }

    async fn connect(
        &mut self,
        endpoint: &Endpoint,
        bridge: u32,
        namespace: Namespace<'_>,
    ) -> Result<(), NetworkError> {
        // One that bears the address's name is an orphan: the pool gives no address twice.
        self.links.remove(&endpoint.host_if).await?;
        let veth = Veth {
            host_name: &endpoint.host_if,
            inner_name: &endpoint.container_if,
            inner_mac: endpoint.mac,
            mtu: endpoint.mtu,
            bridge,
        };
        self.links.add_veth(&veth, namespace).await?;
        if endpoint.ports.is_empty() {
            return Ok(());
        }
        self.links.allow_hairpin(&endpoint.host_if).await?;
        self.update_ports()
    }

    /// Removes what `attach` made: veth, ports, hold on the address. Goes on after an error and tells all of them.
    /// An app that isn't attached is no error.
    pub async fn detach(&mut self, app: &str) -> Result<(), NetworkError> {
        let Some(endpoint) = self.attached.remove(app) else {
            return Ok(());
        };
        let mut errors = Vec::new();
        // Ports first, so that nothing is sent to an address that the next app may get.
        if !endpoint.ports.is_empty() {
            errors.extend(self.update_ports().err());
        }
        let removed = self.links.remove(&endpoint.host_if).await;
        errors.extend(removed.err().map(NetworkError::from));
        self.pool.release(endpoint.ip);
        all_of(errors)
    }

    fn place(&self, ip: Ipv4Addr, ports: &[PublishedPort]) -> Endpoint {
        Endpoint {
            ip,
            prefix: self.config.subnet.prefix_len(),
            gateway: self.config.gateway(),
            mac: mac(ip),
            mtu: self.config.mtu,
            host_if: format!("{}{:08x}", self.config.ifname_prefix, u32::from(ip)),
            container_if: CONTAINER_INTERFACE.to_owned(),
            ports: ports.to_vec(),
        }
    }
}

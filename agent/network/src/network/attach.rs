//! Apps come and go: address, veth, ports, limits and list of places to go of one.

use std::net::Ipv4Addr;

use super::{Network, refuse_taken_ports};
use crate::config::{ConfigError, check_request};
use crate::endpoint::{Endpoint, Rates, Wanted};
use crate::error::{NetworkError, all_of};
use crate::inside::configure_from_outside;
use crate::link::{Namespace, Veth};
use crate::port::PublishedPort;

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
        let wanted = Wanted {
            ports,
            ..Wanted::default()
        };
        self.attach_as(app, namespace, &wanted).await
    }

    /// As `attach`, with a fixed address, limits and so on.
    pub async fn attach_as(
        &mut self,
        app: &str,
        namespace: Namespace<'_>,
        wanted: &Wanted<'_>,
    ) -> Result<Endpoint, NetworkError> {
        check_request(app, wanted)?;
        if self.half_gone.contains(app) {
            self.detach(app).await?;
        }
        if let Some(there) = self.attached.get(app) {
            return Err(NetworkError::Attached {
                app: app.to_owned(),
                ip: there.ip,
            });
        }
        if self.config.internal && !wanted.ports.is_empty() {
            let app = app.to_owned();
            return Err(ConfigError::InternalPorts { app }.into());
        }
        refuse_taken_ports(app, wanted.ports, self.endpoints())?;
        let underlay = self.config.underlay.clone();
        let link = match &underlay {
            None => self.bridge().await?,
            Some(_) if !wanted.ports.is_empty() || wanted.rates != Rates::default() => {
                let app = app.to_owned();
                return Err(ConfigError::OnWire { app }.into());
            }
            Some(underlay) => self.ensure_wire(underlay).await?.0,
        };
        let ip = match wanted.ip {
            Some(ip) => {
                self.pool.take(app, ip, self.reconciled)?;
                ip
            }
            None => self.pool.allocate(app, self.reconciled)?,
        };
        let mut endpoint = Endpoint::new(&self.config, ip, wanted);
        if underlay.is_none() {
            endpoint.host_if = self.free_name(ip).await?;
        }
        if let Some(underlay) = &underlay {
            endpoint.wire = Some(link.index);
            if !underlay.station.has_own_mac() {
                endpoint.mac = link.mac.unwrap_or_default();
            }
        }
        self.attached.insert(app.to_owned(), endpoint.clone());
        let connected = match &underlay {
            None => self.connect(app, &endpoint, link.index, namespace).await,
            Some(underlay) => {
                let on = (underlay, &link);
                self.connect_to_wire(app, &endpoint, on, namespace).await
            }
        };
        if let Err(error) = connected {
            if let Err(undo) = self.detach(app).await {
                tracing::warn!(app, error = %undo, "could not take back a failed attachment");
            }
            return Err(error);
        }
        Ok(endpoint)
    }

    /// As `attach_as`, for a container that runs: its side is configured too, from here. Blocks for the few requests.
    pub async fn attach_running(
        &mut self,
        app: &str,
        namespace: Namespace<'_>,
        wanted: &Wanted<'_>,
    ) -> Result<Endpoint, NetworkError> {
        let endpoint = self.attach_as(app, namespace, wanted).await?;
        if let Err(error) = configure_from_outside(namespace, &endpoint) {
            let mut errors = vec![error.into()];
            errors.extend(self.detach(app).await.err());
            all_of(errors)?;
        }
        Ok(endpoint)
    }

    async fn connect(
        &mut self,
        app: &str,
        endpoint: &Endpoint,
        bridge: u32,
        namespace: Namespace<'_>,
    ) -> Result<(), NetworkError> {
        // Before anything can be sent.
        self.update_egress(app)?;
        if endpoint.egress.is_some() {
            // Whoever had the address before may have left more since it was given back.
            self.forget_connections(endpoint);
        }
        let veth = Veth {
            host_name: &endpoint.host_if,
            inner_name: &endpoint.container_if,
            inner_mac: endpoint.mac,
            mtu: endpoint.mtu,
            bridge,
        };
        self.links.add_veth(&veth, namespace).await?;
        if let Some(rate) = endpoint.rates.ingress_bytes_per_second {
            self.links.shape(&endpoint.host_if, rate).await?;
        }
        if self.has_limits() {
            self.update_limits().await?;
        }
        if endpoint.ports.is_empty() {
            return Ok(());
        }
        self.links.allow_hairpin(&endpoint.host_if).await?;
        self.update_ports()?;
        self.lead_datagrams_in(endpoint).await
    }

    /// As `detach`, of an app whose namespace has ended or ends now: its interface is left to the kernel, which takes it down
    /// with the namespace. Asked for it, the kernel would keep us waiting for tens of milliseconds until nobody can hold on to
    /// the interface any more (netdev_run_todo and synchronize_net of net/core/dev.c).
    ///
    /// One with a list of places to go is kept to it until the interface is gone: that is worth the wait.
    pub async fn ended(&mut self, app: &str) -> Result<(), NetworkError> {
        if self.attached.get(app).is_some_and(|e| e.egress.is_some()) {
            return self.detach(app).await;
        }
        let Some(endpoint) = self.attached.remove(app) else {
            return Ok(());
        };
        let mut errors = Vec::new();
        if endpoint.wire.is_some() {
            // A guest of the app may keep the namespace, and with it the address on the wire.
            errors.extend(self.leave_wire(app, &endpoint).err());
        }
        if !endpoint.ports.is_empty() {
            errors.extend(self.update_ports().err());
        }
        if self.has_limits() || endpoint.is_counted() {
            errors.extend(self.update_limits().await.err());
        }
        errors.extend(self.withdraw_egress(app, &endpoint).err());
        self.forget_connections(&endpoint);
        if endpoint.wire.is_none() {
            // Who holds its namespace could speak as the next one that has the address.
            let silent = self.links.silence(&endpoint.host_if).await;
            errors.extend(silent.err().map(NetworkError::from));
            self.leaving.insert(endpoint.host_if);
        }
        self.pool.release(endpoint.ip);
        all_of(errors)
    }

    /// Interfaces of apps that have ended and are still there, because something else holds their namespace, are removed.
    pub(crate) async fn remove_leaving(&mut self) -> Result<(), NetworkError> {
        let mut errors = Vec::new();
        for name in std::mem::take(&mut self.leaving) {
            if let Err(error) = self.links.remove(&name).await {
                errors.push(error.into());
                self.leaving.insert(name);
            }
        }
        all_of(errors)
    }

    /// A name of ours that no interface has; one that is about to go has its own until it is gone. What else bears the
    /// address's name is an orphan, since the pool gives no address twice, and is removed.
    async fn free_name(&mut self, ip: Ipv4Addr) -> Result<String, NetworkError> {
        let mut name = String::new();
        for turn in 0..=u8::MAX {
            // A subnet is a /8 at most, so that the first byte says nothing.
            let [first, b, c, d] = ip.octets();
            let first = first.wrapping_add(turn);
            let prefix = &self.config.ifname_prefix;
            name = format!("{prefix}{first:02x}{b:02x}{c:02x}{d:02x}");
            if !self.leaving.contains(&name) || self.links.find(&name).await?.is_none() {
                break;
            }
        }
        self.links.remove(&name).await?;
        // It is the next app's from now on, and none of those that have to go.
        self.leaving.remove(&name);
        Ok(name)
    }

    /// Removes what `attach` made: veth, ports, limits, hold on the address. Goes on after an error and tells all of them.
    /// An app that isn't attached is no error. While its veth can't be removed it is attached still, without ports: it could
    /// go on sending, so that its list holds and nobody gets its address. `mend` and the next `attach` try again.
    pub async fn detach(&mut self, app: &str) -> Result<(), NetworkError> {
        let Some(mut endpoint) = self.attached.remove(app) else {
            return Ok(());
        };
        let mut errors = Vec::new();
        // Ports first, so that nothing is sent to an address that the next app may get.
        if !endpoint.ports.is_empty() {
            errors.extend(self.update_ports().err());
        }
        match endpoint.wire {
            Some(_) => errors.extend(self.leave_wire(app, &endpoint).err()),
            None => {
                if let Err(error) = self.links.remove(&endpoint.host_if).await {
                    errors.push(error.into());
                    endpoint.ports.clear();
                    self.attached.insert(app.to_owned(), endpoint);
                    self.half_gone.insert(app.to_owned());
                    return all_of(errors);
                }
            }
        }
        self.half_gone.remove(app);
        if self.has_limits() || endpoint.is_counted() || endpoint.egress.is_some() {
            errors.extend(self.update_limits().await.err());
        }
        errors.extend(self.withdraw_egress(app, &endpoint).err());
        self.forget_connections(&endpoint);
        self.pool.release(endpoint.ip);
        all_of(errors)
    }
}

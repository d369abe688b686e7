//! The half of a network that lies on a link of the board: no bridge, no tables, nothing of its containers in the board's
//! namespace.

use std::fs::File;
use std::os::fd::AsFd;

use super::Network;
use crate::endpoint::Endpoint;
use crate::error::NetworkError;
use crate::inside;
use crate::link::{Link, Namespace, StationLink};
use crate::underlay::Underlay;

impl Network {
    /// The link that containers hang on: the parent, or the VLAN on it, which is made where it is missing. Whether it was.
    pub(super) async fn ensure_wire(
        &mut self,
        underlay: &Underlay,
    ) -> Result<(Link, bool), NetworkError> {
        let parent = self.links.find(&underlay.parent).await?;
        let parent = parent.ok_or_else(|| NetworkError::NoParent {
            link: underlay.parent.clone(),
        })?;
        self.links.up(&parent).await?;
        let (wire, created) = match underlay.vlan {
            None => (parent, false),
            Some(vlan) => {
                let name = &self.config.bridge;
                self.links.ensure_vlan(name, &parent, vlan).await?
            }
        };
        // The board is a station there too.
        self.pool.reserve(self.links.addresses_of(&wire).await?);
        Ok((wire, created))
    }

    pub(super) async fn connect_to_wire(
        &mut self,
        app: &str,
        endpoint: &Endpoint,
        (underlay, wire): (&Underlay, &Link),
        namespace: Namespace<'_>,
    ) -> Result<(), NetworkError> {
        // Held, so that the interface can be taken away while the container lives, and at once when it ends: its hardware
        // address is free only then.
        let held = match namespace {
            Namespace::Fd(fd) => File::from(fd.try_clone_to_owned().map_err(inside::not_found)?),
            Namespace::Pid(pid) => {
                File::open(format!("/proc/{pid}/ns/net")).map_err(inside::not_found)?
            }
        };
        let station = StationLink {
            inner_name: &endpoint.container_if,
            inner_mac: endpoint.mac,
            mtu: endpoint.mtu,
            wire: wire.index,
            station: underlay.station,
        };
        let namespace = Namespace::Fd(held.as_fd());
        self.links.add_station(&station, namespace).await?;
        if !underlay.listens {
            inside::without_ipv6(namespace, &endpoint.container_if)?;
        }
        self.held.insert(app.to_owned(), held);
        Ok(())
    }

    /// Without a hold on its namespace, after a restart of ours, the interface goes with that.
    pub(super) fn leave_wire(
        &mut self,
        app: &str,
        endpoint: &Endpoint,
    ) -> Result<(), NetworkError> {
        match self.held.remove(app) {
            Some(held) => Ok(inside::remove(
                Namespace::Fd(held.as_fd()),
                &endpoint.container_if,
            )?),
            None => Ok(()),
        }
    }

    /// Apps whose wire is another one than they hang on: it was unplugged, and with it went their interfaces.
    pub(crate) async fn off_the_wire(&mut self) -> Result<Vec<String>, NetworkError> {
        let Some(underlay) = self.config.underlay.clone() else {
            return Ok(Vec::new());
        };
        let (wire, _) = match self.ensure_wire(&underlay).await {
            Ok(found) => found,
            // Nothing that a restart of theirs would mend.
            Err(NetworkError::NoParent { .. }) => return Ok(Vec::new()),
            Err(other) => return Err(other),
        };
        let off = self
            .attached
            .iter()
            .filter(|(_, at)| at.wire.is_some_and(|index| index != wire.index));
        Ok(off.map(|(app, _)| app.clone()).collect())
    }
}

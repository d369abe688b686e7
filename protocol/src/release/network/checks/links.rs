//! The rules of links of the board: networks that lie on one, and apps that have one whole.

use crate::names::AppName;
use crate::release::network::links::CAN_BITRATES;
use crate::release::network::{Driver, LinkName, NetworkSpec};
use crate::release::{Network, NetworkMode, SignedApp, SignedRelease};

/// IEEE 802.1Q: 0 and 4095 mean something else.
const VLANS: std::ops::RangeInclusive<u16> = 1..=4094;

impl SignedRelease {
    /// A link is one network's with each of its VLANs, or one app's whole.
    pub(super) fn check_links(&self) -> Result<(), String> {
        for (index, network) in self.networks.iter().enumerate() {
            let Some(parent) = &network.parent else {
                continue;
            };
            let mut earlier = self.networks[..index].iter();
            let same =
                |other: &&NetworkSpec| other.parent == network.parent && other.vlan == network.vlan;
            if let Some(other) = earlier.find(same) {
                return Err(format!(
                    "network `{}`: parent `{parent}` with the same VLAN is network `{}`'s",
                    network.name, other.name
                ));
            }
        }
        let links = |app: &SignedApp| {
            let name = app.name.clone();
            let links = app.network.interfaces.clone();
            links.into_iter().map(move |link| (link.name, name.clone()))
        };
        let all: Vec<_> = self.apps.iter().flat_map(links).collect();
        for (index, (link, app)) in all.iter().enumerate() {
            let at = |fault: String| format!("app `{app}`: network.interfaces: `{link}`: {fault}");
            // What one app says twice is told with that app.
            let same = |(name, other): &&(LinkName, AppName)| name == link && other != app;
            if let Some((_, other)) = all[..index].iter().find(same) {
                return Err(at(format!("app `{other}` has it already")));
            }
            if let Some(network) = self
                .networks
                .iter()
                .find(|n| n.parent.as_ref() == Some(link))
            {
                return Err(at(format!("network `{}` lies on it", network.name)));
            }
        }
        Ok(())
    }
}

impl NetworkSpec {
    /// Which fields go with what it is made of.
    pub(super) fn check_driver(&self) -> Result<(), String> {
        let driver = self.driver.as_str();
        if self.driver == Driver::Bridge {
            return match (&self.parent, self.vlan, self.link_mode) {
                (None, None, None) => Ok(()),
                _ => Err("parent, vlan and link_mode need driver `macvlan` or `ipvlan`".into()),
            };
        }
        if self.parent.is_none() || self.subnet.is_none() {
            return Err(format!(
                "driver `{driver}` needs parent, the board's link, and subnet, that of the wire"
            ));
        }
        if self.internal || self.host_access {
            return Err(format!(
                "internal and host_access need a bridge; with `{driver}` a network without gateway has no way out, and \
                 its containers never reach the board by its own link"
            ));
        }
        if self.vlan.is_some_and(|vlan| !VLANS.contains(&vlan)) {
            return Err(format!(
                "vlan is outside {} to {}",
                VLANS.start(),
                VLANS.end()
            ));
        }
        match self.link_mode {
            Some(mode) if !mode.fits(self.driver) => Err(format!(
                "link_mode: macvlan has bridge, private and vepa, ipvlan has l2 and l3; the driver is `{driver}`"
            )),
            _ => Ok(()),
        }
    }
}

impl Network {
    pub(super) fn check_interfaces(&self) -> Result<(), String> {
        for (index, link) in self.interfaces.iter().enumerate() {
            let at = |fault: &str| Err(format!("network.interfaces: `{}`: {fault}", link.name));
            // What its networks are called inside.
            let own = link.name.as_str().strip_prefix("eth");
            let own = own.and_then(|number| number.parse::<usize>().ok());
            let places = match self.mode {
                NetworkMode::Bridge => self.networks.len().max(1),
                _ => 0,
            };
            if own.is_some_and(|number| number < places) {
                return at(
                    "one of the app's networks has this name inside; give it fewer networks, or mode `none`",
                );
            }
            if self.interfaces[..index].iter().any(|l| l.name == link.name) {
                return at("stands twice");
            }
            if let Some(address) = link.address
                && !(8..=31).contains(&address.prefix_len())
            {
                return at("address needs the length of its prefix, 8 to 31, as in 192.168.7.2/24");
            }
            match link.bitrate {
                Some(_) if link.address.is_some() => {
                    return at("a bitrate is a CAN bus's, which has no address");
                }
                Some(rate) if !CAN_BITRATES.contains(&rate) => {
                    let (least, most) = (CAN_BITRATES.start(), CAN_BITRATES.end());
                    return at(&format!(
                        "a bitrate of {rate} is outside {least} to {most} bits a second"
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

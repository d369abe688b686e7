//! The board's own switches: offloads of its links, what bridges ask of other programs' rules, forwarding. What was changed is
//! noted before, and given back in the end.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Ipv6, NetworkRequest, Networks};
use crate::endpoint::Endpoint;
use crate::error::NetworkError;
use crate::link::{Link, Namespace};
use crate::network::Network;
use crate::offload::{Offload, Switched};
use crate::policy::{BoardPolicy, Offloads};
use crate::route_socket::within;
use crate::sysctl;
use notes::{Found, Notes};

mod notes;

/// The board's switches, and what was said of them already.
#[derive(Default)]
pub(super) struct Board {
    policy: BoardPolicy,
    notes: Notes,
    told: BTreeSet<(u32, Offload)>,
    told_of_apps: BTreeSet<Offload>,
    told_of_bridge_nf: bool,
}

impl Board {
    pub fn open(state_dir: &Path) -> Self {
        Self {
            notes: Notes::open(state_dir),
            ..Self::default()
        }
    }

    /// Whether forwarding is the board's own affair.
    pub fn keeps_forwarding(&self) -> bool {
        self.policy.keep_forwarding
    }

    /// As the policy has them. Goes on after an error and tells all of them; what a driver will not do is told and no error.
    fn put_in_order(&mut self, links: &[Link]) -> Vec<NetworkError> {
        let mut there = BTreeSet::new();
        there.extend(links.iter().map(|link| link.index));
        self.told.retain(|(link, _)| there.contains(link));
        let wanted = |link: &Link| self.policy.offloads_of(&link.name);
        let wanted: Vec<(&Link, Offloads)> = links.iter().map(|l| (l, wanted(l))).collect();
        let mut errors: Vec<NetworkError> = self.withdraw(&wanted).err().into_iter().collect();
        let mut found = Vec::new();
        let mut to_switch = Vec::new();
        let all = wanted
            .iter()
            .flat_map(|(link, all)| all.iter().map(move |(what, on)| (*link, *what, *on)));
        for (link, offload, on) in all {
            match offload.differs(&link.name, on) {
                Ok(true) => {
                    found.push(Found {
                        link: link.index,
                        offload,
                        was: !on,
                    });
                    to_switch.push((link, offload, on));
                }
                Ok(false) => self.tell(link, (offload, on), Switched::AsWanted),
                Err(why) => self.tell(link, (offload, on), why),
            }
        }
        // All of them at once: each write waits for the disk. What is not noted is not switched.
        match self.notes.note(found, &there) {
            Ok(()) => {
                for (link, offload, on) in to_switch {
                    self.tell(link, (offload, on), offload.switch(&link.name, on));
                }
            }
            Err(error) => errors.push(error),
        }
        errors.extend(self.bridge_nf().err());
        errors
    }

    fn tell(&mut self, link: &Link, (offload, on): (Offload, bool), switched: Switched) {
        let what = (link.index, offload);
        match switched {
            Switched::Refused(why) if self.told.insert(what) => tracing::warn!(
                link = link.name,
                offload = offload.as_str(),
                on,
                why,
                "it stays as the driver has it"
            ),
            Switched::Refused(_) | Switched::Gone => {}
            Switched::AsWanted => {
                self.told.remove(&what);
            }
            Switched::Now => {
                self.told.remove(&what);
                tracing::info!(
                    link = link.name,
                    offload = offload.as_str(),
                    on,
                    "switched, as the board's profile says"
                );
            }
        }
    }

    /// Gives back what is wanted of these links no more.
    fn withdraw(&mut self, wanted: &[(&Link, Offloads)]) -> Result<(), NetworkError> {
        let mut given_back = Vec::new();
        for (link, wanted) in wanted {
            let mut back = self.notes.of_link(link.index);
            back.retain(|one| wanted.iter().all(|(offload, _)| *offload != one.offload));
            for one in &back {
                if let Switched::Refused(why) = one.offload.switch(&link.name, one.was) {
                    let offload = one.offload.as_str();
                    tracing::warn!(link = link.name, offload, why, "it cannot be given back");
                }
            }
            given_back.extend(back);
        }
        // Only now: whoever is killed before gives it back once more.
        self.notes.forget(&given_back)
    }

    fn bridge_nf(&mut self) -> Result<(), NetworkError> {
        if !self.policy.bridge_nf_off {
            self.give_bridge_nf_back()?;
            let on = sysctl::bridge_nf_on();
            if !on.is_empty() && !self.told_of_bridge_nf {
                tracing::info!(
                    on = on.join(", "),
                    "other programs' rules are asked between neighbours on one bridge too; bridge_nf = \"off\" under \
                     [network] of the board's profile switches that off"
                );
            }
            self.told_of_bridge_nf = !on.is_empty();
            return Ok(());
        }
        for name in sysctl::bridge_nf_on() {
            self.notes.note_bridge_nf(name)?;
            sysctl::set_bridge_nf(name, false)?;
            tracing::info!(switch = name, "switched off, as the board's profile says");
        }
        Ok(())
    }

    fn give_bridge_nf_back(&mut self) -> Result<(), NetworkError> {
        if self.notes.bridge_nf().is_empty() {
            return Ok(());
        }
        for name in self.notes.bridge_nf() {
            sysctl::set_bridge_nf(name, true)?;
        }
        self.notes.forget_bridge_nf()
    }

    /// Everything is as it was found, and nothing is noted any more. Goes on after an error and tells all of them.
    pub fn give_back(&mut self, links: &[Link]) -> Vec<NetworkError> {
        let nothing: Vec<_> = links.iter().map(|link| (link, Vec::new())).collect();
        let mut errors: Vec<NetworkError> = self.withdraw(&nothing).err().into_iter().collect();
        errors.extend(self.give_bridge_nf_back().err());
        if errors.is_empty() {
            errors.extend(self.notes.destroy().err());
        }
        errors
    }

    /// Of both ends of a container's link.
    pub fn tune_app(&mut self, endpoint: &Endpoint, namespace: Namespace<'_>) {
        if endpoint.wire.is_some() {
            return;
        }
        for (offload, on) in self.policy.app_offloads.clone() {
            let switch = |link: &str| match offload.switch(link, on) {
                Switched::Refused(why) => Some(why),
                _ => None,
            };
            let inside = within(namespace, || switch(&endpoint.container_if));
            let inside = inside.unwrap_or_else(|error| Some(error.to_string()));
            if let Some(why) = switch(&endpoint.host_if).or(inside)
                && self.told_of_apps.insert(offload)
            {
                let offload = offload.as_str();
                tracing::warn!(offload, on, why, "apps' links keep it as it is");
            }
        }
    }
}

impl Networks {
    /// What of the board may be touched. To be said before `reconcile`.
    #[must_use]
    pub fn with_policy(mut self, policy: BoardPolicy) -> Self {
        self.board.policy = policy;
        self
    }

    /// Whether bridge networks with a way out can have one.
    ///
    /// # Errors
    /// `NoForwarding` where the board passes no packets on, and that may not be changed.
    pub fn leads_out(&self) -> Result<(), NetworkError> {
        match self.board.policy.keep_forwarding && !sysctl::forwarding()? {
            true => Err(NetworkError::NoForwarding {
                switch: sysctl::FORWARDING_NAME,
            }),
            false => Ok(()),
        }
    }

    /// The same for IPv6.
    ///
    /// # Errors
    /// `NoForwarding`.
    pub fn leads_out6(&self) -> Result<(), NetworkError> {
        match self.board.policy.keep_forwarding && !sysctl::forwarding6()? {
            true => Err(NetworkError::NoForwarding {
                switch: sysctl::FORWARDING6_NAME,
            }),
            false => Ok(()),
        }
    }

    /// Of networks that are there already: their apps go on.
    pub(super) fn tell_of_no_way_out(&self) {
        if let Err(error) = self.leads_out() {
            tracing::warn!(%error, "apps on bridges have no way out and no published ports");
        }
        let outward = |n: &Network| {
            let config = n.config();
            config.subnet6.is_some() && config.underlay.is_none() && !config.internal
        };
        if self.each().any(|(_, n)| outward(n))
            && let Err(error) = self.leads_out6()
        {
            tracing::warn!(%error, "apps on bridges have no way out over IPv6");
        }
    }

    /// Of a new network.
    pub(super) fn refuse_no_way_out(&self, request: &NetworkRequest) -> Result<(), NetworkError> {
        if request.internal || request.underlay.is_some() {
            return Ok(());
        }
        match request.ipv6 {
            Ipv6::Subnet(_) => self.leads_out().and_then(|()| self.leads_out6()),
            Ipv6::Auto | Ipv6::Off => self.leads_out(),
        }
    }

    /// Whether it had to be switched on. The default network keeps the notes about it, whichever network needs it.
    pub(super) fn switch_forwarding(&mut self) -> Result<bool, NetworkError> {
        if self.board.policy.keep_forwarding {
            // What was switched on once is the board's own from now on.
            self.default.leave_forwarding()?;
            return Ok(false);
        }
        let routes6 = |n: &Network| n.config().subnet6.is_some() && n.config().underlay.is_none();
        let six = self.each().any(|(_, n)| routes6(n));
        self.default.switch_forwarding(six)
    }

    /// Offloads and bridge-nf are as the policy has them. Goes on after an error, which is logged.
    pub(super) fn order_board(&mut self, links: &[Link]) {
        let others = self.links_of_others(links);
        for error in self.board.put_in_order(&others) {
            tracing::warn!(%error, "the board's switches");
        }
    }

    /// Everything but loopback and what we made.
    pub(super) fn links_of_others(&self, links: &[Link]) -> Vec<Link> {
        let ours = |link: &Link| {
            self.each().any(|(_, network)| {
                let config = network.config();
                link.name == config.bridge || link.name.starts_with(&config.ifname_prefix)
            })
        };
        let others = links.iter().filter(|link| link.name != "lo" && !ours(link));
        others.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_of_links_that_are_gone_is_forgotten() {
        let mut board = Board::default();
        board.told.insert((u32::MAX, Offload::Tso));
        board.put_in_order(&[]);
        assert!(board.told.is_empty());
    }
}

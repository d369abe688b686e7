//! Published ports go from one app to another while both run, on whichever networks they are.

use std::collections::BTreeMap;

use super::Networks;
use crate::error::NetworkError;
use crate::network::{Network, refuse_taken_ports};
use crate::port::PublishedPort;

impl Networks {
    /// The published ports of the apps of `from` are theirs no more, and those of `to` have the ones that are said: in one
    /// step where they share a network; otherwise the new ones first. Connections that are open stay where they are until
    /// whoever has them ends.
    ///
    /// # Errors
    /// `PortTaken` names an owner who is not in `from`; nothing is changed then.
    pub async fn hand_over(
        &mut self,
        from: &[&str],
        to: &BTreeMap<&str, &[PublishedPort]>,
    ) -> Result<(), NetworkError> {
        for (app, ports) in to {
            let everyone = self.each().flat_map(|(_, network)| network.endpoints());
            let stays = |(other, _): &(&str, _)| !from.contains(other) && !to.contains_key(other);
            refuse_taken_ports(app, ports, everyone.filter(stays))?;
        }
        let mut all: Vec<&mut Network> = Vec::new();
        all.push(&mut self.default);
        all.extend(self.user.values_mut());
        all.sort_by_key(|network| !network.gains_ports(to));
        for network in all {
            network.hand_over(from, to).await?;
        }
        Ok(())
    }
}

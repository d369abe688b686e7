//! What a board makes of a release's networks and has bounds for. It is told here, where there is still a choice.

use super::{AppOnNetwork, DEFAULT_NETWORK, EgressTo, NetworkSpec};
use crate::document::within;
use crate::limits::LIMITS;
use crate::release::{Network, NetworkMode, SignedApp, SignedRelease};
use std::collections::BTreeSet;

/// Bytes of JSON that the supervisor tells a network's resolver at once: what fits a socket's buffer.
const ZONE_BYTES: usize = 160 * 1024;
/// What stands around a name: quotes, an IPv4 and an IPv6 address with theirs, punctuation.
const AROUND_A_NAME: usize = 72;
/// What stands around one container's own part: its address, field names, three resolvers, punctuation.
const AROUND_A_CONTAINER: usize = 220;
/// Field names, and the board's resolvers.
const AROUND_ALL: usize = 512;

impl SignedRelease {
    /// Each network's names fit its resolver.
    pub(super) fn check_zones(&self) -> Result<(), String> {
        let bridges = self.networks.iter().filter(|n| n.driver.is_bridge());
        let names = bridges.map(|network: &NetworkSpec| network.name.as_str());
        for network in names.chain([DEFAULT_NETWORK]) {
            let here = self.apps.iter().filter(|app| is_on(app, network));
            let bytes: usize = here.map(|app| self.bytes_of(app, network)).sum();
            let field = format!(
                "network `{network}`: apps, aliases and egress names are told its resolver; their bytes"
            );
            within(&field, (AROUND_ALL + bytes) as u64, ZONE_BYTES as u64)?;
        }
        Ok(())
    }

    /// Of an app in the zone of one of its networks: its names there, its list, and whom it finds on its other networks.
    fn bytes_of(&self, app: &SignedApp, network: &str) -> usize {
        let list = app.network.egress.as_deref().unwrap_or_default();
        let mut names = BTreeSet::new();
        names.extend(list.iter().map(|entry| &entry.to));
        let of_list: usize = names
            .iter()
            .map(|to| match to {
                EgressTo::Name(name) => name.len() + 3,
                EgressTo::Below(end) => end.len() + 5,
                EgressTo::Net(_) => 0,
            })
            .sum();
        let on = app.network.networks.iter().map(|on| on.name.as_str());
        let elsewhere: usize = on
            .filter(|other| *other != network)
            .flat_map(|other| {
                let others = self.apps.iter().filter(|one| one.name != app.name);
                others.map(move |one| bytes_of_names(one, other))
            })
            .sum();
        AROUND_A_CONTAINER + bytes_of_names(app, network) + of_list + elsewhere
    }
}

fn is_on(app: &SignedApp, network: &str) -> bool {
    let Network { mode, networks, .. } = &app.network;
    let named = networks.iter().any(|on| on.name.as_str() == network);
    *mode == NetworkMode::Bridge && (named || networks.is_empty() && network == DEFAULT_NETWORK)
}

/// None where it isn't.
fn bytes_of_names(app: &SignedApp, network: &str) -> usize {
    if !is_on(app, network) {
        return 0;
    }
    let here = |on: &&AppOnNetwork| on.name.as_str() == network;
    let place = app.network.networks.iter().find(here);
    let aliases = place.map_or(&[][..], |on| &on.aliases);
    let names = aliases
        .iter()
        .map(String::as_str)
        .chain([app.name.as_str()]);
    names.map(|name| name.len() + AROUND_A_NAME).sum()
}

impl Network {
    /// An entry `*.end` is also one for each of `extra_hosts` below it: no resolver is asked for those.
    pub(super) fn check_places_to_go(&self) -> Result<(), String> {
        let list = self.egress.as_deref().unwrap_or_default();
        let below = |end: &str| {
            let end = format!(".{end}");
            let hosts = self.extra_hosts.keys();
            hosts
                .filter(|host| host.to_ascii_lowercase().ends_with(&end))
                .count()
        };
        let all: usize = list
            .iter()
            .map(|entry| match &entry.to {
                EgressTo::Below(end) => 1 + below(end),
                _ => 1,
            })
            .sum();
        let field = "network.egress, with an entry for each of extra_hosts below a `*.` name,";
        within(field, all as u64, LIMITS.egress as u64)
    }
}

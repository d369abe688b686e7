//! Who finds whom by name: in `/etc/hosts`, and by asking a network's resolver.

use super::Supervisor;
use crate::apps::{AppRun, etc};
use coracle_network::{Attachment, Endpoint, names, resolver::Zone};
use std::net::IpAddr;

impl Supervisor {
    /// Apps that share a network find each other by name and alias, from the moment they are there.
    pub(super) fn share_names(&mut self) {
        for app in &self.apps {
            let (Ok(plan), own) = (&app.plan, places(app)) else {
                continue;
            };
            if own.is_empty() {
                continue;
            }
            let others = self.neighbours(app);
            let mut lines: Vec<(&str, IpAddr)> = Vec::new();
            for (name, place) in &others {
                let ip = IpAddr::V4(place.endpoint.ip);
                let aliases = place.endpoint.aliases.iter().map(String::as_str);
                for name in [*name].into_iter().chain(aliases) {
                    if !lines.contains(&(name, ip)) {
                        lines.push((name, ip));
                    }
                }
            }
            if let Err(error) = etc::write_hosts(&self.settings, plan, own, lines) {
                tracing::warn!(app = %app.name(), %error, "it does not know the others by name");
            }
        }
        self.tell_resolvers();
    }

    /// The others on an app's networks, a pair for each network that they share.
    fn neighbours(&self, app: &AppRun) -> Vec<(&str, &Attachment)> {
        let shared = |place: &&Attachment| {
            let mut own = places(app).iter();
            own.any(|own| own.network == place.network)
        };
        let others = self
            .apps
            .iter()
            .filter(|other| other.name() != app.name() && self.is_announced(other));
        others
            .flat_map(|other| {
                let name = other.name().as_str();
                places(other)
                    .iter()
                    .filter(shared)
                    .map(move |place| (name, place))
            })
            .collect()
    }

    /// What the resolver of a network is to know.
    pub(super) fn zone(&self, network: &str, internal: bool, board: &[IpAddr]) -> Zone {
        let on = |app: &AppRun| places(app).iter().any(|place| place.network == network);
        let here = self.apps.iter().filter(|app| on(app));
        let endpoint = |app: &'_ AppRun| place_on(app, network).cloned();
        let all: Vec<(&str, Endpoint)> = here
            .clone()
            .filter(|app| self.is_announced(app))
            .filter_map(|app| Some((app.name().as_str(), endpoint(app)?)))
            .collect();
        // Nothing leaves an internal network, questions neither.
        let board = if internal { &[] } else { board };
        let mut zone = Zone::new(all.iter().map(|(name, at)| (*name, at)), board);
        for app in here {
            let Some(client) = endpoint(app).map(|endpoint| endpoint.ip) else {
                continue;
            };
            if !self.is_announced(app) {
                zone.add_client(client);
            }
            if let Some(list) = place_on(app, network).and_then(|at| at.egress.as_ref()) {
                zone.allow_only(client, &coracle_network::egress_names(list));
            }
            let elsewhere: Vec<_> = self
                .neighbours(app)
                .into_iter()
                .filter(|(_, place)| place.network != network)
                .collect();
            if !elsewhere.is_empty() {
                let pairs = elsewhere
                    .iter()
                    .map(|(name, place)| (*name, &place.endpoint));
                zone.add_names(client, pairs);
            }
            let dns = app.plan.as_ref().map_or(&[][..], |plan| &plan.names.dns);
            if !dns.is_empty() && !internal {
                zone.ask_instead(client, dns);
            }
        }
        zone
    }

    /// The board's resolvers, without those that ask them.
    pub(super) fn boards_resolvers(&self) -> Vec<IpAddr> {
        let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let mut ours = vec![IpAddr::V4(self.settings.network.gateway())];
        if let Ok(networks) = &self.bridge.0 {
            // On a link of the board the gateway is the wire's router, which may well be the board's resolver.
            let bridges = networks.list().iter().filter(|n| n.underlay.is_none());
            ours.extend(bridges.map(|n| IpAddr::V4(n.gateway)));
        }
        names::resolvers(&text, &ours)
    }
}

fn place_on<'a>(app: &'a AppRun, network: &str) -> Option<&'a Endpoint> {
    let place = places(app).iter().find(|place| place.network == network)?;
    Some(&place.endpoint)
}

fn places(app: &AppRun) -> &[Attachment] {
    app.process.as_ref().map_or(&[], |process| &process.places)
}

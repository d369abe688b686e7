//! Before anything changes: could this board make the networks that a release declares, and has it the links?

use super::Supervisor;
use crate::apps::{places, whole};
use crate::offer::{Refused, listeners};
use coracle_network::{DEFAULT_NETWORK, Networks};
use coracle_protocol::release::{App, Driver, NetworkSpec, Port, Release};
use std::net::IpAddr;

impl Supervisor {
    /// All that stands against it, each in a line.
    pub(super) async fn check_networks(&mut self, release: &Release) -> Result<(), Refused> {
        if self.bridge.0.is_err() && release.apps.iter().any(is_on_network) {
            self.open_bridge().await;
            if self.bridge.0.is_ok() {
                self.arrange_networks().await;
            }
        }
        let networks = match &self.bridge.0 {
            Ok(networks) => networks,
            Err(error) => return without_networks(release, error),
        };
        let mut problems = Vec::new();
        for spec in &release.networks {
            // Those of a wire are not the board's to give.
            if spec.driver != Driver::Bridge {
                continue;
            }
            let four = match spec.subnet {
                Some(subnet) => networks.could_have(subnet).await,
                None => Ok(()),
            };
            let six = match spec.ipv6_subnet {
                Some(subnet) => networks.could_have6(subnet).await,
                None => Ok(()),
            };
            let faults = [four, six].into_iter().filter_map(Result::err);
            problems
                .extend(faults.map(|error| format!("network `{}`: {}", spec.name, whole(&error))));
        }
        let taken = self.taken_ports(networks, release);
        let links = self.missing_links(networks, release).await;
        let no_way_out = no_way_out(networks, release).into_iter().collect();
        let found = [
            ("subnet-taken", problems),
            ("no-forwarding", no_way_out),
            ("port-taken", taken),
            ("no-such-link", links),
        ];
        // All of it, under the first one's word.
        let code = found.iter().find(|(_, problems)| !problems.is_empty());
        match code.map(|(code, _)| *code) {
            None => Ok(()),
            Some(code) => {
                let all: Vec<String> = found.into_iter().flat_map(|(_, all)| all).collect();
                Err(Refused::new(code, all.join("\n")))
            }
        }
    }

    /// Ports that programs of the board have. One that an app of the running set publishes already is no news.
    fn taken_ports(&self, networks: &Networks, release: &Release) -> Vec<String> {
        let running = self.current.iter().flat_map(|set| &set.release().apps);
        let open: Vec<&Port> = running.flat_map(|app| &app.network.ports).collect();
        let is_new = |port: &Port| {
            let same = |one: &&&Port| {
                (one.host, one.host_ip, one.protocol) == (port.host, port.host_ip, port.protocol)
            };
            open.iter().find(same).is_none()
        };
        let published = release.apps.iter().flat_map(|app| {
            let ports = app.network.ports.iter().filter(|port| is_new(port));
            ports.map(|port| (&app.name, port))
        });
        let names = networks.list().iter().map(|network| network.name.as_str());
        let gateways: Vec<IpAddr> = [DEFAULT_NETWORK]
            .into_iter()
            .chain(names)
            .filter_map(|name| Some(networks.inspect(name).ok()?.config().gateway().into()))
            .collect();
        listeners::taken(published, &gateways, &self.settings.config.cgroup_parent)
    }

    /// Links that apps are to have, or that networks are to lie on, and that are neither on the board nor with an app that runs.
    /// A set that runs waits for its links; one that comes could not show that it works.
    async fn missing_links(&self, networks: &Networks, release: &Release) -> Vec<String> {
        let mut here = match networks.links().await {
            Ok(here) => here,
            Err(error) => return vec![whole(&error)],
        };
        let with_apps = self.apps.iter().filter(|app| !app.is_down());
        here.extend(with_apps.flat_map(|app| {
            let links = app.app.network.interfaces.iter();
            links.map(|link| link.name.to_string())
        }));
        let wanted = release.apps.iter().flat_map(|app| {
            let links = app.network.interfaces.iter();
            links.map(move |link| (&app.name, link.name.as_str()))
        });
        let is_missing = |link: &str| !here.iter().any(|name| name == link);
        let missing = wanted
            .filter(|(_, link)| is_missing(link))
            .map(|(app, link)| format!("app `{app}`: link `{link}` is not on this board"));
        let parents = release.networks.iter().filter_map(|network| {
            let parent = network.parent.as_ref()?.as_str();
            let name = &network.name;
            is_missing(parent)
                .then(|| format!("network `{name}`: parent `{parent}` is not on this board"))
        });
        missing.chain(parents).collect()
    }
}

fn is_on_network(app: &App) -> bool {
    !places::of(&app.network).is_empty()
}

/// Where this board can make no network at all: whose apps would be without.
fn without_networks(release: &Release, error: &str) -> Result<(), Refused> {
    let apps = release.apps.iter().filter(|app| is_on_network(app));
    let all: Vec<String> = apps
        .map(|app| {
            format!(
                "app `{}`: this board cannot make the networks that it is on: {error} (`coracle board check` says what is missing)",
                app.name
            )
        })
        .collect();
    match all.is_empty() {
        true => Ok(()),
        false => Err(Refused::new("no-network", all.join("\n"))),
    }
}

/// Who would have no way out, on a board that passes no packets on and may not be made to: the first that is found.
fn no_way_out(networks: &Networks, release: &Release) -> Option<String> {
    let leads_out = |spec: &&NetworkSpec| spec.driver == Driver::Bridge && !spec.internal;
    let mut outward = release.networks.iter().filter(leads_out);
    if let Err(error) = networks.leads_out() {
        if let Some(spec) = outward.next() {
            return Some(format!("network `{}`: {}", spec.name, whole(&error)));
        }
        let on_default = |app: &&App| {
            places::of(&app.network)
                .iter()
                .any(|place| place.network == DEFAULT_NETWORK)
        };
        let app = release.apps.iter().find(on_default)?;
        return Some(format!(
            "app `{}` is on network `{DEFAULT_NETWORK}`: {}",
            app.name,
            whole(&error)
        ));
    }
    let error = networks.leads_out6().err()?;
    let spec = outward.find(|spec| spec.ipv6_subnet.is_some())?;
    Some(format!(
        "network `{}`: ipv6_subnet: {}",
        spec.name,
        whole(&error)
    ))
}

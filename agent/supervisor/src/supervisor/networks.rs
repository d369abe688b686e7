//! Networks that a release declares, apps that use another's network, and what is said of both.

use super::Supervisor;
use crate::apps::plan::Plan;
use crate::apps::{AppRun, Phase, Process, places, whole};
use crate::journal::DeployedSet;
use coracle_network::{DEFAULT_NETWORK, NetworkConfig};
use coracle_protocol::names::{AppName, NetworkName};
use coracle_protocol::release::{Mac, Network, NetworkMode, NetworkSpec, Rates};
use coracle_protocol::report::{NetworkStatus, PlaceStatus, SetStatus, SubnetStatus, Traffic};
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long an app waits for the one whose network it uses, before it looks again.
const HOST_WAIT: Duration = Duration::from_millis(500);

impl Supervisor {
    /// The networks are those that the active set declares. What went wrong, by network; apps of such a one cannot start.
    pub(super) async fn arrange_networks(&mut self) -> Vec<(String, String)> {
        let wanted: Vec<_> = self.declared().iter().map(places::request).collect();
        let Ok(networks) = &mut self.bridge.0 else {
            return Vec::new();
        };
        let faults = networks.arrange(&wanted).await;
        let faults: Vec<_> = faults
            .into_iter()
            .map(|(network, error)| (network, whole(&error)))
            .collect();
        for (network, fault) in &faults {
            tracing::error!(network, fault, "a network is not as declared");
        }
        self.arrange_resolvers();
        // One that is in use and should go stays, which is no reason not to start what is declared.
        let declared = |name: &str| wanted.iter().any(|request| request.name == name);
        faults
            .into_iter()
            .filter(|(name, _)| declared(name))
            .collect()
    }

    /// What the active set declares.
    fn declared(&self) -> &[NetworkSpec] {
        let tried = self.trying.as_ref().map(|trying| &trying.set);
        let active = |set: &&DeployedSet| Some(set.digest()) == self.active;
        let set = tried
            .filter(active)
            .or(self.current.as_ref().filter(active));
        set.map_or(&[], |set| &set.release().networks)
    }

    /// Declared ones that are not there.
    pub(super) fn missing_networks(&self) -> Vec<String> {
        let Ok(networks) = &self.bridge.0 else {
            return Vec::new();
        };
        let names = self.declared().iter().map(|spec| spec.name.to_string());
        names
            .filter(|name| networks.inspect(name).is_err())
            .collect()
    }

    /// Tries once more for networks that could not be made.
    pub(super) async fn prepare_networks(&mut self, plan: &Plan) {
        if plan.network != NetworkMode::Bridge {
            return;
        }
        let were_down = self.bridge.0.is_err();
        if were_down {
            self.open_bridge().await;
        }
        let missing = match &self.bridge.0 {
            Ok(networks) => plan
                .places
                .iter()
                .any(|place| networks.inspect(&place.network).is_err()),
            Err(_) => false,
        };
        if missing || (were_down && self.bridge.0.is_ok()) {
            self.arrange_networks().await;
        }
    }

    fn app_named(&self, name: &AppName) -> Option<&AppRun> {
        self.apps.iter().find(|app| app.name() == name)
    }

    /// The network namespace of an app that runs.
    pub(super) fn network_of(&self, host: &AppName) -> Result<OwnedFd, String> {
        let up = |app: &&AppRun| app.phase == Phase::Up;
        let process = self
            .app_named(host)
            .filter(up)
            .and_then(|app| app.process.as_ref());
        let process =
            process.ok_or_else(|| format!("app `{host}`, whose network it uses, does not run"))?;
        let path = format!("/proc/{}/ns/net", process.running.pid);
        let file = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
        // The number is still its own: one that was reaped meanwhile would fail here.
        match process.running.signal(0) {
            Ok(()) => Ok(file.into()),
            Err(error) => Err(format!("app `{host}`, whose network it uses: {error}")),
        }
    }

    /// Until when an app waits for the one whose network it uses, when that one is about to come. For one that waits for others
    /// itself there is no such time: [`Self::is_held`].
    pub(super) fn waits_for_host(&self, index: usize, now: Instant) -> Option<Instant> {
        let host = self.app_named(self.apps[index].app.network.container.as_ref()?)?;
        let coming = !matches!(host.phase, Phase::Up | Phase::Ended) && host.held.is_none();
        coming.then_some(now + HOST_WAIT)
    }

    /// The network of an app has gone with it: who used it starts again.
    pub(super) fn stop_guests(&mut self, host: &AppName) {
        let now = Instant::now();
        for app in &mut self.apps {
            let is_guest = app.app.network.container.as_ref() == Some(host);
            if is_guest && matches!(app.phase, Phase::Up | Phase::Preparing) {
                app.stop(now);
            }
        }
    }

    /// What has passed through each app's interfaces.
    pub(super) async fn add_traffic(&self, set: &mut Option<SetStatus>) {
        let Ok(networks) = &self.bridge.0 else { return };
        for app in set.iter_mut().flat_map(|set| &mut set.apps) {
            if app.networks.is_empty() {
                continue;
            }
            let Some(slot) = self.app_named(&app.name).map(|run| run.slot.as_str()) else {
                continue;
            };
            // Without numbers the rest of the status is still right.
            let Ok(all) = networks.counters(slot).await else {
                continue;
            };
            for (network, counters) in all {
                let place = app
                    .networks
                    .iter_mut()
                    .find(|place| place.network.as_str() == network);
                if let Some(place) = place {
                    place.traffic = Some(Traffic {
                        received_bytes: counters.received_bytes,
                        received_packets: counters.received_packets,
                        sent_bytes: counters.sent_bytes,
                        sent_packets: counters.sent_packets,
                    });
                }
            }
        }
    }

    /// The networks that there are.
    pub(super) fn network_statuses(&self) -> Vec<NetworkStatus> {
        let Ok(networks) = &self.bridge.0 else {
            return Vec::new();
        };
        let users = networks.list().iter().map(|network| network.name.as_str());
        [DEFAULT_NETWORK]
            .into_iter()
            .chain(users)
            .filter_map(|name| {
                let network = networks.inspect(name).ok()?;
                let mut status = status(name, network.link(), network.config())?;
                status.overlaps = self.following.overlap_of(name);
                Some(status)
            })
            .collect()
    }
}

fn status(name: &str, link: &str, config: &NetworkConfig) -> Option<NetworkStatus> {
    let gateway = config.gateway();
    let four = SubnetStatus {
        address: config.subnet.network().into(),
        prefix: config.subnet.prefix_len(),
        gateway: gateway.into(),
    };
    let six = config.subnet6.map(|subnet| SubnetStatus {
        address: subnet.network().into(),
        prefix: subnet.prefix_len(),
        gateway: IpAddr::V6(config.gateway6(subnet)),
    });
    Some(NetworkStatus {
        name: NetworkName::new(name).ok()?,
        bridge: link.to_owned(),
        subnets: [Some(four), six].into_iter().flatten().collect(),
        internal: config.internal,
        mtu: config.mtu,
        resolver: config.resolver,
        driver: match &config.underlay {
            None => "bridge".to_owned(),
            Some(underlay) => underlay.station.driver().to_owned(),
        },
        overlaps: None,
    })
}

/// An app's network in one word.
pub(super) fn mode(network: &Network) -> String {
    match (network.mode, network.networks.first()) {
        (NetworkMode::Host, _) => "host".to_owned(),
        (NetworkMode::None, _) => "none".to_owned(),
        (NetworkMode::Container, _) => "container".to_owned(),
        (NetworkMode::Bridge, None) => DEFAULT_NETWORK.to_owned(),
        (NetworkMode::Bridge, Some(on)) => on.name.to_string(),
    }
}

/// An app's places as the status has them.
pub(super) fn place_statuses(process: &Process) -> Vec<PlaceStatus> {
    let place = |place: &coracle_network::Attachment| {
        let at = &place.endpoint;
        Some(PlaceStatus {
            network: NetworkName::new(&place.network).ok()?,
            interface: at.container_if.clone(),
            ip: at.ip,
            prefix: at.prefix,
            gateway: at.gateway,
            ipv6: at.ipv6.map(|six| (six.ip, six.prefix, six.gateway)),
            mac: Mac(at.mac),
            aliases: at.aliases.clone(),
            rates: Rates {
                ingress_bytes_per_second: at.rates.ingress_bytes_per_second,
                egress_bytes_per_second: at.rates.egress_bytes_per_second,
            },
            traffic: None,
        })
    };
    process.places.iter().filter_map(place).collect()
}

//! Switches of the network that stand in the way, where the profile lets nobody touch them, routes that do not follow the
//! profile, and what some networks need.

use super::{Gap, Gaps, Severity};
use crate::config::LinkName;
use crate::probe::{KernelFacts, NETWORK_OPTIONS, Need};
use crate::profile::{BridgeNf, Forwarding, Profile, UplinkCost};

pub(super) fn switches(facts: &KernelFacts, profile: &Profile, gaps: &mut Gaps) {
    use Severity::{Note, Wanted};
    let (switches, network) = (&facts.switches, &profile.network);
    let mut tell = |severity, subject: &str, seen: &str, cost: &str, remedy: &str| {
        gaps.insert(Gap {
            subject: subject.to_owned(),
            severity,
            certain: true,
            seen: Some(seen.to_owned()),
            cost: cost.to_owned(),
            remedy: remedy.to_owned(),
        });
    };
    if network.forwarding == Forwarding::Keep {
        if switches.forwarding == Some(false) {
            tell(
                Wanted,
                "net.ipv4.ip_forward",
                "it is 0, and the profile says network.forwarding = \"keep\"",
                "apps on bridge networks have no way out and no published ports, and releases with such apps are refused",
                "`sysctl -w net.ipv4.ip_forward=1` and a line `net.ipv4.ip_forward = 1` in /etc/sysctl.d, or forwarding = \"set\" under [network] in board.toml",
            );
        }
        if switches.forwarding6 == Some(false) {
            tell(
                Note,
                "net.ipv6.conf.all.forwarding",
                "it is 0, and the profile says network.forwarding = \"keep\"",
                "bridge networks with a way out are made without IPv6, and releases that name an IPv6 subnet for one are refused",
                "`sysctl -w net.ipv6.conf.all.forwarding=1` and that line in /etc/sysctl.d, with accept_ra = 2 for links that listen to routers",
            );
        }
    }
    if network.bridge_nf == BridgeNf::Keep && switches.bridge_nf == Some(true) {
        tell(
            Note,
            "net.bridge.bridge-nf-call-iptables",
            "it is 1, and the profile says network.bridge_nf = \"keep\"",
            "other programs' rules for routed packets are asked between neighbours on one bridge too, and may stop them",
            "allow the bridges there (docs/networking.md), or say bridge_nf = \"off\" under [network] in board.toml where nothing else needs it",
        );
    }
}

/// Whether default routes follow the profile's order. An uplink that is not there, or down, is what the next one is for.
pub(super) fn uplinks(facts: &KernelFacts, profile: &Profile, gaps: &mut Gaps) {
    let (ways, uplinks) = (&facts.ways, &profile.network.uplinks);
    let metric = |link: &LinkName| {
        let mut routes = ways.default_routes.iter();
        let route = routes.find(|route| route.link == link.as_str())?;
        Some(route.metric)
    };
    // Of two with the same metric the kernel takes the one that was there first: no order of the profile's.
    let used = uplinks.iter().enumerate().rev();
    let used = used.filter_map(|(at, uplink)| Some((metric(&uplink.link)?, at)));
    let Some((lowest, at)) = used.min_by_key(|(metric, _)| *metric) else {
        return;
    };
    let (before, used) = (&uplinks[..at], &uplinks[at]);
    // A bridge or a tunnel over the preferred one has its route in its place, and no name in the profile.
    let mut below = ways.default_routes.iter();
    let elsewhere = below.any(|route| {
        let named = uplinks.iter().any(|one| route.link == one.link.as_str());
        !named && route.metric <= lowest
    });
    let mut preferred = before.iter().map(|one| (one, metric(&one.link)));
    let preferred = preferred.find(|(one, metric)| {
        let up = || ways.up.iter().any(|link| *link == one.link.as_str());
        metric.is_some() || !elsewhere && up()
    });
    let Some((preferred, metric)) = preferred else {
        return;
    };
    let (link, other) = (preferred.link.as_str(), used.link.as_str());
    let has = match metric {
        Some(metric) => format!("has a default route with metric {metric}"),
        None => "is up and has no default route".to_owned(),
    };
    let money = match (preferred.cost, used.cost) {
        (UplinkCost::Free, UplinkCost::Metered) => ", and each byte costs money",
        _ => "",
    };
    gaps.insert(Gap {
        subject: "order of uplinks".to_owned(),
        severity: Severity::Wanted,
        certain: true,
        seen: Some(format!(
            "{link} {has}, {other} has one with metric {lowest}; network.uplinks prefers {link}"
        )),
        cost: format!("what leaves the board goes by {other}{money}; Coracle changes no routes"),
        remedy: format!(
            "give {link} a default route with a metric below {other}'s (NetworkManager: ipv4.route-metric and ipv6.route-metric, systemd-networkd: RouteMetric=, dhcpcd: metric), or write the order that is meant as uplinks under [network] in board.toml"
        ),
    });
}

/// Found by trying alone; the cost is that of the option.
pub(super) fn needs(gaps: &mut Gaps) {
    for need in Need::OF_NETWORKS {
        let options = need.options();
        let mut costs = NETWORK_OPTIONS.iter();
        let cost = costs.find(|(option, _)| options.contains(option));
        let options = options.join(" and ");
        gaps.ask_trial(
            Severity::Wanted,
            need.subject(),
            cost.map_or("", |(_, cost)| *cost),
            &format!("build the kernel with {options}, built in or as modules"),
        );
    }
}

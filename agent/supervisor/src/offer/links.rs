//! Links and services of the board that a release asks for, held against what the board's profile allows.

use coracle_board_support::profile::{HostAccess, Profile};
use coracle_protocol::release::Release;

/// Who may give more: the profile, and over it the board's own file.
const REMEDY: &str = "in the board's board.toml a site can name more";

/// Networks on links that may not carry any or that ask for services of the board, and apps that ask for links that are not given away.
pub(super) fn not_allowed(release: &Release, profile: &Profile) -> Vec<String> {
    let mut problems = Vec::new();
    let closed = profile.network.host_access == HostAccess::Never;
    for network in &release.networks {
        if closed && network.host_access {
            problems.push(format!(
                "network `{}`: host_access is given to no network on this board ([network] host_access = \"never\"); publish \
                 what the app needs from another app, or have the board's own board.toml say \"asked\"",
                network.name
            ));
        }
        let Some(parent) = &network.parent else {
            continue;
        };
        if !profile.network.is_parent(parent.as_str()) {
            problems.push(format!(
                "network `{}`: `{parent}` carries no networks on this board; allowed: {} ([network] parents; {REMEDY})",
                network.name,
                list(profile.network.parents.iter().map(|text| text.as_str()))
            ));
        }
    }
    for app in &release.apps {
        for link in &app.network.interfaces {
            let name = link.name.as_str();
            if profile.network.is_uplink(name) {
                problems.push(format!(
                    "app `{}`: `{name}` is an uplink of this board, which no app may take away",
                    app.name
                ));
            } else if !profile.gives_away(name) {
                problems.push(format!(
                    "app `{}`: `{name}` is not given away on this board; allowed: {} ([network] interfaces and \
                     CAN devices; {REMEDY})",
                    app.name,
                    list(given_away(profile))
                ));
            }
        }
    }
    problems
}

fn given_away(profile: &Profile) -> impl Iterator<Item = &str> {
    use coracle_board_support::profile::DeviceKind;
    let can = profile
        .devices
        .iter()
        .filter(|device| device.kind == DeviceKind::Can);
    let can = can.flat_map(|device| &device.nodes);
    let own = profile.network.interfaces.iter();
    own.chain(can).map(|text| text.as_str())
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

//! `docker run` and `docker create`, which a board does not do: what was asked, and where a release says it.

use serde_json::Value;

/// Docker's option, where its request has it (Engine API v1.43, ContainerCreate), and what a release says instead.
const OF_HOST: [(&str, &str, &str); 6] = [
    ("-p", "/HostConfig/PortBindings", "`ports`"),
    (
        "-P",
        "/HostConfig/PublishAllPorts",
        "`ports`, where each is said",
    ),
    ("--dns", "/HostConfig/Dns", "`dns`"),
    ("--dns-search", "/HostConfig/DnsSearch", "`dns_search`"),
    ("--add-host", "/HostConfig/ExtraHosts", "`extra_hosts`"),
    (
        "--mac-address",
        "/MacAddress",
        "`mac` of an entry of `networks`",
    ),
];

/// The same of each network that was asked for.
const OF_NETWORK: [(&str, &str, &str); 4] = [
    (
        "--ip",
        "/IPAMConfig/IPv4Address",
        "`ip` of an entry of `networks`",
    ),
    (
        "--ip6",
        "/IPAMConfig/IPv6Address",
        "nothing: it follows from `ip`",
    ),
    (
        "--network-alias",
        "/Aliases",
        "`aliases` of an entry of `networks`",
    ),
    (
        "--mac-address",
        "/MacAddress",
        "`mac` of an entry of `networks`",
    ),
];

/// What a release says in `[apps.network]` instead of what this request asks of the network; empty where it asks nothing.
pub fn instead(request: &Value) -> String {
    let mut said: Vec<(&str, String)> = Vec::new();
    let mode = request.pointer("/HostConfig/NetworkMode");
    if let Some(mode) = mode.and_then(Value::as_str).and_then(of_mode) {
        said.push(("--network", mode));
    }
    let networks = request.pointer("/NetworkingConfig/EndpointsConfig");
    let networks = networks.and_then(Value::as_object).into_iter().flatten();
    let of_networks = networks.flat_map(|(_, network)| OF_NETWORK.map(|row| (network, row)));
    let all = OF_HOST
        .map(|row| (request, row))
        .into_iter()
        .chain(of_networks);
    for (asked, (option, at, key)) in all {
        let new = said.iter().all(|(known, _)| *known != option);
        if new && asked.pointer(at).is_some_and(is_asked) {
            said.push((option, key.to_owned()));
        }
    }
    let said = said
        .iter()
        .map(|(option, key)| format!("{option} is {key}"));
    said.collect::<Vec<_>>().join(", ")
}

/// `default` is what the client sends where nobody said one.
fn of_mode(mode: &str) -> Option<String> {
    match mode {
        "" | "default" => None,
        "bridge" | "host" | "none" => Some(format!("`mode = \"{mode}\"`")),
        mode => Some(match mode.strip_prefix("container:") {
            Some(app) => format!("`mode = \"container\"` and `container = {app:?}`"),
            None => format!("`networks = [{mode:?}]`"),
        }),
    }
}

/// Clients send what was not asked for as well, empty.
fn is_asked(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
        Value::Number(_) => true,
    }
}

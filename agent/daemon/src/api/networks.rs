//! `GET /networks` and `GET /networks/<name or id>`. Networks come and go with releases, so that nothing here changes them.

use super::Api;
use super::reply::{Fault, Reply, json};
use super::router::Query;
use crate::docker::networks::{Known, all};
use hyper::StatusCode;
use std::collections::BTreeMap;

/// `GET /networks`.
pub async fn list(api: &Api, query: &Query) -> Result<Reply, Fault> {
    let status = api.supervisor.status().await?;
    let filters = query.get("filters").unwrap_or_default();
    let filters = filters_of(filters).map_err(Fault::bad)?;
    let wanted = |network: &Known<'_>| {
        filters.iter().all(|(key, values)| {
            values.is_empty() || values.iter().any(|value| matches(network, key, value))
        })
    };
    let list: Vec<_> = all(&status)
        .filter(wanted)
        .map(|network| network.shape(&status, false))
        .collect();
    Ok(json(&list))
}

/// `GET /networks/<name>`: the whole name, the whole id, or the beginning of one id.
pub async fn inspect(api: &Api, wanted: &str) -> Result<Reply, Fault> {
    let status = api.supervisor.status().await?;
    let known: Vec<_> = all(&status).collect();
    let exact = known
        .iter()
        .find(|n| n.name() == wanted || n.id() == wanted);
    if let Some(network) = exact {
        return Ok(json(&network.shape(&status, true)));
    }
    let hits = known
        .iter()
        .filter(|n| !wanted.is_empty() && n.id().starts_with(wanted));
    match hits.collect::<Vec<_>>()[..] {
        [network] => Ok(json(&network.shape(&status, true))),
        [] => Err(Fault::not_found(format!("network {wanted} not found"))),
        _ => Err(Fault::bad(format!(
            "network {wanted} is ambiguous: it begins several ids"
        ))),
    }
}

/// To `create`, `rm`, `connect`, `disconnect` and `prune`.
pub fn only_by_release() -> Fault {
    Fault::new(
        StatusCode::FORBIDDEN,
        "networks, and who is on them, are part of a signed release, which is whole: nothing is added to it on a board. \
         Declare them in [[networks]] and [apps.network] of the next release (docs/release-file.md)",
    )
}

fn matches(network: &Known<'_>, key: &str, value: &str) -> bool {
    match key {
        "name" => network.name().contains(value),
        "id" => network.id().starts_with(value),
        "driver" => network.driver() == value,
        "scope" => value == "local",
        "type" => (value == "builtin") == network.is_built_in(),
        _ => false,
    }
}

/// `{"name": ["back"]}`, or the older `{"name": {"back": true}}`.
fn filters_of(text: &str) -> Result<BTreeMap<String, Vec<String>>, String> {
    let known = ["name", "id", "driver", "scope", "type"];
    crate::docker::filters::values(text, &known)
}

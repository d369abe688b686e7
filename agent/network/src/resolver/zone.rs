//! What the resolver knows: the names of one network's containers, and the board's own resolvers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;

/// Told whole each time something changes: one line of JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// In small letters.
    names: BTreeMap<String, Vec<IpAddr>>,
    /// Asked in this order for every other name.
    resolvers: Vec<IpAddr>,
}

impl Zone {
    /// A network's apps by their names and aliases; several that share an alias all answer to it.
    pub fn new<'a>(
        endpoints: impl Iterator<Item = (&'a str, &'a Endpoint)>,
        resolvers: &[IpAddr],
    ) -> Self {
        let mut names: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        for (app, endpoint) in endpoints {
            for name in endpoint.aliases.iter().map(String::as_str).chain([app]) {
                let all = names.entry(name.to_ascii_lowercase()).or_default();
                let six = endpoint.ipv6.map(|six| IpAddr::V6(six.ip));
                all.extend([Some(IpAddr::V4(endpoint.ip)), six].into_iter().flatten());
            }
        }
        Self {
            names,
            resolvers: resolvers.to_vec(),
        }
    }

    pub(super) fn addresses(&self, name: &str) -> Option<&[IpAddr]> {
        self.names.get(name).map(Vec::as_slice)
    }

    pub(super) fn resolvers(&self) -> &[IpAddr] {
        &self.resolvers
    }
}

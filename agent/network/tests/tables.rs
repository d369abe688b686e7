//! What `nft` reads back of networks with IPv6, a resolver, and no way out. Needs root.

mod support;

use coracle_network::{Network, NetworkConfig};
use support::*;

/// `CORACLE_WRITE_GOLDEN=1` writes the files anew, for a person to look at.
fn compare(config: NetworkConfig, golden: &str) {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = Network::open(config, state.path()).unwrap();
        network.ensure().await.unwrap();
    });
    let path = format!("{}/tests/golden/{golden}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("CORACLE_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, nft_list()).unwrap();
    }
    assert_eq!(nft_list(), std::fs::read_to_string(path).unwrap());
}

#[test]
fn a_network_with_ipv6_and_a_resolver() {
    let with_ipv6 = NetworkConfig {
        subnet6: Some("fd12:3456:789a:1::/64".parse().unwrap()),
        resolver: true,
        ..config()
    };
    compare(with_ipv6, "ipv6.nft");
}

#[test]
fn an_internal_network() {
    let internal = NetworkConfig {
        internal: true,
        ..config()
    };
    compare(internal, "internal.nft");
}

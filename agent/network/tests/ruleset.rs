//! What `nft` reads back from the bytes we wrote. Needs root.

mod support;

use coracle_network::Network;
use support::*;

#[test]
fn the_kernel_holds_what_the_documentation_says() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut network = Network::open(config(), state.path()).unwrap();
        network.ensure().await.unwrap();
        let golden = include_str!("golden/cor0.nft");
        assert_eq!(nft_list(), golden, "{}", nft_list());
    });
}

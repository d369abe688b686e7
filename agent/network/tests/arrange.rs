//! The networks that a release declares: made, kept, changed and removed. Needs root.

mod support;

use coracle_network::{DEFAULT_NETWORK, NetworkError, NetworkRequest, Networks, Wanted};
use support::*;

fn request(name: &str, subnet: Option<&str>) -> NetworkRequest {
    NetworkRequest {
        name: name.into(),
        subnet: subnet.map(|subnet| subnet.parse().unwrap()),
        ..NetworkRequest::default()
    }
}

fn bridges() -> usize {
    ip("-br link show type bridge").lines().count()
}

#[test]
fn networks_follow_what_is_declared() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = Networks::open(config(), state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        let front = request("front", None);
        let back = request("back", Some("10.90.0.0/24"));
        assert!(
            networks
                .arrange(&[front.clone(), back.clone()])
                .await
                .is_empty()
        );
        let (first, second) = (networks.list()[0].clone(), networks.list()[1].clone());
        assert_eq!(
            (first.name.as_str(), second.name.as_str()),
            ("front", "back")
        );
        assert_eq!(bridges(), 3);

        // The same once more changes nothing, after a restart neither.
        assert!(
            networks
                .arrange(&[back.clone(), front.clone()])
                .await
                .is_empty()
        );
        drop(networks);
        let mut networks = Networks::open(config(), state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        assert!(
            networks
                .arrange(&[front.clone(), back.clone()])
                .await
                .is_empty()
        );
        assert_eq!(networks.list(), [first.clone(), second]);

        // One is another now; what is in use stays and is said.
        let web = Netns::new();
        let any = Wanted::default();
        networks
            .connect("front", "web", web.namespace(), &any)
            .await
            .unwrap();
        let other = request("back", Some("10.91.0.0/24"));
        let errors = networks.arrange(std::slice::from_ref(&other)).await;
        assert!(
            matches!(&errors[..], [(name, NetworkError::InUse { apps, .. })] if name == "front" && apps == "web"),
            "{errors:?}"
        );
        let subnets: Vec<String> = networks
            .list()
            .iter()
            .map(|n| n.subnet.to_string())
            .collect();
        assert_eq!(subnets, [first.subnet.to_string(), "10.91.0.0/24".into()]);

        // Who has a subnet is named; the others come all the same.
        networks.disconnect("front", "web").await.unwrap();
        let wrong = request("wrong", Some("10.91.0.128/25"));
        let errors = networks
            .arrange(&[other, wrong, request("last", None)])
            .await;
        let words: Vec<String> = errors
            .iter()
            .map(|(name, e)| format!("{name}: {e}"))
            .collect();
        assert_eq!(
            words,
            ["wrong: subnet 10.91.0.128/25 overlaps 10.91.0.0/24 of network back"]
        );
        assert!(networks.inspect("last").is_ok() && networks.inspect("front").is_err());
        assert!(networks.arrange(&[]).await.is_empty());
        assert_eq!(bridges(), 1);
        networks.destroy().await.unwrap();
    });
}

#[test]
fn what_a_board_could_give_is_known_before() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = Networks::open(config(), state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        let back = request("back", Some("10.90.0.0/24"));
        assert!(networks.arrange(&[back]).await.is_empty());
        let could = async |subnet: &str| {
            let answer = networks.could_have(subnet.parse().unwrap()).await;
            answer.map_err(|e| e.to_string())
        };
        // Its own networks may go first.
        assert_eq!(could("10.90.0.0/16").await, Ok(()));
        let own = networks.inspect(DEFAULT_NETWORK).unwrap().config().subnet;
        let words = could(&own.to_string()).await.unwrap_err();
        assert!(words.contains("of network bridge"), "{words}");
        let words = could("198.51.100.0/25").await.unwrap_err();
        assert!(
            words.contains("overlaps the route 198.51.100.0/24 of"),
            "{words}"
        );
        ip("-6 addr add fd00:99:0:1::1/64 dev wan0 nodad");
        let could6 = async |subnet: &str| {
            let answer = networks.could_have6(subnet.parse().unwrap()).await;
            answer.map_err(|e| e.to_string())
        };
        assert_eq!(could6("fd00:99:0:2::/64").await, Ok(()));
        let words = could6("fd00:99::/56").await.unwrap_err();
        assert!(
            words.contains("overlaps the route fd00:99:0:1::/64 of wan0"),
            "{words}"
        );
        networks.destroy().await.unwrap();
    });
}

/// The board was moved: where it is now somebody else has a network's addresses.
#[test]
fn a_network_that_cannot_be_put_in_order_takes_no_other_down() {
    let _client = board();
    let state = tempfile::tempdir().unwrap();
    block_on(async {
        let mut networks = Networks::open(config(), state.path()).unwrap();
        networks.reconcile(&[]).await.unwrap();
        let (front, back) = (request("front", None), request("back", None));
        let both = [front.clone(), back.clone()];
        assert!(networks.arrange(&both).await.is_empty());
        let had = networks.list()[0].subnet;
        let kept = networks.list()[1].clone();
        let bridge = networks.inspect("front").unwrap().config().bridge.clone();
        drop(networks);

        ip(&format!("link del {bridge}"));
        ip(&format!("route add {had} via 198.51.100.2"));
        let mut networks = Networks::open(config(), state.path()).unwrap();
        let done = networks.reconcile(&[]).await.unwrap();
        assert!(
            matches!(&done.faults[..], [(name, NetworkError::Overlap { .. })] if name == "front"),
            "{done:?}"
        );
        let any = Wanted::default();
        let apps = [DEFAULT_NETWORK, "back", "front"].map(|network| (network, Netns::new()));
        for (network, app) in &apps[..2] {
            let place = networks.connect(network, network, app.namespace(), &any);
            place.await.unwrap();
        }

        // One whose subnet was left to us gets another; the one that is in order is not touched.
        assert!(networks.arrange(&both).await.is_empty());
        let now = networks.inspect("front").unwrap().config().subnet;
        assert_ne!(now, had);
        assert!(networks.list().contains(&kept));
        let place = networks.connect("front", "front", apps[2].1.namespace(), &any);
        place.await.unwrap();
        networks.destroy().await.unwrap();
    });
}

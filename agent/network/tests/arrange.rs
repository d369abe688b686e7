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
        networks.destroy().await.unwrap();
    });
}

use super::definition::{Definitions, NetworkDefinition};
use super::subnet;
use crate::link::Route;

fn definition(name: &str, slot: u8) -> NetworkDefinition {
    NetworkDefinition {
        name: name.into(),
        slot,
        subnet: "10.89.0.0/24".parse().unwrap(),
        gateway: "10.89.0.1".parse().unwrap(),
        range: None,
        subnet6: None,
        mtu: 1500,
        internal: false,
        allow_host_access: false,
        resolver: true,
        underlay: None,
    }
}

#[test]
fn the_stored_form_of_networks_is_what_a_later_version_must_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("networks.json");
    let mut definitions = Definitions::open(&path).unwrap();
    definitions.add(definition("front", 1)).unwrap();
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        r#"{"version":1,"networks":[{"name":"front","slot":1,"subnet":"10.89.0.0/24","gateway":"10.89.0.1","mtu":1500,"internal":false,"allow_host_access":false,"resolver":true}]}"#
    );
    let again = Definitions::open(&path).unwrap();
    assert_eq!(again.all(), definitions.all());
    assert_eq!(again.free_slot(), Some(2));
}

#[test]
fn damaged_definitions_are_set_aside_not_wiped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("networks.json");
    for bad in [
        "",
        "{",
        r#"{"version":2,"networks":[]}"#,
        r#"{"version":1,"networks":[{"name":"A b","slot":1,"subnet":"10.89.0.0/24","gateway":"10.89.0.1","mtu":1500}]}"#,
        r#"{"version":1,"networks":[{"name":"a","slot":99,"subnet":"10.89.0.0/24","gateway":"10.89.0.1","mtu":1500}]}"#,
    ] {
        std::fs::write(&path, bad).unwrap();
        assert!(Definitions::open(&path).unwrap().all().is_empty(), "{bad}");
        let aside = std::fs::read_to_string(dir.path().join("networks.json.bad")).unwrap();
        assert_eq!(aside, bad);
    }
}

#[test]
fn a_free_subnet_is_beside_routes_and_other_networks() {
    let route = |text: &str| Route {
        destination: text.parse().unwrap(),
        interface: None,
    };
    let free = |routes: &[Route], taken: &[&str]| {
        let taken: Vec<_> = taken.iter().map(|t| t.parse().unwrap()).collect();
        subnet::free(routes, &taken).map(|s| s.to_string())
    };
    assert_eq!(free(&[], &[]).unwrap(), "10.89.0.0/24");
    assert_eq!(
        free(&[route("10.89.0.128/25")], &["10.89.1.0/24"]).unwrap(),
        "10.89.2.0/24"
    );
    assert_eq!(free(&[route("10.0.0.0/8")], &[]).unwrap(), "172.29.0.0/24");
    let all = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"].map(route);
    assert_eq!(free(&all, &[]), None);
}

#[test]
fn a_unique_local_subnet_is_random_and_of_its_kind() {
    let (a, b) = (
        subnet::unique_local(7).unwrap(),
        subnet::unique_local(7).unwrap(),
    );
    assert_ne!(a, b);
    assert!(a.addr().is_unique_local() && a.prefix_len() == 64);
    assert_eq!(a.addr().segments()[3], 7);
}

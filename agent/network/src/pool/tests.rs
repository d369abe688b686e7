use super::*;
use std::fs;

fn subnet(text: &str) -> NetworkConfig {
    NetworkConfig::new("cor0", text.parse().unwrap())
}

#[test]
fn an_app_finds_its_address_again_and_no_address_is_given_twice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pool.json");
    let mut pool = Pool::open(&path, &subnet("10.9.0.0/24")).unwrap();
    let web = pool.allocate("web", true).unwrap();
    let db = pool.allocate("db", true).unwrap();
    assert_eq!(
        (web, db),
        ("10.9.0.2".parse().unwrap(), "10.9.0.3".parse().unwrap())
    );
    pool.release(web);
    let other = pool.allocate("other", true).unwrap();
    assert_ne!(other, web, "a remembered address is given last");
    drop(pool);
    let mut pool = Pool::open(&path, &subnet("10.9.0.0/24")).unwrap();
    assert_eq!(pool.allocate("db", true).unwrap(), db);
    assert_eq!(pool.allocate("web", true).unwrap(), web);
}

#[test]
fn a_full_pool_takes_the_longest_released_and_then_says_no() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::open(&dir.path().join("p.json"), &subnet("10.9.0.0/29")).unwrap();
    let ips: Vec<_> = ["a", "b", "c", "d", "e"]
        .iter()
        .map(|app| pool.allocate(app, true).unwrap())
        .collect();
    assert!(matches!(
        pool.allocate("f", true),
        Err(PoolError::Exhausted { in_use: 5, .. })
    ));
    pool.release(ips[3]);
    assert_eq!(pool.allocate("f", true).unwrap(), ips[3]);
}

#[test]
fn a_damaged_file_is_set_aside_not_wiped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pool.json");
    for bad in [
        "{\"version\":1",
        r#"{"version":2,"subnet":"10.9.0.0/24","leases":[]}"#,
        r#"{"version":1,"subnet":"10.9.0.0/24","leases":[{"app":"a","ip":"10.9.0.2"},{"app":"b","ip":"10.9.0.2"}]}"#,
    ] {
        fs::write(&path, bad).unwrap();
        let mut pool = Pool::open(&path, &subnet("10.9.0.0/24")).unwrap();
        let aside = dir.path().join("pool.json.bad");
        assert_eq!(fs::read_to_string(aside).unwrap(), bad);
        pool.allocate("a", true).unwrap();
    }
}

#[test]
fn a_claim_of_anothers_or_a_foreign_address_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut pool = Pool::open(&dir.path().join("p.json"), &subnet("10.9.0.0/24")).unwrap();
    let ip = pool.allocate("a", true).unwrap();
    assert!(
        pool.claim("b", ip)
            .unwrap_err()
            .to_string()
            .contains("a has it")
    );
    assert!(pool.claim("b", "10.9.0.1".parse().unwrap()).is_err());
    assert!(pool.claim("b", "10.8.0.9".parse().unwrap()).is_err());
    pool.claim("b", "10.9.0.77".parse().unwrap()).unwrap();
    assert_eq!(
        pool.allocate("b", true).unwrap(),
        Ipv4Addr::new(10, 9, 0, 77)
    );
}

#[test]
fn the_stored_form_is_what_a_later_version_must_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pool.json");
    Pool::open(&path, &subnet("10.9.0.0/24"))
        .unwrap()
        .allocate("web", true)
        .unwrap();
    assert_eq!(
        fs::read_to_string(path).unwrap(),
        r#"{"version":1,"subnet":"10.9.0.0/24","forwarding_was_off":false,"leases":[{"app":"web","ip":"10.9.0.2"}]}"#
    );
}

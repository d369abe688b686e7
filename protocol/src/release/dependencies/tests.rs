use super::*;
use crate::release::{Health, Probe, SignedApp, SignedRelease};

/// Apps without images: what they are is not looked at here.
fn app(name: &str, after: &[(&str, Condition)]) -> SignedApp {
    let after: BTreeMap<&str, Condition> = after.iter().copied().collect();
    let blob = serde_json::json!({ "digest": format!("sha256:{}", "0".repeat(64)), "size": 0 });
    serde_json::from_value(serde_json::json!({
        "name": name,
        "image": { "name": "a:1", "manifest": blob, "config": blob, "layers": [] },
        "limits": { "memory_bytes": 1 << 20, "cpu_millis": 100, "pids": 1 },
        "depends_on": after,
    }))
    .unwrap()
}

fn release(apps: Vec<SignedApp>) -> SignedRelease {
    SignedRelease {
        spec_version: 1,
        critical: vec![],
        product: crate::names::ProductName::new("shop").unwrap(),
        version: "1".into(),
        epoch: 1,
        release_counter: 1,
        issued_at: 1,
        expires: 2,
        hardware: BTreeSet::from([crate::names::HardwareClass::new("unknown").unwrap()]),
        networks: vec![],
        agent: None,
        apps,
    }
}

fn fault(apps: Vec<SignedApp>) -> String {
    release(apps).check().unwrap_err()
}

fn checked(mut app: SignedApp) -> SignedApp {
    app.health = Some(Health {
        probe: Probe::Tcp { port: 1 },
        interval_ms: 1000,
        timeout_ms: 1000,
        retries: 1,
        start_period_ms: 0,
    });
    app
}

fn once(mut app: SignedApp) -> SignedApp {
    app.restart = Restart::No;
    app
}

use Condition::{Completed, Healthy, Started};

#[test]
fn a_good_one_passes_and_is_written_as_it_was_read() {
    let web = app("web", &[("db", Healthy), ("migrate", Completed)]);
    let json = serde_json::to_string(&web).unwrap();
    assert!(
        json.contains(r#""depends_on":{"db":"healthy","migrate":"completed"}"#),
        "{json}"
    );
    let migrate = once(app("migrate", &[("db", Healthy)]));
    let apps = vec![web, migrate, checked(app("db", &[]))];
    release(apps.clone()).check().unwrap();
    let apps: Vec<&SignedApp> = apps.iter().collect();
    assert_eq!(start_order(&apps), Ok(vec![2, 1, 0]));
    let json = serde_json::to_string(&app("alone", &[])).unwrap();
    assert!(!json.contains("depends_on"), "{json}");
}

#[test]
fn without_a_word_the_order_is_that_of_the_release() {
    let apps = [app("c", &[]), app("a", &[]), app("b", &[("a", Started)])];
    let apps: Vec<&SignedApp> = apps.iter().collect();
    assert_eq!(start_order(&apps), Ok(vec![0, 1, 2]));
}

#[test]
fn who_uses_another_s_network_starts_after_it() {
    let mut guest = app("guest", &[]);
    guest.network.mode = crate::release::NetworkMode::Container;
    guest.network.container = Some(AppName::new("host").unwrap());
    let host = app("host", &[("guest", Started)]);
    let apps = [guest.clone(), app("host", &[])];
    assert_eq!(start_order(&[&apps[0], &apps[1]]), Ok(vec![1, 0]));
    let text = fault(vec![guest.clone(), host]);
    assert!(text.contains("in a circle"), "{text}");
    guest
        .depends_on
        .insert(AppName::new("host").unwrap(), Completed);
    let text = fault(vec![guest, once(app("host", &[]))]);
    assert!(text.contains("it uses the network of `host`"), "{text}");
}

#[test]
fn what_could_never_start_is_refused_by_name() {
    for (apps, expected) in [
        (
            vec![app("web", &[("db", Started)])],
            "app `web`: depends_on: no app `db` is in this release",
        ),
        (
            vec![app("web", &[("web", Started)])],
            "app `web`: depends_on: it cannot depend on itself",
        ),
        (
            vec![app("web", &[("db", Healthy)]), app("db", &[])],
            "app `web`: depends_on: `db` has no health check and is never `healthy`",
        ),
        (
            vec![app("web", &[("db", Completed)]), app("db", &[])],
            "app `web`: depends_on: `db` is started again whenever it ends and is never `completed`",
        ),
        (
            vec![
                app("first", &[("a", Started)]),
                app("a", &[("b", Started)]),
                app("b", &[("c", Started)]),
                app("c", &[("a", Started)]),
            ],
            "apps wait for each other in a circle, by depends_on or network.container: `a` → `b` → `c` → `a`",
        ),
    ] {
        let text = fault(apps);
        assert!(text.starts_with(expected), "{text}");
    }
}

#[test]
fn another_word_is_no_condition() {
    for word in ["service_started", "Started", "running", ""] {
        let json = format!("\"{word}\"");
        assert!(serde_json::from_str::<Condition>(&json).is_err(), "{word}");
    }
}

/// Every release of four apps whose edges are any: an order comes out exactly where there is no circle, and it is one.
#[test]
fn the_order_is_right_for_every_graph_of_four() {
    let names = ["a", "b", "c", "d"];
    let pairs: Vec<(usize, usize)> = (0..4)
        .flat_map(|one| (0..4).map(move |other| (one, other)))
        .filter(|(one, other)| one != other)
        .collect();
    let mut circles = 0;
    for bits in 0..1_u32 << pairs.len() {
        let edge = |from, to| {
            let place = pairs.iter().position(|pair| *pair == (from, to));
            place.is_some_and(|place| bits >> place & 1 == 1)
        };
        let after: Vec<Vec<usize>> = (0..4)
            .map(|one| (0..4).filter(|other| edge(one, *other)).collect())
            .collect();
        let apps: Vec<SignedApp> = (0..4)
            .map(|one| {
                let mut app = app(names[one], &[]);
                for other in &after[one] {
                    let name = AppName::new(names[*other]).unwrap();
                    app.depends_on.insert(name, Started);
                }
                app
            })
            .collect();
        let apps: Vec<&SignedApp> = apps.iter().collect();
        match start_order(&apps) {
            Ok(order) => {
                let place = |app| order.iter().position(|at| *at == app).unwrap();
                assert_eq!(order.len(), 4);
                for (one, after) in after.iter().enumerate() {
                    assert!(after.iter().all(|other| place(*other) < place(one)));
                }
            }
            Err(circle) => {
                circles += 1;
                let at = |name: &AppName| names.iter().position(|n| *n == name.as_str()).unwrap();
                let next = circle.iter().cycle().skip(1);
                for (one, other) in circle.iter().zip(next) {
                    assert!(edge(at(one), at(other)), "{circle:?}");
                }
            }
        }
    }
    // 543 of the 4096 directed graphs of four have no circle (OEIS A003024).
    assert_eq!(circles, 4096 - 543);
}
